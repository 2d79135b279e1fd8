// adaptive_avg_pool2d: means over H_out x W_out windows that cover the image evenly, and their gradient.
//
//   y[n,c,i,j] = mean of x[n,c,h,w] over floor(i*H_in/H_out) <= h < ceil((i+1)*H_in/H_out), and w likewise
//   dx[n,c,h,w] = sum of dy[n,c,i,j] / (pixels of window (i, j)) over the windows that contain (h, w)
//
// Neighbouring windows share pixels where the sizes do not divide. x (N, C, H_in, W_in), y (N, C, H_out, W_out).
#pragma once
#include <array>
#include <optional>

#include "core/array.h"

namespace convcore {

struct AdaptiveAvgPool2dShape {
  int64_t planes;  // N * C
  int64_t h_in, w_in, h_out, w_out;
};

using OutputSize = std::array<std::optional<int64_t>, 2>;  // (H_out, W_out); none keeps the input's size

// Also for adaptive_max_pool2d: `op` is for the error messages.
AdaptiveAvgPool2dShape infer_adaptive_pool2d_shape(const char* op, const Shape& x, const OutputSize& output_size);

Tensor adaptive_avg_pool2d_forward(const Tensor& x, const OutputSize& output_size);

Tensor adaptive_avg_pool2d_backward(const Tensor& dy, const Shape& x_shape, const OutputSize& output_size);

struct AdaptiveAvgPool2dKernels {
  void (*forward)(const AdaptiveAvgPool2dShape&,
                  const float* x,  // (planes, H_in, W_in)
                  float* y);       // (planes, H_out, W_out)
  void (*backward)(const AdaptiveAvgPool2dShape&, const float* dy, float* dx);
  // The same with `c` channels last: x (N, H_in, W_in, C), y (N, H_out, W_out, C).
  void (*forward_channels_last)(const AdaptiveAvgPool2dShape&, int64_t c, const float* x, float* y);
  void (*backward_channels_last)(const AdaptiveAvgPool2dShape&, int64_t c, const float* dy, float* dx);
};
}  // namespace convcore

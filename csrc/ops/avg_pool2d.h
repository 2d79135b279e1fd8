// avg_pool2d: the mean of each window, and its gradient.
//
//   y[n,c,i,j] = sum_{r,s} x[n, c, i*stride_h - pad_h + r, j*stride_w - pad_w + s] / divisor[i,j], x = 0 in the padding
//   dx[n,c,h,w] = sum of dy[n,c,i,j] / divisor[i,j] over the windows that contain (h, w)
//
// divisor[i,j] is divisor_override where given, else the number of window pixels on the padded input (part of a last
// window that ceil_mode lets overhang does not count), or on the input itself without count_include_pad (torch).
// x (N, C, H_in, W_in), y (N, C, H_out, W_out); see ops/pool2d.h for 1-D.
#pragma once
#include <optional>

#include "ops/pool2d.h"

namespace convcore {

struct AvgPool2dParams {  // as the caller gives them
  PoolWindows windows;
  bool ceil_mode;
  bool count_include_pad;
  std::optional<int64_t> divisor_override;
};

struct AvgPool2dShape {
  Pool2dShape pool;
  bool count_include_pad;
  int64_t divisor_override;  // 0: none
};

Tensor avg_pool2d_forward(const char* op, const Tensor& x, const AvgPool2dParams& params);

Tensor avg_pool2d_backward(const char* op, const Tensor& dy, const Shape& x_shape, const AvgPool2dParams& params);

struct AvgPool2dKernels {
  void (*forward)(const AvgPool2dShape&,
                  const float* x,  // (planes, H_in, W_in)
                  float* y);       // (planes, H_out, W_out)
  void (*backward)(const AvgPool2dShape&, const float* dy, float* dx);
  // The same with `c` channels last: x (N, H_in, W_in, C), y (N, H_out, W_out, C).
  void (*forward_channels_last)(const AvgPool2dShape&, int64_t c, const float* x, float* y);
  void (*backward_channels_last)(const AvgPool2dShape&, int64_t c, const float* dy, float* dx);
};
}  // namespace convcore

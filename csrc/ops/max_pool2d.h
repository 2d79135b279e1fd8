// max_pool2d: the largest value in each window, and its gradient.
//
//   y[n,c,i,j] = max_{r,s} x[n, c, i*stride_h - pad_h + r*dilation_h, j*stride_w - pad_w + s*dilation_w]
//   indices[n,c,i,j] = h * W_in + w of that pixel
//   dx[n,c,h,w] = sum of dy over the outputs whose index is (h, w)
//
// Padding never wins. The first of equal values wins (row-major order); a NaN wins over every number, and the last of
// several NaNs (torch). x (N, C, H_in, W_in), y and indices (N, C, H_out, W_out); see ops/pool2d.h for 1-D.
#pragma once
#include "ops/pool2d.h"

namespace convcore {

struct MaxPool2dResult {
  Tensor y;
  IndexArray indices;  // not given where not asked for
};
MaxPool2dResult max_pool2d_forward(const char* op, const Tensor& x, const PoolWindows& windows, bool ceil_mode,
                                   bool need_indices);

// `indices` as the forward pass gave them, and then `x` is not read; without them they are computed again from `x`.
// Throws when an index is not in the window of its output.
Tensor max_pool2d_backward(const char* op, const Tensor& dy, const Shape& x_shape, const Tensor& x,
                           const IndexArray& indices, const PoolWindows& windows, bool ceil_mode);

struct MaxPool2dKernels {
  void (*forward)(const Pool2dShape&,
                  const float* x,     // (planes, H_in, W_in)
                  float* y,           // (planes, H_out, W_out)
                  int32_t* indices);  // (planes, H_out, W_out) or null
  // False when an index is not in the window of its output; dx is then unspecified, and nothing else was written.
  bool (*backward)(const Pool2dShape&, const float* dy, const int32_t* indices, float* dx);
  // The same with `c` channels last: x (N, H_in, W_in, C), y and indices (N, H_out, W_out, C).
  void (*forward_channels_last)(const Pool2dShape&, int64_t c, const float* x, float* y, int32_t* indices);
  bool (*backward_channels_last)(const Pool2dShape&, int64_t c, const float* dy, const int32_t* indices, float* dx);
};
}  // namespace convcore

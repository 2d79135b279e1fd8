// lp_pool2d: the p-norm of each window; and its gradient.
//
//   s[n,c,i,j] = sum_{r,q} x[n, c, i*stride_h + r, j*stride_w + q]^p        y = s^(1/p)
//   dx[n,c,h,w] = sum over the windows that contain (h, w) of dy * y^(1-p) * x[n,c,h,w]^(p-1), 0 where y is 0
//
// No absolute values (torch): an odd p, or one that is no integer, wants x >= 0; where s, or x under such a p, is
// negative, the result is NaN. p = 1 is the sum: any sign, any y. In ceil_mode the last window has the pixels that
// there are.
// x (N, C, H_in, W_in), y (N, C, H_out, W_out) in either order of memory; float32.
#pragma once
#include "ops/avg_pool2d.h"

namespace convcore {

Tensor lp_pool2d_forward(const Tensor& x, double p, const PoolWindows& windows, bool ceil_mode);
Tensor lp_pool2d_backward(const Tensor& dy, const Tensor& x, double p, const PoolWindows& windows, bool ceil_mode);

struct LpPool2dKernels {
  void (*power)(int64_t count, double p, const float* x, float* y);  // y = x^p
  void (*root)(int64_t count, double p, float* s);                   // s = s^(1/p)
  // s = dy * y^(1-p) with y = s^(1/p), 0 where y is 0
  void (*root_backward)(int64_t count, double p, const float* dy, float* s);
  // dx = dx * x^(p-1)
  void (*power_backward)(int64_t count, double p, const float* x, float* dx);
};
}  // namespace convcore

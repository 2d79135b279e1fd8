// subsampling2d: the sum of each window, times a coefficient of its channel, plus a bias of its channel; and gradients.
//
//   s[n,c,i,j] = sum_{r,q} x[n, c, i*stride_h + r, j*stride_w + q]      y = s * weight[c] + bias[c]
//   dx = the windows' share of dy * weight[c]      dweight[c] = sum_{n,i,j} dy * s      dbias[c] = sum_{n,i,j} dy
//
// x (N, C, H_in, W_in), y (N, C, H_out, W_out) in either order of memory, weight (C,), bias (C,) or none; float32.
//
// Source: Y. LeCun et al., "Gradient-based learning applied to document recognition", Proceedings of the IEEE, 1998,
// section II.B: the layers S2 and S4 of LeNet-5.
#pragma once
#include "ops/avg_pool2d.h"

namespace convcore {

Tensor subsampling2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const PoolWindows& windows);

struct Subsampling2dGrads {
  Tensor dx, dweight, dbias;  // not given where not asked for
};
Subsampling2dGrads subsampling2d_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                          const PoolWindows& windows, bool need_dx, bool need_dweight, bool need_dbias);

// The sums of windows, as the kernels of avg_pool2d make them: a mean with the divisor 1.
AvgPool2dShape subsampling2d_windows(const Shape& x, const PoolWindows& windows);

struct ChannelsShape {  // images as a pointwise op with numbers per channel sees them
  int64_t n, c, plane;  // images, channels, pixels of one
  Layout layout;
};

struct Subsampling2dKernels {
  // y = x * weight[c] + bias[c]; bias may be null, and y may be x.
  void (*scale)(const ChannelsShape&, const float* x, const float* weight, const float* bias, float* y);
  // dweight[c] = sum dy * s, dbias[c] = sum dy, over all images in order, on the calling thread. Either may be null;
  // without dweight s is not read.
  void (*sums)(const ChannelsShape&, const float* dy, const float* s, float* dweight, float* dbias);
};
}  // namespace convcore

// pad_channels: every stride-th pixel, with channels of zeros before and after; float32. The shortcut without
// parameters of a residual network where the number of channels grows (option A of He et al., "Deep residual learning",
// 2016).
//
//   y (N, before + C + after, ceil(H / stride_h), ceil(W / stride_w))
//   y[n][before + c][i][j] = x[n][c][i * stride_h][j * stride_w], 0 in the other channels
//   dx[n][c][i * stride_h][j * stride_w] = dy[n][before + c][i][j], 0 in the other pixels
//
// Images of either order of memory; results have the order of the argument.
#pragma once
#include "core/array.h"

namespace convcore {

struct PadChannelsParams {
  int64_t before, after;
  int64_t stride_h, stride_w;
};

Tensor pad_channels_forward(const Tensor& x, const PadChannelsParams& params);
Tensor pad_channels_backward(const Tensor& dy, const Shape& x_shape, const PadChannelsParams& params);

struct PadChannelsShape {
  int64_t n, c_in, h_in, w_in, c_out, h_out, w_out;
  int64_t before, stride_h, stride_w;
};

struct PadChannelsKernels {
  void (*forward)(const PadChannelsShape&, const float* x, float* y);
  void (*backward)(const PadChannelsShape&, const float* dy, float* dx);
  void (*forward_channels_last)(const PadChannelsShape&, const float* x, float* y);
  void (*backward_channels_last)(const PadChannelsShape&, const float* dy, float* dx);
};
}  // namespace convcore

#include "ops/subsampling2d.h"

#include "ops/kernels.h"
#include "ops/reorder.h"
#include "ops/shards.h"

namespace convcore {
namespace {

constexpr char kForward[] = "subsampling2d", kBackward[] = "subsampling2d_backward";

ChannelsShape channels_of(const Tensor& y) { return {y.size(0), y.size(1), y.size(2) * y.size(3), y.layout()}; }

void sum_windows(const Tensor& x, const AvgPool2dShape& s, float* y) {
  const auto& kernels = current_kernels().avg_pool2d;
  if (x.layout() == Layout::channels_last)
    kernels.forward_channels_last(s, x.size(1), x.data(), y);
  else
    kernels.forward(s, x.data(), y);
}

void sum_gradients(const Tensor& dy, const Tensor& s, const Subsampling2dGrads& grads) {
  const ChannelsShape shape = channels_of(dy);
  const int64_t floats = shape.c * shape.plane;
  sum_over_images(kBackward, shape.n, floats, shape.c, grads.dweight, grads.dbias,
                  [&](int64_t begin, int64_t end, float* dweight, float* dbias) {
                    current_kernels().subsampling2d.sums({end - begin, shape.c, shape.plane, shape.layout},
                                                         dy.data() + begin * floats,
                                                         dweight ? s.data() + begin * floats : nullptr, dweight, dbias);
                  });
}

}  // namespace

AvgPool2dShape subsampling2d_windows(const Shape& x, const PoolWindows& windows) {
  return {infer_pool2d_shape(kForward, x, windows, false), true, 1};
}

Tensor subsampling2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const PoolWindows& windows) {
  const AvgPool2dShape s = subsampling2d_windows(x.shape(), windows);
  expect_shape(kForward, "weight", weight.shape(), {x.size(1)}, "one value per channel");
  if (bias.given()) expect_shape(kForward, "bias", bias.shape(), {x.size(1)}, "one value per channel");
  const OnDeviceOf on(kForward, {{"x", x}, {"weight", weight}, {"bias", bias}});
  Tensor y = Tensor::empty(kForward, "y", pool2d_output_shape(x.shape(), s.pool), x.layout());
  sum_windows(x, s, y.data());
  current_kernels().subsampling2d.scale(channels_of(y), y.data(), weight.data(), bias.data(), y.data());
  return y;
}

Subsampling2dGrads subsampling2d_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                          const PoolWindows& windows, bool need_dx, bool need_dweight,
                                          bool need_dbias) {
  const AvgPool2dShape s = subsampling2d_windows(x.shape(), windows);
  const Shape out = pool2d_output_shape(x.shape(), s.pool), per_channel{x.size(1)};
  expect_shape(kForward, "weight", weight.shape(), per_channel, "one value per channel");
  expect_shape(kBackward, "dy", dy.shape(), out, "the shape of the output");
  const OnDeviceOf on(kBackward, {{"dy", dy}, {"x", x}, {"weight", weight}});
  const Tensor gradient = reorder(kBackward, dy, x.layout());
  Subsampling2dGrads grads;
  if (need_dweight) grads.dweight = Tensor::empty(kBackward, "dweight", per_channel);
  if (need_dbias) grads.dbias = Tensor::empty(kBackward, "dbias", per_channel);
  Tensor sums;
  if (need_dweight || need_dx) sums = Tensor::empty(kBackward, "the sums", out, x.layout());
  if (need_dweight) sum_windows(x, s, sums.data());
  if (need_dweight || need_dbias) sum_gradients(gradient, sums, grads);
  if (need_dx) {
    grads.dx = Tensor::empty(kBackward, "dx", x.shape(), x.layout());
    current_kernels().subsampling2d.scale(channels_of(sums), gradient.data(), weight.data(), nullptr, sums.data());
    const auto& kernels = current_kernels().avg_pool2d;
    if (x.layout() == Layout::channels_last)
      kernels.backward_channels_last(s, x.size(1), sums.data(), grads.dx.data());
    else
      kernels.backward(s, sums.data(), grads.dx.data());
  }
  return grads;
}

}  // namespace convcore

#include "ops/lp_pool2d.h"

#include <cmath>

#include "ops/kernels.h"
#include "ops/reorder.h"

namespace convcore {
namespace {

constexpr char kForward[] = "lp_pool2d", kBackward[] = "lp_pool2d_backward";

AvgPool2dShape infer(const char* op, const Shape& x, double p, const PoolWindows& windows, bool ceil_mode) {
  if (!(p > 0 && std::isfinite(p))) fail(op, "norm_type is out of range", "a finite number above 0", std::to_string(p));
  return {infer_pool2d_shape(kForward, x, windows, ceil_mode), true, 1};
}

// The sums of the powers under each window: the kernels of avg_pool2d with the divisor 1.
Tensor sums_of_powers(const char* op, const Tensor& x, double p, const AvgPool2dShape& s) {
  const Tensor powers = Tensor::empty(op, "the powers", x.shape(), x.layout());
  Tensor sums = Tensor::empty(op, "y", pool2d_output_shape(x.shape(), s.pool), x.layout());
  current_kernels().lp_pool2d.power(x.count(), p, x.data(), powers.data());
  const auto& kernels = current_kernels().avg_pool2d;
  if (x.layout() == Layout::channels_last)
    kernels.forward_channels_last(s, x.size(1), powers.data(), sums.data());
  else
    kernels.forward(s, powers.data(), sums.data());
  return sums;
}

}  // namespace

Tensor lp_pool2d_forward(const Tensor& x, double p, const PoolWindows& windows, bool ceil_mode) {
  const AvgPool2dShape s = infer(kForward, x.shape(), p, windows, ceil_mode);
  const OnDeviceOf on(kForward, {{"x", x}});
  Tensor y = sums_of_powers(kForward, x, p, s);
  current_kernels().lp_pool2d.root(y.count(), p, y.data());
  return y;
}

Tensor lp_pool2d_backward(const Tensor& dy, const Tensor& x, double p, const PoolWindows& windows, bool ceil_mode) {
  const AvgPool2dShape s = infer(kBackward, x.shape(), p, windows, ceil_mode);
  expect_shape(kBackward, "dy", dy.shape(), pool2d_output_shape(x.shape(), s.pool), "the shape of the output");
  const OnDeviceOf on(kBackward, {{"dy", dy}, {"x", x}});
  const Tensor gradient = reorder(kBackward, dy, x.layout());
  const Tensor sums = sums_of_powers(kBackward, x, p, s);
  current_kernels().lp_pool2d.root_backward(sums.count(), p, gradient.data(), sums.data());
  Tensor dx = Tensor::empty(kBackward, "dx", x.shape(), x.layout());
  const auto& kernels = current_kernels().avg_pool2d;
  if (x.layout() == Layout::channels_last)
    kernels.backward_channels_last(s, x.size(1), sums.data(), dx.data());
  else
    kernels.backward(s, sums.data(), dx.data());
  current_kernels().lp_pool2d.power_backward(x.count(), p, x.data(), dx.data());
  return dx;
}

}  // namespace convcore

#include "ops/mse_loss.h"

#include "ops/kernels.h"

namespace convcore {

Tensor mse_loss_forward(const Tensor& x, const Tensor& target, Reduction reduction) {
  expect_shape("mse_loss", "target", target.shape(), x.shape(), "the shape of x");
  const OnDeviceOf on("mse_loss", {{"x", x}, {"target", target}});
  const auto& kernels = current_kernels().mse_loss;
  const int64_t count = x.count();
  if (reduction == Reduction::none) {
    Tensor loss = Tensor::empty("mse_loss", "loss", x.shape());
    kernels.squares(count, x.data(), target.data(), loss.data());
    return loss;
  }
  const int64_t shards = (count + kMseShard - 1) / kMseShard;
  Array<double> sums = Array<double>::empty("mse_loss", "loss", {shards});
  kernels.shard_sums(count, x.data(), target.data(), sums.data());
  Tensor loss = Tensor::empty("mse_loss", "loss", {});
  const double divisor = reduction == Reduction::mean ? double(count) : 1.0;
  current_kernels().reduction.sum_doubles(shards, sums.data(), divisor, loss.data());
  return loss;
}

MseLossGrads mse_loss_backward(const Tensor& dy, const Tensor& x, const Tensor& target, Reduction reduction,
                               bool need_dx, bool need_dtarget) {
  const char* op = "mse_loss_backward";
  const bool per_element = reduction == Reduction::none;
  expect_shape(op, "target", target.shape(), x.shape(), "the shape of x");
  expect_shape(op, "dy", dy.shape(), per_element ? x.shape() : Shape{}, "the shape of the loss");
  const OnDeviceOf on(op, {{"dy", dy}, {"x", x}, {"target", target}});
  const auto backward = current_kernels().mse_loss.backward;
  const int64_t count = x.count();
  const float factor = float(reduction == Reduction::mean && count > 0 ? 2.0 / double(count) : 2.0);
  MseLossGrads grads;
  if (need_dx) {
    grads.dx = Tensor::empty(op, "dx", x.shape());
    backward(count, factor, dy.data(), per_element, x.data(), target.data(), grads.dx.data());
  }
  if (need_dtarget) {
    grads.dtarget = Tensor::empty(op, "dtarget", x.shape());
    backward(count, -factor, dy.data(), per_element, x.data(), target.data(), grads.dtarget.data());
  }
  return grads;
}

}  // namespace convcore

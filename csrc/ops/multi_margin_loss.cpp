#include "ops/multi_margin_loss.h"

#include "ops/kernels.h"

namespace convcore {
namespace {

struct Inferred {
  int64_t n, c;
  Shape target;  // the shape that the target must have
};

Inferred infer(const char* op, const Shape& x) {
  if (x.size() != 1 && x.size() != 2)
    fail(op, "x has the wrong number of dimensions", "1 (C,) or 2 (N, C)",
         std::to_string(x.size()) + " (x has shape " + to_string(x) + ")");
  const Inferred s{x.size() == 2 ? x[0] : 1, x.back(), Shape(x.begin(), x.end() - 1)};
  if (s.c < 1 || s.c > INT32_MAX)
    fail(op, "x has the wrong number of classes", "1 to 2147483647",
         std::to_string(s.c) + " (x has shape " + to_string(x) + ")");
  return s;
}

void check(const char* op, const Inferred& s, const LabelArray& given, const Tensor& weight,
           const MultiMarginLossParams& params) {
  expect_range(op, "p", params.p, 1, 2);
  const LabelArray target = to_device(given, Device::cpu);
  expect_shape(op, "target", target.shape(), s.target, "one label per sample");
  if (weight.given()) expect_shape(op, "weight", weight.shape(), {s.c}, "one value per class");
  for (int64_t i = 0; i < s.n; i++)
    if (target.data()[i] < 0 || target.data()[i] >= s.c)
      fail(op, "target has a label out of range", "0 to " + std::to_string(s.c - 1),
           std::to_string(target.data()[i]) + " at position " + std::to_string(i));
}

}  // namespace

MultiMarginLossResult multi_margin_loss_forward(const char* op, const Tensor& x, const LabelArray& target,
                                                const Tensor& weight, const MultiMarginLossParams& params,
                                                bool need_gradient) {
  const Inferred s = infer(op, x.shape());
  check(op, s, target, weight, params);
  const float scale = params.reduction == Reduction::mean && s.n > 0 ? float(1.0 / double(s.n)) : 1.0f;
  const OnDeviceOf on(op, {{"x", x}, {"weight", weight}});
  MultiMarginLossResult result;
  if (need_gradient) result.gradient = Tensor::empty(op, "dx", x.shape());
  const Tensor losses = Tensor::empty(op, "loss", s.target);
  current_kernels().multi_margin_loss.forward(s.n, s.c, params, scale, x.data(), to_device(target, x.device()).data(),
                                              weight.data(), losses.data(), result.gradient.data());
  result.loss = params.reduction == Reduction::none ? losses : reduce_losses(op, losses, params.reduction, s.n);
  return result;
}

Tensor multi_margin_loss_backward(const Tensor& dy, const Tensor& x, const LabelArray& target, const Tensor& weight,
                                  const MultiMarginLossParams& params, const Tensor& gradient) {
  const char* op = "multi_margin_loss_backward";
  const Inferred s = infer(op, x.shape());
  const bool per_sample = params.reduction == Reduction::none;
  expect_shape(op, "dy", dy.shape(), per_sample ? s.target : Shape{}, "the shape of the loss");
  if (gradient.given()) expect_shape(op, "saved", gradient.shape(), x.shape(), "the shape of x");
  const OnDeviceOf on(op, {{"dy", dy}, {"x", x}, {"weight", weight}, {"saved", gradient}});
  const Tensor known =
      gradient.given() ? gradient : multi_margin_loss_forward(op, x, target, weight, params, true).gradient;
  Tensor dx = Tensor::empty(op, "dx", x.shape());
  current_kernels().cross_entropy.backward({s.n, s.c, 1}, dy.data(), per_sample, known.data(), dx.data());
  return dx;
}

}  // namespace convcore

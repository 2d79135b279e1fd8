#include "ops/cross_entropy.h"

#include <sstream>

#include "ops/kernels.h"

namespace convcore {
namespace {

struct Inferred {
  CrossEntropyShape shape;
  Shape target;  // the shape that the target must have
};

Inferred infer(const char* op, const Shape& x) {
  if (x.empty()) fail(op, "x has the wrong number of dimensions", "at least 1 (C,) or (N, C, ...)", "0");
  const bool batched = x.size() > 1;
  Inferred s{{batched ? x[0] : 1, batched ? x[1] : x[0], 1}, {}};
  if (s.shape.c < 1 || s.shape.c > INT32_MAX)
    fail(op, "x has the wrong number of classes", "1 to 2147483647",
         std::to_string(s.shape.c) + " (x has shape " + to_string(x) + ")");
  if (batched) s.target.push_back(x[0]);
  for (size_t axis = 2; axis < x.size(); axis++) {
    s.shape.inner *= x[axis];
    s.target.push_back(x[axis]);
  }
  return s;
}

void check_params(const char* op, const CrossEntropyParams& p) {
  if (p.label_smoothing >= 0 && p.label_smoothing <= 1) return;
  std::ostringstream got;
  got << p.label_smoothing;
  fail(op, "label_smoothing is out of range", "0 to 1", got.str());
}

// Checks the shape and every label; returns over how many targets the mean goes.
int64_t count_targets(const char* op, const CrossEntropyTarget& given, const Shape& x, const Inferred& s,
                      int64_t ignore_index) {
  if (given.shares.given()) {
    expect_shape(op, "target", given.shares.shape(), x, "of shares of the classes: the shape of x");
    if (x.size() > 2) fail(op, "target has shares of classes", "x of shape (N, C) or (C,) for them", to_string(x));
    return s.shape.n;
  }
  const LabelArray target = to_device(given.labels, Device::cpu);
  const int64_t classes = s.shape.c;
  expect_shape(op, "target", target.shape(), s.target, "one label per sample");
  int64_t counted = 0;
  const int64_t count = target.count();
  for (int64_t i = 0; i < count; i++) {
    const int64_t label = target.data()[i];
    if (label == ignore_index) continue;
    if (label < 0 || label >= classes)
      fail(op, "target has a label out of range",
           "0 to " + std::to_string(classes - 1) + " (or ignore_index = " + std::to_string(ignore_index) + ")",
           std::to_string(label) + " at position " + std::to_string(i));
    counted++;
  }
  return counted;
}

}  // namespace

CrossEntropyResult cross_entropy_forward(const char* op, const Tensor& x, const CrossEntropyTarget& target,
                                         const CrossEntropyParams& params, bool need_gradient) {
  const Inferred s = infer(op, x.shape());
  check_params(op, params);
  const int64_t counted = count_targets(op, target, x.shape(), s, params.ignore_index);
  const float scale = params.reduction == Reduction::mean && counted > 0 ? float(1.0 / double(counted)) : 1.0f;
  const OnDeviceOf on(op, {{"x", x}, {"target", target.shares}});
  CrossEntropyResult result;
  if (need_gradient) result.gradient = Tensor::empty(op, "dx", x.shape());
  Tensor losses = Tensor::empty(op, "loss", s.target);
  const CrossEntropyKernels& kernels = current_kernels().cross_entropy;
  const Handed<float> handed(scale);
  if (target.shares.given())
    kernels.forward_shares(s.shape, params, handed.get(), x.data(), target.shares.data(), losses.data(),
                           result.gradient.data());
  else
    kernels.forward(s.shape, params, handed.get(), x.data(), to_device(target.labels, x.device()).data(), losses.data(),
                    result.gradient.data());
  result.loss = params.reduction == Reduction::none ? losses : reduce_losses(op, losses, params.reduction, counted);
  return result;
}

Tensor cross_entropy_backward(const Tensor& dy, const Tensor& x, const CrossEntropyTarget& target,
                              const CrossEntropyParams& params, const Tensor& gradient) {
  const char* op = "cross_entropy_backward";
  const Inferred s = infer(op, x.shape());
  const bool per_sample = params.reduction == Reduction::none;
  expect_shape(op, "dy", dy.shape(), per_sample ? s.target : Shape{}, "the shape of the loss");
  if (gradient.given()) expect_shape(op, "saved", gradient.shape(), x.shape(), "the shape of x");
  const OnDeviceOf on(op, {{"dy", dy}, {"x", x}, {"saved", gradient}});
  const Tensor known = gradient.given() ? gradient : cross_entropy_forward(op, x, target, params, true).gradient;
  Tensor dx = Tensor::empty(op, "dx", x.shape());
  current_kernels().cross_entropy.backward(s.shape, dy.data(), per_sample, known.data(), dx.data());
  return dx;
}

}  // namespace convcore

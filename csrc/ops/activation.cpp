#include "ops/activation.h"

#include "ops/kernels.h"
#include "ops/reorder.h"

namespace convcore {
namespace {

void check(const char* op, Activation kind, const ActivationParams& params) {
  if (kind == Activation::scaled_tanh && params.alpha == 0) fail(op, "alpha is zero", "a number other than 0", "0");
}

}  // namespace

const char* name_of(Activation kind) {
  static const char* const names[kActivations] = {"relu", "leaky_relu", "tanh",      "sigmoid", "scaled_tanh",
                                                  "elu",  "gelu",       "gelu_tanh", "silu"};
  return names[int(kind)];
}

Tensor activation_forward(Activation kind, const Tensor& x, const ActivationParams& params) {
  check(name_of(kind), kind, params);
  const OnDeviceOf on(name_of(kind), {{"x", x}});
  Tensor y = Tensor::empty(name_of(kind), "y", x.shape(), x.layout());
  current_kernels().activation.forward[int(kind)](x.count(), params, x.data(), y.data());
  return y;
}

Tensor activation_backward(Activation kind, const Tensor& dy, const Tensor& x, const Tensor& y,
                           const ActivationParams& params) {
  const std::string op = std::string(name_of(kind)) + "_backward";
  check(op.c_str(), kind, params);
  const Tensor& known = x.given() ? x : y;
  expect_shape(op.c_str(), "dy", dy.shape(), known.shape(), "the shape of the output");
  if (y.given()) expect_shape(op.c_str(), "saved", y.shape(), known.shape(), "the shape of the output");
  const OnDeviceOf on(op, {{"dy", dy}, {"x", x}, {"saved", y}});
  Tensor of = known;
  if (gradient_reads_output(kind)) of = y.given() ? y : activation_forward(kind, x, params);
  const Tensor gradient = reorder(op.c_str(), dy, of.layout());  // element by element: the orders of memory must agree
  Tensor dx = Tensor::empty(op.c_str(), "dx", dy.shape(), of.layout());
  current_kernels().activation.backward[int(kind)](dy.count(), params, gradient.data(), of.data(), dx.data());
  return dx;
}

}  // namespace convcore

#include "ops/activation.h"

#include "cpu/kernels.h"
#include "ops/reorder.h"

namespace convcore {

const char* name_of(Activation kind) {
  static const char* const names[kActivations] = {"relu", "leaky_relu", "tanh", "sigmoid"};
  return names[int(kind)];
}

Tensor activation_forward(Activation kind, const Tensor& x, float negative_slope) {
  Tensor y = Tensor::empty(name_of(kind), "y", x.shape(), x.layout());
  cpu::kernels().activation.forward[int(kind)](x.count(), negative_slope, x.data(), y.data());
  return y;
}

Tensor activation_backward(Activation kind, const Tensor& dy, const Tensor& x, const Tensor& y, float negative_slope) {
  const std::string op = std::string(name_of(kind)) + "_backward";
  const Tensor& known = x.given() ? x : y;
  expect_shape(op.c_str(), "dy", dy.shape(), known.shape(), "the shape of the output");
  if (y.given()) expect_shape(op.c_str(), "saved", y.shape(), known.shape(), "the shape of the output");
  const bool wants_output = kind == Activation::tanh || kind == Activation::sigmoid;
  Tensor of = known;
  if (wants_output) of = y.given() ? y : activation_forward(kind, x, negative_slope);
  const Tensor gradient = reorder(op.c_str(), dy, of.layout());  // element by element: the orders of memory must agree
  Tensor dx = Tensor::empty(op.c_str(), "dx", dy.shape(), of.layout());
  cpu::kernels().activation.backward[int(kind)](dy.count(), negative_slope, gradient.data(), of.data(), dx.data());
  return dx;
}

}  // namespace convcore

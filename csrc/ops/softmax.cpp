#include "ops/softmax.h"

#include "ops/kernels.h"

namespace convcore {
namespace {

const char* name_of(Softmax kind) { return kind == Softmax::log ? "log_softmax" : "softmax"; }

SoftmaxShape infer(const std::string& op, const Shape& x, int64_t dim) {
  const int64_t rank = x.empty() ? 1 : int64_t(x.size());
  if (dim < -rank || dim >= rank)
    fail(op, "dim is out of range",
         std::to_string(-rank) + " to " + std::to_string(rank - 1) + " (x has shape " + to_string(x) + ")",
         std::to_string(dim));
  if (dim < 0) dim += rank;
  SoftmaxShape s{1, 1, 1};
  for (int64_t axis = 0; axis < int64_t(x.size()); axis++)
    (axis < dim ? s.outer : axis == dim ? s.c : s.inner) *= x[size_t(axis)];
  return s;
}

}  // namespace

Tensor softmax_forward(Softmax kind, const Tensor& x, int64_t dim) {
  const SoftmaxShape s = infer(name_of(kind), x.shape(), dim);
  const OnDeviceOf on(name_of(kind), {{"x", x}});
  Tensor y = Tensor::empty(name_of(kind), "y", x.shape());
  if (x.count() > 0) current_kernels().softmax.forward[int(kind)](s, x.data(), y.data());
  return y;
}

Tensor softmax_backward(Softmax kind, const Tensor& dy, const Tensor& x, const Tensor& y, int64_t dim) {
  const std::string op = std::string(name_of(kind)) + "_backward";
  const Tensor& known = x.given() ? x : y;
  const SoftmaxShape s = infer(op, known.shape(), dim);
  expect_shape(op.c_str(), "dy", dy.shape(), known.shape(), "the shape of the output");
  if (y.given()) expect_shape(op.c_str(), "saved", y.shape(), known.shape(), "the shape of the output");
  const OnDeviceOf on(op, {{"dy", dy}, {"x", x}, {"saved", y}});
  const Tensor output = y.given() ? y : softmax_forward(kind, x, dim);
  Tensor dx = Tensor::empty(op.c_str(), "dx", dy.shape());
  if (dy.count() > 0) current_kernels().softmax.backward[int(kind)](s, dy.data(), output.data(), dx.data());
  return dx;
}

}  // namespace convcore

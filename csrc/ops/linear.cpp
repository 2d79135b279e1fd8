#include "ops/linear.h"

#include "ops/kernels.h"

namespace convcore {
namespace {

LinearShape infer(const Shape& x, const Shape& w) {
  expect_rank("linear", "w", w, 2, "(out_features, in_features)");
  if (x.empty()) fail("linear", "x has the wrong number of dimensions", "at least 1 (..., in_features)", "0");
  if (x.back() != w[1])
    fail("linear", "x has the wrong number of features", std::to_string(w[1]) + " (w has shape " + to_string(w) + ")",
         std::to_string(x.back()) + " (x has shape " + to_string(x) + ")");
  return {checked_count("linear", "x", Shape(x.begin(), x.end() - 1)), w[1], w[0]};
}

Shape output_shape(const Shape& x, const LinearShape& s) {
  Shape shape = x;
  shape.back() = s.out;
  return shape;
}

}  // namespace

Tensor linear_forward(const Tensor& x, const Tensor& w, const Tensor& b) {
  const LinearShape s = infer(x.shape(), w.shape());
  if (b.given()) expect_shape("linear", "b", b.shape(), {s.out}, "one value per output feature");
  const OnDeviceOf on("linear", {{"x", x}, {"w", w}, {"b", b}});
  Tensor y = Tensor::empty("linear", "y", output_shape(x.shape(), s));
  current_kernels().linear.forward(s, x.data(), w.data(), b.data(), y.data());
  return y;
}

LinearGrads linear_backward(const Tensor& dy, const Tensor& x, const Tensor& w, bool need_dx, bool need_dw,
                            bool need_db) {
  const LinearShape s = infer(x.shape(), w.shape());
  expect_shape("linear_backward", "dy", dy.shape(), output_shape(x.shape(), s), "the shape of the output");
  const OnDeviceOf on("linear_backward", {{"dy", dy}, {"x", x}, {"w", w}});
  const auto& kernels = current_kernels().linear;
  LinearGrads grads;
  if (need_dx) {
    grads.dx = Tensor::empty("linear_backward", "dx", x.shape());
    kernels.backward_input(s, dy.data(), w.data(), grads.dx.data());
  }
  if (need_dw) {
    grads.dw = Tensor::empty("linear_backward", "dw", w.shape());
    kernels.backward_weight(s, dy.data(), x.data(), grads.dw.data());
  }
  if (need_db) {
    grads.db = Tensor::empty("linear_backward", "db", {s.out});
    kernels.backward_bias(s, dy.data(), grads.db.data());
  }
  return grads;
}

}  // namespace convcore

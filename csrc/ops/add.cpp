#include "ops/add.h"

#include "cpu/kernels.h"

namespace convcore {

Tensor add_forward(const Tensor& a, const Tensor& b) {
  expect_shape("add", "b", b.shape(), a.shape(), "the shape of a");
  Tensor y = Tensor::empty("add", "y", a.shape());
  cpu::kernels().add.forward(a.count(), a.data(), b.data(), y.data());
  return y;
}

void check_add_backward(const Tensor& dy, const Tensor& a, const Tensor& b) {
  expect_shape("add_backward", "b", b.shape(), a.shape(), "the shape of a");
  expect_shape("add_backward", "dy", dy.shape(), a.shape(), "the shape of the output");
}

}  // namespace convcore

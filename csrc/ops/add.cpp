#include "ops/add.h"

#include "ops/kernels.h"
#include "ops/reorder.h"

namespace convcore {

Tensor add_forward(const Tensor& a, const Tensor& b) {
  expect_shape("add", "b", b.shape(), a.shape(), "the shape of a");
  const OnDeviceOf on("add", {{"a", a}, {"b", b}});
  const Tensor other = reorder("add", b, a.layout());  // element by element: the orders of memory must agree
  Tensor y = Tensor::empty("add", "y", a.shape(), a.layout());
  current_kernels().add.forward(a.count(), a.data(), other.data(), y.data());
  return y;
}

void check_add_backward(const Tensor& dy, const Tensor& a, const Tensor& b) {
  expect_shape("add_backward", "b", b.shape(), a.shape(), "the shape of a");
  expect_shape("add_backward", "dy", dy.shape(), a.shape(), "the shape of the output");
}

}  // namespace convcore

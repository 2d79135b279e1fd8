#include "ops/dropout.h"

#include <cmath>

#include "cpu/kernels.h"

namespace convcore {
namespace {

Tensor apply(const char* op, const char* result, const Tensor& x, const DropoutParams& params) {
  Tensor y = Tensor::empty(op, result, x.shape());
  cpu::kernels().dropout.apply(x.count(), dropout_mask(params), x.data(), y.data());
  return y;
}

}  // namespace

// uniform_float(bits) < p, said in integers.
cpu::DropoutMask dropout_mask(const DropoutParams& params) {
  const double p = params.p;
  return {params.key, int32_t(std::ceil(p * 16777216.0)), p < 1 ? float(1 / (1 - p)) : 0.0f};
}

void check_dropout(const char* op, double p) {
  if (!(p >= 0 && p <= 1)) fail(op, "p is out of range", "a probability from 0 to 1", std::to_string(p));
}

Tensor dropout_forward(const Tensor& x, const DropoutParams& params) {
  check_dropout("dropout", params.p);
  return apply("dropout", "y", x, params);
}

Tensor dropout_backward(const Tensor& dy, const Tensor& x, const DropoutParams& params) {
  check_dropout("dropout_backward", params.p);
  expect_shape("dropout_backward", "dy", dy.shape(), x.shape(), "the shape of x");
  return apply("dropout_backward", "dx", dy, params);
}

}  // namespace convcore

#include "ops/dropout.h"

#include <cmath>

#include "ops/kernels.h"

namespace convcore {
namespace {

Tensor apply(const char* op, const char* result, const Tensor& x, const DropoutParams& params) {
  Tensor y = Tensor::empty(op, result, x.shape());
  current_kernels().dropout.apply(x.count(), Handed<RandomKey>(params.key).get(), dropout_mask(params.p), x.data(),
                                  y.data());
  return y;
}

// x (N, C, ...) times one number of the mask per image and channel.
Tensor apply_to_channels(const char* op, const char* result, const Tensor& x, const DropoutParams& params) {
  const int64_t n = x.size(0), c = x.size(1);
  const Tensor factors = Tensor::empty(op, "the mask", {n, c});
  current_kernels().dropout.apply(n * c, Handed<RandomKey>(params.key).get(), dropout_mask(params.p), nullptr,
                                  factors.data());
  Tensor y = Tensor::empty(op, result, x.shape(), x.layout());
  const int64_t plane = n * c > 0 ? x.count() / (n * c) : 0;
  current_kernels().dropout.apply_to_channels({n, c, plane, x.layout()}, x.data(), factors.data(), y.data());
  return y;
}

void check_channels(const char* op, const Tensor& x) {
  if (x.shape().size() < 2)
    fail(op, "x has the wrong number of dimensions", "at least 2 (N, C, ...)",
         std::to_string(x.shape().size()) + " (x has shape " + to_string(x.shape()) + ")");
}

}  // namespace

// uniform_float(bits) < p, said in integers.
DropoutMask dropout_mask(double p) { return {int32_t(std::ceil(p * 16777216.0)), p < 1 ? float(1 / (1 - p)) : 0.0f}; }

void check_dropout(const char* op, double p) {
  if (!(p >= 0 && p <= 1)) fail(op, "p is out of range", "a probability from 0 to 1", std::to_string(p));
}

Tensor dropout_forward(const Tensor& x, const DropoutParams& params) {
  check_dropout("dropout", params.p);
  const OnDeviceOf on("dropout", {{"x", x}});
  return apply("dropout", "y", x, params);
}

Tensor dropout_backward(const Tensor& dy, const Tensor& x, const DropoutParams& params) {
  check_dropout("dropout_backward", params.p);
  expect_shape("dropout_backward", "dy", dy.shape(), x.shape(), "the shape of x");
  const OnDeviceOf on("dropout_backward", {{"dy", dy}});
  return apply("dropout_backward", "dx", dy, params);
}

Tensor dropout2d_forward(const Tensor& x, const DropoutParams& params) {
  check_dropout("dropout2d", params.p);
  check_channels("dropout2d", x);
  const OnDeviceOf on("dropout2d", {{"x", x}});
  return apply_to_channels("dropout2d", "y", x, params);
}

Tensor dropout2d_backward(const Tensor& dy, const Tensor& x, const DropoutParams& params) {
  const char* op = "dropout2d_backward";
  check_dropout(op, params.p);
  check_channels(op, x);
  expect_shape(op, "dy", dy.shape(), x.shape(), "the shape of x");
  const OnDeviceOf on(op, {{"dy", dy}});
  return apply_to_channels(op, "dx", dy, params);
}

}  // namespace convcore

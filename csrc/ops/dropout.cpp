#include "ops/dropout.h"

#include <algorithm>
#include <cmath>

#include "core/threads.h"
#include "ops/kernels.h"

namespace convcore {
namespace {

Tensor apply(const char* op, const char* result, const Tensor& x, const DropoutParams& params) {
  Tensor y = Tensor::empty(op, result, x.shape());
  current_kernels().dropout.apply(x.count(), dropout_mask(params), x.data(), y.data());
  return y;
}

// x (N, C, ...) times one number of the mask per image and channel.
Tensor apply_to_channels(const char* op, const char* result, const Tensor& x, const DropoutParams& params) {
  const int64_t n = x.size(0), c = x.size(1);
  const Tensor factors = Tensor::empty(op, "the mask", {n, c});
  std::fill(factors.data(), factors.data() + n * c, 1.0f);
  current_kernels().dropout.apply(n * c, dropout_mask(params), factors.data(), factors.data());
  Tensor y = Tensor::empty(op, result, x.shape(), x.layout());
  const int64_t plane = n * c > 0 ? x.count() / (n * c) : 0;
  parallel_for(n, c * plane, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
      current_kernels().subsampling2d.scale({1, c, plane, x.layout()}, x.data() + i * c * plane, factors.data() + i * c,
                                            nullptr, y.data() + i * c * plane);
  });
  return y;
}

void check_channels(const char* op, const Tensor& x) {
  if (x.shape().size() < 2)
    fail(op, "x has the wrong number of dimensions", "at least 2 (N, C, ...)",
         std::to_string(x.shape().size()) + " (x has shape " + to_string(x.shape()) + ")");
}

}  // namespace

// uniform_float(bits) < p, said in integers.
DropoutMask dropout_mask(const DropoutParams& params) {
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

Tensor dropout2d_forward(const Tensor& x, const DropoutParams& params) {
  check_dropout("dropout2d", params.p);
  check_channels("dropout2d", x);
  return apply_to_channels("dropout2d", "y", x, params);
}

Tensor dropout2d_backward(const Tensor& dy, const Tensor& x, const DropoutParams& params) {
  const char* op = "dropout2d_backward";
  check_dropout(op, params.p);
  check_channels(op, x);
  expect_shape(op, "dy", dy.shape(), x.shape(), "the shape of x");
  return apply_to_channels(op, "dx", dy, params);
}

}  // namespace convcore

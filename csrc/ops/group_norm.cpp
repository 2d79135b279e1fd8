#include "ops/group_norm.h"

#include <algorithm>

#include "ops/kernels.h"
#include "ops/shards.h"

namespace convcore {
namespace {

void check(const std::string& op, const Shape& parameters, const Tensor& weight, const Tensor& bias, double eps) {
  if (!(eps >= 0)) fail(op, "eps is out of range", "a number of at least 0", std::to_string(eps));
  if (weight.given())
    expect_shape(op.c_str(), "weight", weight.shape(), parameters, "one value per normalized element");
  if (bias.given()) expect_shape(op.c_str(), "bias", bias.shape(), parameters, "one value per normalized element");
}

void sum_gradients(const char* op, const GroupNormShape& s, const Tensor& dy, const Tensor& x, const Tensor& mean,
                   const Tensor& rstd, const GroupNormGrads& grads) {
  const int64_t floats = s.per_sample();
  sum_over_images(op, s.n, 2 * floats, s.all_channels(), grads.dweight, grads.dbias,
                  [&](int64_t begin, int64_t end, float* dweight, float* dbias) {
                    GroupNormShape some = s;
                    some.n = end - begin;
                    current_kernels().group_norm.backward_weight(
                        some, dy.data() + begin * floats, x.data() + begin * floats, mean.data() + begin * s.groups,
                        rstd.data() + begin * s.groups, dweight, dbias);
                  });
}

}  // namespace

GroupNormShape infer_group_norm_shape(const Shape& x, int64_t num_groups) {
  const char* op = "group_norm";
  if (x.size() < 2)
    fail(op, "x has the wrong number of dimensions", "at least 2 (N, C, ...)",
         std::to_string(x.size()) + " (x has shape " + to_string(x) + ")");
  checked_count(op, "x", x);
  expect_range(op, "num_groups", num_groups, 1, INT64_MAX);
  if (x[1] % num_groups != 0)
    fail(op, "the channels of x cannot be divided into groups",
         "a multiple of num_groups = " + std::to_string(num_groups), std::to_string(x[1]));
  GroupNormShape s{x[0], num_groups, x[1] / num_groups, 1};
  for (size_t axis = 2; axis < x.size(); axis++) s.plane *= x[axis];
  return s;
}

GroupNormShape infer_layer_norm_shape(const Shape& x, const Shape& normalized_shape) {
  const char* op = "layer_norm";
  const size_t inner = normalized_shape.size();
  checked_count(op, "x", x);
  if (inner == 0) fail(op, "normalized_shape is empty", "at least one size", "()");
  if (inner > x.size() || !std::equal(normalized_shape.begin(), normalized_shape.end(), x.end() - int64_t(inner)))
    fail(op, "x has the wrong shape",
         "(..., " + to_string(normalized_shape).substr(1) + " (its end is normalized_shape)", to_string(x));
  return {checked_count(op, "x", Shape(x.begin(), x.end() - int64_t(inner))), 1,
          checked_count(op, "normalized_shape", normalized_shape), 1};
}

GroupNormResult group_norm_forward(const char* op, const GroupNormShape& s, const Shape& parameters, const Tensor& x,
                                   const Tensor& weight, const Tensor& bias, double eps) {
  check(op, parameters, weight, bias, eps);
  const OnDeviceOf on(op, {{"x", x}, {"weight", weight}, {"bias", bias}});
  GroupNormResult result{Tensor::empty(op, "y", x.shape()), Tensor::empty(op, "mean", {s.n, s.groups}),
                         Tensor::empty(op, "rstd", {s.n, s.groups})};
  current_kernels().group_norm.forward(s, eps, x.data(), weight.data(), bias.data(), result.y.data(),
                                       result.mean.data(), result.rstd.data());
  return result;
}

GroupNormGrads group_norm_backward(const char* op_forward, const GroupNormShape& s, const Shape& parameters,
                                   const Tensor& dy, const Tensor& x, const Tensor& weight, double eps,
                                   const Tensor& saved_mean, const Tensor& saved_rstd, bool need_dx, bool need_dweight,
                                   bool need_dbias) {
  const std::string name = std::string(op_forward) + "_backward";
  const char* op = name.c_str();
  check(name, parameters, weight, {}, eps);
  expect_shape(op, "dy", dy.shape(), x.shape(), "the shape of x");
  const OnDeviceOf on(name, {{"dy", dy}, {"x", x}, {"weight", weight}, {"saved mean", saved_mean}});
  Tensor mean = saved_mean, rstd = saved_rstd;
  if (mean.given()) {
    expect_shape(op, "saved mean", mean.shape(), {s.n, s.groups}, "one value per group of a sample");
    expect_shape(op, "saved rstd", rstd.shape(), {s.n, s.groups}, "one value per group of a sample");
  } else {
    mean = Tensor::empty(op, "mean", {s.n, s.groups}), rstd = Tensor::empty(op, "rstd", {s.n, s.groups});
    current_kernels().group_norm.forward(s, eps, x.data(), nullptr, nullptr, nullptr, mean.data(), rstd.data());
  }
  GroupNormGrads grads;
  if (need_dweight) grads.dweight = Tensor::empty(op, "dweight", parameters);
  if (need_dbias) grads.dbias = Tensor::empty(op, "dbias", parameters);
  if (need_dweight || need_dbias) sum_gradients(op, s, dy, x, mean, rstd, grads);
  if (need_dx) {
    grads.dx = Tensor::empty(op, "dx", x.shape());
    current_kernels().group_norm.backward_input(s, dy.data(), x.data(), mean.data(), rstd.data(), weight.data(),
                                                grads.dx.data());
  }
  return grads;
}

}  // namespace convcore

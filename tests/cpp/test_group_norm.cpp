// group_norm and layer_norm: against the formulas in double precision, for the sanitizers.
#include "ops/group_norm.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::random_tensor;
using test::Sum;

constexpr double kEps = 1e-5;

// A sum whose error is that of several roundings of numbers of about `size`.
Sum rounded(double value, double size) { return {value, 20 * size, 1}; }

void check(const char* op, const GroupNormShape& s, const Shape& shape, const Shape& parameters) {
  CAPTURE(to_string(shape));
  const Tensor x = random_tensor(shape, 1), dy = random_tensor(shape, 2);
  const Tensor weight = random_tensor(parameters, 3), bias = random_tensor(parameters, 4);
  std::vector<Sum> y, dx, dweight(size_t(weight.count())), dbias(size_t(weight.count()));
  const int64_t count = s.per_group();
  for (int64_t group = 0; group < s.n * s.groups; group++) {
    const float *from = x.data() + group * count, *g = dy.data() + group * count;
    const auto channel = [&](int64_t i) { return size_t(group % s.groups * s.channels + i / s.plane); };
    double mean = 0, var = 0, of_g = 0, of_products = 0;
    for (int64_t i = 0; i < count; i++) mean += double(from[i]) / double(count);
    for (int64_t i = 0; i < count; i++) var += (from[i] - mean) * (from[i] - mean) / double(count);
    const double rstd = 1 / std::sqrt(var + kEps);
    for (int64_t i = 0; i < count; i++) {
      const double xhat = (from[i] - mean) * rstd, w = weight.data()[channel(i)];
      y.push_back(rounded(xhat * w + bias.data()[channel(i)], 1 + std::fabs(xhat)));
      of_g += g[i] * w / double(count);
      of_products += g[i] * w * xhat / double(count);
      dweight[channel(i)].add(g[i] * xhat);
      dbias[channel(i)].add(g[i]);
    }
    for (int64_t i = 0; i < count; i++) {
      const double xhat = (from[i] - mean) * rstd, w = weight.data()[channel(i)];
      dx.push_back(rounded(rstd * (g[i] * w - of_g - xhat * of_products), rstd * (2 + std::fabs(xhat))));
    }
  }
  for (Sum& sum : dweight) sum.magnitude = 8 * (sum.magnitude + double(sum.terms));
  const GroupNormResult result = group_norm_forward(op, s, parameters, x, weight, bias, kEps);
  check_close(result.y, shape, y);
  const GroupNormGrads grads =
      group_norm_backward(op, s, parameters, dy, x, weight, kEps, result.mean, result.rstd, true, true, true);
  check_close(grads.dx, shape, dx);
  check_close(grads.dweight, parameters, dweight);
  check_close(grads.dbias, parameters, dbias);
}

TEST_CASE("group_norm matches its formulas") {
  for (const Shape& shape : {Shape{3, 6, 5, 7}, Shape{0, 6, 2, 2}, Shape{17, 34}, Shape{2, 4, 1, 1}, Shape{1, 2, 5001}})
    for (int64_t groups : {1, 2}) check("group_norm", infer_group_norm_shape(shape, groups), shape, {shape[1]});
}

TEST_CASE("layer_norm matches its formulas") {
  for (int64_t size : test::kCounts)
    if (size > 1) check("layer_norm", infer_layer_norm_shape({19, size}, {size}), {19, size}, {size});
  check("layer_norm", infer_layer_norm_shape({2, 3, 5, 7}, {5, 7}), {2, 3, 5, 7}, {5, 7});
}

}  // namespace
}  // namespace convcore

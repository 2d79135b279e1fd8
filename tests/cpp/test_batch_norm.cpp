// batch_norm: by hand, against the formulas of its contract, and the same bits at any number of threads.
#include "ops/batch_norm.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::check_same_bits;
using test::message_of;
using test::random_tensor;
using test::Sum;
using test::tensor;

constexpr double kMomentum = 0.25, kEps = 1e-3;

std::vector<Shape> shapes() {
  std::vector<Shape> all = {
      {0, 3},       {0, 3, 2, 2},  {2, 0},    {2, 3, 0},      {2, 1},        {1, 1, 2},
      {2, 3, 1, 1}, {2, 5, 3, 11}, {3, 2, 5}, {5, 1, 91, 91}, {32768 + 5, 2}};  // the last two are cut into shards
  for (int64_t size : test::kCounts)
    if (size > 1) all.insert(all.end(), {{3, size}, {2, 3, size}, {1, 1, size}});
  return all;
}

struct Naive {
  std::vector<Sum> y, dx, dweight, dbias, running_mean, running_var;
};

struct Arrays {
  Tensor x, dy, weight, bias, running_mean, running_var;  // weight and bias may be not given
};

Tensor positive(Tensor t) {
  for (int64_t i = 0; i < t.count(); i++) t.data()[i] = 0.5f + std::fabs(t.data()[i]);
  return t;
}

// x seen as (n, c, plane). The magnitudes follow the float32 mean and deviation that the kernels keep.
Naive naive(const BatchNormShape& s, const Arrays& a, bool training) {
  Naive want{std::vector<Sum>(size_t(a.x.count())), std::vector<Sum>(size_t(a.x.count())), {}, {}, {}, {}};
  const double m = double(s.per_channel());
  for (int64_t c = 0; c < s.c; c++) {
    const auto each = [&](auto f) {
      for (int64_t n = 0; n < s.n; n++)
        for (int64_t i = 0; i < s.plane; i++) f((n * s.c + c) * s.plane + i);
    };
    const double old_mean = a.running_mean.data()[c], old_var = a.running_var.data()[c];
    double mean = old_mean, var = old_var;
    Sum new_mean{old_mean, 1, 1}, new_var{old_var, 1, 1};
    if (training && m > 0) {
      mean = var = 0;
      each([&](int64_t at) { mean += a.x.data()[at] / m; });
      each([&](int64_t at) { var += (a.x.data()[at] - mean) * (a.x.data()[at] - mean) / m; });
      new_mean = {(1 - kMomentum) * old_mean + kMomentum * mean, 1, 1};
      new_var = {(1 - kMomentum) * old_var + kMomentum * var * m / (m - 1), 2, 1};
    }
    want.running_mean.push_back(new_mean);
    want.running_var.push_back(new_var);

    const double rstd = 1 / std::sqrt(var + kEps);
    const double weight = a.weight.given() ? a.weight.data()[c] : 1, bias = a.bias.given() ? a.bias.data()[c] : 0;
    const auto size_of_xhat = [&](int64_t at) { return (std::fabs(double(a.x.data()[at])) + std::fabs(mean)) * rstd; };
    Sum dweight, dbias;
    each([&](int64_t at) {
      const double g = a.dy.data()[at], xhat = (a.x.data()[at] - mean) * rstd;
      want.y[size_t(at)] = {xhat * weight + bias, size_of_xhat(at) * std::fabs(weight) + std::fabs(bias), 1};
      dbias.add(g);
      dweight.value += g * xhat;
      dweight.magnitude += std::fabs(g) * size_of_xhat(at);
    });
    want.dweight.push_back(dweight);
    want.dbias.push_back(dbias);
    each([&](int64_t at) {
      const double g = a.dy.data()[at], xhat = (a.x.data()[at] - mean) * rstd, scale = weight * rstd;
      double value = g, magnitude = std::fabs(g);
      if (training) {
        value -= dbias.value / m + xhat * dweight.value / m;
        magnitude += dbias.magnitude / m + size_of_xhat(at) * dweight.magnitude / m;
      }
      want.dx[size_t(at)] = {scale * value, std::fabs(scale) * magnitude, 1};
    });
  }
  return want;
}

void check(const Shape& shape, bool training, bool affine) {
  BatchNormShape s{shape[0], shape[1], 1};
  for (size_t axis = 2; axis < shape.size(); axis++) s.plane *= shape[axis];
  const Shape channels{s.c};
  const Arrays a{random_tensor(shape, 1),
                 random_tensor(shape, 2),
                 affine ? random_tensor(channels, 3) : Tensor(),
                 affine ? random_tensor(channels, 4) : Tensor(),
                 random_tensor(channels, 5),
                 positive(random_tensor(channels, 6))};
  const Naive want = naive(s, a, training);
  const BatchNormParams params{training, kMomentum, kEps};

  const BatchNormGrads again =
      batch_norm_backward(a.dy, a.x, a.running_mean, a.running_var, a.weight, params, {}, true, true, true);
  const BatchNormResult got = batch_norm_forward(a.x, a.running_mean, a.running_var, a.weight, a.bias, params);
  check_close(got.y, shape, want.y);
  check_close(a.running_mean, channels, want.running_mean);
  check_close(a.running_var, channels, want.running_var);
  const BatchNormGrads grads =
      batch_norm_backward(a.dy, a.x, a.running_mean, a.running_var, a.weight, params, got.saved, true, true, true);
  check_close(grads.dx, shape, want.dx);
  check_close(grads.dweight, channels, want.dweight);
  check_close(grads.dbias, channels, want.dbias);
  check_same_bits(again.dx, grads.dx);
  check_same_bits(again.dweight, grads.dweight);
  check_same_bits(again.dbias, grads.dbias);
}

TEST_CASE("batch_norm_forward by hand") {
  const Tensor x = tensor({2, 1}, {1, 3}), mean = tensor({1}, {10}), var = tensor({1}, {4});
  const Tensor y = batch_norm_forward(x, mean, var, {}, {}, {true, 0.5, 1e-12}).y;
  CHECK(y.data()[0] == -1);
  CHECK(y.data()[1] == 1);
  CHECK(*mean.data() == 6);  // of 10 and 2
  CHECK(*var.data() == 3);   // of 4 and the unbiased variance, 2
}

TEST_CASE("batch_norm matches its formulas") {
  for (const Shape& shape : shapes())
    for (bool training : {true, false})
      for (bool affine : {true, false}) {
        CAPTURE(to_string(shape));
        CAPTURE(training);
        CAPTURE(affine);
        check(shape, training, affine);
      }
}

TEST_CASE("batch_norm_backward leaves out what is not needed") {
  const Tensor x = random_tensor({4, 3}, 1), dy = random_tensor({4, 3}, 2);
  const BatchNormGrads grads = batch_norm_backward(dy, x, {}, {}, {}, {true, 0.1, 1e-5}, {}, false, true, false);
  CHECK(!grads.dx.given());
  CHECK(grads.dweight.given());
  CHECK(!grads.dbias.given());
}

TEST_CASE("batch_norm gives the same bits at any number of threads") {
  for (const Shape& shape : {Shape{11, 3, 71, 73}, Shape{40001, 2}, Shape{401, 133}}) {
    const Tensor x = random_tensor(shape, 1), dy = random_tensor(shape, 2), weight = random_tensor({shape[1]}, 3);
    test::check_same_bits_at_any_thread_count([&]() -> std::vector<Tensor> {
      const BatchNormParams params{true, kMomentum, kEps};
      const BatchNormGrads grads = batch_norm_backward(dy, x, {}, {}, weight, params, {}, true, true, true);
      return {batch_norm_forward(x, {}, {}, weight, {}, params).y, grads.dx, grads.dweight, grads.dbias};
    });
  }
}

TEST_CASE("batch_norm refuses what has no variance") {
  CHECK(message_of([] { batch_norm_forward(random_tensor({1, 3}, 1), {}, {}, {}, {}, {true, 0.1, 1e-5}); }) != "");
  CHECK(message_of([] { batch_norm_forward(random_tensor({2, 3}, 1), {}, {}, {}, {}, {false, 0.1, 1e-5}); }) != "");
}

}  // namespace
}  // namespace convcore

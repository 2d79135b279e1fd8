// batch_norm: by hand, against the formulas of its contract, and the same bits at any number of threads.
#include "ops/batch_norm.h"

#include "cpu/kernels.h"
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

// x seen as (n, c, plane). The magnitudes follow the float32 mean and deviation that the kernels keep; the mean comes
// from float sums of small blocks, whose rounding is relative to the deviation.
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
      new_mean = {(1 - kMomentum) * old_mean + kMomentum * mean, 1 + 0.25 * std::sqrt(var), 1};
      new_var = {(1 - kMomentum) * old_var + kMomentum * var * m / (m - 1), 2, 1};
    }
    want.running_mean.push_back(new_mean);
    want.running_var.push_back(new_var);

    const double rstd = 1 / std::sqrt(var + kEps);
    const double weight = a.weight.given() ? a.weight.data()[c] : 1, bias = a.bias.given() ? a.bias.data()[c] : 0;
    const auto size_of_xhat = [&](int64_t at) {
      return (std::fabs(double(a.x.data()[at])) + std::fabs(mean)) * rstd + 0.25;
    };
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
  BatchNormShape s{shape[0], shape[1], 1, Layout::row_major};
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

// ---- the pieces that run over blocks of images --------------------------------------------------------------------

// Widths that the lanes divide, channels that repeat within a row of vectors, and neither.
const std::vector<BatchNormShape>& piece_shapes() {
  static const std::vector<BatchNormShape> shapes = [] {
    std::vector<BatchNormShape> all;
    for (Layout layout : {Layout::row_major, Layout::channels_last}) {
      for (int64_t c : {1, 2, 3, 6, 8, 16, 17, 32, 48, 64, 67, 130}) all.push_back({5, c, 21, layout});
      for (int64_t plane : {1, 4, 16, 49, 4099}) all.push_back({4, 3, plane, layout});
      all.push_back({0, 3, 4, layout});
      all.push_back({2, 0, 4, layout});
      all.push_back({2, 3, 0, layout});
    }
    return all;
  }();
  return shapes;
}

struct Pieces {
  explicit Pieces(const BatchNormShape& s) : s(s) {}
  const BatchNormShape& s;
  const BatchNormKernels& kernels = cpu::kernels().batch_norm;

  Tensor images(uint64_t seed) const { return random_tensor({s.n * s.c * s.plane}, seed); }
  Tensor channels(uint64_t seed) const { return random_tensor({s.c}, seed); }
  int64_t channel(int64_t i) const { return s.layout == Layout::channels_last ? i % s.c : i / s.plane % s.c; }

  template <typename F>  // f(n0, n1) for blocks of uneven size that make up the batch
  void in_blocks(const F& f) const {
    for (int64_t n = 0, size = 1; n < s.n; n += size, size++) f(n, std::min(s.n, n + size));
  }
};

TEST_CASE("batch_norm: sums of blocks of images") {
  for (const BatchNormShape& s : piece_shapes())
    for (float mean : {0.0f, 100.0f})
      for (bool pivoted : {false, true}) {
        CAPTURE(s.c);
        CAPTURE(s.plane);
        const Pieces p(s);
        const Tensor x = p.images(1), pivot = p.channels(2);
        for (int64_t i = 0; i < x.count(); i++) x.data()[i] += mean;
        std::vector<double> sum(size_t(s.c), 1.0), squares(size_t(s.c), 2.0);
        p.in_blocks([&](int64_t n0, int64_t n1) {
          p.kernels.partial(s, n0, n1, x.data(), pivoted ? pivot.data() : nullptr, sum.data(), squares.data());
        });
        std::vector<Sum> want_sum(size_t(s.c), Sum{1, 1, 0}), want_squares(size_t(s.c), Sum{2, 2, 0});
        for (int64_t i = 0; i < x.count(); i++) {
          const size_t c = size_t(p.channel(i));
          const double d = double(x.data()[i]) - (pivoted ? double(pivot.data()[c]) : 0.0);
          want_sum[c].add(d);
          want_squares[c].add(d * d);
        }
        for (size_t c = 0; c < size_t(s.c); c++) {
          CHECK(std::fabs(sum[c] - want_sum[c].value) <= 4 * 0x1p-24 * want_sum[c].magnitude);
          CHECK(std::fabs(squares[c] - want_squares[c].value) <= 4 * 0x1p-24 * want_squares[c].magnitude);
        }
      }
}

TEST_CASE("batch_norm: images normalised in blocks, with residual and ReLU") {
  for (const BatchNormShape& s : piece_shapes())
    for (bool relu : {false, true})
      for (int added : {0, 1, 2}) {
        CAPTURE(s.c);
        CAPTURE(s.plane);
        const Pieces p(s);
        const Tensor x = p.images(1), r = p.images(2), y = p.images(3);
        const Tensor a[3] = {p.channels(4), p.channels(5), p.channels(6)};
        const Tensor b[3] = {p.channels(7), p.channels(8), p.channels(9)};
        BatchNormResidual residual{};
        if (added > 0) residual.values = r.data();
        if (added > 1) residual.affine = {b[0].data(), b[1].data(), b[2].data()};
        std::vector<Sum> want(size_t(x.count()));
        for (int64_t i = 0; i < x.count(); i++) {
          const auto affine = [c = p.channel(i)](const Tensor(&f)[3], float v, Sum& sum) {
            sum.add((double(v) - f[0].data()[c]) * f[1].data()[c]);
            sum.add(f[2].data()[c]);
          };
          Sum& sum = want[size_t(i)];
          affine(a, x.data()[i], sum);
          if (added == 1) sum.add(r.data()[i]);
          if (added == 2) affine(b, r.data()[i], sum);
          if (relu && sum.value < 0) sum.value = 0;
        }
        p.in_blocks([&](int64_t n0, int64_t n1) {
          p.kernels.apply(s, n0, n1, x.data(), {a[0].data(), a[1].data(), a[2].data()}, residual, relu, y.data());
        });
        check_close(y, y.shape(), want);
        p.in_blocks([&](int64_t n0, int64_t n1) {  // in place
          p.kernels.apply(s, n0, n1, x.data(), {a[0].data(), a[1].data(), a[2].data()}, residual, relu, x.data());
        });
        check_same_bits(x, y);
      }
}

TEST_CASE("batch_norm: ReLU in a block keeps NaN") {
  const BatchNormShape s{1, 1, 3, Layout::row_major};
  const Tensor x = tensor({3}, {-1, 1, NAN}), mean = tensor({1}, {0}), one = tensor({1}, {1});
  cpu::kernels().batch_norm.apply(s, 0, 1, x.data(), {mean.data(), one.data(), mean.data()}, {}, true, x.data());
  CHECK(x.data()[0] == 0);
  CHECK(x.data()[1] == 1);
  CHECK(std::isnan(x.data()[2]));
}

TEST_CASE("batch_norm: gradient in blocks of images, with the mask of ReLU") {
  for (const BatchNormShape& s : piece_shapes())
    for (bool masked : {false, true})
      for (int written : {0, 1, 2}) {  // not at all, beside dy, in place
        CAPTURE(s.c);
        CAPTURE(s.plane);
        const Pieces p(s);
        const Tensor dy = p.images(1), x = p.images(2), y = p.images(3), mean = p.channels(4), out = p.images(5);
        std::vector<Sum> want_dz(size_t(s.c)), want_dz_x(size_t(s.c));
        const Tensor want = p.images(1);
        for (int64_t i = 0; i < dy.count(); i++) {
          const int64_t c = p.channel(i);
          if (masked && y.data()[i] <= 0) want.data()[i] = 0;
          want_dz[size_t(c)].add(want.data()[i]);
          want_dz_x[size_t(c)].add(double(want.data()[i]) * (double(x.data()[i]) - mean.data()[c]));
        }
        float* dz = written == 0 ? nullptr : written == 1 ? out.data() : dy.data();
        std::vector<double> sum_dz(size_t(s.c)), sum_dz_x(size_t(s.c));
        p.in_blocks([&](int64_t n0, int64_t n1) {
          p.kernels.backward_partial(s, n0, n1, dy.data(), x.data(), mean.data(), masked ? y.data() : nullptr, dz,
                                     sum_dz.data(), sum_dz_x.data());
        });
        for (size_t c = 0; c < size_t(s.c); c++) {
          CHECK(std::fabs(sum_dz[c] - want_dz[c].value) <= 4 * 0x1p-24 * want_dz[c].magnitude);
          CHECK(std::fabs(sum_dz_x[c] - want_dz_x[c].value) <= 4 * 0x1p-24 * want_dz_x[c].magnitude);
        }
        if (written == 1) check_same_bits(out, want);
        if (written == 2) check_same_bits(dy, want);
      }
}

TEST_CASE("batch_norm: gradient of the input in blocks of images") {
  for (const BatchNormShape& s : piece_shapes())
    for (bool training : {false, true}) {
      CAPTURE(s.c);
      CAPTURE(s.plane);
      const Pieces p(s);
      const Tensor dz = p.images(1), x = p.images(2), dx = p.images(3);
      const Tensor mean = p.channels(4), scale = p.channels(5), center = p.channels(6), slope = p.channels(7);
      std::vector<Sum> want(size_t(x.count()));
      for (int64_t i = 0; i < x.count(); i++) {
        const int64_t c = p.channel(i);
        const double factor = scale.data()[c], deviation = double(x.data()[i]) - mean.data()[c];
        want[size_t(i)].add(factor * dz.data()[i]);
        if (!training) continue;
        want[size_t(i)].add(-factor * center.data()[c]);
        want[size_t(i)].add(-factor * deviation * slope.data()[c]);
      }
      const BatchNormInputGradient g{training ? mean.data() : nullptr, scale.data(), center.data(), slope.data()};
      for (float* to : {dx.data(), dz.data()}) {
        p.in_blocks([&](int64_t n0, int64_t n1) { p.kernels.backward_apply(s, n0, n1, dz.data(), x.data(), g, to); });
        check_close(to == dx.data() ? dx : dz, x.shape(), want);
      }
    }
}

TEST_CASE("batch_norm refuses what has no variance") {
  CHECK(message_of([] { batch_norm_forward(random_tensor({1, 3}, 1), {}, {}, {}, {}, {true, 0.1, 1e-5}); }) != "");
  CHECK(message_of([] { batch_norm_forward(random_tensor({2, 3}, 1), {}, {}, {}, {}, {false, 0.1, 1e-5}); }) != "");
}

}  // namespace
}  // namespace convcore

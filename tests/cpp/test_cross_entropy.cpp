// cross_entropy: by hand, against the formula of its contract, and the same bits at any number of threads.
#include "ops/cross_entropy.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::message_of;
using test::random_tensor;
using test::Sum;
using test::tensor;

constexpr int64_t kIgnored = -100;
const Reduction kReductions[] = {Reduction::mean, Reduction::sum, Reduction::none};

struct Case {
  Shape x, target;
  CrossEntropyShape s;  // x as (n, c, inner)
};

std::vector<Case> cases() {
  std::vector<Case> all = {{{3}, {}, {1, 3, 1}},
                           {{0, 3}, {0}, {0, 3, 1}},
                           {{2, 3, 0}, {2, 0}, {2, 3, 0}},
                           {{2, 3, 2, 5}, {2, 2, 5}, {2, 3, 10}}};
  for (int64_t size : test::kCounts) {
    if (size > 0) all.push_back({{3, size}, {3}, {3, size, 1}});
    all.push_back({{2, 5, size}, {2, size}, {2, 5, size}});
  }
  return all;
}

// Labels of all classes, every fourth one ignored (not the first).
LabelArray labels(const Shape& shape, int64_t classes) {
  LabelArray target = LabelArray::empty("test", "target", shape);
  for (int64_t i = 0; i < target.count(); i++) target.data()[i] = i % 4 == 2 ? kIgnored : (7 * i + 1) % classes;
  return target;
}

struct Naive {
  std::vector<Sum> losses, gradient;  // the gradient of the sum of the losses, times dy of each
  int64_t counted = 0;
};

Naive naive(const CrossEntropyShape& s, double smoothing, const float* x, const int64_t* target, const float* dy) {
  Naive result{std::vector<Sum>(size_t(s.n * s.inner)), std::vector<Sum>(size_t(s.n * s.c * s.inner)), 0};
  for (int64_t n = 0; n < s.n; n++)
    for (int64_t i = 0; i < s.inner; i++) {
      const size_t sample = size_t(n * s.inner + i);
      const auto at = [&](int64_t c) { return size_t((n * s.c + c) * s.inner + i); };
      if (target[sample] == kIgnored) continue;
      result.counted++;
      double total = 0;
      for (int64_t c = 0; c < s.c; c++) total += std::exp(double(x[at(c)]));
      for (int64_t c = 0; c < s.c; c++) {
        const double p = std::exp(double(x[at(c)])) / total, by = dy ? dy[sample] : 1;
        const double q = (c == target[sample] ? 1 - smoothing : 0) + smoothing / double(s.c);
        result.losses[sample].add(-q * std::log(p));
        result.gradient[at(c)] = {by * (p - q), std::fabs(by) * (2 * p + q), s.c};
      }
      result.losses[sample].magnitude += 3 + std::log(double(s.c));  // of the maximum and the logarithm
    }
  return result;
}

void check(const Case& c, Reduction reduction, float smoothing) {
  const Tensor x = random_tensor(c.x, 1), dy = random_tensor(reduction == Reduction::none ? c.target : Shape{}, 2);
  const LabelArray target = labels(c.target, c.s.c);
  const CrossEntropyParams params{kIgnored, reduction, smoothing};
  const bool none = reduction == Reduction::none;
  Naive want = naive(c.s, double(smoothing), x.data(), target.data(), none ? dy.data() : nullptr);
  const double scale = reduction == Reduction::mean && want.counted > 0 ? 1 / double(want.counted) : 1;

  const CrossEntropyResult got = cross_entropy_forward("cross_entropy", x, target, params, true);
  test::check_same_bits(cross_entropy_forward("cross_entropy", x, target, params, false).loss, got.loss);
  if (none) {
    check_close(got.loss, c.target, want.losses);
  } else if (reduction == Reduction::mean && want.counted == 0) {
    CHECK(std::isnan(*got.loss.data()));
  } else {
    Sum total;
    for (const Sum& loss : want.losses) total = {total.value + loss.value, total.magnitude + loss.magnitude, c.s.c};
    check_close(got.loss, {}, {{total.value * scale, total.magnitude * scale, total.terms}});
  }
  for (Sum& g : want.gradient) {
    const double by = none ? 1 : *dy.data() * scale;
    g = {g.value * by, g.magnitude * std::fabs(by), g.terms};
  }
  check_close(cross_entropy_backward(dy, x, target, params, got.gradient), c.x, want.gradient);
  check_close(cross_entropy_backward(dy, x, target, params, {}), c.x, want.gradient);
}

TEST_CASE("cross_entropy by hand") {
  LabelArray target = LabelArray::empty("test", "target", {1});
  *target.data() = 1;
  const CrossEntropyResult got =
      cross_entropy_forward("cross_entropy", tensor({1, 2}, {3, 3}), target, {kIgnored, Reduction::mean, 0}, true);
  check_close(got.loss, {}, {{std::log(2.0), 1, 1}});
  CHECK(got.gradient.data()[0] == 0.5f);
  CHECK(got.gradient.data()[1] == -0.5f);
}

TEST_CASE("cross_entropy matches its formula") {
  for (const Case& c : cases())
    for (Reduction reduction : kReductions)
      for (float smoothing : {0.0f, 0.125f, 1.0f}) {
        CAPTURE(to_string(c.x));
        CAPTURE(int(reduction));
        CAPTURE(smoothing);
        check(c, reduction, smoothing);
      }
}

TEST_CASE("cross_entropy gives the same bits at any number of threads") {
  for (const Shape& shape : {Shape{701, 37}, Shape{13, 19, 101}}) {
    const Tensor x = random_tensor(shape, 1);
    Shape target_shape = shape;
    target_shape.erase(target_shape.begin() + 1);
    const LabelArray target = labels(target_shape, shape[1]);
    for (Reduction reduction : kReductions) {
      const Tensor dy = random_tensor(reduction == Reduction::none ? target_shape : Shape{}, 2);
      const CrossEntropyParams params{kIgnored, reduction, 0.1f};
      test::check_same_bits_at_any_thread_count([&]() -> std::vector<Tensor> {
        return {cross_entropy_forward("cross_entropy", x, target, params, false).loss,
                cross_entropy_backward(dy, x, target, params, {})};
      });
    }
  }
}

TEST_CASE("cross_entropy refuses labels out of range") {
  LabelArray target = LabelArray::empty("test", "target", {2});
  target.data()[0] = 0;
  for (int64_t bad : {int64_t(3), int64_t(-1), INT64_MIN, INT64_MAX}) {
    target.data()[1] = bad;
    CHECK(message_of([&] {
            cross_entropy_forward("cross_entropy", random_tensor({2, 3}, 1), target, {kIgnored, Reduction::sum, 0},
                                  true);
          }) == "cross_entropy: target has a label out of range: expected 0 to 2 (or ignore_index = -100), got " +
                    std::to_string(bad) + " at position 1");
  }
}

TEST_CASE("a whole share is a label") {
  for (int64_t classes : test::kCounts) {
    if (classes == 0) continue;
    const Tensor x = random_tensor({5, classes}, 3);
    const LabelArray target = LabelArray::empty("test", "target", {5});
    const Tensor shares = Tensor::empty("test", "shares", x.shape());
    std::fill(shares.data(), shares.data() + shares.count(), 0.0f);
    for (int64_t n = 0; n < 5; n++) {
      target.data()[n] = (7 * n + 1) % classes;
      shares.data()[n * classes + target.data()[n]] = 1.0f;
    }
    const CrossEntropyParams params{kIgnored, Reduction::none, 0.25f};
    const CrossEntropyResult a = cross_entropy_forward("test", x, target, params, true);
    const CrossEntropyResult b = cross_entropy_forward("test", x, shares, params, true);
    for (int64_t n = 0; n < 5; n++) CHECK(std::fabs(a.loss.data()[n] - b.loss.data()[n]) < 1e-5);
    for (int64_t i = 0; i < x.count(); i++) CHECK(std::fabs(a.gradient.data()[i] - b.gradient.data()[i]) < 1e-6);
  }
}

}  // namespace
}  // namespace convcore

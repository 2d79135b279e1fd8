// softmax and log_softmax: by hand, against the formulas along each dimension, and the same bits at any number of
// threads.
#include "ops/softmax.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::check_same_bits;
using test::message_of;
using test::random_tensor;
using test::Sum;
using test::tensor;

struct Case {
  Shape x;
  int64_t dim;
  SoftmaxShape s;  // x as (outer, c, inner)
};

std::vector<Case> cases() {
  std::vector<Case> all = {
      {{}, 0, {1, 1, 1}}, {{0, 3}, 1, {0, 3, 1}}, {{3, 0}, 1, {3, 0, 1}}, {{2, 3, 0}, 1, {2, 3, 0}}};
  for (int64_t size : test::kCounts) {
    all.push_back({{3, size}, -1, {3, size, 1}});
    all.push_back({{size, 5}, 0, {1, size, 5}});
    all.push_back({{2, 3, size}, 1, {2, 3, size}});
  }
  return all;
}

std::vector<Sum> naive_forward(Softmax kind, const SoftmaxShape& s, const float* x) {
  std::vector<Sum> y(size_t(s.outer * s.c * s.inner));
  for (int64_t o = 0; o < s.outer; o++)
    for (int64_t i = 0; i < s.inner; i++) {
      const auto at = [&](int64_t c) { return size_t((o * s.c + c) * s.inner + i); };
      double total = 0;
      for (int64_t c = 0; c < s.c; c++) total += std::exp(double(x[at(c)]));
      for (int64_t c = 0; c < s.c; c++) {
        const double z = x[at(c)], p = std::exp(z) / total;
        y[at(c)] = kind == Softmax::log ? Sum{z - std::log(total), 3 + std::log(double(s.c)), s.c} : Sum{p, 2 * p, s.c};
      }
    }
  return y;
}

std::vector<Sum> naive_backward(Softmax kind, const SoftmaxShape& s, const float* dy, const float* y) {
  std::vector<Sum> dx(size_t(s.outer * s.c * s.inner));
  for (int64_t o = 0; o < s.outer; o++)
    for (int64_t i = 0; i < s.inner; i++) {
      const auto at = [&](int64_t c) { return size_t((o * s.c + c) * s.inner + i); };
      Sum total;
      for (int64_t c = 0; c < s.c; c++) total.add(dy[at(c)] * (kind == Softmax::log ? 1.0 : double(y[at(c)])));
      for (int64_t c = 0; c < s.c; c++) {
        const double g = dy[at(c)], v = y[at(c)], p = kind == Softmax::log ? std::exp(v) : v;
        const double own = kind == Softmax::log ? g : p * g;
        dx[at(c)] = {own - p * total.value, std::fabs(own) + 2 * p * total.magnitude, s.c};
      }
    }
  return dx;
}

TEST_CASE("softmax by hand") {
  const Tensor y = softmax_forward(Softmax::plain, tensor({1, 3}, {-1e30f, 1000, 1000}), 1);
  CHECK(y.data()[0] == 0);
  CHECK(y.data()[1] == 0.5f);
  CHECK(y.data()[2] == 0.5f);
}

TEST_CASE("softmax and log_softmax match their formulas") {
  for (Softmax kind : {Softmax::plain, Softmax::log})
    for (const Case& c : cases()) {
      CAPTURE(int(kind));
      CAPTURE(to_string(c.x));
      const Tensor x = random_tensor(c.x, 1), dy = random_tensor(c.x, 2);
      const Tensor y = softmax_forward(kind, x, c.dim);
      check_close(y, c.x, naive_forward(kind, c.s, x.data()));
      const Tensor dx = softmax_backward(kind, dy, {}, y, c.dim);
      check_close(dx, c.x, naive_backward(kind, c.s, dy.data(), y.data()));
      check_same_bits(softmax_backward(kind, dy, x, {}, c.dim), dx);
    }
}

TEST_CASE("softmax gives the same bits at any number of threads") {
  const Tensor x = random_tensor({31, 19, 45}, 1), dy = random_tensor({31, 19, 45}, 2);
  for (Softmax kind : {Softmax::plain, Softmax::log})
    for (int64_t dim : {1, 2})
      test::check_same_bits_at_any_thread_count([&]() -> std::vector<Tensor> {
        return {softmax_forward(kind, x, dim), softmax_backward(kind, dy, x, {}, dim)};
      });
}

TEST_CASE("softmax refuses a dimension that is not there") {
  CHECK(message_of([] { softmax_forward(Softmax::plain, random_tensor({2, 3}, 1), 2); }) ==
        "softmax: dim is out of range: expected -2 to 1 (x has shape (2, 3)), got 2");
}

}  // namespace
}  // namespace convcore

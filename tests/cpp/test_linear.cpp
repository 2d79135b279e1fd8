// linear: by hand, against a naive loop at odd sizes, and the same bits at any number of threads.
#include "ops/linear.h"

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
using test::Threads;

struct Case {
  int64_t n, in, out;
};

const Case kCases[] = {{1, 1, 1},   {0, 3, 2},   {2, 3, 5},     {7, 16, 8},    {13, 17, 33},
                       {3, 131, 1}, {65, 5, 70}, {5, 300, 130}, {290, 140, 7}, {70, 9, 270}};

std::vector<Sum> naive_forward(const Case& c, const float* x, const float* w, const float* b) {
  std::vector<Sum> y(size_t(c.n * c.out));
  for (int64_t n = 0; n < c.n; n++)
    for (int64_t o = 0; o < c.out; o++) {
      Sum& sum = y[size_t(n * c.out + o)];
      if (b) sum.add(b[o]);
      for (int64_t i = 0; i < c.in; i++) sum.add(double(x[n * c.in + i]) * w[o * c.in + i]);
    }
  return y;
}

struct NaiveGrads {
  std::vector<Sum> dx, dw, db;
};

NaiveGrads naive_backward(const Case& c, const float* dy, const float* x, const float* w) {
  NaiveGrads grads{std::vector<Sum>(size_t(c.n * c.in)), std::vector<Sum>(size_t(c.out * c.in)),
                   std::vector<Sum>(size_t(c.out))};
  for (int64_t n = 0; n < c.n; n++)
    for (int64_t o = 0; o < c.out; o++) {
      const double g = dy[n * c.out + o];
      grads.db[size_t(o)].add(g);
      for (int64_t i = 0; i < c.in; i++) {
        grads.dx[size_t(n * c.in + i)].add(g * w[o * c.in + i]);
        grads.dw[size_t(o * c.in + i)].add(g * x[n * c.in + i]);
      }
    }
  return grads;
}

TEST_CASE("linear_forward by hand") {
  const Tensor x = tensor({2, 3}, {1, 2, 3, 4, 5, 6}), w = tensor({1, 3}, {1, 0, -1}), b = tensor({1}, {10});
  const Tensor y = linear_forward(x, w, b);
  CHECK(y.shape() == Shape{2, 1});
  CHECK(y.data()[0] == 8);
  CHECK(y.data()[1] == 8);
}

TEST_CASE("linear matches the naive loops") {
  for (const Case& c : kCases) {
    CAPTURE(c.n);
    CAPTURE(c.in);
    CAPTURE(c.out);
    const Tensor x = random_tensor({c.n, c.in}, 1), w = random_tensor({c.out, c.in}, 2);
    const Tensor b = random_tensor({c.out}, 3), dy = random_tensor({c.n, c.out}, 4);
    check_close(linear_forward(x, w, b), {c.n, c.out}, naive_forward(c, x.data(), w.data(), b.data()));
    check_close(linear_forward(x, w, {}), {c.n, c.out}, naive_forward(c, x.data(), w.data(), nullptr));
    const LinearGrads grads = linear_backward(dy, x, w, true, true, true);
    const NaiveGrads want = naive_backward(c, dy.data(), x.data(), w.data());
    check_close(grads.dx, x.shape(), want.dx);
    check_close(grads.dw, w.shape(), want.dw);
    check_close(grads.db, b.shape(), want.db);
  }
}

TEST_CASE("linear gives the same bits at any number of threads") {
  const Tensor x = random_tensor({67, 129}, 1), w = random_tensor({75, 129}, 2);
  const Tensor b = random_tensor({75}, 3), dy = random_tensor({67, 75}, 4);
  Threads one(1);
  const Tensor y = linear_forward(x, w, b);
  const LinearGrads grads = linear_backward(dy, x, w, true, true, true);
  for (int threads : {2, 3, 8}) {
    Threads several(threads);
    check_same_bits(linear_forward(x, w, b), y);
    const LinearGrads again = linear_backward(dy, x, w, true, true, true);
    check_same_bits(again.dx, grads.dx);
    check_same_bits(again.dw, grads.dw);
    check_same_bits(again.db, grads.db);
  }
}

TEST_CASE("a weight packed by rows is the one packed whole") {
  const auto& kernels = cpu::kernels().linear;
  for (const Case& c : kCases)
    for (bool backward : {false, true}) {
      CAPTURE(c.in);
      CAPTURE(c.out);
      const LinearShape s{c.n, c.in, c.out};
      const Tensor before = random_tensor({c.out, c.in}, 1), w = random_tensor({c.out, c.in}, 2);
      const Tensor whole = random_tensor({kernels.packed_floats(s, backward)}, 3);
      const Tensor rows = random_tensor(whole.shape(), 3);
      kernels.pack(s, backward, w.data(), whole.data());
      kernels.pack(s, backward, before.data(), rows.data());
      for (int64_t begin = 0; begin < c.out; begin += 16)
        kernels.pack_rows(s, backward, begin, std::min(c.out, begin + 16), w.data(), rows.data());
      check_same_bits(rows, whole);
    }
}

TEST_CASE("linear_backward leaves out what is not needed") {
  const Tensor x = random_tensor({2, 3}, 1), w = random_tensor({4, 3}, 2), dy = random_tensor({2, 4}, 3);
  const LinearGrads grads = linear_backward(dy, x, w, false, true, false);
  CHECK(!grads.dx.given());
  CHECK(grads.dw.given());
  CHECK(!grads.db.given());
}

TEST_CASE("linear refuses shapes that do not fit") {
  CHECK(message_of([] { linear_forward(random_tensor({2, 3}, 1), random_tensor({4, 5}, 2), {}); }) ==
        "linear: x has the wrong number of features: expected 5 (w has shape (4, 5)), got 3 (x has shape (2, 3))");
}

}  // namespace
}  // namespace convcore

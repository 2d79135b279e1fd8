// What the C++ tests of the ops share. The oracle of a test is a naive loop in double precision.
//
// These tests walk through the kernels so that the sanitizers see every load and store; the wide search over shapes and
// arguments is in the Python tests.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/array.h"
#include "core/random.h"
#include "core/threads.h"
#include "ops/reorder.h"

namespace convcore::test {

inline Tensor tensor(const Shape& shape, const std::vector<float>& values) {
  Tensor t = Tensor::empty("test", "values", shape);
  REQUIRE(t.count() == int64_t(values.size()));
  std::copy(values.begin(), values.end(), t.data());
  return t;
}

// Numbers of elements below, at and above the widths of a vector (4, 8, 16) and of two.
inline const std::vector<int64_t> kCounts = {0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 67};

// Numbers in [-1, 1), a pure function of the seed.
inline Tensor random_tensor(const Shape& shape, uint64_t seed) {
  Tensor t = Tensor::empty("test", "shape", shape);
  for (int64_t i = 0; i < t.count(); i++) t.data()[i] = 2 * uniform_float(philox({seed, 0}, uint64_t(i)).value[0]) - 1;
  return t;
}

// One expected element: a sum, and what its rounding errors are measured against.
struct Sum {
  double value = 0, magnitude = 0;
  int64_t terms = 0;
  void add(double term) {
    value += term;
    magnitude += std::fabs(term);
    terms++;
  }
};

// Holds a float32 result against sums made in double precision. The bound is the one of tests/helpers.py: rounding
// errors of random sign grow with the square root of the number of terms. `want` is in row-major order.
inline void check_close(const Tensor& result, const Shape& shape, const std::vector<Sum>& want) {
  REQUIRE(result.given());
  const Tensor got = reorder("test", result, Layout::row_major);
  REQUIRE(to_string(got.shape()) == to_string(shape));
  REQUIRE(got.count() == int64_t(want.size()));
  int64_t wrong = 0, first = -1;
  for (int64_t i = 0; i < got.count(); i++) {
    const Sum& sum = want[size_t(i)];
    const double bound = (8 + 2 * std::sqrt(double(sum.terms))) * 0x1p-24 * sum.magnitude + 1e-30;
    if (std::fabs(got.data()[i] - sum.value) <= bound) continue;  // false for NaN
    wrong++;
    if (first < 0) first = i;
  }
  if (wrong == 0) return;
  CAPTURE(wrong);
  CAPTURE(first);
  CHECK(double(got.data()[first]) == want[size_t(first)].value);
}

inline void check_same_bits(const Tensor& got, const Tensor& want) {
  REQUIRE(got.given() == want.given());
  if (!got.given()) return;
  REQUIRE(to_string(got.shape()) == to_string(want.shape()));
  CHECK(std::memcmp(got.data(), want.data(), size_t(got.count()) * sizeof(float)) == 0);
}

// The text of the std::invalid_argument that `f` throws; empty when it throws none.
template <typename F>
std::string message_of(F f) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

// Sets the number of threads for one scope.
class Threads {
 public:
  explicit Threads(int count) : before_(num_threads()) { set_num_threads(count); }
  ~Threads() { set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

// `f` returns tensors: they must have the same bits with one thread and with more than a small machine has cores.
template <typename F>
void check_same_bits_at_any_thread_count(F f) {
  Threads one(1);
  const std::vector<Tensor> want = f();
  for (int threads : {2, 3, 8}) {
    Threads several(threads);
    const std::vector<Tensor> got = f();
    REQUIRE(got.size() == want.size());
    for (size_t i = 0; i < got.size(); i++) check_same_bits(got[i], want[i]);
  }
}

}  // namespace convcore::test

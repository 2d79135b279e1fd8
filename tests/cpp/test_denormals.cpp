// Denormals are zero inside parallel_for, and nothing of that mode is left outside.
#include "core/denormals.h"

#include <omp.h>

#include <atomic>
#include <cfenv>
#include <new>

#include "helpers.h"

namespace convcore {
namespace {

using test::Threads;

constexpr int64_t kMuchWork = 1 << 30;  // per item: always worth a thread

// The two ways to meet a denormal: as an operand and as a result. volatile: computed here and now.
bool operand_is_zero() {
  volatile float denormal = 0x1p-140f, factor = 0x1p+30f;
  volatile float product = denormal * factor;
  return product == 0;
}
bool result_is_zero() {
  volatile float small = 0x1p-100f, factor = 0x1p-40f;
  volatile float product = small * factor;
  uint32_t bits;
  const float value = product;
  std::memcpy(&bits, &value, sizeof bits);  // a comparison may take a denormal for zero
  return bits == 0;
}
bool flushed() { return operand_is_zero() && result_is_zero(); }
bool kept() { return !operand_is_zero() && !result_is_zero(); }

TEST_CASE("FlushDenormals lasts as long as its scope, and scopes nest") {
  CHECK(kept());
  {
    FlushDenormals outer;
    CHECK(flushed());
    {
      FlushDenormals inner;
    }
    CHECK(flushed());
  }
  CHECK(kept());
}

TEST_CASE("parallel_for flushes denormals on each thread, and gives each its mode back") {
  for (int threads : {1, 3, 8}) {
    Threads scope(threads);
    for (int64_t work : {int64_t(0), kMuchWork}) {
      std::atomic<int> ranges{0}, right{0};
      parallel_for(8, work, [&](int64_t, int64_t) {
        const bool before = flushed();
        parallel_for(1, work, [&](int64_t, int64_t) { right += flushed(); });
        right += before && flushed();
        ranges++;
      });
      CHECK(right == 2 * ranges);
      CHECK(kept());
      std::atomic<int> workers{0}, restored{0};
#pragma omp parallel num_threads(threads)
      {
        workers++;
        restored += kept();
      }
      CHECK(restored == workers);
    }
  }
}

TEST_CASE("the mode comes back when an exception leaves parallel_for") {
  for (int threads : {1, 3}) {
    Threads scope(threads);
    CHECK_THROWS_AS(parallel_for(3, kMuchWork, [](int64_t, int64_t) { throw std::bad_alloc(); }), std::bad_alloc);
    CHECK(kept());
  }
}

TEST_CASE("a caller who flushes denormals finds them flushed afterwards") {
  FlushDenormals caller;
  parallel_for(1, 1, [](int64_t, int64_t) {});
  CHECK(flushed());
}

#if defined(__SSE2__)
TEST_CASE("exceptions that kernels meet leave no flags, and flags from before stay") {
  const auto divide = [](int64_t, int64_t) {
    volatile float zero = 0, one = 1;
    volatile float quotient = one / zero;
    (void)quotient;
  };
  std::feclearexcept(FE_ALL_EXCEPT);
  parallel_for(1, 1, divide);
  CHECK(std::fetestexcept(FE_DIVBYZERO) == 0);
  divide(0, 0);
  parallel_for(1, 1, [](int64_t, int64_t) {});
  CHECK(std::fetestexcept(FE_DIVBYZERO) != 0);
  std::feclearexcept(FE_ALL_EXCEPT);
}
#endif

}  // namespace
}  // namespace convcore

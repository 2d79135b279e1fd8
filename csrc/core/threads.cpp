#include "core/threads.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>

#include "core/check.h"

namespace convcore {
namespace {

// More would not help, and OpenMP ends the process when the system refuses it a thread.
constexpr int kMaxThreads = 1024;

// Below this much work per thread the cost of waking it (some microseconds) is not earned back.
constexpr int64_t kWorkPerThread = 100000;

int initial_threads() {
  if (const char* text = std::getenv("CONVCORE_NUM_THREADS")) {
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    if (end != text && *end == '\0' && value >= 1 && value <= kMaxThreads) return int(value);
  }
  return std::max(1, std::min(omp_get_max_threads(), omp_get_num_procs()));  // OMP_NUM_THREADS, CPU affinity
}

std::atomic<int>& threads() {
  static std::atomic<int> value{initial_threads()};
  return value;
}

}  // namespace

int num_threads() { return threads(); }

void set_num_threads(int count) {
  expect_range("set_num_threads", "count", count, 1, kMaxThreads);
  threads() = count;
}

void parallel_for(int64_t count, int64_t work, RangeBody body) {
  if (count <= 0) return;
  const double total = double(count) * double(std::max<int64_t>(work, 1));
  const int64_t useful = int64_t(std::min(total / kWorkPerThread, double(kMaxThreads)));
  const int64_t ranges = std::max<int64_t>(1, std::min({int64_t(num_threads()), count, useful}));
  if (ranges == 1 || omp_in_parallel()) return body(0, count);

  // An exception may not leave a parallel region: keep the first one, finish, rethrow.
  std::exception_ptr error;
  std::mutex error_mutex;
#pragma omp parallel for num_threads(int(ranges)) schedule(static, 1)
  for (int64_t r = 0; r < ranges; r++) {
    try {
      body(count * r / ranges, count * (r + 1) / ranges);
    } catch (...) {
      std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace convcore

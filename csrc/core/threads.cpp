#include "core/threads.h"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string>

#include "core/check.h"
#include "core/denormals.h"
#include "core/device.h"

namespace convcore {
namespace {

// More would not help, and OpenMP ends the process when the system refuses it a thread.
constexpr int64_t kMaxThreads = 1024;

// Below this much work per thread the cost of waking it (some microseconds) is not earned back.
constexpr int64_t kWorkPerThread = 100000;

int initial_threads() {
  const char* text = std::getenv("CONVCORE_NUM_THREADS");
  if (!text || !*text)  // omp_get_max_threads: OMP_NUM_THREADS; omp_get_num_procs: CPU affinity
    return std::max(1, std::min(omp_get_max_threads(), omp_get_num_procs()));
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 1 || value > kMaxThreads)
    throw std::invalid_argument("CONVCORE_NUM_THREADS is not a number of threads: expected a number from 1 to " +
                                std::to_string(kMaxThreads) + ", got '" + text + "'");
  return int(value);
}

std::atomic<int>& threads() {
  static std::atomic<int> value{initial_threads()};
  return value;
}

// True in a child of fork() whose parent had run a parallel region.
std::atomic<bool> threads_lost{false};

thread_local bool serial = false;

}  // namespace

SerialScope::SerialScope() : before_(serial) { serial = true; }
SerialScope::~SerialScope() { serial = before_; }

void watch_for_fork() {
  static const int watching = pthread_atfork(nullptr, nullptr, [] { threads_lost = true; });
  (void)watching;
}

int num_threads() { return threads_lost ? 1 : threads().load(); }

void set_num_threads(int64_t count) {
  expect_range("set_num_threads", "count", count, 1, kMaxThreads);
  threads() = int(count);
}

void parallel_for(int64_t count, int64_t work, RangeBody body) {
  if (count <= 0) return;
  if (current_device() != Device::cpu) return body(0, count);  // the kernels in it use the threads of the device
  const double total = double(count) * double(std::max<int64_t>(work, 1));
  const int64_t useful = int64_t(std::min(total / kWorkPerThread, double(kMaxThreads)));
  const int64_t ranges = std::max<int64_t>(1, std::min({int64_t(num_threads()), count, useful}));
  if (ranges == 1 || serial || omp_in_parallel()) {
    FlushDenormals flush;
    return body(0, count);
  }

  watch_for_fork();
  // An exception may not leave a parallel region: keep the first one, finish, rethrow.
  std::exception_ptr error;
  std::mutex error_mutex;
#pragma omp parallel for num_threads(int(ranges)) schedule(static, 1)
  for (int64_t r = 0; r < ranges; r++) {
    try {
      FlushDenormals flush;
      body(count * r / ranges, count * (r + 1) / ranges);
    } catch (...) {
      std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace convcore

#include "ops/peak.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "core/array.h"
#include "core/threads.h"
#include "ops/kernels.h"

namespace convcore {
namespace {

constexpr int64_t kMaxLanes = 16;            // floats in the widest register
constexpr int64_t kFmaSteps = 200000;        // some 0.5 ms: a thread is rarely interrupted within it
constexpr int64_t kStreamFloats = 1 << 14;   // arrays are whole multiples of it: no kernel leaves a rest
constexpr int64_t kL2Bytes = 1 << 20;        // where the system does not tell
constexpr int64_t kMemoryBytes = 256 << 20;  // of all threads together
constexpr int64_t kL2Passes = 32;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

int64_t l2_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  const long size = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (size > 0) return size;
#endif
  return kL2Bytes;
}

int64_t whole_streams(int64_t bytes) { return std::max<int64_t>(bytes / (4 * kStreamFloats), 1) * kStreamFloats; }

// Runs `pass(thread)`, which returns FLOPs or bytes, once on every thread; returns the sum per second. The clock starts
// when the first thread starts and stops when the last one is done.
double rate(int64_t threads, const std::function<int64_t(int64_t)>& pass) {
  std::vector<int64_t> done(size_t(threads), 0);
  const double start = now();
  parallel_for(threads, INT64_MAX / 8192, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) done[size_t(t)] = pass(t);
  });
  const double seconds = now() - start;
  int64_t total = 0;
  for (int64_t d : done) total += d;
  return double(total) / seconds;
}

double best_rate(double seconds, const std::function<int64_t(int64_t)>& pass) {
  const int64_t threads = num_threads();
  rate(threads, pass);  // wakes the threads, fills the caches
  double best = 0;
  const double stop = now() + seconds;
  for (int passes = 0; passes < 3 || now() < stop; passes++) best = std::max(best, rate(threads, pass));
  return best;
}

double fma_rate(double seconds, int64_t (*kernel)(int64_t, float*)) {
  return best_rate(seconds, [=](int64_t) {
    alignas(64) float out[kMaxLanes] = {};
    return kernel(kFmaSteps, out);
  });
}

// `bytes` is the size of all the arrays of one thread; each is gone through `passes` times in one piece.
double bandwidth(double seconds, bool copy, int64_t bytes, int64_t passes) {
  const PeakKernels& kernels = current_kernels().peak;
  const int64_t count = whole_streams(copy ? bytes / 2 : bytes), threads = num_threads();
  std::vector<Tensor> x(static_cast<size_t>(threads)), y(static_cast<size_t>(threads));
  for (int64_t t = 0; t < threads; t++) {
    x[size_t(t)] = Tensor::empty("peak", "x", {count});
    if (copy) y[size_t(t)] = Tensor::empty("peak", "y", {count});
  }
  parallel_for(threads, INT64_MAX / 8192, [&](int64_t begin, int64_t end) {  // first touched by who uses them
    for (int64_t t = begin; t < end; t++) std::fill_n(x[size_t(t)].data(), count, 1.0f);
  });
  return best_rate(seconds, [&](int64_t t) {
    alignas(64) float out[kMaxLanes];
    for (int64_t pass = 0; pass < passes; pass++) {
      if (copy)
        kernels.copy(x[size_t(t)].data(), count, y[size_t(t)].data());
      else
        kernels.read(x[size_t(t)].data(), count, out);
    }
    return passes * count * int64_t(sizeof(float)) * (copy ? 2 : 1);
  });
}

}  // namespace

const char* peak_name(Peak peak) {
  switch (peak) {
    case Peak::fma:
      return "fma";
    case Peak::fma_broadcast:
      return "fma_broadcast";
    case Peak::l2_read:
      return "l2_read";
    case Peak::l2_copy:
      return "l2_copy";
    case Peak::memory_read:
      return "memory_read";
    case Peak::memory_copy:
      return "memory_copy";
  }
  return "";
}

bool peak_is_bandwidth(Peak peak) { return peak != Peak::fma && peak != Peak::fma_broadcast; }

double measure_peak(Peak peak, double seconds) {
  const PeakKernels& kernels = current_kernels().peak;
  switch (peak) {
    case Peak::fma:
      return fma_rate(seconds, kernels.fma);
    case Peak::fma_broadcast:
      return fma_rate(seconds, kernels.fma_broadcast);
    case Peak::l2_read:
    case Peak::l2_copy:
      return bandwidth(seconds, peak == Peak::l2_copy, l2_bytes() / 2, kL2Passes);
    case Peak::memory_read:
    case Peak::memory_copy: {
      const double best = bandwidth(seconds, peak == Peak::memory_copy, kMemoryBytes / num_threads(), 1);
      release_cache();  // nothing else has a use for blocks of this size
      return best;
    }
  }
  return 0;
}

}  // namespace convcore

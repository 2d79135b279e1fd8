#include "core/team.h"

#include <omp.h>

#include "core/ahead.h"
#include "core/denormals.h"
#include "core/threads.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace convcore {
namespace {

// Some tens of microseconds: longer than the threads of a step on an idle machine wait for each other, far shorter than
// a time slice.
constexpr int kSpins = 1000;

inline void relax() {
#if defined(__SSE2__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Ahead& ahead() {
  thread_local Ahead mine{};
  return mine;
}

void Team::run(CallableRef<int> body) {
  const auto member = [&](int thread) {
    FlushDenormals flush;
    SerialScope serial;
    attempt([&] { body(thread); });
  };
  if (threads_ == 1) {
    member(0);
  } else {
    watch_for_fork();
#pragma omp parallel num_threads(threads_)
    {
#pragma omp single
      threads_ = omp_get_num_threads();  // may be fewer than asked for
      member(omp_get_thread_num());
    }
  }
  if (error_) {
    std::exception_ptr error;
    std::swap(error, error_);
    failed_ = false;
    std::rethrow_exception(error);
  }
}

void Team::meet(CallableRef<> alone) {
  const unsigned generation = generation_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
    attempt(alone);
    arrived_.store(0, std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> lock(mutex_);  // nobody is between its last look at generation_ and its sleep
      generation_.store(generation + 1, std::memory_order_release);
    }
    if (threads_ > 1) woken_.notify_all();
    return;
  }
  for (int i = 0; i < kSpins; i++) {
    if (generation_.load(std::memory_order_acquire) != generation) return;
    relax();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  woken_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != generation; });
}

void Team::fail(std::exception_ptr error) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!error_) error_ = error;
  failed_ = true;
}

}  // namespace convcore

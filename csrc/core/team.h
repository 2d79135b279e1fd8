// A team of threads that goes through a whole program together and meets between its phases.
//
// parallel_for starts and ends a parallel region for every loop; a training step has a hundred loops, and on small
// networks the regions would cost as much as the work. A team is one region: its threads meet at a barrier of their
// own, which spins for some microseconds and then sleeps, so that it costs little on an idle machine and takes nothing
// from the others on a busy one.
#pragma once
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>

namespace convcore {

// A reference to a callable; no allocation, valid while the callable lives.
template <typename... Arguments>
class CallableRef {
 public:
  template <typename F>
  CallableRef(const F& f)  // NOLINT: implicit on purpose, a lambda goes straight in
      : object_(&f), call_([](const void* o, Arguments... a) { (*static_cast<const F*>(o))(a...); }) {}
  void operator()(Arguments... a) const { call_(object_, a...); }

 private:
  const void* object_;
  void (*call_)(const void*, Arguments...);
};

class Team {
 public:
  explicit Team(int threads) : threads_(threads) {}
  int threads() const { return threads_; }  // inside run: how many there really are

  // Calls body(thread) on every thread of the team at once, 0 on the caller's own. Denormals are flushed, and
  // parallel_for inside of it runs on the thread that calls it alone.
  void run(CallableRef<int> body);

  // Inside run: waits until every thread of the team has arrived. The last one runs `alone` before anyone goes on.
  void meet(CallableRef<> alone);

  // Inside run: does `work`, unless a thread of the team has failed; its exception comes out of run. (A thread that
  // left would let the others wait for ever.)
  template <typename F>
  void attempt(const F& work) {
    if (failed_.load(std::memory_order_relaxed)) return;
    try {
      work();
    } catch (...) {
      fail(std::current_exception());
    }
  }

 private:
  void fail(std::exception_ptr error);

  int threads_;
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> generation_{0};
  std::mutex mutex_;
  std::condition_variable woken_;
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
};

}  // namespace convcore

// Threads: one way to run a loop in parallel, whose results do not depend on the number of threads.
//
// The contract that keeps the bits the same at any thread count: an item computes the same whichever range it is handed
// in, so items may not share a sum. A reduction is cut into a number of shards that depends on the shapes alone; each
// shard is one item, and the partial sums are added afterwards in the order of the shards.
#pragma once
#include <cstdint>
#include <type_traits>

namespace convcore {

// Threads that parallel_for may use: what set_num_threads said last, else CONVCORE_NUM_THREADS, else the smaller of
// OMP_NUM_THREADS and the CPUs this process may run on. Throws std::invalid_argument when CONVCORE_NUM_THREADS is not a
// number. 1 in a child of fork() whose parent had used several: GCC's OpenMP would wait there for threads that the
// child does not have.
int num_threads();
void set_num_threads(int64_t count);  // throws std::invalid_argument unless 1 <= count <= 1024

// A reference to a callable `void(int64_t begin, int64_t end)`; no allocation, valid while the callable lives.
class RangeBody {
 public:
  template <typename F>
  RangeBody(const F& f)  // NOLINT: implicit on purpose, a lambda goes straight in
      : object_(&f), call_([](const void* o, int64_t b, int64_t e) { (*static_cast<const F*>(o))(b, e); }) {}
  void operator()(int64_t begin, int64_t end) const { call_(object_, begin, end); }

 private:
  const void* object_;
  void (*call_)(const void*, int64_t, int64_t);
};

// Runs body over [0, count) in contiguous ranges, one per thread. `work` is the cost of one item in elementary
// operations (say multiply-adds): a loop of little total work runs on the calling thread alone. Denormals are flushed
// while body runs, on every thread (core/denormals.h).
void parallel_for(int64_t count, int64_t work, RangeBody body);

// While one lives, parallel_for on this thread runs on this thread alone.
class SerialScope {
 public:
  SerialScope();
  ~SerialScope();
  SerialScope(const SerialScope&) = delete;
  SerialScope& operator=(const SerialScope&) = delete;

 private:
  bool before_;
};

// To be called before a parallel region that is not parallel_for's: a child of fork() must know that there was one.
void watch_for_fork();

}  // namespace convcore

// peak: what this machine can do at most, measured. The ceilings that benchmarks are held against.
//
//   fma              multiply-adds whose operands stay in registers
//   fma_broadcast    multiply-adds that each take one operand from L1, a float spread over the register: the inner loop
//                    of a direct convolution or of a matrix product
//   l2_read, l2_copy            arrays that lie in the L2 cache of each thread's core
//   memory_read, memory_copy    arrays larger than the caches
//
// A copy counts the bytes read and the bytes written. FLOPs: a multiply-add is two.
#pragma once
#include <cstdint>

namespace convcore {

enum class Peak { fma, fma_broadcast, l2_read, l2_copy, memory_read, memory_copy };
constexpr Peak kPeaks[] = {Peak::fma,     Peak::fma_broadcast, Peak::l2_read,
                           Peak::l2_copy, Peak::memory_read,   Peak::memory_copy};

const char* peak_name(Peak peak);
bool peak_is_bandwidth(Peak peak);

// FLOP/s or bytes/s of num_threads() threads: the best of the passes that fit into `seconds` (at least three).
double measure_peak(Peak peak, double seconds);

struct PeakKernels {
  // `steps` rounds over all accumulators; returns the FLOPs. `out` takes one register: nothing may be left out.
  int64_t (*fma)(int64_t steps, float* out);
  int64_t (*fma_broadcast)(int64_t steps, float* out);
  void (*read)(const float* x, int64_t count, float* out);
  void (*copy)(const float* x, int64_t count, float* y);
};
}  // namespace convcore

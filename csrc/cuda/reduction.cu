// Sums to one number: one block; each thread adds every kThreads-th element, in double, then the threads in order.
// Bytes: x once. For the losses of a batch, some thousand numbers.
#include "ops/reduction.h"

#include "cuda/device.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
CONVCORE_KERNEL(kThreads)
sum_all(int64_t count, const T* x, double divisor, float* y) {
  SharedMemory shared;
  double* scratch = shared.array<double>(kThreads / kWarp);
  double sum = 0;
  for (int64_t i = int(threadIdx.x); i < count; i += kThreads) sum += double(x[i]);
  sum = block_sum<kThreads>(sum, scratch);
  if (threadIdx.x == 0) *y = float(sum / divisor);
}

template <typename T>
void sum_of(int64_t count, const T* x, double divisor, float* y) {
  launch("sum", sum_all<T>, dim3(1), kThreads, shared_bytes<double>(kThreads / kWarp), count, x, divisor, y);
}

}  // namespace

ReductionKernels reduction_kernels() { return {sum_of<float>, sum_of<double>}; }

}  // namespace convcore::cuda

// Sums to one number: one block; each thread adds every kThreads-th element, in double, then the threads in order.
// Bytes: x once. For the losses of a batch, some thousand numbers.
#include "ops/reduction.h"

#include "cuda/device.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

constexpr int kThreads = 256;

// store(the sum of term(i) over all i)
template <typename Term, typename Store>
CONVCORE_KERNEL(kThreads)
sum_all(int64_t count, Term term, Store store) {
  SharedMemory shared;
  double* scratch = shared.array<double>(kThreads / kWarp);
  double sum = 0;
  for (int64_t i = int(threadIdx.x); i < count; i += kThreads) sum += term(i);
  sum = block_sum<kThreads>(sum, scratch);
  if (threadIdx.x == 0) store(sum);
}

template <typename Term, typename Store>
void sum_to(int64_t count, Term term, Store store) {
  launch("sum", sum_all<Term, Store>, dim3(1), kThreads, shared_bytes<double>(kThreads / kWarp), count, term, store);
}

template <typename T>
struct Element {
  const T* x;
  __device__ double operator()(int64_t i) const { return double(x[i]); }
};
struct Square {
  const float* x;
  __device__ double operator()(int64_t i) const { return double(x[i]) * double(x[i]); }
};
struct Divided {
  double divisor;
  float* y;
  __device__ void operator()(double sum) const { *y = float(sum / divisor); }
};
struct Whole {
  double* y;
  __device__ void operator()(double sum) const { *y = sum; }
};

template <typename T>
void sum_of(int64_t count, const T* x, double divisor, float* y) {
  sum_to(count, Element<T>{x}, Divided{divisor, y});
}
void sum_squares(int64_t count, const float* x, double* y) { sum_to(count, Square{x}, Whole{y}); }

}  // namespace

ReductionKernels reduction_kernels() { return {sum_of<float>, sum_of<double>, sum_squares}; }

}  // namespace convcore::cuda

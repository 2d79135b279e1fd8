// Sums to one number: in order, in double.
#include "ops/reduction.h"

#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

template <typename T>
static void sum_of(int64_t count, const T* x, double divisor, float* y) {
  double total = 0;
  for (int64_t i = 0; i < count; i++) total += double(x[i]);
  *y = float(total / divisor);
}

static void sum_squares(int64_t count, const float* x, double* y) {
  double total = 0;
  for (int64_t i = 0; i < count; i++) total += double(x[i]) * double(x[i]);
  *y = total;
}

ReductionKernels reduction_kernels();
ReductionKernels reduction_kernels() { return {sum_of<float>, sum_of<double>, sum_squares}; }

}  // namespace convcore::cpu::CONVCORE_ISA

// dropout: one thread per four positions of the stream of random numbers (core/random.h gives four numbers at a time).
#include "ops/dropout.h"

#include "cuda/elementwise.cuh"
#include "cuda/random.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Dropout {
  int64_t count;
  DropoutMask mask;
  const float* x;
  float* y;
  __device__ void operator()(int64_t group) const {
    const int64_t block = mask.first / 4 + group;
    const Philox random = philox_at(mask.key, uint64_t(block));
    CONVCORE_UNROLL
    for (int i = 0; i < 4; i++) {
      const int64_t at = 4 * block + i - mask.first;
      if (at < 0 || at >= count) continue;
      const bool drop = int32_t(random.value[i] >> 8) < mask.threshold;
      y[at] = x[at] * (drop ? 0.0f : mask.scale);
    }
  }
};

void apply(int64_t count, const DropoutMask& mask, const float* x, float* y) {
  if (count == 0) return;
  const int64_t groups = (mask.first + count + 3) / 4 - mask.first / 4;
  for_positions("dropout", groups, Dropout{count, mask, x, y});
}

}  // namespace

DropoutKernels dropout_kernels() { return {apply}; }

}  // namespace convcore::cuda

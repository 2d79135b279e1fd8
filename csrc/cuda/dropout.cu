// dropout: one thread per four positions of the stream of random numbers (core/random.h gives four numbers at a time).
#include "ops/dropout.h"

#include "cuda/elementwise.cuh"
#include "cuda/random.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Dropout {
  int64_t count;
  const RandomKey* key;
  DropoutMask mask;
  const float* x;
  float* y;
  __device__ void operator()(int64_t group) const {
    const int64_t block = mask.first / 4 + group;
    const Philox random = philox_at(*key, uint64_t(block));
    CONVCORE_UNROLL
    for (int i = 0; i < 4; i++) {
      const int64_t at = 4 * block + i - mask.first;
      if (at < 0 || at >= count) continue;
      const bool drop = int32_t(random.value[i] >> 8) < mask.threshold;
      y[at] = (x ? x[at] : 1.0f) * (drop ? 0.0f : mask.scale);
    }
  }
};

void apply(int64_t count, const RandomKey* key, const DropoutMask& mask, const float* x, float* y) {
  if (count == 0) return;
  const int64_t groups = (mask.first + count + 3) / 4 - mask.first / 4;
  for_positions("dropout", groups, Dropout{count, key, mask, x, y});
}

struct ChannelMask {
  ChannelsShape s;
  const float *x, *mask;
  float* y;
  __device__ void operator()(int64_t at) const {
    const int64_t image = at / (s.c * s.plane), inside = at % (s.c * s.plane);
    const int64_t channel = s.layout == Layout::channels_last ? inside % s.c : inside / s.plane;
    y[at] = x[at] * mask[image * s.c + channel];
  }
};

void apply_to_channels(const ChannelsShape& s, const float* x, const float* mask, float* y) {
  for_positions("dropout2d", s.n * s.c * s.plane, ChannelMask{s, x, mask, y});
}

}  // namespace

DropoutKernels dropout_kernels() { return {apply, apply_to_channels}; }

}  // namespace convcore::cuda

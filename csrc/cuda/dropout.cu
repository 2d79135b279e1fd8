// dropout: one thread per four positions of the stream of random numbers (core/random.h gives four numbers at a time).
#include "ops/dropout.h"

#include "cuda/elementwise.cuh"
#include "cuda/images.cuh"
#include "cuda/random.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Dropout {
  int64_t count;
  const RandomKey* key;
  DropoutMask mask;
  bool aligned;    // the four positions of a group are 16 bytes of memory
  const float* x;  // null: ones
  float* y;
  __device__ float factor(uint32_t bits) const { return int32_t(bits >> 8) < mask.threshold ? 0.0f : mask.scale; }
  __device__ void operator()(int64_t group) const {
    const int64_t block = mask.first / 4 + group, first = 4 * block - mask.first;
    const Philox random = philox_at(*key, uint64_t(block));
    if (aligned && first + 4 <= count) {
      auto v = x ? load_lanes<4>(x + first) : all_lanes<4>(1.0f);
      CONVCORE_UNROLL
      for (int i = 0; i < 4; i++) v.at[i] *= factor(random.value[i]);
      store_lanes(y + first, v);
      return;
    }
    CONVCORE_UNROLL
    for (int i = 0; i < 4; i++)
      if (first + i >= 0 && first + i < count) y[first + i] = (x ? x[first + i] : 1.0f) * factor(random.value[i]);
  }
};

void apply(int64_t count, const RandomKey* key, const DropoutMask& mask, const float* x, float* y) {
  if (count == 0) return;
  const int64_t groups = (mask.first + count + 3) / 4 - mask.first / 4;
  for_positions("dropout", groups, Dropout{count, key, mask, mask.first % 4 == 0 && aligned16(x, y), x, y});
}

struct MaskPixels {
  int64_t c;
  const float *x, *mask;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    auto v = load_lanes<kLanes>(x + p.offset);
    const auto factor = load_lanes<kLanes>(mask + p.n * c + p.c);
    CONVCORE_UNROLL
    for (int l = 0; l < kLanes; l++) v.at[l] *= factor.at[l];
    store_lanes(y + p.offset, v);
  }
};

struct MaskPlanes {  // seen as images (n * c, 1, 1, plane)
  const float *x, *mask;
  float* y;
  template <int kLanes>
  __device__ void make(const PixelAt& p) const {
    auto v = load_lanes<kLanes>(x + p.offset);
    CONVCORE_UNROLL
    for (int l = 0; l < kLanes; l++) v.at[l] *= mask[p.n];
    store_lanes(y + p.offset, v);
  }
};

void apply_to_channels(const ChannelsShape& s, const float* x, const float* mask, float* y) {
  if (s.layout == Layout::channels_last)
    for_pixels("dropout2d", {s.n, 1, s.plane, s.c}, aligned16(x, mask, y), MaskPixels{s.c, x, mask, y});
  else
    for_pixels("dropout2d", {s.n * s.c, 1, 1, s.plane}, aligned16(x, y), MaskPlanes{x, mask, y});
}

}  // namespace

DropoutKernels dropout_kernels() { return {apply, apply_to_channels}; }

}  // namespace convcore::cuda

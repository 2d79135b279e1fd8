// Sums over the pixels of channels-last images: the gradient of a bias.
#pragma once
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

constexpr int64_t kPixelRun = 256;  // pixels that are summed in float32 before they are added to a total

// total[k] += the sum of a few pixels' channel k, in float32 and in four chains that do not wait for each other.
static inline void add_pixels(const float* pixels, int64_t count, int64_t channels, double* total) {
  constexpr int kChains = 4;
  const int64_t whole = count / kChains * kChains;
  for (int64_t k = 0; k < channels; k += kLanes) {
    const int64_t lanes = min_of<int64_t>(kLanes, channels - k);
    const float* at = pixels + k;
    Vec sums[kChains] = {};
    for (int64_t p = 0; p < whole; p += kChains)
#pragma GCC unroll 4
      for (int i = 0; i < kChains; i++, at += channels) sums[i] += load_partial(at, lanes);
    for (int64_t p = whole; p < count; p++, at += channels) sums[0] += load_partial(at, lanes);
    float values[kLanes];
    store(values, (sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (int64_t l = 0; l < lanes; l++) total[k + l] += double(values[l]);
  }
}

}  // namespace convcore::cpu::CONVCORE_ISA

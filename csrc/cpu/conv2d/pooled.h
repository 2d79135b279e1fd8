// Convolution + ReLU + 2x2 max pooling in one kernel: what its two forms share.
//
//   pooled_pixels.cpp     few output channels, or one input channel: the lanes of a vector are pooled pixels of a row
//   pooled_channels.cpp   others: the lanes are output channels
//
// Both compute the four results of a pooling window in four registers, so that pooling costs a few instructions per
// output, and keep three bits of each output for the gradients. `conv_pool.cpp` chooses.
#pragma once
#include "cpu/conv2d/weight_shards.h"
#include "cpu/vec.h"
#include "ops/conv_pool.h"

namespace convcore::cpu::CONVCORE_ISA {

ConvPoolKernels pooled_pixels_kernels();
ConvPoolKernels pooled_channels_kernels();

// Of one vector of outputs, lane l at bit l: whether the second row won, the right column, and whether the gradient
// passes the ReLU.
struct PoolMask {
  uint16_t second, right, alive;
};

CONVCORE_INLINE PoolMask pool_mask(LaneMask right0, LaneMask right1, LaneMask second, LaneMask alive) {
  const LaneMask right = LaneMask((second & right1) | (~second & right0));
  return {mask_bits(second), mask_bits(right), mask_bits(alive)};
}

CONVCORE_INLINE LaneMask wins(Vec value, Vec best) { return LaneMask(greater(value, best) | is_nan(value)); }

// The outputs of N windows, from the results in their first and second row, left and right. `put(n, y)` takes them.
template <int N, typename Put>
CONVCORE_INLINE void pool_windows(const Vec (&left0)[N], const Vec (&right0)[N], const Vec (&left1)[N],
                                  const Vec (&right1)[N], PoolMask* mask, const Put& put) {
  const LaneMask all = lanes_between(0, kLanes);
  LaneMask numbers0 = all, numbers1 = all;
#pragma GCC unroll 8
  for (int n = 0; n < N; n++) {
    numbers0 = are_numbers(numbers0, left0[n], right0[n]);
    numbers1 = are_numbers(numbers1, left1[n], right1[n]);
  }
  if (__builtin_expect(mask_bits(LaneMask(numbers0 & numbers1)) == mask_bits(all), 1)) {
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) {
      const Vec best0 = larger(left0[n], right0[n]), best1 = larger(left1[n], right1[n]);
      const Vec y = larger(larger(best0, best1), Vec{});
      mask[n] = pool_mask(greater(right0[n], left0[n]), greater(right1[n], left1[n]), greater(best1, best0),
                          greater(y, Vec{}));
      put(n, y);
    }
    return;
  }
  // The rules for NaN: the last of several wins over all numbers (max_pool2d), and passes the ReLU, as its gradient
  // does.
#pragma GCC unroll 8
  for (int n = 0; n < N; n++) {
    const LaneMask in_0 = wins(right0[n], left0[n]), in_1 = wins(right1[n], left1[n]);
    const Vec best0 = select(in_0, right0[n], left0[n]), best1 = select(in_1, right1[n], left1[n]);
    const LaneMask second = wins(best1, best0);
    const Vec best = select(second, best1, best0);
    const LaneMask dead = at_most(best, Vec{});
    mask[n] = pool_mask(in_0, in_1, second, LaneMask(~dead));
    put(n, select(dead, Vec{}, best));
  }
}

// Rows and columns of the padded input that the pooled outputs see.
inline int64_t seen_rows(const ConvPoolShape& s) { return 2 * s.h_out + s.kh - 1; }
inline int64_t seen_columns(const ConvPoolShape& s) { return 2 * s.w_out + s.kw - 1; }

// Hands out parts of a workspace, each aligned to kAlignment. Without a base it only counts.
struct Parts {
  float* base;
  int64_t used = 0;
  float* take(int64_t floats) {
    float* part = base ? base + used : nullptr;
    used += (floats + 15) / 16 * 16;
    return part;
  }
};

}  // namespace convcore::cpu::CONVCORE_ISA

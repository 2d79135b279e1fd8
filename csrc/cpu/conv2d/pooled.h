// Convolution + ReLU + 2x2 max pooling in one kernel: what its two forms share.
//
//   pooled_pixels.cpp     few output channels: the lanes of a vector are pooled pixels of a row
//   pooled_channels.cpp   many: the lanes are output channels
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

// Of one vector of outputs, lane l at bit l: whether the second row won, the second column, and whether the gradient
// passes the ReLU.
struct PoolMask {
  uint16_t row, column, alive;
};

CONVCORE_INLINE LaneMask wins(Vec value, Vec best) { return LaneMask(greater(value, best) | is_nan(value)); }

// The output of one window of vectors: first and second row, left and right.
CONVCORE_INLINE Vec pool_and_rectify(Vec left0, Vec right0, Vec left1, Vec right1, PoolMask* mask) {
  const LaneMask right_in_0 = wins(right0, left0), right_in_1 = wins(right1, left1);
  const Vec best0 = select(right_in_0, right0, left0), best1 = select(right_in_1, right1, left1);
  const LaneMask second = wins(best1, best0);
  const Vec best = select(second, best1, best0);
  const LaneMask dead = at_most(best, Vec{});
  mask->row = mask_bits(second);
  mask->column = mask_bits(LaneMask((second & right_in_1) | (~second & right_in_0)));
  mask->alive = mask_bits(LaneMask(~dead));
  return select(dead, Vec{}, best);
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

// Exchange of the two axes of a matrix, in blocks of kLanes x kLanes that are turned in registers.
#pragma once
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

// Rows that are turned before the next column of blocks: every row of `out` gets four lines at a time, and the blocks
// of 64 rows stay in L1 until their last column is read.
constexpr int64_t kTransposeRows = 64;

// out[j * out_stride + i] = in[i * in_stride + j] for i < height, j < width; height and width at most kLanes.
CONVCORE_INLINE void transpose_block(int64_t height, int64_t width, const float* in, int64_t in_stride, float* out,
                                     int64_t out_stride) {
  Vec block[kLanes];
  if (height == kLanes && width == kLanes) {
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; r++) block[r] = load(in + r * in_stride);
    transpose(block);
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; r++) store(out + r * out_stride, block[r]);
    return;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; r++) block[r] = r < height ? load_partial(in + r * in_stride, width) : Vec{};
  transpose(block);
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; r++)
    if (r < width) store_partial(out + r * out_stride, block[r], height);
}

// out[j * out_stride + i] = in[i * in_stride + j] for i < rows, j < columns.
static inline void transpose_matrix(int64_t rows, int64_t columns, const float* in, int64_t in_stride, float* out,
                                    int64_t out_stride) {
  for (int64_t top = 0; top < rows; top += kTransposeRows) {
    const int64_t bottom = min_of(rows, top + kTransposeRows);
    for (int64_t j = 0; j < columns; j += kLanes)
      for (int64_t i = top; i < bottom; i += kLanes)
        transpose_block(min_of<int64_t>(kLanes, bottom - i), min_of<int64_t>(kLanes, columns - j),
                        in + i * in_stride + j, in_stride, out + j * out_stride + i, out_stride);
  }
}

}  // namespace convcore::cpu::CONVCORE_ISA

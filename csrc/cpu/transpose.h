// Exchange of the two axes of a matrix, in blocks of kLanes x kLanes that are turned in registers.
#pragma once
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

// out[j * out_stride + i] = in[i * in_stride + j] for i < rows, j < columns. Writes along the rows of `out`; so many
// rows should fit L1.
static inline void transpose_matrix(int64_t rows, int64_t columns, const float* in, int64_t in_stride, float* out,
                                    int64_t out_stride) {
  for (int64_t j = 0; j < columns; j += kLanes) {
    const int64_t width = min_of<int64_t>(kLanes, columns - j);
    for (int64_t i = 0; i < rows; i += kLanes) {
      const int64_t height = min_of<int64_t>(kLanes, rows - i);
      Vec block[kLanes];
      if (height == kLanes && width == kLanes) {
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; r++) block[r] = load(in + (i + r) * in_stride + j);
        transpose(block);
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; r++) store(out + (j + r) * out_stride + i, block[r]);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; r++)
          block[r] = r < height ? load_partial(in + (i + r) * in_stride + j, width) : Vec{};
        transpose(block);
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; r++)
          if (r < width) store_partial(out + (j + r) * out_stride + i, block[r], height);
      }
    }
  }
}

}  // namespace convcore::cpu::CONVCORE_ISA

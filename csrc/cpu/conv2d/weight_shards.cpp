#include "cpu/conv2d/weight_shards.h"

#include "core/threads.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

typedef float Vec4 __attribute__((vector_size(16)));
typedef float Vec4Unaligned __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t Int4 __attribute__((vector_size(16)));

// out[j * out_stride + i] = rows[i][j] for a 4 x 4 block.
CONVCORE_INLINE void store_transposed(const Vec4 (&rows)[4], float* out, int64_t out_stride) {
  const Vec4 lo01 = __builtin_shuffle(rows[0], rows[1], Int4{0, 4, 1, 5});
  const Vec4 hi01 = __builtin_shuffle(rows[0], rows[1], Int4{2, 6, 3, 7});
  const Vec4 lo23 = __builtin_shuffle(rows[2], rows[3], Int4{0, 4, 1, 5});
  const Vec4 hi23 = __builtin_shuffle(rows[2], rows[3], Int4{2, 6, 3, 7});
  *reinterpret_cast<Vec4Unaligned*>(out) = __builtin_shuffle(lo01, lo23, Int4{0, 1, 4, 5});
  *reinterpret_cast<Vec4Unaligned*>(out + out_stride) = __builtin_shuffle(lo01, lo23, Int4{2, 3, 6, 7});
  *reinterpret_cast<Vec4Unaligned*>(out + 2 * out_stride) = __builtin_shuffle(hi01, hi23, Int4{0, 1, 4, 5});
  *reinterpret_cast<Vec4Unaligned*>(out + 3 * out_stride) = __builtin_shuffle(hi01, hi23, Int4{2, 3, 6, 7});
}

}  // namespace

void sum_weight_shards(const float* parts, int64_t shards, int64_t rows, int64_t c_out, int64_t c_out_padded,
                       float* dw) {
  const int64_t part = rows * c_out_padded, groups = (rows + 3) / 4;
  parallel_for(groups, (shards + 3) * c_out_padded, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; group++) {
      const int64_t row0 = group * 4, row_count = min_of<int64_t>(4, rows - row0);
      for (int64_t k = 0; k < c_out; k += 4) {
        Vec4 sums[4] = {};
        for (int64_t i = 0; i < row_count; i++) {
          const float* from = parts + (row0 + i) * c_out_padded + k;
          sums[i] = *reinterpret_cast<const Vec4Unaligned*>(from);
          for (int64_t s = 1; s < shards; s++) sums[i] += *reinterpret_cast<const Vec4Unaligned*>(from + s * part);
        }
        if (row_count == 4 && k + 4 <= c_out) {
          store_transposed(sums, dw + k * rows + row0, rows);
          continue;
        }
        for (int64_t j = 0; j < min_of<int64_t>(4, c_out - k); j++)
          for (int64_t i = 0; i < row_count; i++) dw[(k + j) * rows + row0 + i] = sums[i][j];
      }
    }
  });
}

}  // namespace convcore::cpu::CONVCORE_ISA

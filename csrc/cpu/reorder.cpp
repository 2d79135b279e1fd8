// reorder: batched transposition, one load and one store per element; a plain copy where one axis has one element.
#include "ops/reorder.h"

#include "cpu/elementwise.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {

constexpr int64_t kTaskRows = kTransposeRows, kTaskColumns = 1024;

static void transpose_batch(int64_t batch, int64_t rows, int64_t columns, const float* in, float* out) {
  if (rows == 1 || columns == 1)
    return parallel_for_each_vector(batch * rows * columns, 1, [=](int64_t i, int64_t lanes) {
      store_lanes(out + i, load_lanes(in + i, lanes), lanes);
    });
  const int64_t down = (rows + kTaskRows - 1) / kTaskRows, across = (columns + kTaskColumns - 1) / kTaskColumns;
  const int64_t work = min_of(rows, kTaskRows) * min_of(columns, kTaskColumns);
  parallel_for(batch * down * across, work, [=](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / (down * across), i = task / across % down * kTaskRows, j = task % across * kTaskColumns;
      const int64_t first = n * rows * columns;
      transpose_matrix(min_of(kTaskRows, rows - i), min_of(kTaskColumns, columns - j), in + first + i * columns + j,
                       columns, out + first + j * rows + i, rows);
    }
  });
}

ReorderKernels reorder_kernels();
ReorderKernels reorder_kernels() { return {transpose_batch}; }

}  // namespace convcore::cpu::CONVCORE_ISA

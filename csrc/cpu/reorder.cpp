// reorder: batched transposition, one load and one store per element; a plain copy where one axis has one element.
#include "ops/reorder.h"

#include "cpu/elementwise.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {

static void transpose_batch(int64_t batch, int64_t rows, int64_t columns, const float* in, float* out) {
  if (rows == 1 || columns == 1)
    return parallel_for_each_vector(batch * rows * columns, 1, [=](int64_t i, int64_t lanes) {
      store_lanes(out + i, load_lanes(in + i, lanes), lanes);
    });
  const int64_t blocks = (rows + kLanes - 1) / kLanes;  // a task is kLanes rows of one matrix
  parallel_for(batch * blocks, kLanes * columns, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / blocks, i = task % blocks * kLanes;
      const int64_t first = n * rows * columns;
      transpose_matrix(min_of<int64_t>(kLanes, rows - i), columns, in + first + i * columns, columns, out + first + i,
                       rows);
    }
  });
}

ReorderKernels reorder_kernels();
ReorderKernels reorder_kernels() { return {transpose_batch}; }

}  // namespace convcore::cpu::CONVCORE_ISA

// reorder: batched transposition, one load and one store per element.
#include "ops/reorder.h"

#include "core/threads.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {

static void transpose_batch(int64_t batch, int64_t rows, int64_t columns, const float* in, float* out) {
  const int64_t blocks = (rows + kLanes - 1) / kLanes;  // a task is kLanes rows of one matrix
  parallel_for(batch * blocks, kLanes * columns / 4, [&](int64_t begin, int64_t end) {
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

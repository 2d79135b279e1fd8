// add: one pass over contiguous memory.
#include "ops/add.h"

#include "cpu/elementwise.h"

namespace convcore::cpu::CONVCORE_ISA {

static void add_forward(int64_t count, const float* a, const float* b, float* y) {
  parallel_for_each_vector(count, 1, [&](int64_t i, int64_t lanes) {
    store_lanes(y + i, load_lanes(a + i, lanes) + load_lanes(b + i, lanes), lanes);
  });
}

AddKernels add_kernels();
AddKernels add_kernels() { return {add_forward}; }

}  // namespace convcore::cpu::CONVCORE_ISA

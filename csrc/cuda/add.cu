// add: one pass over the elements.
#include "ops/add.h"

#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

struct Add {
  __device__ void operator()(int64_t, const float* in, float* out) const { out[0] = in[0] + in[1]; }
};

void forward(int64_t count, const float* a, const float* b, float* y) {
  for_elements("add", count, ElementArrays<2, 1>{{a, b}, {y}}, Add{});
}

}  // namespace

AddKernels add_kernels() { return {forward}; }

}  // namespace convcore::cuda

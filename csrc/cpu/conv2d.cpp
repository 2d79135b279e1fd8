#include "ops/conv2d.h"

#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {
Conv2dKernels conv2d_kernels();
Conv2dKernels conv2d_kernels() { return {}; }
}  // namespace convcore::cpu::CONVCORE_ISA

// One instruction set's table of kernels. This file, like every kernel source, is compiled once per set.
#include "cpu/kernels.h"

#define CONVCORE_QUOTE_(x) #x
#define CONVCORE_QUOTE(x) CONVCORE_QUOTE_(x)

namespace convcore::cpu::CONVCORE_ISA {

Conv2dKernels conv2d_kernels();
LinearKernels linear_kernels();

Kernels table();
Kernels table() {
  Kernels t{};
  t.isa = CONVCORE_QUOTE(CONVCORE_ISA);
  t.conv2d = conv2d_kernels();
  t.linear = linear_kernels();
  return t;
}

}  // namespace convcore::cpu::CONVCORE_ISA

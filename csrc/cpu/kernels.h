// The kernels of the CPU: one table per instruction set, chosen at run time.
#pragma once
#include "ops/kernels.h"

namespace convcore::cpu {

// The best set this CPU has, at most the one CONVCORE_ISA names ("baseline", "avx2", "avx512"). Chosen at first use.
const Kernels& kernels();

// Names of the sets that were built and that this CPU can run, from the plainest up, comma-separated.
const char* reachable_isas();

}  // namespace convcore::cpu

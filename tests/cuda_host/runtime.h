// What the tests set of the runtime.
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

void set_precision(Precision precision);
void release_workspaces();

}  // namespace convcore::cuda

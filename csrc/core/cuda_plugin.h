// The CUDA plug-in, opened when it is first asked for. _core links nothing of CUDA: where there is no plug-in, no
// driver or no device, the reason is a text and everything else works.
//
// The file is libconvcore_cuda.so beside _core, or what the environment variable CONVCORE_CUDA_LIBRARY names.
#pragma once
#include <string>

#include "cuda/api.h"

namespace convcore::cuda {

// Why kernels cannot run on a GPU; empty when they can. Found out once: by opening the library and asking it.
const std::string& unavailable_reason();

// The table of the plug-in. Throws std::runtime_error with the reason when it cannot be used.
const Api& api();

// The table where the library could be opened, even without a device; else null.
const Api* opened();

// Throws what a message of the plug-in says: std::bad_alloc when it is about memory, else std::runtime_error. Null:
// all went well.
void check(const char* message);

}  // namespace convcore::cuda

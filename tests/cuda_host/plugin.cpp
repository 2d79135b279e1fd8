// The emulated device as a plug-in, libconvcore_cuda_host.so: for _core it is a GPU (CONVCORE_CUDA_LIBRARY names it).
// There every array that a kernel sees must be in device memory.
#include "shim.h"

namespace convcore::cuda_host {
namespace {

[[maybe_unused]] const bool checked = settings().device_pointers_only = true;

}  // namespace
}  // namespace convcore::cuda_host

#include "ops/kernels.h"

#include "core/cuda_plugin.h"
#include "core/device.h"
#include "cpu/kernels.h"

namespace convcore {

const Kernels& current_kernels() { return current_device() == Device::cuda ? *cuda::api().kernels : cpu::kernels(); }

}  // namespace convcore

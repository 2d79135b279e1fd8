// What csrc/cuda/runtime.cu is on a GPU: here memory is the heap's, and there are no streams.
#include <cstring>
#include <new>

#include "cuda/device.cuh"
#include "runtime.h"

namespace convcore::cuda {
namespace {

Precision precision_ = Precision::fp32;
void* slots[kWorkspaceSlots];

}  // namespace

Precision precision() { return precision_; }
void set_precision(Precision p) { precision_ = p; }
Stream stream() { return nullptr; }
void check_launch(const char*) {}
bool launch_failed() { return false; }

// A new block each time, of exactly this size and full of NaN: what is left of an earlier call is not to be relied on.
float* workspace(WorkspaceSlot slot, int64_t floats) {
  ::operator delete(slots[slot], std::align_val_t(16));
  const size_t bytes = size_t(floats) * sizeof(float);
  slots[slot] = ::operator new(bytes, std::align_val_t(16));
  std::memset(slots[slot], 0xFF, bytes);
  return static_cast<float*>(slots[slot]);
}

void release_workspaces() {
  for (void*& slot : slots) {
    ::operator delete(slot, std::align_val_t(16));
    slot = nullptr;
  }
}

}  // namespace convcore::cuda

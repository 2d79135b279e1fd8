// Memory for results: 64-byte aligned blocks from a cache of freed ones.
//
// A training loop asks for the same sizes at every step. Handing back the block that the last step freed avoids the
// system allocator and, above all, the page faults of fresh memory. The cache keeps at most kMaxCachedBytes.
//
// With CONVCORE_POISON=1 in the environment every block is filled with NaN before it is handed out, so that an element
// a kernel forgot to write, or an accumulator it forgot to clear, cannot go unseen in the tests.
#pragma once
#include <cstddef>
#include <memory>

#include "core/device.h"

namespace convcore {

constexpr size_t kAlignment = 64;                    // bytes: one cache line, one AVX-512 vector
constexpr size_t kMaxCachedBytes = size_t(1) << 30;  // blocks beyond this go back to the system

// A block of at least `bytes`; freed to the cache with its last owner. Throws std::bad_alloc.
std::shared_ptr<void> allocate(size_t bytes);

// The same in the memory of a device.
std::shared_ptr<void> allocate_on(Device device, size_t bytes);

// The same for the time of one call, for kernels: none of its code is inline, so a kernel source compiled for a newer
// CPU does not emit a copy of it (see cpu/vec.h).
class ScratchBlock {
 public:
  explicit ScratchBlock(size_t bytes);
  ~ScratchBlock();
  ScratchBlock(const ScratchBlock&) = delete;
  ScratchBlock& operator=(const ScratchBlock&) = delete;
  void* data() const;

 private:
  void* data_;
  size_t bytes_;
};

struct AllocatorStats {
  size_t live_bytes;       // handed out now
  size_t cached_bytes;     // kept for later
  size_t system_requests;  // times the system allocator was asked, since the start
};
AllocatorStats allocator_stats();
void release_cache();  // give every cached block back to the system

// Per-thread workspace of at least `bytes`, 64-byte aligned, its content unspecified. It stays valid until the same
// thread asks again for the same slot, and it grows but never shrinks: no allocation in a steady loop.
constexpr int kWorkspaceSlots = 4;
void* thread_workspace(int slot, size_t bytes);

}  // namespace convcore

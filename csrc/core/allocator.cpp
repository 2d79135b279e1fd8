#include "core/allocator.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <vector>

// AddressSanitizer is told what of a block may be touched: nothing while it lies in the cache, and no byte past the
// requested ones while it is handed out.
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define CONVCORE_FORBID(p, bytes) ASAN_POISON_MEMORY_REGION(p, bytes)
#define CONVCORE_PERMIT(p, bytes) ASAN_UNPOISON_MEMORY_REGION(p, bytes)
#else
#define CONVCORE_FORBID(p, bytes) ((void)0)
#define CONVCORE_PERMIT(p, bytes) ((void)0)
#endif

namespace convcore {
namespace {

bool poison() {
  static const bool on = [] {
    const char* value = std::getenv("CONVCORE_POISON");
    return value && std::strcmp(value, "1") == 0;
  }();
  return on;
}

// Sizes are rounded up to one of eight steps per power of two, so that nearly equal requests share blocks.
size_t size_class(size_t bytes) {
  if (bytes == 0) return kAlignment;
  size_t step = kAlignment;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

// Large blocks lie on pages of 2 MiB where the system gives them: fewer misses in the table of pages.
constexpr size_t kHugePage = size_t(2) << 20, kHugeBlock = 2 * kHugePage;

void* system_allocate(size_t bytes) {
  void* block = nullptr;
  if (posix_memalign(&block, bytes >= kHugeBlock ? kHugePage : kAlignment, bytes) != 0) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (bytes >= kHugeBlock) madvise(block, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // a wish: failing is no error
#endif
  return block;
}

struct Cache {
  std::mutex mutex;
  std::map<size_t, std::vector<void*>> free_blocks;  // by size class
  AllocatorStats stats{};
};

// Never destroyed: arrays may outlive static destruction at interpreter exit. Locked during fork(), so that no other
// thread holds the lock at that moment: in the child nobody would open it.
Cache& cache() {
  static Cache* instance = [] {
    pthread_atfork([] { cache().mutex.lock(); }, [] { cache().mutex.unlock(); }, [] { cache().mutex.unlock(); });
    return new Cache;
  }();
  return *instance;
}

// A block of size_class(requested) bytes.
void* take(size_t requested) {
  if (requested > SIZE_MAX / 2) throw std::bad_alloc();
  const size_t bytes = size_class(requested);
  Cache& c = cache();
  void* block = nullptr;
  {
    std::lock_guard<std::mutex> lock(c.mutex);
    auto found = c.free_blocks.find(bytes);
    if (found != c.free_blocks.end() && !found->second.empty()) {
      block = found->second.back();
      found->second.pop_back();
      c.stats.cached_bytes -= bytes;
    }
  }
  const bool fresh = block == nullptr;
  if (fresh) block = system_allocate(bytes);
  {
    std::lock_guard<std::mutex> lock(c.mutex);
    c.stats.live_bytes += bytes;
    c.stats.system_requests += fresh;
  }
  CONVCORE_PERMIT(block, requested);
  CONVCORE_FORBID(static_cast<char*>(block) + requested, bytes - requested);
  if (poison()) std::memset(block, 0xFF, requested);  // every float a NaN
  return block;
}

void give_back(void* block, size_t bytes) {
  Cache& c = cache();
  {
    std::lock_guard<std::mutex> lock(c.mutex);
    c.stats.live_bytes -= bytes;
    if (c.stats.cached_bytes + bytes <= kMaxCachedBytes) {
      c.free_blocks[bytes].push_back(block);
      CONVCORE_FORBID(block, bytes);
      c.stats.cached_bytes += bytes;
      return;
    }
  }
  CONVCORE_PERMIT(block, bytes);
  std::free(block);
}

}  // namespace

std::shared_ptr<void> allocate(size_t bytes) {
  return std::shared_ptr<void>(take(bytes), [bytes](void* p) { give_back(p, size_class(bytes)); });
}

ScratchBlock::ScratchBlock(size_t bytes) : data_(take(bytes)), bytes_(size_class(bytes)) {}
ScratchBlock::~ScratchBlock() { give_back(data_, bytes_); }
void* ScratchBlock::data() const { return data_; }

AllocatorStats allocator_stats() {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  return c.stats;
}

void release_cache() {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  for (auto& entry : c.free_blocks)
    for (void* block : entry.second) {
      CONVCORE_PERMIT(block, entry.first);
      std::free(block);
    }
  c.free_blocks.clear();
  c.stats.cached_bytes = 0;
}

void* thread_workspace(int slot, size_t bytes) {
  struct Workspace {
    void* block = nullptr;
    size_t bytes = 0;
    ~Workspace() {
      CONVCORE_PERMIT(block, bytes);
      std::free(block);
    }
  };
  thread_local Workspace workspaces[kWorkspaceSlots];
  Workspace& w = workspaces[slot];
  CONVCORE_PERMIT(w.block, w.bytes);
  if (w.bytes < bytes) {
    std::free(w.block);
    w.block = nullptr;
    w.bytes = 0;
    w.block = system_allocate(bytes);
    w.bytes = bytes;
  }
  CONVCORE_FORBID(static_cast<char*>(w.block) + bytes, w.bytes - bytes);
  if (poison() && bytes > 0) std::memset(w.block, 0xFF, bytes);
  return w.block;
}

}  // namespace convcore

#include "runtime_api.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "shim.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define CONVCORE_FORBID(p, bytes) ASAN_POISON_MEMORY_REGION(p, bytes)
#define CONVCORE_PERMIT(p, bytes) ASAN_UNPOISON_MEMORY_REGION(p, bytes)
#else
#define CONVCORE_FORBID(p, bytes) ((void)0)
#define CONVCORE_PERMIT(p, bytes) ((void)0)
#endif

struct CUgraphNode_st {
  std::function<void()> work;
  cudaGraphNodeType type;
};
using Recording = std::vector<CUgraphNode_st>;
struct CUstream_st {};
struct CUgraph_st {
  Recording recording;
};
struct CUgraphExec_st {
  Recording recording;
};

namespace convcore::cuda_host {
namespace {

constexpr size_t kDeviceBytes = size_t(1) << 30;
constexpr size_t kHugePage = size_t(2) << 20;  // few of them are quicker to open and shut than many small ones
constexpr size_t kUnit = 512;                  // blocks begin at multiples of it, with one unused unit between two

std::recursive_mutex mutex;
CUgraph_st* captured;  // the graph that is being recorded, if any
cudaError_t last_error = cudaSuccess;

cudaError_t failed(cudaError_t error) { return last_error = error; }

class DeviceMemory {
 public:
  DeviceMemory() {
    void* memory =
        mmap(nullptr, kDeviceBytes + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    begin_ = static_cast<char*>(memory);
    begin_ += (kHugePage - reinterpret_cast<uintptr_t>(begin_) % kHugePage) % kHugePage;
    madvise(begin_, kDeviceBytes, MADV_HUGEPAGE);  // a wish: failing is no error
    CONVCORE_FORBID(begin_, kDeviceBytes);
    free_[begin_] = kDeviceBytes;
  }

  // The first place that is large enough; null when there is none.
  char* take(size_t bytes) {
    if (bytes > kDeviceBytes) return nullptr;
    const size_t room = (bytes + kUnit - 1) / kUnit * kUnit + kUnit;
    for (auto place = free_.begin(); place != free_.end(); ++place) {
      const auto [block, size] = *place;
      if (size < room) continue;
      free_.erase(place);
      if (size > room) free_[block + room] = size - room;
      live_[block] = {bytes, room};
      used_ += room;
      if (size_t(block - begin_) + room > touched_) touched_ = size_t(block - begin_) + room;
      return block;
    }
    return nullptr;
  }

  bool give_back(char* block) {
    const auto found = live_.find(block);
    if (found == live_.end()) return false;
    size_t room = found->second.room;
    used_ -= room;
    live_.erase(found);
    CONVCORE_FORBID(block, room);
    auto next = free_.find(block + room);
    if (next != free_.end()) room += next->second, free_.erase(next);
    next = free_.lower_bound(block);
    if (next != free_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == block) {
        before->second += room;
        return true;
      }
    }
    free_[block] = room;
    return true;
  }

  // Whether these bytes lie in one block.
  bool holds(const void* data, size_t bytes) const {
    const char* from = static_cast<const char*>(data);
    auto after = live_.upper_bound(const_cast<char*>(from));
    if (after == live_.begin()) return false;
    const auto& [block, size] = *std::prev(after);
    return from + bytes <= block + size.bytes;
  }
  bool contains(uintptr_t address) const { return address - reinterpret_cast<uintptr_t>(begin_) < kDeviceBytes; }
  size_t free_bytes() const { return kDeviceBytes - used_; }

  void open() {
    if (open_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void shut() {
    if (--open_ == 0) protect(PROT_NONE);
  }

 private:
  void protect(int protection) {
    const size_t bytes = (touched_ + kHugePage - 1) / kHugePage * kHugePage;
    if (bytes > 0 && mprotect(begin_, bytes, protection) != 0) throw std::bad_alloc();
  }

  struct Size {
    size_t bytes, room;
  };
  char* begin_;
  std::map<char*, size_t> free_;
  std::map<char*, Size> live_;
  size_t used_ = 0, touched_ = 0;  // bytes; no block reaches beyond the latter
  int open_ = 0;
};

// Never destroyed: arrays may outlive static destruction.
DeviceMemory& memory() {
  static DeviceMemory* instance = new DeviceMemory;
  return *instance;
}

struct Open {
  Open() { memory().open(); }
  ~Open() { memory().shut(); }
  Open(const Open&) = delete;
};

bool is_mapped(uintptr_t address) {
  const auto page = uintptr_t(sysconf(_SC_PAGESIZE));
  unsigned char resident = 0;
  return mincore(reinterpret_cast<void*>(address / page * page), 1, &resident) == 0;
}

void run_all(const Recording& recording) {
  const Open open;
  for (const auto& node : recording) node.work();
}

}  // namespace

void submit(std::function<void()> work, cudaGraphNodeType type) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (captured) {
    captured->recording.push_back({std::move(work), type});
    return;
  }
  const Open open;
  work();
}

void hand_out(void* block, int64_t used, int64_t bytes) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (captured && used == 0) return;  // what was recorded before still needs it
  submit([=] {
    CONVCORE_PERMIT(block, size_t(bytes));
    std::memset(block, 0xFF, size_t(bytes));
    CONVCORE_FORBID(static_cast<char*>(block) + used, size_t(bytes - used));
  });
}

namespace {

// What stands between the members of a struct may be left of an old pointer, and with a bool, a small int or a float
// before it read as an address. Of the pointers, one in three is missed by this.
bool may_be_padded(uintptr_t word) {
  const auto low = uint32_t(word);
  const unsigned exponent = low >> 23 & 0xFF;
  const bool is_float = exponent > 127 - 40 && exponent < 127 + 40;
  return (low & 0xFF) <= 1 || low < (1 << 20) || low % 4 != 0 || is_float;
}

}  // namespace

// Eight bytes that read as a mapped address outside of device memory: a pointer, all but certainly.
void expect_device_pointers(const char* kernel, const void* arguments, size_t bytes) {
  constexpr uintptr_t kLeast = uintptr_t(1) << 32, kMost = uintptr_t(1) << 47;
  for (size_t at = 0; at + sizeof(uintptr_t) <= bytes; at += sizeof(uintptr_t)) {
    uintptr_t word;
    std::memcpy(&word, static_cast<const char*>(arguments) + at, sizeof word);
    if (word < kLeast || word >= kMost || may_be_padded(word)) continue;
    if (memory().contains(word) || !is_mapped(word)) continue;
    throw std::logic_error(std::string("CUDA rule broken by the launch of '") + kernel +
                           "': its arguments hold an address of the host, at byte " + std::to_string(at));
  }
}

}  // namespace convcore::cuda_host

using namespace convcore::cuda_host;

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    default:
      return "unknown error";
  }
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  *p = {};
  std::snprintf(p->name, sizeof p->name, "CPU emulation of a CUDA device (tests)");
  p->major = 9, p->minor = 0, p->multiProcessorCount = 1, p->l2CacheSize = 1 << 20;
  p->totalGlobalMem = kDeviceBytes, p->sharedMemPerBlockOptin = kMaxShared;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** block, size_t bytes) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (captured) return failed(cudaErrorStreamCaptureUnsupported);
  *block = memory().take(bytes);
  return *block ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* block) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (captured) return failed(cudaErrorStreamCaptureUnsupported);
  return memory().give_back(static_cast<char*>(block)) ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  *free_bytes = memory().free_bytes(), *total = kDeviceBytes;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (bytes == 0) return cudaSuccess;
  const bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
  if (memory().holds(to, bytes) != to_device || memory().holds(from, bytes) != from_device)
    return failed(cudaErrorInvalidValue);
  submit([=] { std::memmove(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (bytes == 0) return cudaSuccess;
  if (!memory().holds(to, bytes)) return failed(cudaErrorInvalidValue);
  submit([=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  static CUstream_st only;
  *stream = &only;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  return captured ? failed(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (captured) return failed(cudaErrorStreamCaptureUnsupported);
  captured = new CUgraph_st;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (!captured) return failed(cudaErrorInvalidValue);
  *graph = captured;
  captured = nullptr;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  *count = graph->recording.size();
  for (size_t i = 0; nodes && i < *count; i++) nodes[i] = &graph->recording[i];
  return cudaSuccess;
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  *type = node->type;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->recording};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (captured) return failed(cudaErrorStreamCaptureUnsupported);
  run_all(executable->recording);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

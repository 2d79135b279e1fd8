// The border between _core and the plug-in libconvcore_cuda.so: one exported function, which hands over one table.
//
// _core is built without CUDA and opens the plug-in when it is first asked for (core/cuda_plugin.h). Nothing throws
// across the border: functions that can fail return a message, or null when all went well; it stays valid until the
// same thread calls again. Kernels are asynchronous: errors of a launch are kept, and handed over by `take_error`.
#pragma once
#include <cstddef>
#include <cstdint>

namespace convcore {
struct Kernels;  // ops/kernels.h
}

namespace convcore::cuda {

constexpr uint32_t kApiVersion = 2;  // of everything in this table, and of the structs that the kernels take

constexpr char kOutOfMemory[] = "out of device memory";  // messages about that begin so

struct DeviceInfo {
  char name[256];
  int compute_major, compute_minor, multiprocessors;
  int64_t memory_bytes, shared_bytes_per_block, l2_bytes;
};

struct MemoryStats {
  int64_t live_bytes, cached_bytes, device_requests;  // as core/allocator.h
};

struct Api {
  uint32_t version, size;     // size: of this struct
  const char* architectures;  // that the plug-in was compiled for, as "80 86 ... 80-virtual"

  // Whether kernels can run: a device, a driver that is new enough, and code for the device. Else why not.
  const char* (*probe)();
  const char* (*device_info)(DeviceInfo* info);

  // Device memory from a cache of freed blocks, per stream-order: a block may be handed out again as soon as it was
  // freed, because later kernels on the stream run later.
  const char* (*allocate)(int64_t bytes, void** block);
  void (*free)(void* block, int64_t bytes);
  const char* (*memory_stats)(MemoryStats* stats);
  void (*release_cache)();

  // On the stream. to_host returns when the copy is complete.
  const char* (*to_device)(void* device, const void* host, int64_t bytes);
  const char* (*to_host)(void* host, const void* device, int64_t bytes);
  const char* (*copy)(void* to, const void* from, int64_t bytes);
  const char* (*fill_bytes)(void* device, int value, int64_t bytes);
  const char* (*synchronize)();
  const char* (*take_error)();
  uintptr_t (*stream_handle)();
  void (*set_precision)(int precision);  // cuda::Precision

  // A recorded sequence of launches. Between begin and end nothing may be allocated or waited for.
  const char* (*capture_begin)();
  const char* (*capture_end)(void** graph);
  const char* (*graph_launch)(void* graph);
  void (*graph_free)(void* graph);
  int64_t (*graph_kernels)(void* graph);  // how many kernels it runs

  const Kernels* kernels;
};

}  // namespace convcore::cuda

extern "C" const convcore::cuda::Api* convcore_cuda_api(uint32_t version);

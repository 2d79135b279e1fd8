// What the kernels run on: a stream, device memory, errors, recorded graphs. And the table that _core gets (api.h).
//
// All work goes to one stream per process, so a block of memory that is freed can be handed out at once: what uses it
// next runs after what used it last.
#include <cstdio>
#include <map>
#include <mutex>
#include <vector>

#include "cuda/api.h"
#include "cuda/device.cuh"
#include "cuda/table.h"
#include "ops/kernels.h"

#ifndef CONVCORE_CUDA_ARCHITECTURES
#define CONVCORE_CUDA_ARCHITECTURES "unknown"
#endif

namespace convcore::cuda {
namespace {

constexpr int kOldestCompute = 80;  // 10 * major + minor: cp.async and mma.sync of TF32 and BF16

std::mutex mutex;
cudaStream_t main_stream;
Precision precision_ = Precision::fp32;
char launch_error[256];  // the first since take_error; empty: none
bool capturing;

thread_local char message[512];
const char* said(const char* what, cudaError_t error) {
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();  // clears it
  std::snprintf(message, sizeof message, "%s: %s (CUDA error %d)", what, cudaGetErrorString(error), int(error));
  return message;
}

// ---- memory
// -----------------------------------------------------------------------------------------------------------

constexpr int64_t kGranule = 512;  // bytes: sizes are rounded up to whole ones
std::multimap<int64_t, void*> cached;
MemoryStats stats;

int64_t rounded(int64_t bytes) { return bytes < 1 ? kGranule : (bytes + kGranule - 1) / kGranule * kGranule; }

void drop_cache() {
  for (const auto& [bytes, block] : cached) cudaFree(block);
  cached.clear();
  stats.cached_bytes = 0;
}

const char* allocate(int64_t wanted, void** block) {
  const std::lock_guard<std::mutex> lock(mutex);
  const int64_t bytes = rounded(wanted);
  const auto found = cached.find(bytes);
  if (found != cached.end()) {
    *block = found->second;
    cached.erase(found);
    stats.cached_bytes -= bytes, stats.live_bytes += bytes;
    note_handed_out(*block, wanted, bytes);
    return nullptr;
  }
  if (capturing) return "memory was asked for while a graph is recorded";
  stats.device_requests++;
  cudaError_t error = cudaMalloc(block, size_t(bytes));
  if (error == cudaErrorMemoryAllocation && !cached.empty()) {
    cudaGetLastError();
    cudaStreamSynchronize(main_stream);
    drop_cache();
    error = cudaMalloc(block, size_t(bytes));
  }
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free_bytes = 0, total = 0;
    cudaMemGetInfo(&free_bytes, &total);
    std::snprintf(message, sizeof message, "%s: %lld bytes asked for, %lld of %lld free, %lld in use by convcore",
                  kOutOfMemory, static_cast<long long>(bytes), static_cast<long long>(free_bytes),
                  static_cast<long long>(total), static_cast<long long>(stats.live_bytes));
    return message;
  }
  if (error != cudaSuccess) return said("cudaMalloc", error);
  stats.live_bytes += bytes;
  note_handed_out(*block, wanted, bytes);
  return nullptr;
}

void free_block(void* block, int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  bytes = rounded(bytes);
  cached.emplace(bytes, block);
  note_handed_out(block, 0, bytes);
  stats.live_bytes -= bytes, stats.cached_bytes += bytes;
}

const char* memory_stats(MemoryStats* out) {
  const std::lock_guard<std::mutex> lock(mutex);
  *out = stats;
  return nullptr;
}

void release_cache() {
  const std::lock_guard<std::mutex> lock(mutex);
  cudaStreamSynchronize(main_stream);
  drop_cache();
}

struct Workspace {
  void* data;
  int64_t bytes;
};
Workspace workspaces[kWorkspaceSlots];

// ---- the device
// -------------------------------------------------------------------------------------------------------

CONVCORE_KERNEL(kWarp) nothing() {}

bool has_code_for_device() {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, nothing);
  cudaGetLastError();
  return error == cudaSuccess;
}

const char* probe() {
  static const char* answer = [] {
    static char reason[512];
    const auto because = [](const char* text) {
      std::snprintf(reason, sizeof reason, "%s", text);
      return static_cast<const char*>(reason);
    };
    int devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error == cudaErrorInsufficientDriver)
      return because("there is no NVIDIA driver, or it is older than the CUDA version that convcore was built with");
    if (error == cudaErrorNoDevice || (error == cudaSuccess && devices == 0)) return because("there is no CUDA device");
    if (error != cudaSuccess) return because(said("looking for devices", error));
    cudaDeviceProp properties;
    if (const char* text = said("reading the device's properties", cudaGetDeviceProperties(&properties, 0)))
      return because(text);
    if (10 * properties.major + properties.minor < kOldestCompute) {
      std::snprintf(reason, sizeof reason, "%s has compute capability %d.%d; 8.0 or newer is needed", properties.name,
                    properties.major, properties.minor);
      return static_cast<const char*>(reason);
    }
    if (!has_code_for_device()) {
      std::snprintf(reason, sizeof reason, "%s has compute capability %d.%d, and this build is for: %s",
                    properties.name, properties.major, properties.minor, CONVCORE_CUDA_ARCHITECTURES);
      return static_cast<const char*>(reason);
    }
    if (const char* text = said("creating a stream", cudaStreamCreateWithFlags(&main_stream, cudaStreamNonBlocking)))
      return because(text);
    return static_cast<const char*>(nullptr);
  }();
  return answer;
}

const char* device_info(DeviceInfo* info) {
  cudaDeviceProp p;
  if (const char* text = said("reading the device's properties", cudaGetDeviceProperties(&p, 0))) return text;
  std::snprintf(info->name, sizeof info->name, "%s", p.name);
  info->compute_major = p.major, info->compute_minor = p.minor, info->multiprocessors = p.multiProcessorCount;
  info->memory_bytes = int64_t(p.totalGlobalMem), info->shared_bytes_per_block = int64_t(p.sharedMemPerBlockOptin);
  info->l2_bytes = p.l2CacheSize;
  return nullptr;
}

// ---- copies and errors
// ------------------------------------------------------------------------------------------------

const char* to_device(void* device, const void* host, int64_t bytes) {
  return said("copying to the device",
              cudaMemcpyAsync(device, host, size_t(bytes), cudaMemcpyHostToDevice, main_stream));
}

const char* synchronize() { return said("waiting for the device", cudaStreamSynchronize(main_stream)); }

const char* to_host(void* host, const void* device, int64_t bytes) {
  if (const char* text = said("copying from the device",
                              cudaMemcpyAsync(host, device, size_t(bytes), cudaMemcpyDeviceToHost, main_stream)))
    return text;
  return synchronize();
}

const char* copy(void* to, const void* from, int64_t bytes) {
  return said("copying on the device", cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDeviceToDevice, main_stream));
}

const char* fill_bytes(void* device, int value, int64_t bytes) {
  return said("filling device memory", cudaMemsetAsync(device, value, size_t(bytes), main_stream));
}

const char* take_error() {
  const std::lock_guard<std::mutex> lock(mutex);
  if (!launch_error[0]) return nullptr;
  std::snprintf(message, sizeof message, "%s", launch_error);
  launch_error[0] = 0;
  return message;
}

uintptr_t stream_handle() { return reinterpret_cast<uintptr_t>(main_stream); }
void set_precision(int p) { precision_ = Precision(p); }

// ---- graphs
// -----------------------------------------------------------------------------------------------------------

const char* capture_begin() {
  if (const char* text =
          said("recording a graph", cudaStreamBeginCapture(main_stream, cudaStreamCaptureModeThreadLocal)))
    return text;
  capturing = true;
  return nullptr;
}

struct Graph {
  cudaGraphExec_t executable;
  int64_t kernels;
};

const char* count_kernels(cudaGraph_t graph, int64_t* kernels) {
  size_t count = 0;
  if (const char* text = said("reading a graph", cudaGraphGetNodes(graph, nullptr, &count))) return text;
  std::vector<cudaGraphNode_t> nodes(count);
  if (const char* text = said("reading a graph", cudaGraphGetNodes(graph, nodes.data(), &count))) return text;
  *kernels = 0;
  for (cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type;
    if (const char* text = said("reading a graph", cudaGraphNodeGetType(node, &type))) return text;
    *kernels += type == cudaGraphNodeTypeKernel;
  }
  return nullptr;
}

const char* capture_end(void** out) {
  capturing = false;
  cudaGraph_t graph = nullptr;
  if (const char* text = said("recording a graph", cudaStreamEndCapture(main_stream, &graph))) return text;
  Graph made{};
  const char* text = count_kernels(graph, &made.kernels);
  if (!text) text = said("preparing a graph", cudaGraphInstantiate(&made.executable, graph, 0));
  cudaGraphDestroy(graph);
  if (!text) *out = new Graph(made);
  return text;
}

const char* graph_launch(void* graph) {
  return said("running a graph", cudaGraphLaunch(static_cast<Graph*>(graph)->executable, main_stream));
}

void graph_free(void* graph) {
  cudaStreamSynchronize(main_stream);  // it may still run
  cudaGraphExecDestroy(static_cast<Graph*>(graph)->executable);
  delete static_cast<Graph*>(graph);
}

int64_t graph_kernels(void* graph) { return static_cast<Graph*>(graph)->kernels; }

}  // namespace

// ---- what the kernels ask for (device.cuh)
// -----------------------------------------------------------------------------

Stream stream() { return main_stream; }
Precision precision() { return precision_; }

void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess || launch_error[0]) return;
  std::snprintf(launch_error, sizeof launch_error, "%s: %s (CUDA error %d)", kernel, cudaGetErrorString(error),
                int(error));
}

bool launch_failed() { return launch_error[0] != 0; }

// Grows and never shrinks. A block that has become too small is kept: a recorded graph may hold it. As each is at least
// twice as large as the one before, all of them together are not larger than the last.
float* workspace(WorkspaceSlot slot, int64_t floats) {
  Workspace& w = workspaces[slot];
  const int64_t bytes = rounded(floats * int64_t(sizeof(float)));
  if (w.bytes < bytes) {
    void* block = nullptr;
    const int64_t grown = bytes > 2 * w.bytes ? bytes : 2 * w.bytes;
    if (const char* text = allocate(grown, &block)) {
      if (!launch_error[0]) std::snprintf(launch_error, sizeof launch_error, "workspace: %s", text);
      return static_cast<float*>(w.data);
    }
    w = {block, grown};
  }
  note_handed_out(w.data, floats * int64_t(sizeof(float)), w.bytes);
  return static_cast<float*>(w.data);
}

}  // namespace convcore::cuda

extern "C" __attribute__((visibility("default"))) const convcore::cuda::Api* convcore_cuda_api(uint32_t version) {
  using namespace convcore::cuda;
  if (version != kApiVersion) return nullptr;
  static const convcore::Kernels kernels = table();
  static const Api api = {kApiVersion,   sizeof(Api),   CONVCORE_CUDA_ARCHITECTURES,
                          probe,         device_info,   allocate,
                          free_block,    memory_stats,  release_cache,
                          to_device,     to_host,       copy,
                          fill_bytes,    synchronize,   take_error,
                          stream_handle, set_precision, capture_begin,
                          capture_end,   graph_launch,  graph_free,
                          graph_kernels, &kernels};
  return &api;
}

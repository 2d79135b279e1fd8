// The ceilings of a GPU: multiply-adds, products of tensor cores by mma.sync, copies, nodes of a graph. JSON on stdout.
//
//   nvcc -std=c++17 -O3 -arch=sm_90 -I csrc bench/gpu_peak.cu -o gpu_peak && ./gpu_peak
//
// Each figure is the best of kRounds: a ceiling is what can be had. Sizes are such that a round takes some
// milliseconds.
#include <cstdio>
#include <cstdlib>

#include "cuda/ptx.cuh"

using namespace convcore::cuda;

namespace {

constexpr int kRounds = 20;
constexpr int kThreads = 256;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// The shortest time of `work` on the default stream, in seconds.
template <typename Work>
double best_seconds(Work work) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  float best = 1e30f;
  for (int round = 0; round < kRounds + 2; round++) {  // two to warm up
    check(cudaEventRecord(begin), "record");
    work();
    check(cudaEventRecord(end), "record");
    check(cudaEventSynchronize(end), "kernel");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "time");
    if (round >= 2 && ms < best) best = ms;
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return best * 1e-3;
}

// Independent chains hide the latency of an FMA. The result is stored only if it is a number that it never is.
constexpr int kChains = 16, kFmaRounds = 4096;
__global__ void __launch_bounds__(kThreads) fma_kernel(float a, float b, float* out) {
  float sums[kChains];
  for (int i = 0; i < kChains; i++) sums[i] = float(threadIdx.x + i);
  for (int round = 0; round < kFmaRounds; round++)
#pragma unroll
    for (int i = 0; i < kChains; i++) sums[i] = fmaf(sums[i], a, b);
  float sum = 0;
  for (int i = 0; i < kChains; i++) sum += sums[i];
  if (sum == 12345.678f) out[0] = sum;
}

constexpr int kTiles = 8, kMmaRounds = 2048;
template <bool kBf16>
__global__ void __launch_bounds__(kThreads) mma_kernel(float* out) {
  float c[kTiles][4] = {};
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; i++) a[i] = to_tf32(float(threadIdx.x) * 1e-3f);
  for (int i = 0; i < 2; i++) b[i] = to_tf32(float(threadIdx.x) * 1e-3f);
  for (int round = 0; round < kMmaRounds; round++)
#pragma unroll
    for (int i = 0; i < kTiles; i++)
      if constexpr (kBf16)
        mma_bf16(c[i], a, b);
      else
        mma_tf32(c[i], a, b);
  float sum = 0;
  for (int i = 0; i < kTiles; i++) sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
  if (sum == 12345.678f) out[0] = sum;
}

__global__ void __launch_bounds__(kThreads) copy_kernel(const float4* from, float4* to, size_t count) {
  for (size_t i = blockIdx.x * size_t(kThreads) + threadIdx.x; i < count; i += size_t(gridDim.x) * kThreads)
    to[i] = from[i];
}

__global__ void empty_kernel() {}

// Seconds of a graph of `nodes` empty kernels, one after the other.
double graph_seconds(int nodes) {
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < nodes; i++) empty_kernel<<<1, 32, 0, stream>>>();
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&executable, graph, 0), "graph");
  const double seconds = best_seconds([&] { check(cudaGraphLaunch(executable, nullptr), "graph"); });
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return seconds;
}

}  // namespace

int main() {
  cudaDeviceProp p;
  check(cudaGetDeviceProperties(&p, 0), "device");
  int runtime = 0, driver = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  float* out = nullptr;
  check(cudaMalloc(&out, sizeof(float)), "memory");
  const unsigned blocks = unsigned(p.multiProcessorCount) * 16;
  const double all_threads = double(blocks) * kThreads, warps = all_threads / 32;

  const double fma = best_seconds([&] { fma_kernel<<<blocks, kThreads>>>(0.999f, 1e-3f, out); });
  const double tf32 = best_seconds([&] { mma_kernel<false><<<blocks, kThreads>>>(out); });
  const double bf16 = best_seconds([&] { mma_kernel<true><<<blocks, kThreads>>>(out); });

  std::printf("{\n  \"device\": \"%s\",\n  \"compute_capability\": \"%d.%d\",\n", p.name, p.major, p.minor);
  std::printf("  \"multiprocessors\": %d,\n  \"runtime\": %d,\n  \"driver\": %d,\n", p.multiProcessorCount, runtime,
              driver);
  std::printf("  \"fma_flops\": %.4g,\n", all_threads * kChains * kFmaRounds * 2 / fma);
  std::printf("  \"mma_sync_tf32_flops\": %.4g,\n", warps * kTiles * kMmaRounds * (2.0 * 16 * 8 * 8) / tf32);
  std::printf("  \"mma_sync_bf16_flops\": %.4g,\n", warps * kTiles * kMmaRounds * (2.0 * 16 * 8 * 16) / bf16);

  // Bytes read and written per second; the smaller sizes stay in the L2 cache.
  std::printf("  \"copy_bytes_per_second\": {");
  const char* separator = "";
  for (const size_t megabytes : {8, 32, 256, 2048}) {
    const size_t bytes = megabytes << 20;
    void *from = nullptr, *to = nullptr;
    check(cudaMalloc(&from, bytes), "memory");
    check(cudaMalloc(&to, bytes), "memory");
    check(cudaMemset(from, 0, bytes), "memory");
    const double seconds = best_seconds([&] {
      copy_kernel<<<unsigned(p.multiProcessorCount) * 8, kThreads>>>(static_cast<const float4*>(from),
                                                                     static_cast<float4*>(to), bytes / sizeof(float4));
    });
    std::printf("%s\"%zu MiB\": %.4g", separator, megabytes, 2.0 * double(bytes) / seconds);
    separator = ", ";
    cudaFree(from);
    cudaFree(to);
  }
  std::printf("},\n");
  std::printf("  \"graph_node_seconds\": %.4g\n}\n", (graph_seconds(1100) - graph_seconds(100)) / 1000);
  return 0;
}

// What kernels are written with: the one header that differs between the GPU and the tests on the CPU.
//
// For nvcc it is CUDA with a few names. With CONVCORE_CUDA_HOST, tests/cuda_host/shim.h stands in for CUDA, and the
// same kernel sources compile with any C++ compiler and run thread by thread (docs/cuda.md).
//
// A kernel is a function marked CONVCORE_KERNEL, started by launch(). Its shared memory is dynamic: it makes one
// SharedMemory and takes arrays from it, the same ones in every thread. All 32 lanes take part in every warp function.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef CONVCORE_CUDA_HOST
#include "tests/cuda_host/shim.h"
#define CONVCORE_KERNEL(threads) static void
#define CONVCORE_KERNEL_OF(threads, blocks) static void
#define CONVCORE_DEVICE static inline
#define CONVCORE_UNROLL
#define CONVCORE_NO_UNROLL
#define __grid_constant__
#else
#include <cuda_runtime.h>
// At most this many threads per block: the compiler may use registers accordingly.
#define CONVCORE_KERNEL(threads) static __global__ void __launch_bounds__(threads, 1)
// The same with registers few enough for `blocks` blocks on a multiprocessor at once.
#define CONVCORE_KERNEL_OF(threads, blocks) static __global__ void __launch_bounds__(threads, blocks)
#define CONVCORE_DEVICE static __device__ __forceinline__
#define CONVCORE_UNROLL _Pragma("unroll")
#define CONVCORE_NO_UNROLL _Pragma("unroll 1")  // what is not worth the registers
#endif

namespace convcore::cuda {

constexpr unsigned kAllLanes = 0xFFFFFFFFu;
constexpr int kWarp = 32;

// ---- shared memory ------------------------------------------------------------------------------------------------

#ifdef CONVCORE_CUDA_HOST
class SharedMemory {
 public:
  template <typename T>
  T* array(int count) {
    return static_cast<T*>(cuda_host::shared_array(size_t(count) * sizeof(T)));
  }
};
#else
extern __shared__ __align__(16) unsigned char convcore_shared_bytes[];
class SharedMemory {
 public:
  template <typename T>
  __device__ __forceinline__ T* array(int count) {
    T* at = reinterpret_cast<T*>(convcore_shared_bytes + used_);
    used_ += (count * int(sizeof(T)) + 15) / 16 * 16;
    return at;
  }

 private:
  int used_ = 0;
};
#endif

// Bytes that an array of `count` takes, for the launch.
template <typename T>
constexpr size_t shared_bytes(int64_t count) {
  return (size_t(count) * sizeof(T) + 15) / 16 * 16;
}

// One, two or four floats of shared memory, at an address that is a multiple of their size; the tests count the bank
// conflicts.
CONVCORE_DEVICE float shared_load1(const float* at) {
#ifdef CONVCORE_CUDA_HOST
  cuda_host::note_shared_access(at, 4);
#endif
  return *at;
}
CONVCORE_DEVICE float2 shared_load2(const float* at) {
#ifdef CONVCORE_CUDA_HOST
  cuda_host::note_shared_access(at, 8);
#endif
  return *reinterpret_cast<const float2*>(at);
}
CONVCORE_DEVICE float4 shared_load4(const float* at) {
#ifdef CONVCORE_CUDA_HOST
  cuda_host::note_shared_access(at, 16);
#endif
  return *reinterpret_cast<const float4*>(at);
}

CONVCORE_DEVICE float4 load4(const float* at) { return *reinterpret_cast<const float4*>(at); }
// Past the first-level cache: for what other blocks of the same kernel have written.
CONVCORE_DEVICE float4 load4_of_others(const float* at) {
#ifdef CONVCORE_CUDA_HOST
  return load4(at);
#else
  return __ldcg(reinterpret_cast<const float4*>(at));
#endif
}
CONVCORE_DEVICE void store4(float* at, float4 v) { *reinterpret_cast<float4*>(at) = v; }

// ---- sums over the lanes of a warp and the threads of a block, in a fixed order -------------------------------------

template <typename T>
CONVCORE_DEVICE T warp_sum(T value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(kAllLanes, value, mask);
  return value;
}

CONVCORE_DEVICE float warp_max(float value) {  // NaN if any lane has one
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, value, mask);
    if (!(value >= other)) value = value != value ? value : other;
  }
  return value;
}

// The sum over all threads of a block of `kThreads`, the same in every thread. `scratch`: kThreads / 32 shared values,
// which nobody else uses.
template <int kThreads, typename T>
CONVCORE_DEVICE T block_sum(T value, T* scratch) {
  const int thread = int(threadIdx.x);
  value = warp_sum(value);
  if (thread % kWarp == 0) scratch[thread / kWarp] = value;
  __syncthreads();
  T sum = scratch[0];
  for (int warp = 1; warp < kThreads / kWarp; warp++) sum += scratch[warp];
  __syncthreads();  // before anybody writes the scratch again
  return sum;
}

// ---- launching ----------------------------------------------------------------------------------------------------

using Stream = cudaStream_t;

// What multiplies in the products of convolutions and dense layers (product.h). fp32 is exact float32 arithmetic,
// tf32x3 nearly so; tf32 and bf16 round the operands to 10 and 7 bits of mantissa. Sums are float32 in all of them.
enum class Precision { fp32, tf32, tf32x3, bf16 };
Precision precision();  // of this thread's next launches

// Memory for partial results is asked for by the user of it: two that are alive at once must not share a slot.
enum WorkspaceSlot { kSumsWorkspace, kAffineWorkspace, kWeightsWorkspace, kPartsWorkspace, kWorkspaceSlots };

// The stream that this thread's kernels go to, and memory for partial results, valid until the next workspace call on
// the same stream's kernels have run (kernels on one stream run in order). See runtime.cu.
Stream stream();
float* workspace(WorkspaceSlot slot, int64_t floats);
// The device that the tests emulate is told how much of a block is handed out: to read more, or what was there before,
// is an error that shows.
inline void note_handed_out([[maybe_unused]] void* block, [[maybe_unused]] int64_t used,
                            [[maybe_unused]] int64_t bytes) {
#ifdef CONVCORE_CUDA_HOST
  cuda_host::hand_out(block, used, bytes);
#endif
}
// Notes the error of a launch, for the caller of the op (Api::take_error). From then on nothing is launched until the
// error was taken: the kernels after it would work on what is not there.
void check_launch(const char* kernel);
bool launch_failed();

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared,
            Arguments... arguments) {
  if (launch_failed()) return;
#ifdef CONVCORE_CUDA_HOST
  cuda_host::launch(name, kernel, grid, dim3(unsigned(threads)), shared, arguments...);
#else
  // More than 48 KB has to be asked for, once per kernel; asking again costs little and is legal under capture.
  if (shared > 48 * 1024) cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
  // clang-format off
  kernel<<<grid, unsigned(threads), shared, stream()>>>(Parameters(arguments)...);
  // clang-format on
  check_launch(name);
#endif
}

// Blocks for `count` items, `per_block` each.
inline unsigned blocks_for(int64_t count, int64_t per_block) { return unsigned((count + per_block - 1) / per_block); }

// For loops over elements: enough blocks to fill a large GPU a few times, each thread taking many elements.
constexpr int kElementThreads = 256;
constexpr int64_t kElementBlocks = 132 * 8 * 4;
inline unsigned element_blocks(int64_t vectors) {
  const int64_t blocks = (vectors + kElementThreads - 1) / kElementThreads;
  return unsigned(blocks < 1 ? 1 : blocks > kElementBlocks ? kElementBlocks : blocks);
}

}  // namespace convcore::cuda

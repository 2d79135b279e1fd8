// CUDA kernels on the CPU, for tests: the part of CUDA C++ that csrc/cuda uses, as plain C++.
//
// The threads of a block run one at a time, each until it waits: at a barrier, or for the other lanes of its warp. So a
// kernel is debugged like any program, under AddressSanitizer too, and every order of its threads can be tried. What
// this finds and how: docs/cuda.md.
//
// This file is included by csrc/cuda/device.cuh in place of CUDA's own headers when CONVCORE_CUDA_HOST is defined.
// The scheduler (shim.cpp) is compiled without -fsanitize=thread, the kernels with it: the race detector must see the
// kernels' memory and nothing of the scheduler.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "runtime_api.h"

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

namespace convcore::cuda_host {

constexpr int kWarp = 32;
constexpr size_t kMaxShared = 99 * 1024;  // bytes a block can have on every GPU from compute capability 8.0 on

// ---- what the tests set and read ----------------------------------------------------------------------------------

enum class Order { forward, reverse, random };

struct Settings {
  Order order = Order::forward;  // in which blocks and threads take their turns
  uint64_t seed = 0;             // of Order::random
  bool count_bank_conflicts = false;
  bool device_pointers_only = false;  // an address of the host among a kernel's arguments is an error
};
Settings& settings();

struct Counts {  // since the last reset
  int64_t launches = 0, blocks = 0;
  int64_t shared_accesses = 0;  // of a warp, through shared_load4 and ldmatrix
  int64_t bank_conflicts = 0;   // extra turns that these take
};
Counts& counts();

// ---- what device.cuh uses -----------------------------------------------------------------------------------------

struct ThreadIndex {
  dim3 thread, block, block_size, grid_size;
};
extern ThreadIndex running;  // the thread of the grid that runs now

using Entry = void (*)(void* arguments);
// Runs the grid to its end. Throws std::logic_error when a kernel breaks the rules: a barrier that not all threads
// reach, a lane that is missing from its warp, more shared memory than was asked for.
void run(const char* name, dim3 grid, dim3 block, size_t shared_bytes, Entry entry, void* arguments);
// Throws where `settings` ask for it and an address of the host is in an argument of a kernel.
void expect_no_host_pointer(const char* kernel, const void* argument, size_t bytes);

// The next shared array of the running block: each thread asks for the same arrays in the same order. Filled with NaN,
// in a heap block of its own, so that AddressSanitizer sees every access beyond its end.
void* shared_array(size_t bytes);

void block_barrier();
void warp_barrier();

// Each lane of a warp leaves a value; when all have come, each gets all 32, in the order of the lanes. They stay until
// it waits again. No barrier: it orders no memory accesses.
const void* exchange(const void* value, size_t bytes);
template <typename T>
const T* exchange(const T& value) {
  return static_cast<const T*>(exchange(&value, sizeof value));
}

// cp.async: the copy is made when the thread waits for its group, and the destination holds NaN until then.
// `bytes` of `size` are copied, the others become zero.
void async_copy(void* shared, const void* global, int size, int bytes);
void async_commit();
using Copy = void (*)(void* shared, const void* global, int size, int bytes);
void async_wait(int groups_left, Copy copy);
// What async_wait makes the copies with: compiled with the kernels, so that the race detector sees it.
inline void copy_now(void* shared, const void* global, int size, int bytes) {
  auto* to = static_cast<unsigned char*>(shared);
  const auto* from = static_cast<const unsigned char*>(global);
  for (int i = 0; i < size; i++) to[i] = i < bytes ? from[i] : 0;
}

// A fence of the running thread, and what comes before an arrival (atomicAdd): it must have been fenced, since only
// then do other blocks see what was stored before. To the race detector, a thread that fences after its arrival is
// after what those did who had arrived before.
void fence();
void before_arrival(void* at);

// Notes an access of the running lane to shared memory, for the count of bank conflicts.
void note_shared_access(const void* address, int bytes);

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            Arguments&&... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  } call{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)};
  std::apply([&](const auto&... a) { (expect_no_host_pointer(name, &a, sizeof a), ...); }, call.arguments);
  submit(
      [=]() mutable {
        run(
            name, grid, block, shared_bytes,
            [](void* c) { std::apply(static_cast<Call*>(c)->kernel, static_cast<Call*>(c)->arguments); }, &call);
      },
      cudaGraphNodeTypeKernel);
}

}  // namespace convcore::cuda_host

// ---- CUDA's names -------------------------------------------------------------------------------------------------

#define threadIdx (static_cast<const dim3&>(::convcore::cuda_host::running.thread))
#define blockIdx (static_cast<const dim3&>(::convcore::cuda_host::running.block))
#define blockDim (static_cast<const dim3&>(::convcore::cuda_host::running.block_size))
#define gridDim (static_cast<const dim3&>(::convcore::cuda_host::running.grid_size))
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict

inline void __syncthreads() { ::convcore::cuda_host::block_barrier(); }
inline void __syncwarp() { ::convcore::cuda_host::warp_barrier(); }

inline void __threadfence() { ::convcore::cuda_host::fence(); }
inline unsigned atomicAdd(unsigned* at, unsigned value) {
  ::convcore::cuda_host::before_arrival(at);
  // A release, since the fence has come before: the detector then knows that this arrival was before what follows the
  // last one, setting the counter back included.
  return __atomic_fetch_add(at, value, __ATOMIC_RELEASE);
}

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return ::convcore::cuda_host::exchange(value)[(threadIdx.x % 32) ^ unsigned(mask)];
}
template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
  return ::convcore::cuda_host::exchange(value)[lane % 32];
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  const int* all = ::convcore::cuda_host::exchange(predicate);
  unsigned bits = 0;
  for (int lane = 0; lane < 32; lane++) bits |= unsigned(all[lane] != 0) << lane;
  return bits;
}

inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline void sincospif(float x, float* sine, float* cosine) {
  const double angle = 3.14159265358979323846 * double(x);
  *sine = float(std::sin(angle)), *cosine = float(std::cos(angle));
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
template <typename T>
T __ldg(const T* p) {
  return *p;
}

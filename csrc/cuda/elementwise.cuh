// Loops over elements. Grid: enough blocks for four elements per thread, at most kElementBlocks; a thread takes groups
// of four neighbouring elements, a grid apart, as 16-byte accesses where all arrays are aligned to that. Bytes: each
// array once. These run at the speed of the memory.
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

constexpr int kMostArrays = 4;

// The arrays of an elementwise function: kIn that are read, kOut that are written. An output may be an input.
template <int kIn, int kOut>
struct ElementArrays {
  const float* in[kIn];
  float* out[kOut];  // null: not wanted
};

namespace detail {

template <int kIn, int kOut>
CONVCORE_DEVICE bool aligned16(const ElementArrays<kIn, kOut>& arrays) {
  uintptr_t bits = 0;
  CONVCORE_UNROLL
  for (int i = 0; i < kIn; i++) bits |= reinterpret_cast<uintptr_t>(arrays.in[i]);
  CONVCORE_UNROLL
  for (int i = 0; i < kOut; i++) bits |= reinterpret_cast<uintptr_t>(arrays.out[i]);
  return bits % 16 == 0;
}

// function(position, in[kIn], out[kOut]) for every position below `count`.
template <int kIn, int kOut, typename Function>
CONVCORE_KERNEL(kElementThreads)
elements(int64_t count, ElementArrays<kIn, kOut> arrays, Function function) {
  const int64_t thread = int64_t(blockIdx.x) * kElementThreads + threadIdx.x;
  const int64_t threads = int64_t(gridDim.x) * kElementThreads;
  const int64_t vectors = aligned16(arrays) ? count / 4 : 0;
  for (int64_t v = thread; v < vectors; v += threads) {
    float4 in[kIn], out[kOut];
    CONVCORE_UNROLL
    for (int i = 0; i < kIn; i++) in[i] = load4(arrays.in[i] + 4 * v);
    const auto one = [&](int64_t position, auto member) {
      float a[kIn], y[kOut];
      CONVCORE_UNROLL
      for (int i = 0; i < kIn; i++) a[i] = in[i].*member;
      function(position, a, y);
      CONVCORE_UNROLL
      for (int i = 0; i < kOut; i++) out[i].*member = y[i];
    };
    one(4 * v, &float4::x);
    one(4 * v + 1, &float4::y);
    one(4 * v + 2, &float4::z);
    one(4 * v + 3, &float4::w);
    CONVCORE_UNROLL
    for (int i = 0; i < kOut; i++)
      if (arrays.out[i]) store4(arrays.out[i] + 4 * v, out[i]);
  }
  for (int64_t i = 4 * vectors + thread; i < count; i += threads) {
    float in[kIn], out[kOut];
    CONVCORE_UNROLL
    for (int a = 0; a < kIn; a++) in[a] = arrays.in[a][i];
    function(i, in, out);
    CONVCORE_UNROLL
    for (int o = 0; o < kOut; o++)
      if (arrays.out[o]) arrays.out[o][i] = out[o];
  }
}

// function(position) for every position below `count`, one thread each.
template <typename Function>
CONVCORE_KERNEL(kElementThreads)
positions(int64_t count, Function function) {
  for (int64_t i = int64_t(blockIdx.x) * kElementThreads + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * kElementThreads)
    function(i);
}

}  // namespace detail

template <int kIn, int kOut, typename Function>
void for_elements(const char* name, int64_t count, const ElementArrays<kIn, kOut>& arrays, Function function) {
  if (count == 0) return;
  launch(name, detail::elements<kIn, kOut, Function>, dim3(element_blocks((count + 3) / 4)), kElementThreads, 0, count,
         arrays, function);
}

template <typename Function>
void for_positions(const char* name, int64_t count, Function function) {
  if (count == 0) return;
  launch(name, detail::positions<Function>, dim3(element_blocks(count)), kElementThreads, 0, count, function);
}

}  // namespace convcore::cuda

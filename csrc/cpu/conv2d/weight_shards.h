// What the weight gradients on channels-last data share: the partial gradients of shards, and their sum.
#pragma once
#include <cstdint>

#include "cpu/vec.h"
#include "ops/conv2d.h"

namespace convcore::cpu::CONVCORE_ISA {

CONVCORE_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
CONVCORE_INLINE int64_t whole_vectors(int64_t channels) { return ceil_div(channels, kLanes) * kLanes; }

// Partial gradients (shard, tap, c, k): output channels innermost, where the kernels have their lanes, and padded to
// whole vectors.
struct WeightParts {
  float* data;
  int64_t shards, taps, c_in, c_out;
  int64_t stride = part();  // floats from one shard to the next
  int64_t row() const { return whole_vectors(c_out); }
  int64_t part() const { return taps * c_in * row(); }
  float* at(int64_t shard, int64_t tap, int64_t c) const { return data + shard * stride + (tap * c_in + c) * row(); }
};

// dw (OIHW) = the sum over the shards, in their order.
void sum_weight_parts(const WeightParts&, float* dw);

// Rows (input channels) of a register tile of `vecs` vectors of output channels: enough sums in flight, few loads per
// FMA, and a divisor of kLanes, so that padded channels need no other tiles. 16 x 1 of 17 loads for 16 FMAs, 8 x 2 of
// 10 for 16, 8 x 3 of 11 for 24, 4 x 4 of 8 for 16; with 16 registers 8 x 1, 4 x 2 and 4 x 3.
constexpr int kMaxWeightVecs = kRegisters >= 32 ? 4 : 3;
constexpr int weight_rows(int vecs) {
  const int rows = kRegisters >= 32 ? (vecs == 1 ? 16 : vecs == 4 ? 4 : 8) : (vecs == 1 ? 8 : 4);
  return rows < kLanes ? rows : kLanes;
}

// Calls f(Const<vecs>) for the next tile of `left` vectors and returns how many that are.
template <int N>
struct Vecs {
  static constexpr int value = N;
};
template <typename F>
CONVCORE_INLINE int64_t with_weight_vecs(int64_t left, const F& f) {
  const int64_t tiles = ceil_div(left, kMaxWeightVecs), vecs = ceil_div(left, tiles);
  if (kMaxWeightVecs >= 4 && vecs == 4)
    f(Vecs<kMaxWeightVecs>{});
  else if (vecs == 3)
    f(Vecs<3>{});
  else if (vecs == 2)
    f(Vecs<2>{});
  else
    f(Vecs<1>{});
  return vecs;
}

}  // namespace convcore::cpu::CONVCORE_ISA

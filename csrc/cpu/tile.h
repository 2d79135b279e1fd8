// The register tile that matrix products and convolutions share.
//
//   acc[r][v] += sum_t a(r, t) * b_row(t)[v * kLanes + lane]
//
// kTileRows x kTileVecs accumulators stay in registers over the whole sum. Per step: kTileVecs vector loads of b and
// kTileRows broadcasts of a feed kTileRows * kTileVecs FMAs, 10 loads for 24 FMAs with 32 registers (24 sums, 4 vectors
// of b, 1 broadcast = 29) and 8 for 12 with 16 registers (12 + 2 + 1 = 15).
#pragma once
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

constexpr int kTileRows = 6;
constexpr int kTileVecs = kRegisters >= 32 ? 4 : 2;

template <int R, int V>
struct Tile {
  Vec acc[R][V];

  inline __attribute__((always_inline)) void fill(const float* per_row) {  // acc[r][*] = per_row[r], or 0 when null
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) acc[r][v] = per_row ? splat(per_row[r]) : Vec{};
  }

  // acc[r][v] += sum_t a(r, t) * b_row(t)[v]. b_row(t): at least V * kLanes readable floats.
  template <typename A, typename BRow>
  inline __attribute__((always_inline)) void multiply_add(int64_t steps, const A& a, const BRow& b_row) {
    for (int64_t t = 0; t < steps; t++) {
      const float* row = b_row(t);
      Vec b[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) b[v] = load(row + v * kLanes);
#pragma GCC unroll 32
      for (int r = 0; r < R; r++) {
        const Vec ar = splat(a(r, t));
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) acc[r][v] += ar * b[v];
      }
    }
  }
};

// with_count<Most>(count, f) calls f(Const<count>{}): a run-time number from 1 to Most becomes a compile-time one.
template <int N>
struct Const {
  static constexpr int value = N;
};

template <int Most, typename F>
CONVCORE_INLINE void with_count(int64_t count, const F& f) {
  if constexpr (Most > 1)
    if (count < Most) return with_count<Most - 1>(count, f);
  f(Const<Most>{});
}

// How many rows the next tile takes so that `left` rows are cut evenly: 16 -> 6, 5, 5 and not 6, 6, 4.
CONVCORE_INLINE int64_t next_tile(int64_t left, int64_t most) {
  const int64_t tiles = (left + most - 1) / most;
  return (left + tiles - 1) / tiles;
}

}  // namespace convcore::cpu::CONVCORE_ISA

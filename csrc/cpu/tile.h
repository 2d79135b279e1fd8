// The register tile that matrix products and convolutions share.
//
//   acc[r][v] += sum_t  a[r * a_row + t * a_step] * b_row(t)[v * kLanes + lane]
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
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) acc[r][v] = per_row ? splat(per_row[r]) : Vec{};
  }

  // b_row(t): the row of b for step t, at least V * kLanes readable floats.
  template <typename BRow>
  inline __attribute__((always_inline)) void multiply_add(const float* a, int64_t a_row, int64_t a_step, int64_t steps,
                                                          const BRow& b_row) {
    for (int64_t t = 0; t < steps; t++) {
      const float* row = b_row(t);
      Vec b[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) b[v] = load(row + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        const Vec ar = splat(a[r * a_row + t * a_step]);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) acc[r][v] += ar * b[v];
      }
    }
  }
};

// Calls f(std::integral_constant-like tag) with the run-time number of rows or vectors as a compile-time one.
template <int N>
struct Const {
  static constexpr int value = N;
};

template <typename F>
CONVCORE_INLINE void with_rows(int64_t rows, const F& f) {
  static_assert(kTileRows == 6, "list every number of rows");
  switch (rows) {
    case 1:
      return f(Const<1>{});
    case 2:
      return f(Const<2>{});
    case 3:
      return f(Const<3>{});
    case 4:
      return f(Const<4>{});
    case 5:
      return f(Const<5>{});
    default:
      return f(Const<6>{});
  }
}

template <typename F>
CONVCORE_INLINE void with_vecs(int64_t vecs, const F& f) {
  if constexpr (kTileVecs >= 4) {
    if (vecs == 4) return f(Const<4>{});
    if (vecs == 3) return f(Const<3>{});
  }
  if (vecs == 2) return f(Const<2>{});
  return f(Const<1>{});
}

// How many rows the next tile takes so that `left` rows are cut evenly: 16 -> 6, 5, 5 and not 6, 6, 4.
CONVCORE_INLINE int64_t next_tile(int64_t left, int64_t most) {
  const int64_t tiles = (left + most - 1) / most;
  return (left + tiles - 1) / tiles;
}

}  // namespace convcore::cpu::CONVCORE_ISA

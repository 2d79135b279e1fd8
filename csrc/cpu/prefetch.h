// Prefetching for the kernels that compute for long: see core/ahead.h.
#pragma once
#include "core/ahead.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

// Brings the next `lines` cache lines of what the thread will touch into L2.
CONVCORE_INLINE void fetch_ahead(Ahead& a, int64_t lines) {
  for (; lines > 0 && a.count > 0; lines--) {
    Ahead::Range& range = a.ranges[a.count - 1];
    __builtin_prefetch(range.at, 0, 2);
    range.at += 64;
    if (range.at >= range.end) a.count--;
  }
}

// Lines to fetch beside `fmas` vector multiply-adds: a core gets one from memory in about the time of this many.
constexpr int64_t kFmasPerLine = 40;
CONVCORE_INLINE int64_t lines_beside(int64_t fmas) { return fmas / kFmasPerLine + 1; }

}  // namespace convcore::cpu::CONVCORE_ISA

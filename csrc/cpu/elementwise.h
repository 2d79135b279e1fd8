// Loops over contiguous floats, one vector at a time.
//
// A last vector that is not whole goes through the same arithmetic as all others: only its load and its store are
// partial. There is one copy of the arithmetic in the machine code, so the bits of an element cannot depend on where it
// lies.
#pragma once
#include "core/threads.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

CONVCORE_INLINE Vec load_lanes(const float* p, int64_t lanes) {
  return lanes == kLanes ? load(p) : load_partial(p, lanes);
}
CONVCORE_INLINE void store_lanes(float* p, Vec v, int64_t lanes) {
  if (lanes == kLanes)
    store(p, v);
  else
    store_partial(p, v, lanes);
}

// One of V vectors that are gone through together: when there are several, all are whole.
template <int V>
CONVCORE_INLINE Vec load_tile(const float* p, int64_t lanes) {
  return V > 1 ? load(p) : load_lanes(p, lanes);
}
template <int V>
CONVCORE_INLINE void store_tile(float* p, Vec v, int64_t lanes) {
  V > 1 ? store(p, v) : store_lanes(p, v, lanes);
}

// True in the first `lanes` lanes.
CONVCORE_INLINE IntVec lanes_below(int64_t lanes) { return lane_numbers() < splat_int(int32_t(lanes)); }

// body(i, lanes) for i = 0, kLanes, 2 kLanes, ... < count, on the calling thread.
template <typename F>
CONVCORE_INLINE void for_each_vector(int64_t count, const F& body) {
  for (int64_t i = 0; i < count; i += kLanes) body(i, min_of<int64_t>(kLanes, count - i));
}

// The same in parallel; `work` is the cost of one element in elementary operations.
template <typename F>
CONVCORE_INLINE void parallel_for_each_vector(int64_t count, int64_t work, const F& body) {
  const int64_t vectors = count / kLanes + (count % kLanes != 0);
  parallel_for(vectors, work * kLanes, [&](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; v++) body(v * kLanes, min_of<int64_t>(kLanes, count - v * kLanes));
  });
}

// The largest of `count` numbers; a NaN may or may not win, -inf when there are none.
static inline float max_of_row(const float* x, int64_t count) {
  const Vec lowest = splat(-__builtin_inff());
  Vec high = lowest;
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    const Vec v = select(lanes_below(lanes), load_lanes(x + i, lanes), lowest);
    high = select(v > high, v, high);
  });
  float lane[kLanes];
  memcpy(lane, &high, sizeof high);
  float best = lane[0];
  for (int j = 1; j < kLanes; j++) best = max_of(best, lane[j]);
  return best;
}

}  // namespace convcore::cpu::CONVCORE_ISA

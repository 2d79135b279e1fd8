// A thin wrapper over the compiler's vector extensions: one register of floats, as wide as the instruction set has.
//
// Included by kernel sources only. Everything lives in the namespace of the instruction set, so that no two
// compilations of the same source share a function; for the same reason kernel sources use no <algorithm> or <vector>.
//
// FMA: write `acc += a * b` on whole vectors; -ffp-contract=fast makes it one instruction where there is one.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#define CONVCORE_INLINE static inline __attribute__((always_inline))

namespace convcore::cpu::CONVCORE_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRegisters = 32;
#else
constexpr int kLanes = 4, kRegisters = 16;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));  // also the masks: lanes of 0 or -1
typedef float VecUnaligned __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int32_t IntVecUnaligned __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

CONVCORE_INLINE Vec load(const float* p) { return *reinterpret_cast<const VecUnaligned*>(p); }
CONVCORE_INLINE void store(float* p, Vec v) { *reinterpret_cast<VecUnaligned*>(p) = v; }
CONVCORE_INLINE IntVec load_int(const int32_t* p) { return *reinterpret_cast<const IntVecUnaligned*>(p); }
CONVCORE_INLINE void store_int(int32_t* p, IntVec v) { *reinterpret_cast<IntVecUnaligned*>(p) = v; }
CONVCORE_INLINE Vec splat(float s) { return s - Vec{}; }
CONVCORE_INLINE IntVec splat_int(int32_t s) { return s - IntVec{}; }

// The first `count` lanes (0 <= count <= kLanes); lanes past them load as zero and are not stored.
#if defined(__AVX512F__)
CONVCORE_INLINE __mmask16 first_lanes(int64_t count) { return __mmask16((1u << count) - 1u); }
CONVCORE_INLINE Vec load_partial(const float* p, int64_t count) {
  return (Vec)_mm512_maskz_loadu_ps(first_lanes(count), p);
}
CONVCORE_INLINE void store_partial(float* p, Vec v, int64_t count) {
  _mm512_mask_storeu_ps(p, first_lanes(count), (__m512)v);
}
#elif defined(__AVX2__)
CONVCORE_INLINE __m256i first_lanes(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
CONVCORE_INLINE Vec load_partial(const float* p, int64_t count) {
  return (Vec)_mm256_maskload_ps(p, first_lanes(count));
}
CONVCORE_INLINE void store_partial(float* p, Vec v, int64_t count) {
  _mm256_maskstore_ps(p, first_lanes(count), (__m256)v);
}
#else
CONVCORE_INLINE Vec load_partial(const float* p, int64_t count) {
  Vec v{};
  for (int64_t i = 0; i < count; i++) v[i] = p[i];
  return v;
}
CONVCORE_INLINE void store_partial(float* p, Vec v, int64_t count) {
  for (int64_t i = 0; i < count; i++) p[i] = v[i];
}
#endif

CONVCORE_INLINE Vec select(IntVec mask, Vec yes, Vec no) { return mask ? yes : no; }
CONVCORE_INLINE IntVec select_int(IntVec mask, IntVec yes, IntVec no) { return mask ? yes : no; }

// Sum of the lanes, always in the same order: halves are added until one lane is left.
CONVCORE_INLINE float sum(Vec v) {
  float lanes[kLanes];
  memcpy(lanes, &v, sizeof v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}

// Halving step of `sums`: adds the two halves of every segment of 2 * half lanes in the 2 * kLanes lanes of a and b.
#if defined(__AVX2__) || defined(__AVX512F__)
struct FoldLanes {
  int32_t first[kLanes], second[kLanes];
};
constexpr FoldLanes fold_lanes(int half) {
  FoldLanes lanes{};
  for (int l = 0, i = 0; l < 2 * kLanes; l++)
    if (l % (2 * half) < half) {
      lanes.first[i] = l;
      lanes.second[i++] = l + half;
    }
  return lanes;
}
template <int half>
CONVCORE_INLINE Vec fold(Vec a, Vec b) {
  static constexpr FoldLanes lanes = fold_lanes(half);
  return __builtin_shuffle(a, b, load_int(lanes.first)) + __builtin_shuffle(a, b, load_int(lanes.second));
}
#else
template <int half>
CONVCORE_INLINE Vec fold(Vec a, Vec b) {
  if constexpr (half == 2) return __builtin_shuffle(a, b, IntVec{0, 1, 4, 5}) + __builtin_shuffle(a, b, IntVec{2, 3, 6, 7});
  return __builtin_shuffle(a, b, IntVec{0, 2, 4, 6}) + __builtin_shuffle(a, b, IntVec{1, 3, 5, 7});
}
#endif

// Lane i of the result is the sum of the lanes of v[i]: kLanes sums for about 3 instructions each. v is used up.
CONVCORE_INLINE Vec sums(Vec (&v)[kLanes]) {
  if constexpr (kLanes >= 16) {
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; i++) v[i] = fold<kLanes / 2>(v[2 * i], v[2 * i + 1]);
  }
  constexpr int eighth = kLanes >= 16 ? 8 : kLanes;  // vectors left
  if constexpr (kLanes >= 8) {
#pragma GCC unroll 8
    for (int i = 0; i < eighth / 2; i++) v[i] = fold<4>(v[2 * i], v[2 * i + 1]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 2; i++) v[i] = fold<2>(v[2 * i], v[2 * i + 1]);
  return fold<1>(v[0], v[1]);
}

// <algorithm> is not for kernel sources (see above).
template <typename T>
CONVCORE_INLINE T min_of(T a, T b) { return b < a ? b : a; }
template <typename T>
CONVCORE_INLINE T max_of(T a, T b) { return a < b ? b : a; }

}  // namespace convcore::cpu::CONVCORE_ISA

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

// maskz, here and elsewhere: GCC warns about an uninitialised variable inside the plain 512-bit intrinsics.
CONVCORE_INLINE Vec square_root(Vec v) {
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_sqrt_ps(0xffff, (__m512)v);
#elif defined(__AVX2__)
  return (Vec)_mm256_sqrt_ps((__m256)v);
#else
  Vec root;
  for (int i = 0; i < kLanes; i++) root[i] = __builtin_sqrtf(v[i]);
  return root;
#endif
}

// <algorithm> is not for kernel sources (see above).
template <typename T>
CONVCORE_INLINE T min_of(T a, T b) { return b < a ? b : a; }
template <typename T>
CONVCORE_INLINE T max_of(T a, T b) { return a < b ? b : a; }

}  // namespace convcore::cpu::CONVCORE_ISA

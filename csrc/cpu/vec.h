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
#elif defined(__aarch64__)
#include <arm_neon.h>
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

// Holds v in a register: a value that is used twice would otherwise be loaded for each use.
CONVCORE_INLINE void keep(Vec& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__SSE2__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}

// The first `count` lanes (0 <= count <= kLanes); lanes past them load as zero and are not stored. AddressSanitizer
// does not see masked instructions, so it gets the loops.
#if defined(__AVX512F__) && !defined(__SANITIZE_ADDRESS__)
CONVCORE_INLINE __mmask16 first_lanes(int64_t count) { return __mmask16((1u << count) - 1u); }
CONVCORE_INLINE Vec load_partial(const float* p, int64_t count) {
  return (Vec)_mm512_maskz_loadu_ps(first_lanes(count), p);
}
CONVCORE_INLINE void store_partial(float* p, Vec v, int64_t count) {
  _mm512_mask_storeu_ps(p, first_lanes(count), (__m512)v);
}
CONVCORE_INLINE IntVec load_int_partial(const int32_t* p, int64_t count) {
  return (IntVec)_mm512_maskz_loadu_epi32(first_lanes(count), p);
}
CONVCORE_INLINE void store_int_partial(int32_t* p, IntVec v, int64_t count) {
  _mm512_mask_storeu_epi32(p, first_lanes(count), (__m512i)v);
}
#elif defined(__AVX2__) && !defined(__SANITIZE_ADDRESS__)
CONVCORE_INLINE __m256i first_lanes(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
CONVCORE_INLINE Vec load_partial(const float* p, int64_t count) {
  return (Vec)_mm256_maskload_ps(p, first_lanes(count));
}
CONVCORE_INLINE void store_partial(float* p, Vec v, int64_t count) {
  _mm256_maskstore_ps(p, first_lanes(count), (__m256)v);
}
CONVCORE_INLINE IntVec load_int_partial(const int32_t* p, int64_t count) {
  return (IntVec)_mm256_maskload_epi32(p, first_lanes(count));
}
CONVCORE_INLINE void store_int_partial(int32_t* p, IntVec v, int64_t count) {
  _mm256_maskstore_epi32(p, first_lanes(count), (__m256i)v);
}
#elif !defined(__SANITIZE_ADDRESS__)  // 4 lanes; as conditions, because loops would go through the stack
CONVCORE_INLINE Vec load_partial(const float* p, int64_t count) {
  if (count >= kLanes) return load(p);
  return Vec{count > 0 ? p[0] : 0, count > 1 ? p[1] : 0, count > 2 ? p[2] : 0, 0};
}
CONVCORE_INLINE void store_partial(float* p, Vec v, int64_t count) {
  if (count >= kLanes) return store(p, v);
  if (count > 0) p[0] = v[0];
  if (count > 1) p[1] = v[1];
  if (count > 2) p[2] = v[2];
}
CONVCORE_INLINE IntVec load_int_partial(const int32_t* p, int64_t count) {
  if (count >= kLanes) return load_int(p);
  return IntVec{count > 0 ? p[0] : 0, count > 1 ? p[1] : 0, count > 2 ? p[2] : 0, 0};
}
CONVCORE_INLINE void store_int_partial(int32_t* p, IntVec v, int64_t count) {
  if (count >= kLanes) return store_int(p, v);
  if (count > 0) p[0] = v[0];
  if (count > 1) p[1] = v[1];
  if (count > 2) p[2] = v[2];
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
CONVCORE_INLINE IntVec load_int_partial(const int32_t* p, int64_t count) {
  IntVec v{};
  for (int64_t i = 0; i < count; i++) v[i] = p[i];
  return v;
}
CONVCORE_INLINE void store_int_partial(int32_t* p, IntVec v, int64_t count) {
  for (int64_t i = 0; i < count; i++) p[i] = v[i];
}
#endif

// Lanes first .. last - 1 (0 <= first <= last <= kLanes); the others are zero and not read.
CONVCORE_INLINE Vec load_between(const float* p, int64_t first, int64_t last) {
#if defined(__AVX512F__) && !defined(__SANITIZE_ADDRESS__)
  return (Vec)_mm512_maskz_loadu_ps(first_lanes(last) & ~first_lanes(first), p);
#elif defined(__AVX2__) && !defined(__SANITIZE_ADDRESS__)
  return (Vec)_mm256_maskload_ps(p, _mm256_andnot_si256(first_lanes(first), first_lanes(last)));
#else
  float lanes[kLanes] = {};
  for (int64_t i = first; i < last; i++) lanes[i] = p[i];
  return load(lanes);
#endif
}

CONVCORE_INLINE Vec select(IntVec mask, Vec yes, Vec no) { return mask ? yes : no; }
CONVCORE_INLINE IntVec select_int(IntVec mask, IntVec yes, IntVec no) { return mask ? yes : no; }

// One truth per lane in the form that the machine compares into: a bit each (AVX-512), else lanes of 0 or -1.
// `mask_bits` and `mask_of_bits` turn it into a number, lane l at bit l, and back.
#if defined(__AVX512F__)
typedef __mmask16 LaneMask;
CONVCORE_INLINE LaneMask greater(Vec a, Vec b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ); }
CONVCORE_INLINE LaneMask at_most(Vec a, Vec b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LE_OQ); }
CONVCORE_INLINE LaneMask is_nan(Vec a) { return _mm512_cmp_ps_mask((__m512)a, (__m512)a, _CMP_UNORD_Q); }
CONVCORE_INLINE LaneMask are_numbers(LaneMask among, Vec a, Vec b) {
  return _mm512_mask_cmp_ps_mask(among, (__m512)a, (__m512)b, _CMP_ORD_Q);
}
CONVCORE_INLINE Vec select(LaneMask mask, Vec yes, Vec no) {
  return (Vec)_mm512_mask_blend_ps(mask, (__m512)no, (__m512)yes);
}
CONVCORE_INLINE IntVec select_int(LaneMask mask, IntVec yes, IntVec no) {
  return (IntVec)_mm512_mask_blend_epi32(mask, (__m512i)no, (__m512i)yes);
}
CONVCORE_INLINE uint16_t mask_bits(LaneMask mask) { return mask; }
CONVCORE_INLINE LaneMask mask_of_bits(uint16_t bits) { return bits; }
#else
typedef IntVec LaneMask;
CONVCORE_INLINE LaneMask greater(Vec a, Vec b) { return a > b; }
CONVCORE_INLINE LaneMask at_most(Vec a, Vec b) { return a <= b; }
CONVCORE_INLINE LaneMask is_nan(Vec a) { return a != a; }
CONVCORE_INLINE LaneMask are_numbers(LaneMask among, Vec a, Vec b) { return among & (a == a) & (b == b); }
CONVCORE_INLINE uint16_t mask_bits(LaneMask mask) {
#if defined(__AVX2__)
  return uint16_t(_mm256_movemask_ps((__m256)mask));
#else
  int bits = 0;
  for (int l = 0; l < kLanes; l++) bits |= mask[l] & (1 << l);
  return uint16_t(bits);
#endif
}
CONVCORE_INLINE LaneMask mask_of_bits(uint16_t bits) {
  IntVec bit_of_lane;
  for (int l = 0; l < kLanes; l++) bit_of_lane[l] = 1 << l;
  return (splat_int(bits) & bit_of_lane) != IntVec{};
}
#endif

// The larger of two numbers (b where one is NaN).
CONVCORE_INLINE Vec larger(Vec a, Vec b) {
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return select(a > b, a, b);
#endif
}

// The lanes begin .. end - 1, for any begin and end.
CONVCORE_INLINE LaneMask lanes_between(int64_t begin, int64_t end) {
  const int64_t from = begin < 0 ? 0 : begin > kLanes ? kLanes : begin;
  const int64_t to = end < from ? from : end > kLanes ? kLanes : end;
  return mask_of_bits(uint16_t((1u << to) - (1u << from)));
}

// Lane l from p[l] where the mask is set, else zero. p itself may lie outside of what is allocated.
CONVCORE_INLINE Vec load_where(LaneMask mask, const float* p) {
#if defined(__AVX512F__) && !defined(__SANITIZE_ADDRESS__)
  return (Vec)_mm512_maskz_loadu_ps(mask, p);
#elif defined(__AVX2__) && !defined(__AVX512F__) && !defined(__SANITIZE_ADDRESS__)
  return (Vec)_mm256_maskload_ps(p, (__m256i)mask);
#else
  const int bits = mask_bits(mask);
  Vec v{};
  for (int l = 0; l < kLanes; l++)
    if (bits >> l & 1) v[l] = p[l];
  return v;
#endif
}

// Shuffles of the lanes of two vectors, a's numbered from 0 and b's from kLanes.
#if defined(__clang__)
#define CONVCORE_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define CONVCORE_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, IntVec{__VA_ARGS__})
#endif
#if defined(__AVX512F__)
#define CONVCORE_LANES 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define CONVCORE_EVEN_LANES 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define CONVCORE_ODD_LANES 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define CONVCORE_EVEN_THEN_ODD_LANES 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31
#define CONVCORE_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define CONVCORE_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define CONVCORE_LANES 0, 1, 2, 3, 4, 5, 6, 7
#define CONVCORE_EVEN_LANES 0, 2, 4, 6, 8, 10, 12, 14
#define CONVCORE_ODD_LANES 1, 3, 5, 7, 9, 11, 13, 15
#define CONVCORE_EVEN_THEN_ODD_LANES 0, 2, 4, 6, 9, 11, 13, 15
#define CONVCORE_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define CONVCORE_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define CONVCORE_LANES 0, 1, 2, 3
#define CONVCORE_EVEN_LANES 0, 2, 4, 6
#define CONVCORE_ODD_LANES 1, 3, 5, 7
#define CONVCORE_EVEN_THEN_ODD_LANES 0, 2, 5, 7
#define CONVCORE_ZIP_LOW 0, 4, 1, 5
#define CONVCORE_ZIP_HIGH 2, 6, 3, 7
#endif

CONVCORE_INLINE IntVec lane_numbers() { return IntVec{CONVCORE_LANES}; }

// The lanes in the opposite order.
CONVCORE_INLINE Vec reversed(Vec v) { return __builtin_shuffle(v, (kLanes - 1) - lane_numbers()); }

// kLanes bytes as floats from 0 to 255.
CONVCORE_INLINE Vec load_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return __builtin_convertvector((IntVec)_mm512_maskz_cvtepu8_epi32(0xffff, bytes), Vec);
#elif defined(__AVX2__)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return __builtin_convertvector((IntVec)_mm256_cvtepu8_epi32(bytes), Vec);
#else
  return Vec{float(p[0]), float(p[1]), float(p[2]), float(p[3])};
#endif
}

// The nearest whole numbers from 0 to 255 of kLanes floats, as bytes; halves go to the even one, NaN to any.
CONVCORE_INLINE void store_bytes(uint8_t* p, Vec v) {
  v = select(v > Vec{}, v, Vec{});
  v = select(v < splat(255.0f), v, splat(255.0f));
  const Vec shifted = v + splat(8388608.0f);  // 2^23: no bits are left for fractions
  const IntVec bytes = (IntVec)shifted & 0xff;
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)bytes));
#else
  for (int l = 0; l < kLanes; l++) p[l] = uint8_t(bytes[l]);
#endif
}

// Lane l is p[index[l]].
CONVCORE_INLINE Vec gather(const float* p, IntVec index) {
#if defined(__AVX512F__) && !defined(__SANITIZE_ADDRESS__)
  return (Vec)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, (__m512i)index, p, 4);
#elif defined(__AVX2__) && !defined(__SANITIZE_ADDRESS__)
  const __m256 all = (__m256)_mm256_set1_epi32(-1);
  return (Vec)_mm256_mask_i32gather_ps(_mm256_setzero_ps(), p, (__m256i)index, all, 4);
#else
  Vec v;
  for (int l = 0; l < kLanes; l++) v[l] = p[index[l]];
  return v;
#endif
}

// The largest whole numbers that are not above, for |v| < 2^31.
CONVCORE_INLINE Vec floor(Vec v) {
  const Vec cut = __builtin_convertvector(__builtin_convertvector(v, IntVec), Vec);
  return select(cut > v, cut - 1.0f, cut);
}

// p[0], p[2], p[4], ... for the first `count` lanes (1 <= count <= kLanes); reads up to p[2 * count - 2] and no
// further.
CONVCORE_INLINE Vec load_every_second(const float* p, int64_t count) {
  if (count == kLanes) {
    const Vec low = load(p), high = load(p + kLanes - 1);
    return CONVCORE_SHUFFLE(low, high, CONVCORE_EVEN_THEN_ODD_LANES);
  }
  const int64_t read = 2 * count - 1;
  if (read <= kLanes) return CONVCORE_SHUFFLE(load_partial(p, read), Vec{}, CONVCORE_EVEN_LANES);
  const Vec low = load(p), high = load_partial(p + kLanes, read - kLanes);
  return CONVCORE_SHUFFLE(low, high, CONVCORE_EVEN_LANES);
}

// even = p[0], p[2], p[4], ... and odd = p[1], p[3], p[5], ... for the first `count` lanes (1 <= count <= kLanes).
CONVCORE_INLINE void load_pairs(const float* p, int64_t count, Vec* even, Vec* odd) {
  const int64_t second = 2 * count - kLanes;  // floats of the second vector
  const Vec low = second >= 0 ? load(p) : load_partial(p, 2 * count);
  const Vec high = second == kLanes ? load(p + kLanes) : second > 0 ? load_partial(p + kLanes, second) : Vec{};
  *even = CONVCORE_SHUFFLE(low, high, CONVCORE_EVEN_LANES);
  *odd = CONVCORE_SHUFFLE(low, high, CONVCORE_ODD_LANES);
}

// p[0] = even[0], p[1] = odd[0], p[2] = even[1], ... for the first `count` lanes (0 <= count <= kLanes).
CONVCORE_INLINE void store_interleaved(float* p, Vec even, Vec odd, int64_t count) {
  const Vec low = CONVCORE_SHUFFLE(even, odd, CONVCORE_ZIP_LOW), high = CONVCORE_SHUFFLE(even, odd, CONVCORE_ZIP_HIGH);
  if (count == kLanes) {
    store(p, low);
    store(p + kLanes, high);
    return;
  }
  if (2 * count <= kLanes) return store_partial(p, low, 2 * count);
  store(p, low);
  store_partial(p + kLanes, high, 2 * count - kLanes);
}

// Whether any lane of a mask is set.
CONVCORE_INLINE bool any(IntVec mask) {
  int32_t lanes[kLanes], all = 0;
  memcpy(lanes, &mask, sizeof mask);
  for (int i = 0; i < kLanes; i++) all |= lanes[i];
  return all != 0;
}

// Sum of the lanes, always in the same order: halves are added until one lane is left.
CONVCORE_INLINE float sum(Vec v) {
  if constexpr (kLanes >= 16) v += __builtin_shuffle(v, lane_numbers() ^ 8);
  if constexpr (kLanes >= 8) v += __builtin_shuffle(v, lane_numbers() ^ 4);
  v += __builtin_shuffle(v, lane_numbers() ^ 2);
  v += __builtin_shuffle(v, lane_numbers() ^ 1);
  return v[0];
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
  if constexpr (half == 2)
    return __builtin_shuffle(a, b, IntVec{0, 1, 4, 5}) + __builtin_shuffle(a, b, IntVec{2, 3, 6, 7});
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

// Step of `transpose`: swaps the off-diagonal blocks of d lanes between rows d apart.
#if defined(__AVX2__) || defined(__AVX512F__)
struct SwapLanes {
  int32_t upper[kLanes], lower[kLanes];
};
constexpr SwapLanes swap_lanes(int d) {
  SwapLanes lanes{};
  for (int l = 0; l < kLanes; l++) {
    lanes.upper[l] = l & d ? kLanes + l - d : l;
    lanes.lower[l] = l & d ? kLanes + l : l + d;
  }
  return lanes;
}
template <int d>
CONVCORE_INLINE void swap_blocks(Vec& a, Vec& b) {
  static constexpr SwapLanes lanes = swap_lanes(d);
  const Vec upper = __builtin_shuffle(a, b, load_int(lanes.upper));
  b = __builtin_shuffle(a, b, load_int(lanes.lower));
  a = upper;
}
#else
template <int d>
CONVCORE_INLINE void swap_blocks(Vec& a, Vec& b) {
  const Vec upper = __builtin_shuffle(a, b, d == 2 ? IntVec{0, 1, 4, 5} : IntVec{0, 4, 2, 6});
  b = __builtin_shuffle(a, b, d == 2 ? IntVec{2, 3, 6, 7} : IntVec{1, 5, 3, 7});
  a = upper;
}
#endif

template <int d>
CONVCORE_INLINE void swap_all_blocks(Vec (&rows)[kLanes]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i++)
    if (!(i & d)) swap_blocks<d>(rows[i], rows[i + d]);
}

// rows[i][j] and rows[j][i] change places.
CONVCORE_INLINE void transpose(Vec (&rows)[kLanes]) {
  if constexpr (kLanes >= 16) swap_all_blocks<8>(rows);
  if constexpr (kLanes >= 8) swap_all_blocks<4>(rows);
  swap_all_blocks<2>(rows);
  swap_all_blocks<1>(rows);
}

// maskz, here and elsewhere: GCC warns about an uninitialised variable inside the plain 512-bit intrinsics.
CONVCORE_INLINE Vec square_root(Vec v) {
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_sqrt_ps(0xffff, (__m512)v);
#elif defined(__AVX2__)
  return (Vec)_mm256_sqrt_ps((__m256)v);
#elif defined(__aarch64__)
  return (Vec)vsqrtq_f32((float32x4_t)v);
#else
  Vec root;
  for (int i = 0; i < kLanes; i++) root[i] = __builtin_sqrtf(v[i]);
  return root;
#endif
}

// <algorithm> is not for kernel sources (see above).
template <typename T>
CONVCORE_INLINE T min_of(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
CONVCORE_INLINE T max_of(T a, T b) {
  return a < b ? b : a;
}

}  // namespace convcore::cpu::CONVCORE_ISA

// Sums in double of vectors of floats.
#pragma once
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

typedef float HalfVec __attribute__((vector_size(kLanes * 2)));
typedef double DoubleVec __attribute__((vector_size(kLanes * 4)));  // half the lanes of a Vec

struct Wide {  // a Vec in double
  DoubleVec low, high;
};

CONVCORE_INLINE Wide widen(Vec v) {
#if defined(__AVX512F__)  // the general way GCC goes through the stack, and with AVX2 it converts two numbers at a time
  const __m256 low = _mm512_maskz_extractf32x8_ps(0xff, (__m512)v, 0);
  const __m256 high = _mm512_maskz_extractf32x8_ps(0xff, (__m512)v, 1);
  return {(DoubleVec)_mm512_maskz_cvtps_pd(0xff, low), (DoubleVec)_mm512_maskz_cvtps_pd(0xff, high)};
#elif defined(__AVX2__)
  const __m128 low = _mm256_castps256_ps128((__m256)v), high = _mm256_extractf128_ps((__m256)v, 1);
  return {(DoubleVec)_mm256_cvtps_pd(low), (DoubleVec)_mm256_cvtps_pd(high)};
#elif defined(__aarch64__)
  const float32x4_t f = (float32x4_t)v;
  return {(DoubleVec)vcvt_f64_f32(vget_low_f32(f)), (DoubleVec)vcvt_high_f64_f32(f)};
#else
  HalfVec half[2];
  memcpy(half, &v, sizeof v);
  return {__builtin_convertvector(half[0], DoubleVec), __builtin_convertvector(half[1], DoubleVec)};
#endif
}

// to[i] += the numbers of both vectors, as many as there are lanes.
CONVCORE_INLINE void add_doubles(double* to, DoubleVec low, DoubleVec high, int64_t lanes) {
  double local[kLanes] = {};
  double* p = lanes == kLanes ? to : local;
  if (lanes != kLanes) memcpy(local, to, size_t(lanes) * sizeof(double));
  Wide total;
  memcpy(&total, p, sizeof total);
  total.low += low;
  total.high += high;
  memcpy(p, &total, sizeof total);
  if (lanes != kLanes) memcpy(to, local, size_t(lanes) * sizeof(double));
}

}  // namespace convcore::cpu::CONVCORE_ISA

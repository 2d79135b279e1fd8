// exp, exp - 1, log, tanh, the logistic function and the normal distribution of each lane.
//
// Polynomials and range reductions are those of S. L. Moshier's Cephes library (single/expf.c, logf.c, tanhf.c;
// netlib.org/cephes), written without branches. All are right at +-inf, NaN, zeros, overflow and underflow. They do not
// flush denormal arguments and results; the mode they run in does (core/denormals.h).
//
// Largest error found over every 7th float, in units in the last place of the exact result (denormal results: of the
// denormal spacing):
//              exp    log    tanh   sigmoid
//   with FMA   1.01   0.81   1.33   2.33
//   without    0.98   0.81   1.33   2.33
#pragma once
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

// ln 2 = kLn2High + kLn2Low. The first has 10 significant bits, so that its product with an exponent is exact.
constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;

CONVCORE_INLINE Vec abs(Vec x) { return (Vec)((IntVec)x & 0x7FFFFFFF); }

// 2^n for -126 <= n <= 127.
CONVCORE_INLINE Vec power_of_two(IntVec n) { return (Vec)((n + 127) << 23); }

// x = n ln 2 + r with n the integer nearest to x / ln 2, so |r| <= ln 2 / 2: gives n and exp(r) - 1. -105 <= x <= 89.
CONVCORE_INLINE Vec reduced_expm1(Vec x, IntVec* exponent) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const Vec magic = splat(12582912.0f);
  const Vec shifted = x * 1.44269504088896341f + magic;
  const Vec n = shifted - magic;
  *exponent = (IntVec)shifted - (IntVec)magic;
  Vec r = x - n * kLn2High;
  r = r - n * kLn2Low;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * (r * r) + r;
}

// Where x is beyond what floats hold of exp(x), a bound of it; comparisons with NaN are false and keep it.
CONVCORE_INLINE Vec within_exp(Vec x) {
  x = select(x > splat(89.0f), splat(89.0f), x);
  return select(x < splat(-105.0f), splat(-105.0f), x);
}

// exp(x) = 2^n exp(r)
CONVCORE_INLINE Vec exp(Vec x) {
  IntVec exponent;
  const Vec p = reduced_expm1(within_exp(x), &exponent) + 1.0f;
  // In two factors, because n reaches 128 and goes far below -126.
  const IntVec half = exponent >> 1;
  return p * power_of_two(half) * power_of_two(exponent - half);
}

// exp(x) - 1 for x <= 0 (and a little above): 2^n (exp(r) - 1) + (2^n - 1).
CONVCORE_INLINE Vec expm1_below_zero(Vec x) {
  x = select(x < splat(-40.0f), splat(-40.0f), x);  // -1 within half a unit in the last place long before
  IntVec exponent;
  const Vec p = reduced_expm1(x, &exponent), scale = power_of_two(exponent);
  return p * scale + (scale - 1.0f);
}

// log(x) = e ln 2 + log(1 + m) with sqrt(1/2) <= 1 + m < sqrt(2).
CONVCORE_INLINE Vec log(Vec x) {
  const Vec a = abs(x);
  const IntVec tiny = a < splat(1.17549435e-38f);                            // denormals are scaled up by 2^23 first
  const IntVec bits = (IntVec)select(tiny, a * 8388608.0f, a) - 0x3F3504F3;  // 0x3F3504F3: sqrt(1/2)
  const IntVec exponent = (bits >> 23) - (tiny & 23);
  const Vec e = __builtin_convertvector(exponent, Vec);
  const Vec m = (Vec)((bits & 0x007FFFFF) + 0x3F3504F3) - 1.0f;
  Vec p = m * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const Vec square = m * m;
  Vec tail = p * (m * square);
  tail = tail + e * kLn2Low;
  tail = tail - square * 0.5f;
  Vec y = (m + tail) + e * kLn2High;
  const float inf = __builtin_inff();
  y = select(x == splat(inf), x, y);
  y = select(x == Vec{}, splat(-inf), y);
  return select(x >= Vec{}, y, splat(__builtin_nanf("")));  // negative or NaN
}

// 1 / (1 + exp(-x)), from exp(-|x|), which cannot overflow.
CONVCORE_INLINE Vec sigmoid(Vec x) {
  const Vec small = exp(-abs(x));
  return select(x > Vec{}, splat(1.0f), small) / (small + 1.0f);
}

// The same, and 1 minus it without the cancellation.
struct Logistic {
  Vec value, complement;
};
CONVCORE_INLINE Logistic logistic(Vec x) {
  const Vec small = exp(-abs(x)), large = splat(1.0f) / (small + 1.0f), rest = small * large;
  const IntVec positive = x > Vec{};
  return {select(positive, large, rest), select(positive, rest, large)};
}

// An odd polynomial up to |x| = 0.625, beyond that 1 - 2 / (exp(2 |x|) + 1) with the sign of x.
CONVCORE_INLINE Vec tanh(Vec x) {
  const Vec a = abs(x), square = x * x;
  Vec p = square * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const Vec near = p * square * x + x;
  const Vec far = splat(1.0f) - splat(2.0f) / (exp(a + a) + 1.0f);
  const IntVec sign = (IntVec)x & IntVec(splat(-0.0f));
  return (Vec)((IntVec)select(a < splat(0.625f), near, far) | sign);  // the sign of -0, too
}

// The normal distribution: density(x) = exp(-x^2 / 2) / sqrt(2 pi), and probability(x), its integral from -inf to x.
//
// probability(-|x|) = exp(-x^2 / 2) t q(t) with t = 1 / (1 + 0.26 |x|), where q is a polynomial fitted to 2.5e-8,
// relative, over 0 <= |x| <= 14. So the tail is right to a few units in its own last place, and not in that of 1; the
// rounding of x^2 adds |x|^2 / 4 units.
struct Normal {
  Vec probability, density;
};
CONVCORE_INLINE Normal normal(Vec x) {
  const Vec a = abs(x), e = exp(x * x * -0.5f), t = splat(1.0f) / (a * 0.26f + 1.0f);
  Vec q = t * 3.05061210e-2f - 1.52835116e-1f;
  q = q * t + 2.51504868e-1f;
  q = q * t - 1.50965124e-1f;
  q = q * t + 1.60959452e-1f;
  q = q * t + 5.10225594e-2f;
  q = q * t + 1.03031613e-1f;
  q = q * t + 1.03016555e-1f;
  q = q * t + 1.03759073e-1f;
  const Vec tail = e * (t * q);
  return {select(x > Vec{}, splat(1.0f) - tail, tail), e * 0.398942280f};
}

}  // namespace convcore::cpu::CONVCORE_ISA

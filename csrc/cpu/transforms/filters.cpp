// Noise, blur and Sobel's gradient.
#include "cpu/elementwise.h"
#include "cpu/math.h"
#include "cpu/philox.h"
#include "cpu/transforms/kernels.h"

namespace convcore::cpu::CONVCORE_ISA {

// ---- noise --------------------------------------------------------------------------------------------------------

// The sine and cosine of `turns` whole turns, 0 <= turns < 1: an eighth of a turn to either side of the nearest
// quarter. Polynomials of S. L. Moshier's Cephes library (single/sinf.c).
CONVCORE_INLINE void sine_cosine(Vec turns, Vec* sine, Vec* cosine) {
  const Vec quarter = floor(turns * 4.0f + 0.5f);
  const Vec a = (turns - quarter * 0.25f) * 6.2831853071795865f, z = a * a;
  const Vec s = ((z * -1.9515295891e-4f + 8.3321608736e-3f) * z - 1.6666654611e-1f) * (z * a) + a;
  Vec c = (z * 2.443315711809948e-5f - 1.388731625493765e-3f) * z + 4.166664568298827e-2f;
  c = c * (z * z) - z * 0.5f + 1.0f;
  const IntVec q = __builtin_convertvector(quarter, IntVec);
  const IntVec odd = (q & 1) != IntVec{};
  const Vec sine_of = select(odd, c, s), cosine_of = select(odd, s, c);
  *sine = select((q & 2) != IntVec{}, -sine_of, sine_of);
  *cosine = select(((q + 1) & 2) != IntVec{}, -cosine_of, cosine_of);
}

// In [0, 1), 24 bits, as uniform_float.
CONVCORE_INLINE Vec uniform(Bits bits) {
  return __builtin_convertvector((IntVec)(bits >> 8), Vec) * (1.0f / 16777216.0f);
}

// Box and Muller: elements 2 k and 2 k + 1 take the numbers 2 k and 2 k + 1 of the stream, the first for the length,
// sqrt(-2 log(1 - u)), the second for the angle; the even element is the cosine's.
void image_noise(int64_t count, RandomKey key, float mean, float sigma, bool clip, float* x) {
  const RoundKeys keys(key.seed);
  const Vec zero{}, one = splat(1.0f);
  for (int64_t i = 0; i < count; i += kChunk) {
    Bits first, second;
    philox_chunk(keys, key.stream, uint64_t(i / 4), &first, &second);
    const Vec u = uniform(first), v = uniform(second);
    const Vec lengths = CONVCORE_SHUFFLE(u, v, CONVCORE_EVEN_LANES);
    const Vec angles = CONVCORE_SHUFFLE(u, v, CONVCORE_ODD_LANES);
    const Vec radius = square_root(log(one - lengths) * -2.0f) * splat(sigma);
    Vec sine, cosine;
    sine_cosine(angles, &sine, &cosine);
    const Vec even = radius * cosine + splat(mean), odd = radius * sine + splat(mean);
    const Vec noise[2] = {CONVCORE_SHUFFLE(even, odd, CONVCORE_ZIP_LOW),
                          CONVCORE_SHUFFLE(even, odd, CONVCORE_ZIP_HIGH)};
    for (int64_t half = 0; half < 2; half++) {
      const int64_t at = i + half * kLanes, lanes = min_of<int64_t>(kLanes, count - at);
      if (lanes <= 0) break;
      Vec y = load_lanes(x + at, lanes) + noise[half];
      if (clip) y = select(y < zero, zero, y), y = select(y > one, one, y);
      store_lanes(x + at, y, lanes);
    }
  }
}

// ---- blur ---------------------------------------------------------------------------------------------------------

// -1, -2, ... and count, count + 1, ... are 1, 2, ... and count - 2, count - 3, ...
static int64_t mirrored(int64_t i, int64_t count) {
  if (i < 0) i = -i;
  return i < count ? i : 2 * (count - 1) - i;
}

void image_blur(const ImageShape& s, int64_t rows, const float* row_weights, int64_t columns,
                const float* column_weights, const float* x, float* scratch, float* y) {
  float *tall = scratch, *wide = scratch + s.h * s.w;
  const int64_t above = rows / 2, before = columns / 2;
  for (int64_t c = 0; c < s.c; c++, x += s.h * s.w) {
    for (int64_t i = 0; i < s.h; i++)
      for_each_vector(s.w, [&](int64_t j, int64_t lanes) {
        Vec sum{};
        for (int64_t r = 0; r < rows; r++)
          sum += splat(row_weights[r]) * load_lanes(x + mirrored(i + r - above, s.h) * s.w + j, lanes);
        store_lanes(tall + i * s.w + j, sum, lanes);
      });
    for (int64_t i = 0; i < s.h; i++, y += s.w) {
      const float* line = tall + i * s.w;
      for (int64_t j = 0; j < before; j++) {
        wide[j] = line[mirrored(j - before, s.w)];
        wide[before + s.w + j] = line[mirrored(s.w + j, s.w)];
      }
      memcpy(wide + before, line, size_t(s.w) * sizeof(float));
      for_each_vector(s.w, [&](int64_t j, int64_t lanes) {
        Vec sum{};
        for (int64_t t = 0; t < columns; t++) sum += splat(column_weights[t]) * load_lanes(wide + j + t, lanes);
        store_lanes(y + j, sum, lanes);
      });
    }
  }
}

// ---- Sobel --------------------------------------------------------------------------------------------------------

// The outermost elements repeated: line[0] and line[w + 1].
static void repeat_ends(int64_t w, float* line) {
  line[0] = line[1];
  line[w + 1] = line[w];
}

void image_sobel(const ImageShape& s, const float* x, float* scratch, float* y) {
  float *smooth = scratch, *slope = scratch + s.w + 2;  // down the columns
  const Vec one = splat(1.0f);
  for (int64_t c = 0; c < s.c; c++, x += s.h * s.w)
    for (int64_t i = 0; i < s.h; i++, y += s.w) {
      const float *upper = x + max_of<int64_t>(i - 1, 0) * s.w, *line = x + i * s.w;
      const float* lower = x + min_of(i + 1, s.h - 1) * s.w;
      for_each_vector(s.w, [&](int64_t j, int64_t lanes) {
        const Vec a = load_lanes(upper + j, lanes), b = load_lanes(line + j, lanes), d = load_lanes(lower + j, lanes);
        store_lanes(smooth + 1 + j, a + b * 2.0f + d, lanes);
        store_lanes(slope + 1 + j, d - a, lanes);
      });
      repeat_ends(s.w, smooth);
      repeat_ends(s.w, slope);
      for_each_vector(s.w, [&](int64_t j, int64_t lanes) {
        const Vec gx = load_lanes(smooth + j + 2, lanes) - load_lanes(smooth + j, lanes);
        const Vec gy =
            load_lanes(slope + j, lanes) + load_lanes(slope + j + 1, lanes) * 2.0f + load_lanes(slope + j + 2, lanes);
        const Vec length = square_root(gx * gx + gy * gy);
        store_lanes(y + j, select(length > one, one, length), lanes);
      });
    }
}

}  // namespace convcore::cpu::CONVCORE_ISA

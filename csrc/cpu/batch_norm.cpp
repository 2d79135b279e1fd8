// batch_norm forward and backward.
//
//   statistics   sum (x - k) and sum (x - k)^2 of each channel, k its first value, in double: one pass over x, and no
//                digits lost when the mean is large beside the deviation
//   normalize    y = (x - mean) * (rstd * weight) + bias
//   backward     sum dy and sum dy * (x - mean) in double, then dx
//
// Cost: about 4 operations per value and pass; memory decides. A sum is cut into (channel, shard of images), the shards
// by the shape alone; the partial sums are added in order. With one value per channel and image (a dense layer's
// output) the lanes of a vector are channels, otherwise they are neighbours in a plane.
#include "ops/batch_norm.h"

#include "core/threads.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

// ---- sums over the images and planes of each channel, in double ---------------------------------------------------

typedef float HalfVec __attribute__((vector_size(kLanes * 2)));
typedef double DoubleVec __attribute__((vector_size(kLanes * 4)));  // half the lanes of a Vec
constexpr int kDoubles = kLanes / 2;

struct Wide {  // a Vec in double
  DoubleVec low, high;
};

CONVCORE_INLINE Wide widen(Vec v) {
#if defined(__AVX2__) && !defined(__AVX512F__)  // the other way GCC converts two numbers at a time, and spills
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

CONVCORE_INLINE double sum(Wide v) {
  const DoubleVec total = v.low + v.high;
  double result = 0;
  for (int i = 0; i < kDoubles; i++) result += total[i];
  return result;
}

// sum (a - a0) and sum (a - a0) * (b - b0).
struct Sums {
  Wide a0, b0, first{}, second{};

  Sums(Vec a_shift, Vec b_shift) : a0(widen(a_shift)), b0(widen(b_shift)) {}

  __attribute__((always_inline)) void add(Vec a, Vec b) {
    const Wide wa = widen(a), wb = widen(b);
    const DoubleVec low = wa.low - a0.low, high = wa.high - a0.high;
    first.low += low;
    first.high += high;
    second.low += low * (wb.low - b0.low);
    second.high += high * (wb.high - b0.high);
  }
};

// The first `count` values at p, and `fill` in the other lanes.
CONVCORE_INLINE Vec load_padded(const float* p, int64_t count, Vec fill) {
  static const int32_t lane_numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return select(load_int(lane_numbers) < splat_int(int32_t(count)), load_partial(p, count), fill);
}

constexpr int64_t kValuesPerShard = 16384, kItems = 32;

// Shards per channel: from the shape alone, so that the bits do not depend on the threads.
static int64_t shard_count(const BatchNormShape& s) {
  const int64_t by_size = s.n * s.plane / kValuesPerShard * (s.plane == 1 ? 16 : 1);
  const int64_t columns = s.plane == 1 ? (s.c + 15) / 16 : s.c;
  const int64_t by_items = (kItems + columns - 1) / max_of<int64_t>(columns, 1);
  return max_of<int64_t>(1, min_of(s.n, min_of(by_size, by_items)));
}

struct Totals {
  double *first, *second;  // (shards, C) each; after merge_shards the first row holds the totals
};

// The sums of one channel over the images [begin, end).
static void sum_planes(const BatchNormShape& s, const float* a, const float* b, float a0, float b0, int64_t c,
                       int64_t begin, int64_t end, double* first, double* second) {
  Sums sums(splat(a0), splat(b0));
  for (int64_t n = begin; n < end; n++) {
    const float *pa = a + (n * s.c + c) * s.plane, *pb = b + (n * s.c + c) * s.plane;
    int64_t i = 0;
    for (; i + kLanes <= s.plane; i += kLanes) sums.add(load(pa + i), load(pb + i));
    if (i < s.plane) sums.add(load_padded(pa + i, s.plane - i, splat(a0)), load_padded(pb + i, s.plane - i, splat(b0)));
  }
  *first = sum(sums.first);
  *second = sum(sums.second);
}

// The sums of the `lanes` channels from c over the images [begin, end), with one value per channel and image.
static void sum_columns(const BatchNormShape& s, const float* a, const float* b, const float* a0, const float* b0,
                        int64_t c, int64_t lanes, int64_t begin, int64_t end, double* first, double* second) {
  Sums sums(a0 ? load_partial(a0 + c, lanes) : Vec{}, load_partial(b0 + c, lanes));
  for (int64_t n = begin; n < end; n++)
    sums.add(load_partial(a + n * s.c + c, lanes), load_partial(b + n * s.c + c, lanes));
  double lane[2][kLanes];
  memcpy(lane[0], &sums.first, sizeof lane[0]);
  memcpy(lane[1], &sums.second, sizeof lane[1]);
  memcpy(first, lane[0], size_t(lanes) * sizeof(double));
  memcpy(second, lane[1], size_t(lanes) * sizeof(double));
}

static void merge_shards(const BatchNormShape& s, int64_t shards, const Totals& totals) {
  for (int64_t shard = 1; shard < shards; shard++)
    for (int64_t c = 0; c < s.c; c++) {
      totals.first[c] += totals.first[shard * s.c + c];
      totals.second[c] += totals.second[shard * s.c + c];
    }
}

// For each channel sum (a - a0) and sum (a - a0) * (b - b0); a0 (null is 0) and b0 hold one value per channel.
// The result lies in a workspace of this thread.
static Totals channel_sums(const BatchNormShape& s, const float* a, const float* b, const float* a0, const float* b0) {
  const int64_t shards = shard_count(s);
  double* memory = static_cast<double*>(thread_workspace(0, size_t(2 * shards * s.c) * sizeof(double)));
  const Totals totals{memory, memory + shards * s.c};
  const bool columns = s.plane == 1;
  const int64_t items = columns ? (s.c + kLanes - 1) / kLanes : s.c;
  const int64_t work = s.n * s.plane / shards * 4 * (columns ? kLanes : 1);
  parallel_for(items * shards, work, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; item++) {
      const int64_t shard = item / items, from = s.n * shard / shards, to = s.n * (shard + 1) / shards;
      if (columns) {
        const int64_t c = item % items * kLanes, at = shard * s.c + c;
        sum_columns(s, a, b, a0, b0, c, min_of<int64_t>(kLanes, s.c - c), from, to, totals.first + at,
                    totals.second + at);
      } else {
        const int64_t c = item % items, at = shard * s.c + c;
        sum_planes(s, a, b, a0 ? a0[c] : 0, b0[c], c, from, to, totals.first + at, totals.second + at);
      }
    }
  });
  merge_shards(s, shards, totals);
  return totals;
}

// ---- statistics ---------------------------------------------------------------------------------------------------

CONVCORE_INLINE float reciprocal_root(double var, double eps) { return float(1 / __builtin_sqrt(var + eps)); }

static void batch_norm_reciprocal_std(int64_t c_count, const float* var, double eps, float* rstd) {
  for (int64_t c = 0; c < c_count; c++) rstd[c] = reciprocal_root(var[c], eps);
}

CONVCORE_INLINE float blend(float old, double batch, double momentum) {
  return float((1 - momentum) * double(old) + momentum * batch);
}

static void batch_norm_statistics(const BatchNormShape& s, const float* x, double momentum, double eps, float* mean,
                                  float* rstd, float* running_mean, float* running_var) {
  const double m = double(s.per_channel());
  for (int64_t c = 0; c < s.c; c++) mean[c] = m > 0 ? x[c * s.plane] : 0;  // the shift, for now
  const Totals totals = channel_sums(s, x, x, mean, mean);
  for (int64_t c = 0; c < s.c; c++) {
    const double offset = m > 0 ? totals.first[c] / m : 0, center = mean[c] + offset;
    const double squares = totals.second[c] - totals.first[c] * offset;
    const double var = squares > 0 || squares != squares ? squares / max_of(m, 1.0) : 0;
    mean[c] = float(center);
    rstd[c] = reciprocal_root(var, eps);
    if (running_mean) {
      running_mean[c] = blend(running_mean[c], center, momentum);
      running_var[c] = blend(running_var[c], var * m / (m - 1), momentum);
    }
  }
}

// ---- forward ------------------------------------------------------------------------------------------------------

// y = (x - mean) * scale + bias over one plane.
static void normalize_plane(int64_t count, const float* x, Vec mean, Vec scale, Vec bias, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(y + i, (load(x + i) - mean) * scale + bias);
  if (i < count) store_partial(y + i, (load_partial(x + i, count - i) - mean) * scale + bias, count - i);
}

// The same over the channels of one image, with one value each.
static void normalize_row(int64_t count, const float* x, const float* mean, const float* rstd, const float* weight,
                          const float* bias, float* y) {
  for (int64_t c = 0; c < count; c += kLanes) {
    const int64_t lanes = min_of<int64_t>(kLanes, count - c);
    const Vec scale = load_partial(rstd + c, lanes) * (weight ? load_partial(weight + c, lanes) : splat(1));
    const Vec offset = bias ? load_partial(bias + c, lanes) : Vec{};
    const Vec center = load_partial(x + c, lanes) - load_partial(mean + c, lanes);
    store_partial(y + c, center * scale + offset, lanes);
  }
}

static void batch_norm_normalize(const BatchNormShape& s, const float* x, const float* mean, const float* rstd,
                                 const float* weight, const float* bias, float* y) {
  if (s.plane == 1)
    return parallel_for(s.n, 4 * s.c, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) normalize_row(s.c, x + n * s.c, mean, rstd, weight, bias, y + n * s.c);
    });
  parallel_for(s.n * s.c, 4 * s.plane, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; plane++) {
      const int64_t c = plane % s.c, at = plane * s.plane;
      normalize_plane(s.plane, x + at, splat(mean[c]), splat(rstd[c] * (weight ? weight[c] : 1)),
                      splat(bias ? bias[c] : 0), y + at);
    }
  });
}

// ---- backward -----------------------------------------------------------------------------------------------------

// dx = scale * (dy - center - (x - mean) * slope); the last two terms are there in training only. (C) each.
struct InputGradient {
  bool training;
  const float *mean, *scale, *center, *slope;
};

CONVCORE_INLINE Vec input_gradient(Vec dy, Vec x, Vec mean, Vec scale, Vec center, Vec slope) {
  return scale * (dy - center - (x - mean) * slope);
}

static void backward_plane(const InputGradient& g, int64_t c, int64_t count, const float* dy, const float* x,
                           float* dx) {
  const Vec scale = splat(g.scale[c]);
  if (!g.training) {
    for (int64_t i = 0; i < count; i += kLanes) {
      const int64_t lanes = min_of<int64_t>(kLanes, count - i);
      store_partial(dx + i, load_partial(dy + i, lanes) * scale, lanes);
    }
    return;
  }
  const Vec mean = splat(g.mean[c]), center = splat(g.center[c]), slope = splat(g.slope[c]);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    store(dx + i, input_gradient(load(dy + i), load(x + i), mean, scale, center, slope));
  if (i < count) {
    const int64_t lanes = count - i;
    const Vec tail =
        input_gradient(load_partial(dy + i, lanes), load_partial(x + i, lanes), mean, scale, center, slope);
    store_partial(dx + i, tail, lanes);
  }
}

static void backward_row(const InputGradient& g, int64_t count, const float* dy, const float* x, float* dx) {
  for (int64_t c = 0; c < count; c += kLanes) {
    const int64_t lanes = min_of<int64_t>(kLanes, count - c);
    const Vec gradient = load_partial(dy + c, lanes), scale = load_partial(g.scale + c, lanes);
    const Vec value = g.training
                          ? input_gradient(gradient, load_partial(x + c, lanes), load_partial(g.mean + c, lanes), scale,
                                           load_partial(g.center + c, lanes), load_partial(g.slope + c, lanes))
                          : gradient * scale;
    store_partial(dx + c, value, lanes);
  }
}

static void backward_input(const BatchNormShape& s, const InputGradient& g, const float* dy, const float* x,
                           float* dx) {
  if (s.plane == 1)
    return parallel_for(s.n, 6 * s.c, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) backward_row(g, s.c, dy + n * s.c, x + n * s.c, dx + n * s.c);
    });
  parallel_for(s.n * s.c, 6 * s.plane, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; plane++)
      backward_plane(g, plane % s.c, s.plane, dy + plane * s.plane, x + plane * s.plane, dx + plane * s.plane);
  });
}

static void batch_norm_backward(const BatchNormShape& s, bool training, const float* dy, const float* x,
                                const float* mean, const float* rstd, const float* weight, float* dx, float* dweight,
                                float* dbias) {
  Totals totals{};  // sum dy, sum dy * (x - mean)
  if (dweight || dbias || (dx && training)) totals = channel_sums(s, dy, x, nullptr, mean);
  if (dweight)
    for (int64_t c = 0; c < s.c; c++) dweight[c] = float(totals.second[c] * double(rstd[c]));
  if (dbias)
    for (int64_t c = 0; c < s.c; c++) dbias[c] = float(totals.first[c]);
  if (!dx) return;
  const double m = double(max_of<int64_t>(s.per_channel(), 1));
  float* memory = static_cast<float*>(thread_workspace(1, size_t(3 * s.c) * sizeof(float)));
  float *scale = memory, *center = memory + s.c, *slope = memory + 2 * s.c;
  for (int64_t c = 0; c < s.c; c++) {
    scale[c] = rstd[c] * (weight ? weight[c] : 1);
    if (!training) continue;
    center[c] = float(totals.first[c] / m);
    slope[c] = float(totals.second[c] / m * double(rstd[c]) * double(rstd[c]));
  }
  backward_input(s, {training, mean, scale, center, slope}, dy, x, dx);
}

BatchNormKernels batch_norm_kernels();
BatchNormKernels batch_norm_kernels() {
  return {batch_norm_statistics, batch_norm_reciprocal_std, batch_norm_normalize, batch_norm_backward};
}

}  // namespace convcore::cpu::CONVCORE_ISA

// batch_norm forward and backward: two passes each, one of sums and one over the elements. Memory decides.
//
//   statistics   sum (x - pivot) and sum (x - pivot)^2 of each channel
//   apply        y = (x - mean) * scale + bias, with a residual and ReLU when asked
//   backward     sum dz and sum dz * (x - mean), then dx
//
// Sums: a block of at most 64 rows (or the vectors of a plane) is summed in float, and what comes out is added up in
// double. The mean of the block is subtracted before squaring, which takes a second look at the block while it lies in
// L1; so no digits are lost when the mean is large beside the deviation, whatever the pivot is.
//
// Lanes: channels-last images are rows of C values, one per pixel, and the lanes are channels; C = 1, 2, 4, ... of
// fewer than kWide channels is seen as rows of kWide, in which the channels repeat. In row-major order the lanes are
// neighbours in a plane.
//
// A whole op is cut into shards by the shape alone; their sums are added in order. The second pass of a thread goes
// backwards through its shards: what the first pass read last still lies in its cache.
#include "cpu/batch_norm.h"

#include "core/threads.h"
#include "cpu/doubles.h"
#include "cpu/elementwise.h"
#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {

constexpr int kVecs = 4;  // vectors of channels at once: independent sums hide the latency of an addition
constexpr int kWide = kVecs * kLanes;
constexpr int64_t kBlockRows = 64;       // terms that are summed in float
constexpr int64_t kBlockFloats = 8192;   // of a block of rows, that it stays in L1: 32 KiB
constexpr int64_t kLeastBlockRows = 16;  // fewer, and moving the sums to double would take longer than they do

// ---- rows of channels -----------------------------------------------------------------------------------------------

// Rows as wide as the channels, or kWide with repeating channels; then the last row may be shorter than the others.
struct Rows {
  int64_t count, width, rest;
};

static Rows rows_of(int64_t count, int64_t c) {
  if (c >= kWide || kWide % c != 0) return {count, c, 0};
  return {count * c / kWide, kWide, count * c % kWide};
}

// Rows that are summed in float.
static int64_t block_rows(const Rows& r) { return max_of(kLeastBlockRows, min_of(kBlockRows, kBlockFloats / r.width)); }

// Values of the channels in the columns of a row. For `storage` see rows_of.
static const float* repeated(const float* values, int64_t c, int64_t width, float* storage) {
  if (width == c || !values) return values;
  for (int64_t i = 0; i < width; i++) storage[i] = values[i % c];
  return storage;
}

// f(Const<V>, position of the first value, column, rows, lanes) for tiles of V vectors, in blocks of rows from top to
// bottom. V is `Most` with whole vectors, or 1.
template <int Most, typename F>
CONVCORE_INLINE void for_each_tile(const Rows& r, int64_t block, const F& f) {
  const struct {
    int64_t first, rows, width;
  } parts[] = {{0, r.count, r.width}, {r.count * r.width, r.rest > 0, r.rest}};
  for (const auto& part : parts)
    for (int64_t row = 0; row < part.rows; row += block) {
      const int64_t at = part.first + row * r.width, rows = min_of(block, part.rows - row);
      int64_t column = 0;
      for (; column + Most * kLanes <= part.width; column += Most * kLanes)
        f(Const<Most>{}, at + column, column, rows, int64_t(kLanes));
      for (; column < part.width; column += kLanes)
        f(Const<1>{}, at + column, column, rows, min_of<int64_t>(kLanes, part.width - column));
    }
}

// Two sums per column, which are added to the channels in the end.
struct ColumnSums {
  double first[kWide] = {}, second[kWide] = {};

  void add_to(int64_t c, double* sum_first, double* sum_second) const {
    for (int64_t i = 0; i < kWide; i++) {
      sum_first[i % c] += first[i];
      sum_second[i % c] += second[i];
    }
  }
};

// ---- planes of one channel ------------------------------------------------------------------------------------------

constexpr int64_t kPlaneBlock = kBlockRows * kWide;  // values that are summed in float, by kVecs sums per lane

// f(sum, i, lanes) for the vectors of a plane, the sums 0 ... kVecs - 1 in turn.
template <typename F>
CONVCORE_INLINE void for_each_in_plane(int64_t count, const F& f) {
  int64_t i = 0;
  for (; i + kWide <= count; i += kWide)
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; v++) f(v, i + v * kLanes, int64_t(kLanes));
  for (; i < count; i += kLanes) f(0, i, min_of<int64_t>(kLanes, count - i));
}

CONVCORE_INLINE float sum_all(const Vec (&v)[kVecs]) { return sum((v[0] + v[1]) + (v[2] + v[3])); }

// ---- forward: sums --------------------------------------------------------------------------------------------------

// Adds sums about the mean of m values to sums about the pivot: x - pivot = (mean - pivot) + (x - mean). Once per tile,
// so not inline: its doubles would take the registers of the loops around it.
__attribute__((noinline)) static void add_about(double m, Vec mean, Vec first, Vec second, Vec pivot, int64_t lanes,
                                                double* sum, double* sum_sq) {
  const Wide about = widen(mean), from = widen(pivot), one = widen(first), two = widen(second);
  const DoubleVec low = about.low - from.low, high = about.high - from.high;
  add_doubles(sum, one.low + low * m, one.high + high * m, lanes);
  add_doubles(sum_sq, two.low + low * (2 * one.low + low * m), two.high + high * (2 * one.high + high * m), lanes);
}

template <int V>
CONVCORE_INLINE void sum_tile(const float* x, int64_t rows, int64_t stride, int64_t lanes, const float* pivot,
                              double* sum, double* sum_sq) {
  const Vec share = splat(1.0f / float(rows));
  Vec mean[V] = {}, first[V] = {}, second[V] = {};
  for (int64_t r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) mean[v] += load_tile<V>(x + r * stride + v * kLanes, lanes) * share;
  for (int64_t r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      const Vec d = load_tile<V>(x + r * stride + v * kLanes, lanes) - mean[v];
      first[v] += d;
      second[v] += d * d;
    }
#pragma GCC unroll 4
  for (int v = 0; v < V; v++)
    add_about(double(rows), mean[v], first[v], second[v], pivot ? load_tile<V>(pivot + v * kLanes, lanes) : Vec{},
              lanes, sum + v * kLanes, sum_sq + v * kLanes);
}

static void sum_rows(int64_t count, int64_t c, const float* x, const float* pivot, double* sum, double* sum_sq) {
  const Rows r = rows_of(count, c);
  float storage[kWide];
  ColumnSums columns;
  const bool narrow = r.width != c;
  const float* from = repeated(pivot, c, r.width, storage);
  double *first = narrow ? columns.first : sum, *second = narrow ? columns.second : sum_sq;
  for_each_tile<kVecs>(r, block_rows(r), [&](auto v, int64_t at, int64_t column, int64_t rows, int64_t lanes) {
    sum_tile<decltype(v)::value>(x + at, rows, r.width, lanes, from ? from + column : nullptr, first + column,
                                 second + column);
  });
  if (narrow) columns.add_to(c, sum, sum_sq);
}

static void sum_plane(int64_t count, const float* x, float pivot, double* sum_x, double* sum_sq) {
  for (int64_t begin = 0; begin < count; begin += kPlaneBlock) {
    const float* p = x + begin;
    const int64_t values = min_of(kPlaneBlock, count - begin);
    const Vec share = splat(1.0f / float(values));
    Vec total[kVecs] = {}, first[kVecs] = {}, second[kVecs] = {};
    for_each_in_plane(values, [&](int v, int64_t i, int64_t lanes) { total[v] += load_lanes(p + i, lanes) * share; });
    const float mean = sum_all(total);
    for_each_in_plane(values, [&](int v, int64_t i, int64_t lanes) {
      Vec d = load_lanes(p + i, lanes) - splat(mean);
      if (lanes != kLanes) d = select(lanes_below(lanes), d, Vec{});
      first[v] += d;
      second[v] += d * d;
    });
    const double m = double(values), offset = double(mean) - double(pivot), one = sum_all(first);
    *sum_x += one + offset * m;
    *sum_sq += double(sum_all(second)) + offset * (2 * one + offset * m);
  }
}

void batch_norm_partial(const BatchNormShape& s, int64_t n0, int64_t n1, const float* x, const float* pivot,
                        double* sum, double* sum_sq) {
  const float* first = x + n0 * s.c * s.plane;
  if (s.layout == Layout::channels_last) {
    if (s.c > 0) sum_rows((n1 - n0) * s.plane, s.c, first, pivot, sum, sum_sq);
    return;
  }
  for (int64_t n = n0; n < n1; n++)
    for (int64_t c = 0; c < s.c; c++, first += s.plane)
      sum_plane(s.plane, first, pivot ? pivot[c] : 0, sum + c, sum_sq + c);
}

// ---- backward: sums -------------------------------------------------------------------------------------------------

struct Gradient {
  const float *dy, *x, *y;
  float* dz;
};

template <bool kMasked, bool kWritten>
CONVCORE_INLINE Vec masked_gradient(const Gradient& g, int64_t i, int64_t lanes) {
  Vec dz = load_lanes(g.dy + i, lanes);
  if (kMasked) dz = select(load_lanes(g.y + i, lanes) <= Vec{}, Vec{}, dz);
  if (kWritten) store_lanes(g.dz + i, dz, lanes);
  return dz;
}

template <int V, bool kMasked, bool kWritten>
CONVCORE_INLINE void gradient_tile(const Gradient& g, int64_t at, int64_t rows, int64_t stride, int64_t lanes,
                                   const float* mean, double* sum_dz, double* sum_dz_x) {
  const int64_t count = V > 1 ? int64_t(kLanes) : lanes;
  Vec center[V], first[V] = {}, second[V] = {};
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) center[v] = load_tile<V>(mean + v * kLanes, lanes);
  for (int64_t r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      const int64_t i = at + r * stride + v * kLanes;
      const Vec dz = masked_gradient<kMasked, kWritten>(g, i, count);
      first[v] += dz;
      second[v] += dz * (load_lanes(g.x + i, count) - center[v]);
    }
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) {
    const Wide dz = widen(first[v]), dz_x = widen(second[v]);
    add_doubles(sum_dz + v * kLanes, dz.low, dz.high, lanes);
    add_doubles(sum_dz_x + v * kLanes, dz_x.low, dz_x.high, lanes);
  }
}

template <bool kMasked, bool kWritten>
static void gradient_rows(int64_t count, int64_t c, const Gradient& g, const float* mean, double* sum_dz,
                          double* sum_dz_x) {
  const Rows r = rows_of(count, c);
  float storage[kWide];
  ColumnSums columns;
  const bool narrow = r.width != c;
  const float* center = repeated(mean, c, r.width, storage);
  double *first = narrow ? columns.first : sum_dz, *second = narrow ? columns.second : sum_dz_x;
  constexpr int kMost = kRegisters >= 32 ? kVecs : kVecs / 2;  // three registers per vector, and three more
  for_each_tile<kMost>(r, block_rows(r), [&](auto v, int64_t at, int64_t column, int64_t rows, int64_t lanes) {
    gradient_tile<decltype(v)::value, kMasked, kWritten>(g, at, rows, r.width, lanes, center + column, first + column,
                                                         second + column);
  });
  if (narrow) columns.add_to(c, sum_dz, sum_dz_x);
}

template <bool kMasked, bool kWritten>
static void gradient_plane(int64_t begin, int64_t count, const Gradient& g, float mean, double* sum_dz,
                           double* sum_dz_x) {
  for (int64_t at = begin; at < begin + count; at += kPlaneBlock) {
    Vec first[kVecs] = {}, second[kVecs] = {};
    for_each_in_plane(min_of(kPlaneBlock, begin + count - at), [&](int v, int64_t i, int64_t lanes) {
      const Vec dz = masked_gradient<kMasked, kWritten>(g, at + i, lanes);  // 0 in the lanes past the end
      first[v] += dz;
      second[v] += dz * (load_lanes(g.x + at + i, lanes) - splat(mean));
    });
    *sum_dz += double(sum_all(first));
    *sum_dz_x += double(sum_all(second));
  }
}

template <bool kMasked, bool kWritten>
static void gradient_sums(const BatchNormShape& s, int64_t n0, int64_t n1, const Gradient& g, const float* mean,
                          double* sum_dz, double* sum_dz_x) {
  int64_t first = n0 * s.c * s.plane;
  if (s.layout == Layout::channels_last) {
    const Gradient block{g.dy + first, g.x + first, kMasked ? g.y + first : nullptr, kWritten ? g.dz + first : nullptr};
    if (s.c > 0) gradient_rows<kMasked, kWritten>((n1 - n0) * s.plane, s.c, block, mean, sum_dz, sum_dz_x);
    return;
  }
  for (int64_t n = n0; n < n1; n++)
    for (int64_t c = 0; c < s.c; c++, first += s.plane)
      gradient_plane<kMasked, kWritten>(first, s.plane, g, mean[c], sum_dz + c, sum_dz_x + c);
}

void batch_norm_backward_partial(const BatchNormShape& s, int64_t n0, int64_t n1, const float* dy, const float* x,
                                 const float* mean, const float* y, float* dz, double* sum_dz, double* sum_dz_x) {
  const Gradient g{dy, x, y, dz};
  if (y && dz) return gradient_sums<true, true>(s, n0, n1, g, mean, sum_dz, sum_dz_x);
  if (y) return gradient_sums<true, false>(s, n0, n1, g, mean, sum_dz, sum_dz_x);
  if (dz) return gradient_sums<false, true>(s, n0, n1, g, mean, sum_dz, sum_dz_x);
  gradient_sums<false, false>(s, n0, n1, g, mean, sum_dz, sum_dz_x);
}

// ---- the passes over the elements -----------------------------------------------------------------------------------

// f(i, lanes, p) for the vectors of images, p[k] the values channel[k] of the lanes' channels.
template <int P, typename F>
CONVCORE_INLINE void for_each_normalized(const BatchNormShape& s, int64_t n0, int64_t n1,
                                         const float* const (&channel)[P], const F& f) {
  if (s.c == 0) return;
  int64_t first = n0 * s.c * s.plane;
  if (s.layout == Layout::row_major) {
    for (int64_t n = n0; n < n1; n++)
      for (int64_t c = 0; c < s.c; c++, first += s.plane) {
        Vec p[P];
        for (int k = 0; k < P; k++) p[k] = splat(channel[k][c]);
        for_each_in_plane(s.plane, [&](int, int64_t i, int64_t lanes) { f(first + i, lanes, p); });
      }
    return;
  }
  const Rows r = rows_of((n1 - n0) * s.plane, s.c);
  float storage[P][kWide];
  const float* column_values[P];
  for (int k = 0; k < P; k++) column_values[k] = repeated(channel[k], s.c, r.width, storage[k]);
  constexpr int kMost = P * kVecs + 3 <= kRegisters ? kVecs : kVecs / 2;
  // Tiles go down the rows only where they are as wide as these; otherwise memory is gone through in order (up to 6 %
  // faster: going down, a load waits for a store whose address has the same last 12 bits).
  const int64_t block = r.width <= kMost * kLanes ? kBlockRows : 1;
  for_each_tile<kMost>(r, block, [&](auto count, int64_t at, int64_t column, int64_t rows, int64_t lanes) {
    constexpr int V = decltype(count)::value;
    Vec p[V][P];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
#pragma GCC unroll 8
      for (int k = 0; k < P; k++) p[v][k] = load_tile<V>(column_values[k] + column + v * kLanes, lanes);
    for (int64_t row = 0; row < rows; row++)
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) f(first + at + row * r.width + v * kLanes, V > 1 ? int64_t(kLanes) : lanes, p[v]);
  });
}

enum class Residual { none, plain, normalized };

template <bool kRelu, Residual kResidual>
static void apply(const BatchNormShape& s, int64_t n0, int64_t n1, const float* x, const BatchNormAffine& a,
                  const BatchNormResidual& residual, float* y) {
  const float* r = residual.values;
  const auto each = [=](int64_t i, int64_t lanes, const auto& p) __attribute__((always_inline)) {
    Vec v = (load_lanes(x + i, lanes) - p[0]) * p[1] + p[2];
    if constexpr (kResidual == Residual::plain) v += load_lanes(r + i, lanes);
    if constexpr (kResidual == Residual::normalized) v += (load_lanes(r + i, lanes) - p[3]) * p[4] + p[5];
    if constexpr (kRelu) v = select(v <= Vec{}, Vec{}, v);  // NaN stays
    store_lanes(y + i, v, lanes);
  };
  if constexpr (kResidual == Residual::normalized) {
    const BatchNormAffine& b = residual.affine;
    for_each_normalized(s, n0, n1, {a.mean, a.scale, a.bias, b.mean, b.scale, b.bias}, each);
  } else {
    for_each_normalized(s, n0, n1, {a.mean, a.scale, a.bias}, each);
  }
}

template <bool kRelu>
static void apply_with(const BatchNormShape& s, int64_t n0, int64_t n1, const float* x, const BatchNormAffine& a,
                       const BatchNormResidual& r, float* y) {
  if (!r.values) return apply<kRelu, Residual::none>(s, n0, n1, x, a, r, y);
  if (!r.affine.mean) return apply<kRelu, Residual::plain>(s, n0, n1, x, a, r, y);
  apply<kRelu, Residual::normalized>(s, n0, n1, x, a, r, y);
}

void batch_norm_apply(const BatchNormShape& s, int64_t n0, int64_t n1, const float* x, const BatchNormAffine& a,
                      const BatchNormResidual& residual, bool relu, float* y) {
  relu ? apply_with<true>(s, n0, n1, x, a, residual, y) : apply_with<false>(s, n0, n1, x, a, residual, y);
}

void batch_norm_backward_apply(const BatchNormShape& s, int64_t n0, int64_t n1, const float* dz, const float* x,
                               const BatchNormInputGradient& g, float* dx) {
  if (!g.mean)
    return for_each_normalized(s, n0, n1, {g.scale}, [=](int64_t i, int64_t lanes, const auto& p) {
      store_lanes(dx + i, load_lanes(dz + i, lanes) * p[0], lanes);
    });
  for_each_normalized(s, n0, n1, {g.mean, g.scale, g.center, g.slope}, [=](int64_t i, int64_t lanes, const auto& p) {
    const Vec deviation = load_lanes(x + i, lanes) - p[0];
    store_lanes(dx + i, p[1] * (load_lanes(dz + i, lanes) - p[2] - deviation * p[3]), lanes);
  });
}

// ---- from sums to factors -------------------------------------------------------------------------------------------

CONVCORE_INLINE float reciprocal_root(double var, double eps) { return float(1 / __builtin_sqrt(var + eps)); }

static void batch_norm_reciprocal_std(int64_t c_count, const float* var, double eps, float* rstd) {
  for (int64_t c = 0; c < c_count; c++) rstd[c] = reciprocal_root(var[c], eps);
}

CONVCORE_INLINE float blend(float old, double batch, double momentum) {
  return float((1 - momentum) * double(old) + momentum * batch);
}

static void batch_norm_finish(int64_t c_count, int64_t m, const float* pivot, const double* sum, const double* sum_sq,
                              double momentum, double eps, float* mean, float* rstd, float* running_mean,
                              float* running_var) {
  const double count = double(max_of<int64_t>(m, 1));
  for (int64_t c = 0; c < c_count; c++) {
    const double offset = sum[c] / count, center = (pivot ? double(pivot[c]) : 0) + offset;
    const double squares = sum_sq[c] - sum[c] * offset;
    const double var = squares > 0 || squares != squares ? squares / count : 0;
    mean[c] = float(center);
    rstd[c] = reciprocal_root(var, eps);
    if (!running_mean) continue;
    running_mean[c] = blend(running_mean[c], center, momentum);
    running_var[c] = blend(running_var[c], var * count / (count - 1), momentum);
  }
}

static void batch_norm_backward_finish(int64_t c_count, int64_t m, const double* sum_dz, const double* sum_dz_x,
                                       const float* rstd, const float* weight, float* scale, float* center,
                                       float* slope, float* dweight, float* dbias) {
  const double count = double(max_of<int64_t>(m, 1));
  for (int64_t c = 0; c < c_count; c++) {
    const double r = double(rstd[c]);
    scale[c] = rstd[c] * (weight ? weight[c] : 1);
    center[c] = float(sum_dz[c] / count);
    slope[c] = float(sum_dz_x[c] / count * r * r);
    if (dweight) dweight[c] = float(sum_dz_x[c] * r);
    if (dbias) dbias[c] = float(sum_dz[c]);
  }
}

// ---- whole ops ------------------------------------------------------------------------------------------------------

constexpr int64_t kValuesPerShard = 16384, kMostShards = 32;

// Rows of channels are cut anywhere, planes only between images: a batch whose images are the pixels of `s` if they lie
// in rows. The same elements in the same order.
static BatchNormShape in_rows(const BatchNormShape& s) {
  return s.layout == Layout::row_major ? s : BatchNormShape{s.n * s.plane, s.c, 1, s.layout};
}

// A whole op is cut into shards of the images, and row-major images, when there are few of them, into groups of
// channels too: from the shape alone, so that the bits do not depend on the threads.
struct Cut {
  int64_t shards, groups;
};

static Cut cut_of(const BatchNormShape& s) {
  const int64_t wanted = max_of<int64_t>(1, min_of(kMostShards, s.n * s.c * s.plane / kValuesPerShard));
  if (s.layout == Layout::channels_last) return {max_of<int64_t>(1, min_of(wanted, s.n / kBlockRows)), 1};
  const int64_t shards = max_of<int64_t>(1, min_of(wanted, s.n));
  return {shards, max_of<int64_t>(1, min_of(s.c, wanted / shards))};
}

// Images of their own within a batch: element 0 of theirs is element `at` of the batch, channel 0 is channel `c`.
struct Part {
  BatchNormShape s;
  int64_t shard, at, c;
};

// f(part) for all parts in parallel, each thread's from first to last or backwards.
template <typename F>
static void for_each_part(const BatchNormShape& s, bool backwards, const F& f) {
  const Cut cut = cut_of(s);
  const int64_t items = cut.shards * cut.groups;
  parallel_for(items, s.n * s.c * s.plane / items, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t item = backwards ? begin + end - 1 - i : i, shard = item / cut.groups, group = item % cut.groups;
      const int64_t n0 = s.n * shard / cut.shards, n1 = s.n * (shard + 1) / cut.shards;
      const int64_t c0 = s.c * group / cut.groups, c1 = s.c * (group + 1) / cut.groups;
      const int64_t images = cut.groups == 1 ? n1 - n0 : 1;  // some channels of several images do not lie side by side
      for (int64_t n = n0; n < n1; n += images)
        f(Part{{images, c1 - c0, s.plane, s.layout}, shard, (n * s.c + c0) * s.plane, c0});
    }
  });
}

struct Sums {
  double *first, *second;  // (C) each
};

// body(part, first, second) adds to the sums of the part's channels. The result lies in a workspace of this thread.
template <typename F>
static Sums sum_parts(const BatchNormShape& s, const F& body) {
  const int64_t shards = cut_of(s).shards;
  const size_t bytes = size_t(2 * shards * s.c) * sizeof(double);
  double* memory = static_cast<double*>(thread_workspace(0, bytes));
  memset(memory, 0, bytes);
  for_each_part(s, false, [&](const Part& part) {
    double* sums = memory + 2 * part.shard * s.c + part.c;
    body(part, sums, sums + s.c);
  });
  for (int64_t shard = 1; shard < shards; shard++)
    for (int64_t i = 0; i < 2 * s.c; i++) memory[i] += memory[2 * shard * s.c + i];
  return {memory, memory + s.c};
}

static void batch_norm_statistics(const BatchNormShape& shape, const float* x, double momentum, double eps, float* mean,
                                  float* rstd, float* running_mean, float* running_var) {
  const BatchNormShape s = in_rows(shape);
  const Sums sums = sum_parts(s, [&](const Part& part, double* sum, double* sum_sq) {
    batch_norm_partial(part.s, 0, part.s.n, x + part.at, nullptr, sum, sum_sq);
  });
  batch_norm_finish(s.c, s.per_channel(), nullptr, sums.first, sums.second, momentum, eps, mean, rstd, running_mean,
                    running_var);
}

// ---- for a plan ---------------------------------------------------------------------------------------------------

static void batch_norm_factors(int64_t c, const float* rstd, const float* weight, const float* bias, float* scale,
                               float* shift) {
  for (int64_t k = 0; k < c; k++) {
    scale[k] = weight ? weight[k] * rstd[k] : rstd[k];
    shift[k] = bias ? bias[k] : 0.f;
  }
}

static void batch_norm_fold(int64_t c_out, int64_t terms, const float* w, const float* b, const float* weight,
                            const float* bias, const float* mean, const float* var, double eps, float* folded,
                            float* offset) {
  for (int64_t k = 0; k < c_out; k++) {
    const double factor = (weight ? double(weight[k]) : 1) / __builtin_sqrt(double(var[k]) + eps);
    for (int64_t t = 0; t < terms; t++) folded[k * terms + t] = float(double(w[k * terms + t]) * factor);
    offset[k] = float(((b ? double(b[k]) : 0) - double(mean[k])) * factor + (bias ? double(bias[k]) : 0));
  }
}

static void batch_norm_normalize(const BatchNormShape& shape, const float* x, const float* mean, const float* rstd,
                                 const float* weight, const float* bias, float* y) {
  const BatchNormShape s = in_rows(shape);
  float* memory = static_cast<float*>(thread_workspace(1, size_t(2 * s.c) * sizeof(float)));
  float *scale = memory, *offset = memory + s.c;
  batch_norm_factors(s.c, rstd, weight, bias, scale, offset);
  for_each_part(s, true, [&](const Part& part) {
    const BatchNormAffine affine{mean + part.c, scale + part.c, offset + part.c};
    batch_norm_apply(part.s, 0, part.s.n, x + part.at, affine, {}, false, y + part.at);
  });
}

static void batch_norm_backward(const BatchNormShape& shape, bool training, const float* dy, const float* x,
                                const float* mean, const float* rstd, const float* weight, float* dx, float* dweight,
                                float* dbias) {
  const BatchNormShape s = in_rows(shape);
  float* memory = static_cast<float*>(thread_workspace(1, size_t(3 * s.c) * sizeof(float)));
  float *scale = memory, *center = memory + s.c, *slope = memory + 2 * s.c;
  if (dweight || dbias || training) {
    const Sums sums = sum_parts(s, [&](const Part& part, double* sum_dz, double* sum_dz_x) {
      batch_norm_backward_partial(part.s, 0, part.s.n, dy + part.at, x + part.at, mean + part.c, nullptr, nullptr,
                                  sum_dz, sum_dz_x);
    });
    batch_norm_backward_finish(s.c, s.per_channel(), sums.first, sums.second, rstd, weight, scale, center, slope,
                               dweight, dbias);
  } else {
    for (int64_t c = 0; c < s.c; c++) scale[c] = rstd[c] * (weight ? weight[c] : 1);
  }
  if (!dx) return;
  for_each_part(s, true, [&](const Part& part) {
    const int64_t c = part.c;
    const BatchNormInputGradient gradient{training ? mean + c : nullptr, scale + c, center + c, slope + c};
    batch_norm_backward_apply(part.s, 0, part.s.n, dy + part.at, x + part.at, gradient, dx + part.at);
  });
}

BatchNormKernels batch_norm_kernels();
BatchNormKernels batch_norm_kernels() {
  return {batch_norm_statistics, batch_norm_reciprocal_std,  batch_norm_normalize,        batch_norm_backward,
          batch_norm_partial,    batch_norm_apply,           batch_norm_backward_partial, batch_norm_backward_apply,
          batch_norm_finish,     batch_norm_backward_finish, batch_norm_factors,          batch_norm_fold};
}

}  // namespace convcore::cpu::CONVCORE_ISA

// What the pooling kernels share: which part of a window lies on the input, strided vector loads, sums over rectangles.
#pragma once
#include "ops/pool2d.h"

#include "cpu/elementwise.h"
#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {

struct Range {
  int64_t begin, end;
};

// The outputs along one axis whose windows lie whole on the input.
static inline Range whole_windows(const WindowAxis& w, int64_t in, int64_t out) {
  const int64_t last_start = in + w.pad_before - (w.dilation * (w.kernel - 1) + 1);  // on the padded input
  const int64_t begin = min_of(out, (w.pad_before + w.stride - 1) / w.stride);
  const int64_t end = last_start < 0 ? 0 : min_of(out, last_start / w.stride + 1);
  return {begin, max_of(begin, end)};
}

// Whether the windows lie side by side from the upper left corner: no pixel in two of them, all whole.
static inline bool windows_are_tiles(const Pool2dShape& s) {
  const auto tiled = [](const WindowAxis& w, int64_t in, int64_t out) {
    return w.stride == w.kernel && w.dilation == 1 && w.pad_before == 0 && w.kernel <= in / out;
  };
  return tiled(s.window.h, s.h_in, s.h_out) && tiled(s.window.w, s.w_in, s.w_out);
}

// The outputs along one axis whose windows span `pixel`, from the first tap to the last; `before`: those of the pixel
// before, or {0, 0}.
static inline Range outputs_over(const WindowAxis& w, int64_t out, int64_t pixel, Range before) {
  Range range = before;
  while (range.end < out && range.end * w.stride - w.pad_before <= pixel) range.end++;
  while (range.begin < range.end && range.begin * w.stride - w.pad_before + w.extent() <= pixel) range.begin++;
  return range;
}

// Cost of one plane for parallel_for, half an operation per tap: vectors make them cheap. In double because padding
// allows windows far larger than the input.
static inline int64_t pool2d_work(const Pool2dShape& s) {
  const double taps = double(min_of(s.window.h.kernel, s.h_in)) * double(min_of(s.window.w.kernel, s.w_in));
  return int64_t(min_of((double(s.h_in) * double(s.w_in) + double(s.h_out) * double(s.w_out) * taps) / 2, 1e15));
}

// p[0], p[kStride], p[2 * kStride], ... for the first `count` lanes (1 <= count <= kLanes).
template <int kStride>
CONVCORE_INLINE Vec load_columns(const float* p, int64_t count) {
  static_assert(kStride == 1 || kStride == 2, "");
  return kStride == 2 ? load_every_second(p, count) : load_lanes(p, count);
}

// Sum over `rows` x `columns` pixels of an image with `w_in` columns; wide rectangles go by whole vectors.
static inline float sum_rectangle(const float* p, int64_t w_in, int64_t rows, int64_t columns) {
  if (columns == w_in) {  // contiguous: one long row
    columns *= rows;
    rows = 1;
  }
  if (columns < kLanes) {
    float total = 0;
    for (int64_t r = 0; r < rows; r++)
      for (int64_t s = 0; s < columns; s++) total += p[r * w_in + s];
    return total;
  }
  Vec total{};
  for (int64_t r = 0; r < rows; r++) {
    const float* row = p + r * w_in;
    int64_t s = 0;
    for (; s + kLanes <= columns; s += kLanes) total += load(row + s);
    if (s < columns) total += load_partial(row + s, columns - s);
  }
  return sum(total);
}

static inline void add_to_rectangle(float* p, int64_t w_in, int64_t rows, int64_t columns, float value) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t s = 0; s < columns; s++) p[r * w_in + s] += value;
}

// The gradient of means over kh x kw tiles that lie side by side from the upper left corner: every pixel of dx is
// written once, those beyond the tiles with 0.
static inline void spread_over_tiles(const float* dy, int64_t h_out, int64_t w_out, int64_t kh, int64_t kw,
                                     float divisor, float* dx, int64_t h_in, int64_t w_in) {
  for (int64_t i = 0; i < h_out; i++) {
    const float* g = dy + i * w_out;
    float* row = dx + i * kh * w_in;
    if (kw == w_in) {  // whole rows
      const Vec each = splat(*g / divisor);
      for_each_vector(kh * w_in, [&](int64_t at, int64_t lanes) { store_lanes(row + at, each, lanes); });
      continue;
    }
    if (kw == 2) {
      for (int64_t j = 0; j < w_out; j += kLanes) {
        const int64_t count = min_of<int64_t>(kLanes, w_out - j);
        const Vec each = load_lanes(g + j, count) / splat(divisor);
        store_interleaved(row + 2 * j, each, each, count);
      }
    } else {
      for (int64_t j = 0; j < w_out; j++) {
        const float each = g[j] / divisor;
        for (int64_t s = 0; s < kw; s++) row[j * kw + s] = each;
      }
    }
    for (int64_t w = w_out * kw; w < w_in; w++) row[w] = 0;
    for (int64_t r = 1; r < kh; r++) memcpy(row + r * w_in, row, size_t(w_in) * sizeof(float));
  }
  memset(dx + h_out * kh * w_in, 0, size_t((h_in - h_out * kh) * w_in) * sizeof(float));
}

// ---- channels-last: x is (H, W, C), the lanes of a vector are channels ---------------------------------------------

// f(Const<V>, channel, lanes) for V vectors of channels at a time: four while there are as many, then two or one.
template <typename F>
CONVCORE_INLINE void for_each_channel_tile(int64_t c, const F& f) {
  int64_t k = 0;
  for (; k + 4 * kLanes <= c; k += 4 * kLanes) f(Const<4>{}, k, int64_t(kLanes));
  for (; k + 2 * kLanes <= c; k += 2 * kLanes) f(Const<2>{}, k, int64_t(kLanes));
  for (; k < c; k += kLanes) f(Const<1>{}, k, min_of<int64_t>(kLanes, c - k));
}

struct Rectangle {
  Range rows, columns;
};

// y[k] = sum over the rectangle of x[h][w][k] / divisor, for all `c` channels.
static inline void mean_of_rectangle_channels_last(const float* x, int64_t w_in, int64_t c, const Rectangle& r,
                                                   float divisor, float* y) {
  const float* corner = x + (r.rows.begin * w_in + r.columns.begin) * c;
  const int64_t rows = r.rows.end - r.rows.begin, columns = r.columns.end - r.columns.begin;
  for_each_channel_tile(c, [&](auto count, int64_t k, int64_t lanes) {
    constexpr int V = decltype(count)::value;
    Vec total[V] = {};
    for (int64_t h = 0; h < rows; h++) {
      const float* p = corner + h * w_in * c + k;
      for (int64_t w = 0; w < columns; w++, p += c)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) total[v] += load_tile<V>(p + v * kLanes, lanes);
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) store_tile<V>(y + k + v * kLanes, total[v] / splat(divisor), lanes);
  });
}

// The gradient of means over kh x kw tiles side by side, one row of them: dy (w_out, C), dx the first pixel row.
static inline void spread_over_tiles_channels_last(const float* dy, int64_t w_out, int64_t c, int64_t kh, int64_t kw,
                                                   float divisor, float* dx, int64_t w_in) {
  for (int64_t j = 0; j < w_out; j++)
    for_each_channel_tile(c, [&](auto count, int64_t k, int64_t lanes) {
      constexpr int V = decltype(count)::value;
      Vec each[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) each[v] = load_tile<V>(dy + j * c + k + v * kLanes, lanes) / splat(divisor);
      for (int64_t r = 0; r < kh; r++) {
        float* p = dx + (r * w_in + j * kw) * c + k;
        for (int64_t q = 0; q < kw; q++, p += c)
#pragma GCC unroll 4
          for (int v = 0; v < V; v++) store_tile<V>(p + v * kLanes, each[v], lanes);
      }
    });
}

// Zeros to the pixels of dx that no tile covers, in the rows of tile row i (and below, if it is the last).
static inline void clear_beyond_tiles_channels_last(const Pool2dShape& s, int64_t c, int64_t i, float* dx) {
  const int64_t kh = s.window.h.kernel, used = s.w_out * s.window.w.kernel;
  const int64_t end = i + 1 < s.h_out ? (i + 1) * kh : s.h_in;
  for (int64_t h = i * kh; h < end; h++) {
    const int64_t from = h < (i + 1) * kh ? used : 0;
    memset(dx + (h * s.w_in + from) * c, 0, size_t((s.w_in - from) * c) * sizeof(float));
  }
}

// dx[h][w][k] += dy[k] / divisor over the rectangle, for all `c` channels.
static inline void add_to_rectangle_channels_last(float* dx, int64_t w_in, int64_t c, const Rectangle& r, float divisor,
                                                  const float* dy) {
  for (int64_t k = 0; k < c; k += kLanes) {
    const int64_t lanes = min_of<int64_t>(kLanes, c - k);
    const Vec g = load_lanes(dy + k, lanes) / splat(divisor);
    for (int64_t h = r.rows.begin; h < r.rows.end; h++)
      for (int64_t w = r.columns.begin; w < r.columns.end; w++) {
        float* to = dx + (h * w_in + w) * c + k;
        store_lanes(to, load_lanes(to, lanes) + g, lanes);
      }
  }
}

}  // namespace convcore::cpu::CONVCORE_ISA

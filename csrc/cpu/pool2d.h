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

// Cost of one plane for parallel_for; in double because padding allows windows far larger than the input.
static inline int64_t pool2d_work(const Pool2dShape& s) {
  const double taps = double(min_of(s.window.h.kernel, s.h_in)) * double(min_of(s.window.w.kernel, s.w_in));
  return int64_t(min_of(double(s.h_in) * double(s.w_in) + double(s.h_out) * double(s.w_out) * taps, 1e15));
}

// p[0], p[kStride], p[2 * kStride], ... for the first `count` lanes (1 <= count <= kLanes).
template <int kStride>
CONVCORE_INLINE Vec load_columns(const float* p, int64_t count) {
  static_assert(kStride == 1 || kStride == 2, "");
  if (kStride == 2) return load_every_second(p, count);
  return count == kLanes ? load(p) : load_partial(p, count);
}

CONVCORE_INLINE void store_columns(float* p, Vec v, int64_t count) {
  if (count == kLanes)
    store(p, v);
  else
    store_partial(p, v, count);
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
    if (kw == 2) {
      for (int64_t j = 0; j < w_out; j += kLanes) {
        const int64_t count = min_of<int64_t>(kLanes, w_out - j);
        const Vec each = load_columns<1>(g + j, count) / splat(divisor);
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

// f(Const<V>, channel, lanes) for V vectors of channels at a time: four while there are as many, then single ones.
template <typename F>
CONVCORE_INLINE void for_each_channel_tile(int64_t c, const F& f) {
  int64_t k = 0;
  for (; k + 4 * kLanes <= c; k += 4 * kLanes) f(Const<4>{}, k, int64_t(kLanes));
  for (; k < c; k += kLanes) f(Const<1>{}, k, min_of<int64_t>(kLanes, c - k));
}

// The vectors of such a tile: several are whole.
template <int V>
CONVCORE_INLINE Vec load_tile(const float* p, int64_t lanes) {
  return V > 1 ? load(p) : load_lanes(p, lanes);
}
template <int V>
CONVCORE_INLINE void store_tile(float* p, Vec v, int64_t lanes) {
  V > 1 ? store(p, v) : store_lanes(p, v, lanes);
}

struct Rectangle {
  Range rows, columns;
};

// y[k] = sum over the rectangle of x[h][w][k] / divisor, for all `c` channels.
static inline void mean_of_rectangle_channels_last(const float* x, int64_t w_in, int64_t c, const Rectangle& r,
                                                   float divisor, float* y) {
  for (int64_t k = 0; k < c; k += kLanes) {
    const int64_t lanes = min_of<int64_t>(kLanes, c - k);
    Vec total{};
    for (int64_t h = r.rows.begin; h < r.rows.end; h++)
      for (int64_t w = r.columns.begin; w < r.columns.end; w++)
        total += load_columns<1>(x + (h * w_in + w) * c + k, lanes);
    store_columns(y + k, total / splat(divisor), lanes);
  }
}

// dx[h][w][k] += dy[k] / divisor over the rectangle, for all `c` channels.
static inline void add_to_rectangle_channels_last(float* dx, int64_t w_in, int64_t c, const Rectangle& r, float divisor,
                                                  const float* dy) {
  for (int64_t k = 0; k < c; k += kLanes) {
    const int64_t lanes = min_of<int64_t>(kLanes, c - k);
    const Vec g = load_columns<1>(dy + k, lanes) / splat(divisor);
    for (int64_t h = r.rows.begin; h < r.rows.end; h++)
      for (int64_t w = r.columns.begin; w < r.columns.end; w++) {
        float* to = dx + (h * w_in + w) * c + k;
        store_columns(to, load_columns<1>(to, lanes) + g, lanes);
      }
  }
}

}  // namespace convcore::cpu::CONVCORE_ISA

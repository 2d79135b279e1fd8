// max_pool2d. Cost: one comparison per tap, forward and backward; memory decides.
//
// Row-major: one plane (n, c) is one item of the parallel loop. Forward, the outputs of a row are vector lanes where
// the windows lie whole on the input and the stride is 1 or 2; the others go one by one. Backward, 2 x 2 windows at
// stride 2 (and pairs in 1-D) compare the four positions with the index and write every pixel of dx once; other windows
// may overlap: dx is cleared and each output adds to one pixel, in row-major order.
//
// Channels-last: the lanes are channels, so every window is the same for all of them, and one row is one item.
// Backward, windows side by side compare each of their positions with the index; where windows may overlap, each pixel
// of dx collects from the outputs whose windows span it. Both write every pixel once.
#include "ops/max_pool2d.h"

#include "core/threads.h"
#include "cpu/pool2d.h"
#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {

// ---- forward ------------------------------------------------------------------------------------------------------

struct Taps {
  int64_t begin, end;  // taps that lie on the input; never none (infer_pool2d_shape)
  int64_t first;       // pixel under tap `begin`
};

static inline Taps taps_on_input(const WindowAxis& w, int64_t in, int64_t i) {
  const int64_t start = i * w.stride - w.pad_before, d = w.dilation;
  Taps taps{0, w.kernel, start};
  if (start < 0) {
    taps.begin = (d - 1 - start) / d;
    taps.first = start + taps.begin * d;
  }
  if (start + d * (w.kernel - 1) >= in) taps.end = (in - start + d - 1) / d;
  return taps;
}

// One output: its value, and in *index its position in the plane.
static inline float max_of_window(const Pool2dShape& s, const Taps& rows, const Taps& columns, const float* x,
                                  int64_t* index) {
  *index = rows.first * s.w_in + columns.first;
  float best = x[*index];
  int64_t row = *index;
  for (int64_t r = rows.begin; r < rows.end; r++, row += s.window.h.dilation * s.w_in) {
    int64_t position = row;
    for (int64_t c = columns.begin; c < columns.end; c++, position += s.window.w.dilation) {
      const float value = x[position];
      if (value > best || value != value) {
        best = value;
        *index = position;
      }
    }
  }
  return best;
}

// Where `value`, at `position`, is larger than the best so far, or a NaN, it takes its place.
CONVCORE_INLINE void keep_larger(Vec value, IntVec position, Vec* best, IntVec* at) {
  const IntVec wins = (value > *best) | (value != value);
  *best = select(wins, value, *best);
  *at = select_int(wins, position, *at);
}

static inline void store_indices(int32_t* p, IntVec v, int64_t count) {
  if (count == kLanes)
    store_int(p, v);
  else
    store_int_partial(p, v, count);
}

// The outputs [columns.begin, columns.end) of a row, whose windows are pairs of columns side by side.
static void max_of_pairs(const Pool2dShape& s, const Taps& rows, Range columns, const float* x, float* y,
                         int32_t* indices) {
  const int64_t row_step = s.window.h.dilation * s.w_in;
  for (int64_t j = columns.begin; j < columns.end; j += kLanes) {
    const int64_t count = min_of<int64_t>(kLanes, columns.end - j);
    int64_t row = rows.first * s.w_in + 2 * j - s.window.w.pad_before;
    IntVec position = splat_int(int32_t(row)) + 2 * lane_numbers(), index = position;
    Vec best = splat(-__builtin_inff());
    for (int64_t r = rows.begin; r < rows.end; r++, row += row_step) {
      Vec even, odd;
      load_pairs(x + row, count, &even, &odd);
      keep_larger(even, position, &best, &index);
      keep_larger(odd, position + 1, &best, &index);
      position += int32_t(row_step);
    }
    store_lanes(y + j, best, count);
    if (indices) store_indices(indices + j, index, count);
  }
}

// The same for windows of any width.
template <int kStride>
static void max_of_whole_windows(const Pool2dShape& s, const Taps& rows, Range columns, const float* x, float* y,
                                 int32_t* indices) {
  const int64_t row_step = s.window.h.dilation * s.w_in, kw = s.window.w.kernel;
  for (int64_t j = columns.begin; j < columns.end; j += kLanes) {
    const int64_t count = min_of<int64_t>(kLanes, columns.end - j);
    int64_t row = rows.first * s.w_in + j * kStride - s.window.w.pad_before;
    const IntVec lane_offset = lane_numbers() * kStride;
    Vec best = load_columns<kStride>(x + row, count);
    IntVec index = splat_int(int32_t(row)) + lane_offset;
    for (int64_t r = rows.begin; r < rows.end; r++, row += row_step) {
      for (int64_t c = r == rows.begin; c < kw; c++) {  // the first tap is in `best` already
        const int64_t position = row + c * s.window.w.dilation;
        keep_larger(load_columns<kStride>(x + position, count), splat_int(int32_t(position)) + lane_offset, &best,
                    &index);
      }
    }
    store_lanes(y + j, best, count);
    if (indices) store_indices(indices + j, index, count);
  }
}

static void max_of_plane(const Pool2dShape& s, const float* x, float* y, int32_t* indices) {
  const int64_t stride = s.window.w.stride;
  const bool pairs = stride == 2 && s.window.w.kernel == 2 && s.window.w.dilation == 1;
  const Range whole = stride <= 2 ? whole_windows(s.window.w, s.w_in, s.w_out) : Range{0, 0};
  for (int64_t i = 0; i < s.h_out; i++) {
    const Taps rows = taps_on_input(s.window.h, s.h_in, i);
    float* y_row = y + i * s.w_out;
    int32_t* index_row = indices ? indices + i * s.w_out : nullptr;
    if (stride == 1) max_of_whole_windows<1>(s, rows, whole, x, y_row, index_row);
    if (pairs)
      max_of_pairs(s, rows, whole, x, y_row, index_row);
    else if (stride == 2)
      max_of_whole_windows<2>(s, rows, whole, x, y_row, index_row);
    for (int64_t j = 0; j < s.w_out; j++) {
      if (j == whole.begin) j = whole.end;
      if (j == s.w_out) break;
      int64_t index;
      y_row[j] = max_of_window(s, rows, taps_on_input(s.window.w, s.w_in, j), x, &index);
      if (index_row) index_row[j] = int32_t(index);
    }
  }
}

static void max_pool2d_forward(const Pool2dShape& s, const float* x, float* y, int32_t* indices) {
  const int64_t in = s.h_in * s.w_in, out = s.h_out * s.w_out;
  parallel_for(s.planes, pool2d_work(s), [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; plane++)
      max_of_plane(s, x + plane * in, y + plane * out, indices ? indices + plane * out : nullptr);
  });
}

// ---- backward -----------------------------------------------------------------------------------------------------

// Whether the windows are pairs of columns, in one row or in two, side by side.
static bool windows_are_pairs(const Pool2dShape& s) {
  const WindowAxis &h = s.window.h, &w = s.window.w;
  return w.kernel == 2 && w.stride == 2 && w.dilation == 1 && w.pad_before == 0 && 2 * s.w_out <= s.w_in &&
         h.kernel <= 2 && h.stride == h.kernel && h.dilation == 1 && h.pad_before == 0 && h.kernel * s.h_out <= s.h_in;
}

static bool scatter_to_pairs(const Pool2dShape& s, const float* dy, const int32_t* indices, float* dx) {
  const int64_t rows = s.window.h.kernel;
  IntVec outside{};
  for (int64_t i = 0; i < s.h_out; i++) {
    for (int64_t j = 0; j < s.w_out; j += kLanes) {
      const int64_t count = min_of<int64_t>(kLanes, s.w_out - j), output = i * s.w_out + j;
      const Vec g = load_lanes(dy + output, count);
      const IntVec index = count == kLanes ? load_int(indices + output) : load_int_partial(indices + output, count);
      IntVec found{};
      for (int64_t r = 0; r < rows; r++) {
        const int64_t position = (rows * i + r) * s.w_in + 2 * j;
        const IntVec first = splat_int(int32_t(position)) + 2 * lane_numbers();
        const IntVec left = index == first, right = index == first + 1;
        store_interleaved(dx + position, select(left, g, Vec{}), select(right, g, Vec{}), count);
        found |= left | right;
      }
      outside |= ~found & (lane_numbers() < splat_int(int32_t(count)));
    }
    for (int64_t r = 0; r < rows; r++)
      for (int64_t w = 2 * s.w_out; w < s.w_in; w++) dx[(rows * i + r) * s.w_in + w] = 0;
  }
  memset(dx + rows * s.h_out * s.w_in, 0, size_t((s.h_in - rows * s.h_out) * s.w_in) * sizeof(float));
  return !any(outside);
}

static bool scatter(const Pool2dShape& s, const float* dy, const int32_t* indices, float* dx) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  const int64_t span_h = wh.dilation * (wh.kernel - 1) + 1, span_w = ww.dilation * (ww.kernel - 1) + 1;
  bool good = true;
  memset(dx, 0, size_t(s.h_in * s.w_in) * sizeof(float));
  for (int64_t i = 0; i < s.h_out; i++) {
    for (int64_t j = 0; j < s.w_out; j++) {
      const uint32_t index = uint32_t(indices[i * s.w_out + j]);  // a negative one becomes too large
      const uint32_t h = index / uint32_t(s.w_in), w = index % uint32_t(s.w_in);
      const int64_t r = h - (i * wh.stride - wh.pad_before), c = w - (j * ww.stride - ww.pad_before);
      if (h < s.h_in && r >= 0 && r < span_h && c >= 0 && c < span_w)
        dx[index] += dy[i * s.w_out + j];
      else
        good = false;
    }
  }
  return good;
}

static bool max_pool2d_backward(const Pool2dShape& s, const float* dy, const int32_t* indices, float* dx) {
  const int64_t in = s.h_in * s.w_in, out = s.h_out * s.w_out;
  const bool pairs = windows_are_pairs(s);
  bool bad = false;
  parallel_for(s.planes, in + 4 * out, [&](int64_t begin, int64_t end) {
    bool good = true;
    for (int64_t plane = begin; plane < end; plane++) {
      const float* dy_plane = dy + plane * out;
      const int32_t* index_plane = indices + plane * out;
      float* dx_plane = dx + plane * in;
      good &=
          pairs ? scatter_to_pairs(s, dy_plane, index_plane, dx_plane) : scatter(s, dy_plane, index_plane, dx_plane);
    }
    if (!good) __atomic_store_n(&bad, true, __ATOMIC_RELAXED);
  });
  return !bad;
}

// ---- channels-last, forward ---------------------------------------------------------------------------------------

// The largest of `rows` x `columns` taps (K x K when K is not 0) in V vectors of channels. x is the first tap, at
// position `first` of the plane.
template <int V, int K>
CONVCORE_INLINE void max_of_taps(const Pool2dShape& s, int64_t c, int64_t rows, int64_t columns, int64_t first,
                                 const float* x, int64_t lanes, float* y, int32_t* indices) {
  const int64_t row_step = s.window.h.dilation * s.w_in, column_step = s.window.w.dilation;
  const int64_t kh = K ? K : rows, kw = K ? K : columns;
  Vec best[V];
  IntVec at[V] = {};  // counted from the first tap
  for (int v = 0; v < V; v++) best[v] = splat(-__builtin_inff());
#pragma GCC unroll 3
  for (int64_t r = 0; r < kh; r++)
#pragma GCC unroll 3
    for (int64_t q = 0; q < kw; q++) {
      const int64_t position = r * row_step + q * column_step;
      const IntVec here = splat_int(int32_t(position));
#pragma GCC unroll 4
      for (int v = 0; v < V; v++)
        keep_larger(load_tile<V>(x + position * c + v * kLanes, lanes), here, &best[v], &at[v]);
    }
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) {
    const IntVec index = at[v] + int32_t(first);
    store_tile<V>(y + v * kLanes, best[v], lanes);
    if (!indices) continue;
    if (V > 1)
      store_int(indices + v * kLanes, index);
    else
      store_indices(indices, index, lanes);
  }
}

// One row of outputs. K: the kernel, where it is K x K; windows that lie whole on the input have that many taps.
template <int K>
static void max_of_row(const Pool2dShape& shape, int64_t c, int64_t i, const float* image, float* y, int32_t* indices) {
  const Pool2dShape s = shape;  // a local copy stays in registers: vectors that are stored may alias all other memory
  const Taps rows = taps_on_input(s.window.h, s.h_in, i);
  const bool whole_rows = rows.end - rows.begin == s.window.h.kernel;
  for (int64_t j = 0; j < s.w_out; j++) {
    const Taps columns = taps_on_input(s.window.w, s.w_in, j);
    const int64_t kh = rows.end - rows.begin, kw = columns.end - columns.begin;
    const int64_t first = rows.first * s.w_in + columns.first;
    const bool whole = K && whole_rows && kw == K;
    for_each_channel_tile(c, [&](auto count, int64_t k, int64_t lanes) {
      constexpr int V = decltype(count)::value;
      const float* x = image + first * c + k;
      int32_t* index = indices ? indices + j * c + k : nullptr;
      if (whole)
        max_of_taps<V, K>(s, c, K, K, first, x, lanes, y + j * c + k, index);
      else
        max_of_taps<V, 0>(s, c, kh, kw, first, x, lanes, y + j * c + k, index);
    });
  }
}

static void max_pool2d_forward_channels_last(const Pool2dShape& s, int64_t c, const float* x, float* y,
                                             int32_t* indices) {
  if (c == 0) return;
  const int64_t kernel = s.window.h.kernel == s.window.w.kernel ? s.window.h.kernel : 0;
  parallel_for(s.planes / c * s.h_out, pool2d_work(s) * c / s.h_out, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const float* image = x + row / s.h_out * s.h_in * s.w_in * c;
      float* y_row = y + row * s.w_out * c;
      int32_t* index_row = indices ? indices + row * s.w_out * c : nullptr;
      if (kernel == 2)
        max_of_row<2>(s, c, row % s.h_out, image, y_row, index_row);
      else if (kernel == 3)
        max_of_row<3>(s, c, row % s.h_out, image, y_row, index_row);
      else
        max_of_row<0>(s, c, row % s.h_out, image, y_row, index_row);
    }
  });
}

// ---- channels-last, backward --------------------------------------------------------------------------------------
//
// A pixel gets the gradient of an output when the index of that output names it. Each index must name one pixel that
// its window spans; so as many matches as outputs are found, unless an index is wrong.

CONVCORE_INLINE int64_t sum_lanes(IntVec v) {
  int64_t total = 0;
  for (int lane = 0; lane < kLanes; lane++) total += v[lane];
  return total;
}

CONVCORE_INLINE IntVec load_indices(const int32_t* p, int64_t count) {
  return count == kLanes ? load_int(p) : load_int_partial(p, count);
}

// Windows side by side: the pixels of output row i of an image. Returns the number of matches.
template <int K>
static int64_t spread_over_tiles(const Pool2dShape& shape, int64_t c, int64_t i, const float* dy,
                                 const int32_t* indices, float* dx) {
  const Pool2dShape s = shape;  // local, see max_of_row
  const int64_t kh = K ? K : s.window.h.kernel, kw = K ? K : s.window.w.kernel;
  IntVec matches{};
  for (int64_t j = 0; j < s.w_out; j++, dy += c, indices += c)
    for_each_channel_tile(c, [&](auto count, int64_t k, int64_t lanes) {
      constexpr int V = decltype(count)::value;
      Vec g[V];
      IntVec index[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) {
        g[v] = load_tile<V>(dy + k + v * kLanes, lanes);
        index[v] = V > 1 ? load_int(indices + k + v * kLanes) : load_indices(indices + k, lanes);
        if (V == 1) index[v] = select_int(lanes_below(lanes), index[v], splat_int(-1));
      }
#pragma GCC unroll 2
      for (int64_t r = 0; r < kh; r++)
#pragma GCC unroll 2
        for (int64_t q = 0; q < kw; q++) {
          const int64_t position = (i * kh + r) * s.w_in + j * kw + q;
#pragma GCC unroll 4
          for (int v = 0; v < V; v++) {
            const IntVec here = index[v] == splat_int(int32_t(position));
            store_tile<V>(dx + position * c + k + v * kLanes, select(here, g[v], Vec{}), lanes);
            matches = select_int(here, matches + 1, matches);
          }
        }
    });
  clear_beyond_tiles_channels_last(s, c, i, dx);
  return sum_lanes(matches);
}

// Windows that may overlap: row h of the pixels of an image. Returns the number of matches.
static int64_t collect_row(const Pool2dShape& shape, int64_t c, int64_t h, const float* dy, const int32_t* indices,
                           float* dx) {
  const Pool2dShape s = shape;  // local, see max_of_row
  const Range rows = outputs_over(s.window.h, s.h_out, h, {0, 0});
  Range columns{0, 0};
  IntVec matches{};
  for (int64_t w = 0; w < s.w_in; w++) {
    columns = outputs_over(s.window.w, s.w_out, w, columns);
    const int64_t position = h * s.w_in + w;
    const IntVec named = splat_int(int32_t(position));
    for_each_channel_tile(c, [&](auto count, int64_t k, int64_t lanes) {
      constexpr int V = decltype(count)::value;
      Vec total[V] = {};
      for (int64_t i = rows.begin; i < rows.end; i++)
        for (int64_t j = columns.begin; j < columns.end; j++) {
          const int64_t output = (i * s.w_out + j) * c + k;
#pragma GCC unroll 4
          for (int v = 0; v < V; v++) {
            const int64_t at = output + v * kLanes;
            IntVec here = (V > 1 ? load_int(indices + at) : load_indices(indices + at, lanes)) == named;
            if (V == 1) here &= lanes_below(lanes);
            total[v] += select(here, load_tile<V>(dy + at, lanes), Vec{});
            matches = select_int(here, matches + 1, matches);
          }
        }
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) store_tile<V>(dx + position * c + k + v * kLanes, total[v], lanes);
    });
  }
  return sum_lanes(matches);
}

static bool max_pool2d_backward_channels_last(const Pool2dShape& s, int64_t c, const float* dy, const int32_t* indices,
                                              float* dx) {
  if (c == 0) return true;
  const int64_t in = s.h_in * s.w_in * c, out = s.h_out * s.w_out * c;
  const bool tiles = windows_are_tiles(s), pairs = s.window.h.kernel == 2 && s.window.w.kernel == 2;
  const int64_t rows = tiles ? s.h_out : s.h_in;  // of an image
  int64_t matches = 0;
  parallel_for(s.planes / c * rows, pool2d_work(s) * c / rows, [&](int64_t begin, int64_t end) {
    int64_t found = 0;
    for (int64_t item = begin; item < end; item++) {
      const int64_t n = item / rows, row = item % rows, first = n * out + (tiles ? row * s.w_out * c : 0);
      if (!tiles)
        found += collect_row(s, c, row, dy + first, indices + first, dx + n * in);
      else if (pairs)
        found += spread_over_tiles<2>(s, c, row, dy + first, indices + first, dx + n * in);
      else
        found += spread_over_tiles<0>(s, c, row, dy + first, indices + first, dx + n * in);
    }
    __atomic_fetch_add(&matches, found, __ATOMIC_RELAXED);
  });
  return matches == s.planes / c * out;
}

MaxPool2dKernels max_pool2d_kernels();
MaxPool2dKernels max_pool2d_kernels() {
  return {max_pool2d_forward, max_pool2d_backward, max_pool2d_forward_channels_last, max_pool2d_backward_channels_last};
}

}  // namespace convcore::cpu::CONVCORE_ISA

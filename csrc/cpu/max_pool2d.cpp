// max_pool2d: one plane (n, c) is one item of the parallel loop, so no two threads write the same plane.
//
// Forward: along a row the outputs are vector lanes where the windows lie whole on the input and the stride is 1 or 2;
// the others go one by one. Cost: one comparison per tap.
// Backward: 2 x 2 windows at stride 2 (and pairs in 1-D) compare the four positions with the index and write every
// pixel of dx once; other windows may overlap: dx is cleared and each output adds to one pixel, in row-major order.
#include "ops/max_pool2d.h"

#include "core/threads.h"
#include "cpu/pool2d.h"

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

// The outputs [columns.begin, columns.end) of a row, whose windows lie whole between the left and the right edge.
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
        const Vec value = load_columns<kStride>(x + position, count);
        const IntVec wins = (value > best) | (value != value);
        best = select(wins, value, best);
        index = select_int(wins, splat_int(int32_t(position)) + lane_offset, index);
      }
    }
    store_columns(y + j, best, count);
    if (!indices) continue;
    if (count == kLanes)
      store_int(indices + j, index);
    else
      store_int_partial(indices + j, index, count);
  }
}

static void max_of_plane(const Pool2dShape& s, const float* x, float* y, int32_t* indices) {
  const int64_t stride = s.window.w.stride;
  const Range whole = stride <= 2 ? whole_windows(s.window.w, s.w_in, s.w_out) : Range{0, 0};
  for (int64_t i = 0; i < s.h_out; i++) {
    const Taps rows = taps_on_input(s.window.h, s.h_in, i);
    float* y_row = y + i * s.w_out;
    int32_t* index_row = indices ? indices + i * s.w_out : nullptr;
    if (stride == 1) max_of_whole_windows<1>(s, rows, whole, x, y_row, index_row);
    if (stride == 2) max_of_whole_windows<2>(s, rows, whole, x, y_row, index_row);
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
      const Vec g = load_columns<1>(dy + output, count);
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

// ---- channels-last ------------------------------------------------------------------------------------------------
//
// The lanes of a vector are channels, so every window is the same for all of them. One comparison per tap, forward and
// backward.

static void max_pool2d_forward_channels_last(const Pool2dShape& s, int64_t c, const float* x, float* y,
                                             int32_t* indices) {
  if (c == 0) return;
  const int64_t images = s.planes / c;
  parallel_for(images * s.h_out, pool2d_work(s) * c / s.h_out, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const float* image = x + row / s.h_out * s.h_in * s.w_in * c;
      const Taps rows = taps_on_input(s.window.h, s.h_in, row % s.h_out);
      for (int64_t j = 0; j < s.w_out; j++) {
        const Taps columns = taps_on_input(s.window.w, s.w_in, j);
        const int64_t first = rows.first * s.w_in + columns.first, output = (row * s.w_out + j) * c;
        for (int64_t k = 0; k < c; k += kLanes) {
          const int64_t lanes = min_of<int64_t>(kLanes, c - k);
          Vec best = load_columns<1>(image + first * c + k, lanes);
          IntVec index = splat_int(int32_t(first));
          for (int64_t r = rows.begin; r < rows.end; r++)
            for (int64_t q = columns.begin; q < columns.end; q++) {
              const int64_t position =
                  first + (r - rows.begin) * s.window.h.dilation * s.w_in + (q - columns.begin) * s.window.w.dilation;
              const Vec value = load_columns<1>(image + position * c + k, lanes);
              const IntVec better = (value > best) | (value != value);
              best = select(better, value, best);
              index = select_int(better, splat_int(int32_t(position)), index);
            }
          store_columns(y + output + k, best, lanes);
          if (indices) {
            if (lanes == kLanes)
              store_int(indices + output + k, index);
            else
              store_int_partial(indices + output + k, index, lanes);
          }
        }
      }
    }
  });
}

// One image: every output adds its gradient to the tap that its index names. False when an index names none of them.
static bool scatter_channels_last(const Pool2dShape& s, int64_t c, const float* dy, const int32_t* indices, float* dx) {
  IntVec outside{};
  memset(dx, 0, size_t(s.h_in * s.w_in * c) * sizeof(float));
  for (int64_t i = 0; i < s.h_out; i++) {
    const Taps rows = taps_on_input(s.window.h, s.h_in, i);
    for (int64_t j = 0; j < s.w_out; j++, dy += c, indices += c) {
      const Taps columns = taps_on_input(s.window.w, s.w_in, j);
      const int64_t first = rows.first * s.w_in + columns.first;
      for (int64_t k = 0; k < c; k += kLanes) {
        const int64_t lanes = min_of<int64_t>(kLanes, c - k);
        const Vec g = load_columns<1>(dy + k, lanes);
        const IntVec index = lanes == kLanes ? load_int(indices + k) : load_int_partial(indices + k, lanes);
        IntVec found{};
        for (int64_t r = rows.begin; r < rows.end; r++)
          for (int64_t q = columns.begin; q < columns.end; q++) {
            const int64_t position =
                first + (r - rows.begin) * s.window.h.dilation * s.w_in + (q - columns.begin) * s.window.w.dilation;
            const IntVec here = index == splat_int(int32_t(position));
            float* to = dx + position * c + k;
            store_columns(to, load_columns<1>(to, lanes) + select(here, g, Vec{}), lanes);
            found |= here;
          }
        outside |= ~found & (lane_numbers() < splat_int(int32_t(lanes)));
      }
    }
  }
  return !any(outside);
}

static bool max_pool2d_backward_channels_last(const Pool2dShape& s, int64_t c, const float* dy, const int32_t* indices,
                                              float* dx) {
  if (c == 0) return true;
  const int64_t in = s.h_in * s.w_in * c, out = s.h_out * s.w_out * c;
  bool bad = false;
  parallel_for(s.planes / c, in + pool2d_work(s) * c, [&](int64_t begin, int64_t end) {
    bool good = true;
    for (int64_t n = begin; n < end; n++)
      good &= scatter_channels_last(s, c, dy + n * out, indices + n * out, dx + n * in);
    if (!good) __atomic_store_n(&bad, true, __ATOMIC_RELAXED);
  });
  return !bad;
}

MaxPool2dKernels max_pool2d_kernels();
MaxPool2dKernels max_pool2d_kernels() {
  return {max_pool2d_forward, max_pool2d_backward, max_pool2d_forward_channels_last, max_pool2d_backward_channels_last};
}

}  // namespace convcore::cpu::CONVCORE_ISA

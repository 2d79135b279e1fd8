// avg_pool2d: one plane (n, c) is one item of the parallel loop, so no two threads write the same plane.
//
// Forward: along a row the outputs are vector lanes where the windows lie whole on the input, the stride is 1 or 2 and
// there are enough of them; the others are sums over rectangles. Cost: one addition per tap.
// Backward: windows that tile the input write every pixel of dx once; other windows may overlap: dx is cleared and the
// outputs add to it in row-major order. With channels last the lanes are channels.
#include "ops/avg_pool2d.h"

#include "core/threads.h"
#include "cpu/pool2d.h"

namespace convcore::cpu::CONVCORE_ISA {

struct Span {          // a window along one axis
  int64_t begin, end;  // its pixels on the input
  int64_t padded;      // number of its pixels on the padded input
};

static inline Span span_of(const WindowAxis& w, int64_t in, int64_t i) {
  const int64_t start = i * w.stride - w.pad_before, stop = min_of(start + w.kernel, in + w.pad_after);
  return {max_of<int64_t>(start, 0), min_of(stop, in), stop - start};
}

static inline float divisor_of(const AvgPool2dShape& s, const Span& rows, const Span& columns) {
  if (s.divisor_override != 0) return float(s.divisor_override);
  if (s.count_include_pad) return float(rows.padded * columns.padded);
  return float((rows.end - rows.begin) * (columns.end - columns.begin));
}

// ---- forward ------------------------------------------------------------------------------------------------------

// The outputs [columns.begin, columns.end) of a row, whose windows lie whole between the left and the right edge.
template <int kStride>
static void mean_of_whole_windows(const AvgPool2dShape& s, const Span& rows, Range columns, const float* x, float* y) {
  const WindowAxis& window = s.pool.window.w;
  const Vec divisor = splat(divisor_of(s, rows, {0, window.kernel, window.kernel}));
  for (int64_t j = columns.begin; j < columns.end; j += kLanes) {
    const int64_t count = min_of<int64_t>(kLanes, columns.end - j);
    Vec total{};
    for (int64_t h = rows.begin; h < rows.end; h++) {
      const float* p = x + h * s.pool.w_in + j * kStride - window.pad_before;
      for (int64_t c = 0; c < window.kernel; c++) total += load_columns<kStride>(p + c, count);
    }
    store_lanes(y + j, total / divisor, count);
  }
}

static void mean_of_plane(const AvgPool2dShape& s, const float* x, float* y) {
  const Pool2dShape& p = s.pool;
  const int64_t stride = p.window.w.stride;
  Range whole = stride <= 2 ? whole_windows(p.window.w, p.w_in, p.w_out) : Range{0, 0};
  if (whole.end - whole.begin < p.window.w.kernel) whole = {0, 0};  // rectangles have longer rows than these
  for (int64_t i = 0; i < p.h_out; i++) {
    const Span rows = span_of(p.window.h, p.h_in, i);
    float* y_row = y + i * p.w_out;
    if (stride == 1) mean_of_whole_windows<1>(s, rows, whole, x, y_row);
    if (stride == 2) mean_of_whole_windows<2>(s, rows, whole, x, y_row);
    for (int64_t j = 0; j < p.w_out; j++) {
      if (j == whole.begin) j = whole.end;
      if (j == p.w_out) break;
      const Span columns = span_of(p.window.w, p.w_in, j);
      y_row[j] = sum_rectangle(x + rows.begin * p.w_in + columns.begin, p.w_in, rows.end - rows.begin,
                               columns.end - columns.begin) /
                 divisor_of(s, rows, columns);
    }
  }
}

static void avg_pool2d_forward(const AvgPool2dShape& s, const float* x, float* y) {
  const int64_t in = s.pool.h_in * s.pool.w_in, out = s.pool.h_out * s.pool.w_out;
  parallel_for(s.pool.planes, pool2d_work(s.pool), [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; plane++) mean_of_plane(s, x + plane * in, y + plane * out);
  });
}

// ---- backward -----------------------------------------------------------------------------------------------------

static void spread_over_windows(const AvgPool2dShape& s, const float* dy, float* dx) {
  const Pool2dShape& p = s.pool;
  memset(dx, 0, size_t(p.h_in * p.w_in) * sizeof(float));
  for (int64_t i = 0; i < p.h_out; i++) {
    const Span rows = span_of(p.window.h, p.h_in, i);
    for (int64_t j = 0; j < p.w_out; j++) {
      const Span columns = span_of(p.window.w, p.w_in, j);
      add_to_rectangle(dx + rows.begin * p.w_in + columns.begin, p.w_in, rows.end - rows.begin,
                       columns.end - columns.begin, dy[i * p.w_out + j] / divisor_of(s, rows, columns));
    }
  }
}

static void avg_pool2d_backward(const AvgPool2dShape& s, const float* dy, float* dx) {
  const Pool2dShape& p = s.pool;
  const int64_t in = p.h_in * p.w_in, out = p.h_out * p.w_out, kh = p.window.h.kernel, kw = p.window.w.kernel;
  const bool tiled = windows_are_tiles(p);
  const float tile_divisor = divisor_of(s, {0, kh, kh}, {0, kw, kw});
  parallel_for(p.planes, pool2d_work(p), [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; plane++) {
      const float* dy_plane = dy + plane * out;
      float* dx_plane = dx + plane * in;
      if (tiled)
        spread_over_tiles(dy_plane, p.h_out, p.w_out, kh, kw, tile_divisor, dx_plane, p.h_in, p.w_in);
      else
        spread_over_windows(s, dy_plane, dx_plane);
    }
  });
}

// ---- channels-last: one row of outputs is one item
// -------------------------------------------------------------------

template <typename F>  // f(output, rectangle, divisor) for the outputs of a row
static void for_each_window(const AvgPool2dShape& s, int64_t i, const F& f) {
  const Pool2dShape& p = s.pool;
  const Span rows = span_of(p.window.h, p.h_in, i);
  for (int64_t j = 0; j < p.w_out; j++) {
    const Span columns = span_of(p.window.w, p.w_in, j);
    f(i * p.w_out + j, Rectangle{{rows.begin, rows.end}, {columns.begin, columns.end}}, divisor_of(s, rows, columns));
  }
}

template <typename F>  // f(n, i) for the rows of outputs of all images, in parallel
static void for_each_output_row(const Pool2dShape& p, int64_t c, const F& f) {
  parallel_for(c == 0 ? 0 : p.planes / c * p.h_out, pool2d_work(p) * c / p.h_out, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) f(row / p.h_out, row % p.h_out);
  });
}

static void avg_pool2d_forward_channels_last(const AvgPool2dShape& s, int64_t c, const float* x, float* y) {
  const Pool2dShape& p = s.pool;
  const int64_t in = p.h_in * p.w_in * c, out = p.h_out * p.w_out * c;
  for_each_output_row(p, c, [&](int64_t n, int64_t i) {
    for_each_window(s, i, [&](int64_t output, const Rectangle& r, float divisor) {
      mean_of_rectangle_channels_last(x + n * in, p.w_in, c, r, divisor, y + n * out + output * c);
    });
  });
}

static void avg_pool2d_backward_channels_last(const AvgPool2dShape& s, int64_t c, const float* dy, float* dx) {
  const Pool2dShape& p = s.pool;
  const int64_t in = p.h_in * p.w_in * c, out = p.h_out * p.w_out * c, kh = p.window.h.kernel, kw = p.window.w.kernel;
  if (windows_are_tiles(p)) {
    const float divisor = divisor_of(s, {0, kh, kh}, {0, kw, kw});
    return for_each_output_row(p, c, [&](int64_t n, int64_t i) {
      spread_over_tiles_channels_last(dy + n * out + i * p.w_out * c, p.w_out, c, kh, kw, divisor,
                                      dx + n * in + i * kh * p.w_in * c, p.w_in);
      clear_beyond_tiles_channels_last(p, c, i, dx + n * in);
    });
  }
  parallel_for(c == 0 ? 0 : p.planes / c, pool2d_work(p) * c, [&](int64_t begin, int64_t end) {
    memset(dx + begin * in, 0, size_t((end - begin) * in) * sizeof(float));
    for (int64_t n = begin; n < end; n++)
      for (int64_t i = 0; i < p.h_out; i++)
        for_each_window(s, i, [&](int64_t output, const Rectangle& r, float divisor) {
          add_to_rectangle_channels_last(dx + n * in, p.w_in, c, r, divisor, dy + n * out + output * c);
        });
  });
}

AvgPool2dKernels avg_pool2d_kernels();
AvgPool2dKernels avg_pool2d_kernels() {
  return {avg_pool2d_forward, avg_pool2d_backward, avg_pool2d_forward_channels_last, avg_pool2d_backward_channels_last};
}

}  // namespace convcore::cpu::CONVCORE_ISA

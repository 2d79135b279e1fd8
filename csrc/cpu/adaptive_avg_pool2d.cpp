// adaptive_avg_pool2d: one plane (n, c) is one item of the parallel loop, so no two threads write the same plane.
//
// Forward: a sum over a rectangle per output (one addition per pixel of it); an output of 1 x 1 sums the whole plane by
// vectors. Backward: where the sizes divide, every pixel of dx is written once; otherwise neighbouring windows overlap:
// dx is cleared and the outputs add to it in row-major order.
#include "ops/adaptive_avg_pool2d.h"

#include "core/threads.h"
#include "cpu/pool2d.h"

namespace convcore::cpu::CONVCORE_ISA {

// The pixels of window i of `out` along an axis of `in` pixels.
static inline Range window_of(int64_t in, int64_t out, int64_t i) {
  return {i * in / out, ((i + 1) * in + out - 1) / out};
}

// Cost of one plane for parallel_for: windows overlap by at most one pixel on each side.
static int64_t plane_work(const AdaptiveAvgPool2dShape& s) {
  return int64_t(min_of((double(s.h_in) + double(s.h_out)) * (double(s.w_in) + double(s.w_out)), 1e15));
}

// ---- forward ------------------------------------------------------------------------------------------------------

static void mean_of_plane(const AdaptiveAvgPool2dShape& s, const float* x, float* y) {
  for (int64_t i = 0; i < s.h_out; i++) {
    const Range rows = window_of(s.h_in, s.h_out, i);
    for (int64_t j = 0; j < s.w_out; j++) {
      const Range columns = window_of(s.w_in, s.w_out, j);
      const int64_t kh = rows.end - rows.begin, kw = columns.end - columns.begin;
      y[i * s.w_out + j] =
          sum_rectangle(x + rows.begin * s.w_in + columns.begin, s.w_in, kh, kw) / (float(kh) * float(kw));
    }
  }
}

static void adaptive_avg_pool2d_forward(const AdaptiveAvgPool2dShape& s, const float* x, float* y) {
  const int64_t in = s.h_in * s.w_in, out = s.h_out * s.w_out;
  parallel_for(s.planes, plane_work(s), [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; plane++) mean_of_plane(s, x + plane * in, y + plane * out);
  });
}

// ---- backward -----------------------------------------------------------------------------------------------------

static bool windows_are_tiles(const AdaptiveAvgPool2dShape& s) {
  return s.h_out > 0 && s.w_out > 0 && s.h_in % s.h_out == 0 && s.w_in % s.w_out == 0;
}

static void spread_over_windows(const AdaptiveAvgPool2dShape& s, const float* dy, float* dx) {
  memset(dx, 0, size_t(s.h_in * s.w_in) * sizeof(float));
  for (int64_t i = 0; i < s.h_out; i++) {
    const Range rows = window_of(s.h_in, s.h_out, i);
    for (int64_t j = 0; j < s.w_out; j++) {
      const Range columns = window_of(s.w_in, s.w_out, j);
      const int64_t kh = rows.end - rows.begin, kw = columns.end - columns.begin;
      add_to_rectangle(dx + rows.begin * s.w_in + columns.begin, s.w_in, kh, kw,
                       dy[i * s.w_out + j] / (float(kh) * float(kw)));
    }
  }
}

static void adaptive_avg_pool2d_backward(const AdaptiveAvgPool2dShape& s, const float* dy, float* dx) {
  const int64_t in = s.h_in * s.w_in, out = s.h_out * s.w_out;
  const bool tiled = windows_are_tiles(s);
  parallel_for(s.planes, plane_work(s), [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; plane++) {
      const float* dy_plane = dy + plane * out;
      float* dx_plane = dx + plane * in;
      if (tiled) {
        const int64_t kh = s.h_in / s.h_out, kw = s.w_in / s.w_out;
        spread_over_tiles(dy_plane, s.h_out, s.w_out, kh, kw, float(kh) * float(kw), dx_plane, s.h_in, s.w_in);
      } else {
        spread_over_windows(s, dy_plane, dx_plane);
      }
    }
  });
}

// ---- channels-last: one image is one item ---------------------------------------------------------------------------

template <typename F>  // f(output, rectangle, divisor) for every output of an image
static void for_each_window(const AdaptiveAvgPool2dShape& s, const F& f) {
  for (int64_t i = 0; i < s.h_out; i++)
    for (int64_t j = 0; j < s.w_out; j++) {
      const Rectangle r{window_of(s.h_in, s.h_out, i), window_of(s.w_in, s.w_out, j)};
      f(i * s.w_out + j, r, float(r.rows.end - r.rows.begin) * float(r.columns.end - r.columns.begin));
    }
}

static void forward_channels_last(const AdaptiveAvgPool2dShape& s, int64_t c, const float* x, float* y) {
  const int64_t in = s.h_in * s.w_in * c, out = s.h_out * s.w_out * c;
  parallel_for(c == 0 ? 0 : s.planes / c, plane_work(s) * c, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      for_each_window(s, [&](int64_t output, const Rectangle& r, float divisor) {
        mean_of_rectangle_channels_last(x + n * in, s.w_in, c, r, divisor, y + n * out + output * c);
      });
  });
}

static void backward_channels_last(const AdaptiveAvgPool2dShape& s, int64_t c, const float* dy, float* dx) {
  const int64_t in = s.h_in * s.w_in * c, out = s.h_out * s.w_out * c;
  parallel_for(c == 0 ? 0 : s.planes / c, plane_work(s) * c, [&](int64_t begin, int64_t end) {
    if (windows_are_tiles(s)) {
      const int64_t kh = s.h_in / s.h_out, kw = s.w_in / s.w_out;
      for (int64_t row = begin * s.h_out; row < end * s.h_out; row++)
        spread_over_tiles_channels_last(dy + row * s.w_out * c, s.w_out, c, kh, kw, float(kh) * float(kw),
                                        dx + row * kh * s.w_in * c, s.w_in);
      return;
    }
    memset(dx + begin * in, 0, size_t((end - begin) * in) * sizeof(float));
    for (int64_t n = begin; n < end; n++)
      for_each_window(s, [&](int64_t output, const Rectangle& r, float divisor) {
        add_to_rectangle_channels_last(dx + n * in, s.w_in, c, r, divisor, dy + n * out + output * c);
      });
  });
}

AdaptiveAvgPool2dKernels adaptive_avg_pool2d_kernels();
AdaptiveAvgPool2dKernels adaptive_avg_pool2d_kernels() {
  return {adaptive_avg_pool2d_forward, adaptive_avg_pool2d_backward, forward_channels_last, backward_channels_last};
}

}  // namespace convcore::cpu::CONVCORE_ISA

#include "ops/pool2d.h"

#include <algorithm>

namespace convcore {
namespace {

// Whether a window that begins in the padding has no tap on the input: it steps over a small one by its dilation.
// The phase of the taps repeats after `dilation` windows.
bool steps_over(int64_t in, int64_t out, const WindowAxis& w) {
  if (in >= w.dilation) return false;
  for (int64_t i = 0; i < std::min(out, w.dilation) && i * w.stride < w.pad_before; i++) {
    const int64_t phase = (w.pad_before - i * w.stride) % w.dilation;
    if (phase != 0 && w.dilation - phase >= in) return true;
  }
  return false;
}

int64_t pooled_size(const char* op, const std::string& axis, int64_t in, const WindowAxis& w, bool ceil_mode) {
  expect_range(op, ("the input size along " + axis).c_str(), in, 1, INT64_MAX / 4);
  const int64_t out = window_output_size(op, axis.c_str(), in, w, ceil_mode);
  const int64_t padding = std::max(w.pad_before, w.pad_after);
  if (padding > w.extent() / 2)
    fail(op, "padding along " + axis + " is more than half the window",
         "at most " + std::to_string(w.extent() / 2) + " (the window spans " + std::to_string(w.extent()) + ")",
         std::to_string(padding));
  if (steps_over(in, out, w))
    fail(op, "a dilated window along " + axis + " steps over the whole input",
         "windows with a tap on the input of size " + std::to_string(in),
         "dilation " + std::to_string(w.dilation) + " and padding " + std::to_string(w.pad_before));
  return out;
}

}  // namespace

Pool2dShape infer_pool2d_shape(const char* op, const Shape& x, const PoolWindows& windows, bool ceil_mode) {
  const bool rows_only = windows.size() == 1;
  expect_rank(op, "x", x, rows_only ? 3 : 4, rows_only ? "(N, C, W)" : "(N, C, H, W)");
  checked_count(op, "x", x);
  Pool2dShape s{};
  s.planes = x[0] * x[1];
  s.h_in = rows_only ? 1 : x[2];
  s.w_in = x.back();
  s.window = {rows_only ? WindowAxis{1} : windows[0], windows.back()};
  s.h_out = pooled_size(op, "H", s.h_in, s.window.h, ceil_mode);
  s.w_out = pooled_size(op, "W", s.w_in, s.window.w, ceil_mode);
  checked_count(op, "a plane of x", {s.h_in, s.w_in});
  checked_count(op, "a plane of the output", {s.h_out, s.w_out});
  return s;
}

Shape pool2d_output_shape(const Shape& x, const Pool2dShape& s) {
  if (x.size() == 3) return {x[0], x[1], s.w_out};
  return {x[0], x[1], s.h_out, s.w_out};
}

}  // namespace convcore

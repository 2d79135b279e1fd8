#include "core/window.h"

#include <algorithm>

#include "core/check.h"

namespace convcore {
namespace {
constexpr int64_t kMaxWindow = INT32_MAX;  // keeps every product of two of these numbers inside 63 bits
}

std::array<int64_t, 2> same_padding(int64_t in, int64_t kernel, int64_t stride, int64_t dilation) {
  for (int64_t number : {kernel, stride, dilation})
    if (number < 1 || number > kMaxWindow) return {0, 0};  // reported by window_output_size
  const int64_t out = (in + stride - 1) / stride;
  const int64_t total = std::max<int64_t>(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - in);
  return {total / 2, total - total / 2};
}

int64_t window_output_size(const char* op, const char* axis, int64_t in, const WindowAxis& w, bool ceil_mode) {
  const std::string suffix = std::string(" along ") + axis;
  expect_range(op, ("the input size" + suffix).c_str(), in, 0, INT64_MAX / 4);
  expect_range(op, ("kernel_size" + suffix).c_str(), w.kernel, 1, kMaxWindow);
  expect_range(op, ("stride" + suffix).c_str(), w.stride, 1, kMaxWindow);
  expect_range(op, ("dilation" + suffix).c_str(), w.dilation, 1, kMaxWindow);
  expect_range(op, ("padding" + suffix).c_str(), w.pad_before, 0, kMaxWindow);
  expect_range(op, ("padding" + suffix).c_str(), w.pad_after, 0, kMaxWindow);
  const int64_t padded = in + w.pad_before + w.pad_after;
  const int64_t room = padded - w.extent();
  const int64_t overhang = ceil_mode ? w.stride - 1 : 0;  // pixels that a window may reach past the padded input
  if (room + overhang < 0)
    fail(op, "the window is larger than the padded input" + suffix,
         "dilation * (kernel_size - 1) + 1 <= " + std::to_string(in) + " + " + std::to_string(w.pad_before) + " + " +
             std::to_string(w.pad_after) + " (input and padding)" +
             (ceil_mode ? " + " + std::to_string(overhang) + " (stride - 1, for ceil_mode)" : ""),
         std::to_string(w.dilation) + " * (" + std::to_string(w.kernel) + " - 1) + 1 = " + std::to_string(w.extent()));
  if (room < 0) return 1;
  int64_t out = room / w.stride + 1;
  if (ceil_mode && room % w.stride != 0 && out * w.stride < in + w.pad_before) out++;
  return out;
}

}  // namespace convcore

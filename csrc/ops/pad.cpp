#include "ops/pad.h"

#include "ops/kernels.h"

namespace convcore {
namespace {

constexpr int64_t kMostPadding = INT32_MAX;

const char* name_of(PadMode mode) {
  static const char* const names[] = {"constant", "reflect", "replicate", "circular"};
  return names[int(mode)];
}

int64_t padded_size(const char* op, const std::string& axis, int64_t size, PadMode mode, int64_t before,
                    int64_t after) {
  int64_t most = kMostPadding;
  if (mode == PadMode::reflect) most = size - 1;
  if (mode == PadMode::circular) most = size;
  if ((before > 0 || after > 0) && mode != PadMode::constant && size < 1)
    fail(op, "the input along " + axis + " has no pixel to pad with", "at least 1", "0");
  for (int64_t pad : {before, after}) {
    expect_range(op, ("pad along " + axis).c_str(), pad, 0, kMostPadding);
    if (pad > most)
      fail(op, "pad along " + axis + " is too large for mode '" + name_of(mode) + "'",
           "at most " + std::to_string(most) + " (the input has size " + std::to_string(size) + ")",
           std::to_string(pad));
  }
  return size + before + after;
}

Shape output_shape(const Shape& x, const PadShape& s) {
  if (x.size() == 3) return {x[0], x[1], s.w_out};
  return {x[0], x[1], s.h_out, s.w_out};
}

}  // namespace

PadMode parse_pad_mode(const char* op, const std::string& text) {
  for (PadMode mode : {PadMode::constant, PadMode::reflect, PadMode::replicate, PadMode::circular})
    if (text == name_of(mode)) return mode;
  fail(op, "mode is not known", "'constant', 'reflect', 'replicate' or 'circular'", "'" + text + "'");
}

PadShape infer_pad_shape(const char* op, const Shape& x, const PadParams& params) {
  if (x.size() != 3) expect_rank(op, "x", x, 4, "(N, C, H, W), or 3 (N, C, W)");
  checked_count(op, "x", x);
  PadShape s{};
  s.params = params;
  s.n = x[0], s.c = x[1], s.h_in = x.size() == 3 ? 1 : x[2], s.w_in = x.back();
  s.h_out = padded_size(op, "H", s.h_in, params.mode, params.top, params.bottom);
  s.w_out = padded_size(op, "W", s.w_in, params.mode, params.left, params.right);
  return s;
}

Tensor pad_forward(const Tensor& x, const PadParams& params) {
  const PadShape s = infer_pad_shape("pad", x.shape(), params);
  const OnDeviceOf on("pad", {{"x", x}});
  Tensor y = Tensor::empty("pad", "y", output_shape(x.shape(), s), x.layout());
  current_kernels().pad.forward(s, x.layout(), x.data(), y.data());
  return y;
}

Tensor pad_backward(const Tensor& dy, const Shape& x_shape, const PadParams& params) {
  const PadShape s = infer_pad_shape("pad_backward", x_shape, params);
  expect_shape("pad_backward", "dy", dy.shape(), output_shape(x_shape, s), "the shape of the output");
  const OnDeviceOf on("pad_backward", {{"dy", dy}});
  Tensor dx = Tensor::empty("pad_backward", "dx", x_shape, dy.layout());
  current_kernels().pad.backward(s, dy.layout(), dy.data(), dx.data());
  return dx;
}

}  // namespace convcore

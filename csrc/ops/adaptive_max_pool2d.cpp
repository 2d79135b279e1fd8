#include "ops/adaptive_max_pool2d.h"

#include "ops/kernels.h"
#include "ops/reorder.h"

namespace convcore {
namespace {

constexpr char kOp[] = "adaptive_max_pool2d", kOpBackward[] = "adaptive_max_pool2d_backward";

AdaptiveAvgPool2dShape infer(const Shape& x, const OutputSize& output_size) {
  const AdaptiveAvgPool2dShape s = infer_adaptive_pool2d_shape(kOp, x, output_size);
  if (s.h_in * s.w_in > INT32_MAX)
    fail(kOp, "the image is too large for 32-bit indices", "at most 2147483647 pixels in a plane",
         std::to_string(s.h_in * s.w_in) + " (x has shape " + to_string(x) + ")");
  return s;
}

// Whether the windows are the tiles of max_pool2d.
bool divides(const AdaptiveAvgPool2dShape& s) {
  return s.h_out > 0 && s.w_out > 0 && s.h_in % s.h_out == 0 && s.w_in % s.w_out == 0;
}

PoolWindows tiles(const AdaptiveAvgPool2dShape& s) {
  const int64_t kh = s.h_in / s.h_out, kw = s.w_in / s.w_out;
  return {{kh, kh}, {kw, kw}};
}

}  // namespace

MaxPool2dResult adaptive_max_pool2d_forward(const Tensor& x, const OutputSize& output_size, bool need_indices) {
  const AdaptiveAvgPool2dShape s = infer(x.shape(), output_size);
  if (divides(s)) return max_pool2d_forward(kOp, x, tiles(s), false, need_indices);
  const OnDeviceOf on(kOp, {{"x", x}});
  const Tensor rows = reorder(kOp, x, Layout::row_major);
  const Shape out{x.size(0), x.size(1), s.h_out, s.w_out};
  MaxPool2dResult result{Tensor::empty(kOp, "y", out), IndexArray::empty(kOp, "indices", out)};
  current_kernels().adaptive_max_pool2d.forward(s, rows.data(), result.y.data(), result.indices.data());
  if (!need_indices) result.indices = {};
  return result;
}

Tensor adaptive_max_pool2d_backward(const Tensor& dy, const Shape& x_shape, const Tensor& x, const IndexArray& indices,
                                    const OutputSize& output_size) {
  const AdaptiveAvgPool2dShape s = infer(x_shape, output_size);
  if (divides(s)) return max_pool2d_backward(kOp, dy, x_shape, x, indices, tiles(s), false);
  const Shape out{x_shape[0], x_shape[1], s.h_out, s.w_out};
  expect_shape(kOpBackward, "dy", dy.shape(), out, "the shape of the output");
  if (indices.given())
    expect_shape(kOpBackward, "indices", indices.shape(), out, "the shape of the output");
  else
    expect_shape(kOpBackward, "x", x.shape(), x_shape, "the shape of the input");
  const OnDeviceOf on(kOpBackward, {{"dy", dy}, {"x", x}, {"indices", indices}});
  const IndexArray argmax = indices.given() ? indices : adaptive_max_pool2d_forward(x, output_size, true).indices;
  if (argmax.layout() != Layout::row_major)
    fail(kOpBackward, "indices have the wrong order of memory", "row-major ones, as the forward gave", "channels-last");
  const Tensor gradient = reorder(kOpBackward, dy, Layout::row_major);
  Tensor dx = Tensor::empty(kOpBackward, "dx", x_shape);
  if (!current_kernels().adaptive_max_pool2d.backward(s, gradient.data(), argmax.data(), dx.data()))
    fail(kOpBackward, "indices do not belong to these windows", "flat positions h * W_in + w of pixels", "one outside");
  return dx;
}

}  // namespace convcore

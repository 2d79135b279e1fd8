#include "ops/max_pool2d.h"

#include "ops/kernels.h"
#include "ops/reorder.h"

namespace convcore {
namespace {

Pool2dShape infer(const char* op, const Shape& x, const PoolWindows& windows, bool ceil_mode) {
  const Pool2dShape s = infer_pool2d_shape(op, x, windows, ceil_mode);
  if (s.h_in * s.w_in > INT32_MAX)
    fail(op, "the image is too large for 32-bit indices", "at most 2147483647 pixels in a plane",
         std::to_string(s.h_in * s.w_in) + " (x has shape " + to_string(x) + ")");
  return s;
}

}  // namespace

MaxPool2dResult max_pool2d_forward(const char* op, const Tensor& x, const PoolWindows& windows, bool ceil_mode,
                                   bool need_indices) {
  const Pool2dShape s = infer(op, x.shape(), windows, ceil_mode);
  const OnDeviceOf on(op, {{"x", x}});
  MaxPool2dResult result;
  const Layout layout = x.layout();
  result.y = Tensor::empty(op, "y", pool2d_output_shape(x.shape(), s), layout);
  if (need_indices) result.indices = IndexArray::empty(op, "indices", result.y.shape(), layout);
  const auto& kernels = current_kernels().max_pool2d;
  if (layout == Layout::channels_last)
    kernels.forward_channels_last(s, x.size(1), x.data(), result.y.data(), result.indices.data());
  else
    kernels.forward(s, x.data(), result.y.data(), result.indices.data());
  return result;
}

Tensor max_pool2d_backward(const char* op, const Tensor& dy, const Shape& x_shape, const Tensor& x,
                           const IndexArray& indices, const PoolWindows& windows, bool ceil_mode) {
  const Pool2dShape s = infer(op, x_shape, windows, ceil_mode);
  const std::string op_backward = std::string(op) + "_backward";
  const Shape y_shape = pool2d_output_shape(x_shape, s);
  expect_shape(op_backward.c_str(), "dy", dy.shape(), y_shape, "the shape of the output");
  const OnDeviceOf on(op_backward, {{"dy", dy}, {"x", x}, {"indices", indices}});
  IndexArray argmax = indices;
  if (indices.given()) {
    expect_shape(op_backward.c_str(), "indices", indices.shape(), y_shape, "the shape of the output");
  } else {
    expect_shape(op_backward.c_str(), "x", x.shape(), x_shape, "the shape of the input");
    argmax = max_pool2d_forward(op, x, windows, ceil_mode, true).indices;
  }
  const Layout layout = argmax.layout();
  const Tensor gradient = reorder(op_backward.c_str(), dy, layout);
  Tensor dx = Tensor::empty(op_backward.c_str(), "dx", x_shape, layout);
  const auto& kernels = current_kernels().max_pool2d;
  const bool inside = layout == Layout::channels_last
                          ? kernels.backward_channels_last(s, x_shape[1], gradient.data(), argmax.data(), dx.data())
                          : kernels.backward(s, gradient.data(), argmax.data(), dx.data());
  if (!inside)
    fail(op_backward, "indices do not belong to these windows",
         "flat positions h * W_in + w of pixels inside the window of each output", "one outside");
  return dx;
}

}  // namespace convcore

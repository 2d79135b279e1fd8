#include "ops/avg_pool2d.h"

#include "ops/kernels.h"

namespace convcore {
namespace {

AvgPool2dShape infer(const char* op, const Shape& x, const AvgPool2dParams& p) {
  AvgPool2dShape s{};
  s.pool = infer_pool2d_shape(op, x, p.windows, p.ceil_mode);
  s.count_include_pad = p.count_include_pad;
  if (p.divisor_override) {
    if (*p.divisor_override == 0) fail(op, "divisor_override is zero", "None or an int other than 0", "0");
    s.divisor_override = *p.divisor_override;
  }
  return s;
}

}  // namespace

Tensor avg_pool2d_forward(const char* op, const Tensor& x, const AvgPool2dParams& params) {
  const AvgPool2dShape s = infer(op, x.shape(), params);
  const OnDeviceOf on(op, {{"x", x}});
  Tensor y = Tensor::empty(op, "y", pool2d_output_shape(x.shape(), s.pool), x.layout());
  const auto& kernels = current_kernels().avg_pool2d;
  if (x.layout() == Layout::channels_last)
    kernels.forward_channels_last(s, x.size(1), x.data(), y.data());
  else
    kernels.forward(s, x.data(), y.data());
  return y;
}

Tensor avg_pool2d_backward(const char* op, const Tensor& dy, const Shape& x_shape, const AvgPool2dParams& params) {
  const AvgPool2dShape s = infer(op, x_shape, params);
  const std::string op_backward = std::string(op) + "_backward";
  expect_shape(op_backward.c_str(), "dy", dy.shape(), pool2d_output_shape(x_shape, s.pool), "the shape of the output");
  const OnDeviceOf on(op_backward, {{"dy", dy}});
  Tensor dx = Tensor::empty(op_backward.c_str(), "dx", x_shape, dy.layout());
  const auto& kernels = current_kernels().avg_pool2d;
  if (dy.layout() == Layout::channels_last)
    kernels.backward_channels_last(s, x_shape[1], dy.data(), dx.data());
  else
    kernels.backward(s, dy.data(), dx.data());
  return dx;
}

}  // namespace convcore

#include "ops/adaptive_avg_pool2d.h"

#include "ops/kernels.h"

namespace convcore {
namespace {

constexpr char kOp[] = "adaptive_avg_pool2d", kOpBackward[] = "adaptive_avg_pool2d_backward";

}  // namespace

AdaptiveAvgPool2dShape infer_adaptive_pool2d_shape(const char* op, const Shape& x, const OutputSize& output_size) {
  constexpr int64_t kMaxSize = INT32_MAX;  // keeps size * index inside 63 bits
  expect_rank(op, "x", x, 4, "(N, C, H, W)");
  checked_count(op, "x", x);
  expect_range(op, "the input size along H", x[2], 1, kMaxSize);
  expect_range(op, "the input size along W", x[3], 1, kMaxSize);
  const int64_t h_out = output_size[0].value_or(x[2]), w_out = output_size[1].value_or(x[3]);
  expect_range(op, "output_size along H", h_out, 0, kMaxSize);
  expect_range(op, "output_size along W", w_out, 0, kMaxSize);
  return {x[0] * x[1], x[2], x[3], h_out, w_out};
}

Tensor adaptive_avg_pool2d_forward(const Tensor& x, const OutputSize& output_size) {
  const AdaptiveAvgPool2dShape s = infer_adaptive_pool2d_shape(kOp, x.shape(), output_size);
  const OnDeviceOf on(kOp, {{"x", x}});
  Tensor y = Tensor::empty(kOp, "y", {x.size(0), x.size(1), s.h_out, s.w_out}, x.layout());
  const auto& kernels = current_kernels().adaptive_avg_pool2d;
  if (x.layout() == Layout::channels_last)
    kernels.forward_channels_last(s, x.size(1), x.data(), y.data());
  else
    kernels.forward(s, x.data(), y.data());
  return y;
}

Tensor adaptive_avg_pool2d_backward(const Tensor& dy, const Shape& x_shape, const OutputSize& output_size) {
  const AdaptiveAvgPool2dShape s = infer_adaptive_pool2d_shape(kOp, x_shape, output_size);
  expect_shape(kOpBackward, "dy", dy.shape(), {x_shape[0], x_shape[1], s.h_out, s.w_out}, "the shape of the output");
  const OnDeviceOf on(kOpBackward, {{"dy", dy}});
  Tensor dx = Tensor::empty(kOpBackward, "dx", x_shape, dy.layout());
  const auto& kernels = current_kernels().adaptive_avg_pool2d;
  if (dy.layout() == Layout::channels_last)
    kernels.backward_channels_last(s, x_shape[1], dy.data(), dx.data());
  else
    kernels.backward(s, dy.data(), dx.data());
  return dx;
}

}  // namespace convcore

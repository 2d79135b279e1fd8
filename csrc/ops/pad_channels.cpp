#include "ops/pad_channels.h"

#include "ops/kernels.h"

namespace convcore {
namespace {

constexpr char kOp[] = "pad_channels", kOpBackward[] = "pad_channels_backward";

PadChannelsShape infer(const Shape& x, const PadChannelsParams& p) {
  constexpr int64_t kMaxSize = INT32_MAX;  // keeps sums of sizes inside 63 bits
  expect_rank(kOp, "x", x, 4, "(N, C, H, W)");
  checked_count(kOp, "x", x);
  for (int64_t channels : {p.before, p.after}) expect_range(kOp, "padding", channels, 0, kMaxSize);
  for (int64_t stride : {p.stride_h, p.stride_w}) expect_range(kOp, "stride", stride, 1, kMaxSize);
  expect_range(kOp, "the number of channels", x[1], 0, kMaxSize);
  const auto reached = [](int64_t size, int64_t stride) { return size / stride + (size % stride != 0); };
  return {x[0],
          x[1],
          x[2],
          x[3],
          p.before + x[1] + p.after,
          reached(x[2], p.stride_h),
          reached(x[3], p.stride_w),
          p.before,
          p.stride_h,
          p.stride_w};
}

}  // namespace

Tensor pad_channels_forward(const Tensor& x, const PadChannelsParams& params) {
  const PadChannelsShape s = infer(x.shape(), params);
  const OnDeviceOf on(kOp, {{"x", x}});
  Tensor y = Tensor::empty(kOp, "y", {s.n, s.c_out, s.h_out, s.w_out}, x.layout());
  const auto& kernels = current_kernels().pad_channels;
  const bool last = x.layout() == Layout::channels_last;
  (last ? kernels.forward_channels_last : kernels.forward)(s, x.data(), y.data());
  return y;
}

Tensor pad_channels_backward(const Tensor& dy, const Shape& x_shape, const PadChannelsParams& params) {
  const PadChannelsShape s = infer(x_shape, params);
  expect_shape(kOpBackward, "dy", dy.shape(), {s.n, s.c_out, s.h_out, s.w_out}, "the shape of the output");
  const OnDeviceOf on(kOpBackward, {{"dy", dy}});
  Tensor dx = Tensor::empty(kOpBackward, "dx", x_shape, dy.layout());
  const auto& kernels = current_kernels().pad_channels;
  const bool last = dy.layout() == Layout::channels_last;
  (last ? kernels.backward_channels_last : kernels.backward)(s, dy.data(), dx.data());
  return dx;
}

}  // namespace convcore

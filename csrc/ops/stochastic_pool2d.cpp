#include "ops/stochastic_pool2d.h"

#include "ops/kernels.h"

namespace convcore {

Pool2dShape infer_stochastic_pool2d_shape(const char* op, const Shape& x, const PoolWindows& windows) {
  const Pool2dShape s = infer_pool2d_shape(op, x, windows, false);
  if (s.h_in * s.w_in > INT32_MAX)
    fail(op, "the image is too large for 32-bit indices", "at most 2147483647 pixels in a plane",
         std::to_string(s.h_in * s.w_in) + " (x has shape " + to_string(x) + ")");
  return s;
}

StochasticPool2dResult stochastic_pool2d_forward(const Tensor& x, const PoolWindows& windows, bool training,
                                                 RandomKey key) {
  const char* op = "stochastic_pool2d";
  const Pool2dShape s = infer_stochastic_pool2d_shape(op, x.shape(), windows);
  const Shape out = pool2d_output_shape(x.shape(), s);
  const OnDeviceOf on(op, {{"x", x}});
  const auto& kernels = current_kernels().stochastic_pool2d;
  StochasticPool2dResult result;
  result.y = Tensor::empty(op, "y", out);
  if (training) {
    result.indices = IndexArray::empty(op, "indices", out);
    kernels.draw(s, Handed<RandomKey>(key).get(), 0, x.data(), result.y.data(), result.indices.data());
  } else {
    kernels.mean(s, x.data(), result.y.data());
  }
  return result;
}

Tensor stochastic_pool2d_backward(const Tensor& dy, const Tensor& x, const PoolWindows& windows) {
  const char* op = "stochastic_pool2d_backward";
  const Pool2dShape s = infer_stochastic_pool2d_shape("stochastic_pool2d", x.shape(), windows);
  expect_shape(op, "dy", dy.shape(), pool2d_output_shape(x.shape(), s), "the shape of the output");
  const OnDeviceOf on(op, {{"dy", dy}, {"x", x}});
  Tensor dx = Tensor::empty(op, "dx", x.shape());
  current_kernels().stochastic_pool2d.mean_backward(s, dy.data(), x.data(), dx.data());
  return dx;
}

}  // namespace convcore

#include "ops/conv2d.h"

#include <string>

#include "ops/conv2d_algorithm.h"
#include "ops/conv2d_passes.h"
#include "ops/kernels.h"
#include "ops/reorder.h"

namespace convcore {

Conv2dShape infer_conv2d_shape(const char* op, const Shape& x, const Shape& w, const Conv2dParams& p) {
  expect_rank(op, "x", x, 4, "(N, C_in, H, W)");
  expect_rank(op, "w", w, 4, "(C_out, C_in / groups, KH, KW)");
  checked_count(op, "w", w);
  expect_range(op, "groups", p.groups, 1, INT32_MAX);
  if (x[1] != w[1] * p.groups)
    fail(op, "x has the wrong number of channels",
         std::to_string(w[1] * p.groups) + " (w has shape " + to_string(w) + ", groups is " + std::to_string(p.groups) +
             ")",
         std::to_string(x[1]) + " (x has shape " + to_string(x) + ")");
  if (w[0] % p.groups != 0)
    fail(op, "the output channels cannot be split into groups", "a multiple of groups = " + std::to_string(p.groups),
         std::to_string(w[0]) + " (w has shape " + to_string(w) + ")");
  Conv2dShape s{};
  s.n = x[0], s.c_in = x[1], s.h_in = x[2], s.w_in = x[3], s.c_out = w[0], s.groups = p.groups;
  s.window.h = {w[2], p.stride[0], p.padding[0], p.padding[1], p.dilation[0]};
  s.window.w = {w[3], p.stride[1], p.padding[2], p.padding[3], p.dilation[1]};
  s.h_out = window_output_size(op, "H", s.h_in, s.window.h);
  s.w_out = window_output_size(op, std::string(op) == "conv1d" ? "L" : "W", s.w_in, s.window.w);
  // The padded input is laid out in the workspace: its size must be representable as well.
  checked_count(op, "the padded input",
                {s.n, s.c_in, s.h_in + p.padding[0] + p.padding[1], s.w_in + p.padding[2] + p.padding[3]});
  return s;
}

Tensor conv2d_forward(const char* op, const Tensor& x, const Tensor& w, const Tensor& b, const Conv2dParams& params) {
  const Conv2dShape s = infer_conv2d_shape(op, x.shape(), w.shape(), params);
  if (b.given()) expect_shape(op, "b", b.shape(), {s.c_out}, "one value per output channel");
  const OnDeviceOf on(op, {{"x", x}, {"w", w}, {"b", b}});
  const ConvAlgorithm algorithm = choose_algorithm(op, s, ConvPass::forward, params.algorithm);
  const ConvForwardLayouts layouts = conv_forward_layouts(algorithm);
  const Tensor xs = layouts.x ? reorder(op, x, *layouts.x) : x;
  Tensor y = Tensor::empty(op, "y", {s.n, s.c_out, s.h_out, s.w_out}, layouts.y);
  conv_forward(algorithm, s, xs.data(), xs.layout(), w.data(), b.data(), y.data());
  return y;
}

namespace {

Tensor backward_input(const char* op, const Conv2dShape& s, const Tensor& dy, const Tensor& w, ConvAlgorithm wanted) {
  const ConvAlgorithm algorithm = choose_algorithm(op, s, ConvPass::backward_input, wanted);
  const ConvBackwardInputLayouts layouts = conv_backward_input_layouts(algorithm);
  const Tensor dys = layouts.dy ? reorder(op, dy, *layouts.dy) : dy;
  Tensor dx = Tensor::empty(op, "dx", {s.n, s.c_in, s.h_in, s.w_in}, layouts.dx);
  conv_backward_input(algorithm, s, dys.data(), dys.layout(), w.data(), dx.data());
  return dx;
}

// Into grads.dw, and into grads.db where that is asked for and the kernel sums it on the way; says whether it did.
bool backward_weight(const char* op, const Conv2dShape& s, const Tensor& dy, const Tensor& x, ConvAlgorithm wanted,
                     Conv2dGrads& grads) {
  const ConvAlgorithm algorithm = choose_algorithm(op, s, ConvPass::backward_weight, wanted);
  const ConvBackwardWeightLayouts layouts = conv_backward_weight_layouts(algorithm, s);
  const Tensor dys = reorder(op, dy, layouts.dy), xs = reorder(op, x, layouts.x);
  grads.dw = Tensor::empty(op, "dw", {s.c_out, s.c_in_per_group(), s.window.h.kernel, s.window.w.kernel});
  conv_backward_weight(algorithm, s, dys.data(), xs.data(), grads.dw.data(),
                       layouts.sums_bias ? grads.db.data() : nullptr);
  return layouts.sums_bias;
}

}  // namespace

Conv2dGrads conv2d_backward(const char* op, const Tensor& dy, const Tensor& x, const Tensor& w,
                            const Conv2dParams& params, bool need_dx, bool need_dw, bool need_db) {
  const Conv2dShape s = infer_conv2d_shape(op, x.shape(), w.shape(), params);
  const std::string op_backward = std::string(op) + "_backward";
  expect_shape(op_backward.c_str(), "dy", dy.shape(), {s.n, s.c_out, s.h_out, s.w_out}, "the shape of the output");
  const OnDeviceOf on(op_backward, {{"dy", dy}, {"x", x}, {"w", w}});
  Conv2dGrads grads;
  if (need_dx) grads.dx = backward_input(op, s, dy, w, params.algorithm);
  if (need_db) grads.db = Tensor::empty(op, "db", {s.c_out});
  const bool summed = need_dw && backward_weight(op, s, dy, x, params.algorithm, grads);
  if (need_db && !summed) {
    const bool any = current_device() == Device::cpu;
    const Tensor dys = any ? dy : reorder(op, dy, Layout::channels_last);
    current_kernels().conv2d.backward_bias(s, dys.data(), dys.layout(), grads.db.data());
  }
  return grads;
}

}  // namespace convcore

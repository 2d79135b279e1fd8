#include "ops/conv_pool.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/threads.h"
#include "ops/conv2d_algorithm.h"
#include "ops/kernels.h"
#include "ops/pool2d.h"
#include "ops/reorder.h"

namespace convcore {

ConvPoolShape infer_conv_pool_shape(const char* op, const Shape& x, const Shape& w,
                                    const std::array<int64_t, 4>& padding, Layout y_layout) {
  const Conv2dShape conv = infer_conv2d_shape(op, x, w, {{1, 1}, padding, {1, 1}, 1});
  const WindowAxis pair{2, 2};
  const Pool2dShape pool = infer_pool2d_shape(op, {conv.n, conv.c_out, conv.h_out, conv.w_out}, {pair, pair}, false);
  ConvPoolShape s{};
  s.n = conv.n, s.c_in = conv.c_in, s.h_in = conv.h_in, s.w_in = conv.w_in, s.c_out = conv.c_out;
  s.kh = conv.window.h.kernel, s.kw = conv.window.w.kernel;
  s.pad_top = padding[0], s.pad_bottom = padding[1], s.pad_left = padding[2], s.pad_right = padding[3];
  s.h_conv = conv.h_out, s.w_conv = conv.w_out, s.h_out = pool.h_out, s.w_out = pool.w_out;
  s.y_layout = y_layout;
  // The kernels cut x and dx into patches, one row of the filter wide, and count their floats in 32 bits.
  const double patches = 2 * double(s.h_in + padding[0] + padding[1]) * double(s.w_in + padding[2] + padding[3]) *
                         (double(s.kw) * double(s.c_in) + kAlignment / sizeof(float));
  if (patches > INT32_MAX)
    fail(op, "the image is too large for this operation", "(H + padding) * (W + padding) * (C_in * KW + 16) below 2^30",
         "x of shape " + to_string(x) + " and w of shape " + to_string(w));
  show_pooled(op, conv);
  return s;
}

namespace {

// A block of images runs on one thread: the shape of the block, and its scratch.
ConvPoolShape images(const ConvPoolShape& s, int64_t begin, int64_t end) {
  ConvPoolShape block = s;
  block.n = end - begin;
  return block;
}

struct Floats : ScratchBlock {
  explicit Floats(int64_t count) : ScratchBlock(size_t(count) * sizeof(float)) {}
  float* data() const { return static_cast<float*>(ScratchBlock::data()); }
};

int64_t work_of_image(const ConvPoolShape& s) { return s.h_conv * s.w_conv * s.c_out * s.c_in * s.kh * s.kw / 16; }

int64_t x_floats(const ConvPoolShape& s) { return s.c_in * s.h_in * s.w_in; }
int64_t y_floats(const ConvPoolShape& s) { return s.c_out * s.h_out * s.w_out; }

// What a device does in one call (ConvPoolKernels): all in channels-last order.
struct OnBatch {
  ConvPoolShape s;
  Tensor x, workspace, y;
  Array<uint8_t> mask;  // not given where nobody asks for the gradients

  OnBatch(const char* op, const ConvPoolShape& shape, const Tensor& images, const Tensor& w, const Tensor& b,
          bool need_mask)
      : s(shape),
        x(reorder(op, images, Layout::channels_last)),
        workspace(Tensor::empty(op, "the workspace", {kernels().batch_workspace_floats(s)})),
        y(Tensor::empty(op, "y", {s.n, s.c_out, s.h_out, s.w_out}, Layout::channels_last)) {
    if (need_mask) mask = Array<uint8_t>::empty(op, "the winners", {kernels().batch_mask_bytes(s)});
    kernels().batch_forward(s, x.data(), w.data(), b.data(), y.data(), mask.data(), workspace.data());
  }
  static const ConvPoolKernels& kernels() { return current_kernels().conv_pool; }
};

Conv2dGrads batch_gradients(const char* op, const ConvPoolShape& shape, const Tensor& dy, const Tensor& x,
                            const Tensor& w, const Tensor& b, bool need_dx) {
  const OnBatch batch(op, shape, x, w, b, true);
  const Tensor gradient = reorder(op, dy, Layout::channels_last);
  Conv2dGrads grads;
  if (need_dx) grads.dx = Tensor::empty(op, "dx", x.shape(), Layout::channels_last);
  grads.dw = Tensor::empty(op, "dw", w.shape());
  grads.db = Tensor::empty(op, "db", {shape.c_out});
  OnBatch::kernels().batch_backward(batch.s, gradient.data(), batch.mask.data(), batch.x.data(), w.data(),
                                    grads.dx.data(), grads.dw.data(), grads.db.data(), batch.workspace.data());
  return grads;
}

// As many as a processor may have cores, so few that adding them up costs little.
constexpr int64_t kShards = 16;

}  // namespace

Tensor conv_pool_forward(const char* op, const Tensor& x, const Tensor& w, const Tensor& b,
                         const std::array<int64_t, 4>& padding) {
  ConvPoolShape s = infer_conv_pool_shape(op, x.shape(), w.shape(), padding, Layout::row_major);
  if (b.given()) expect_shape(op, "b", b.shape(), {s.c_out}, "one value per output channel");
  const OnDeviceOf on(op, {{"x", x}, {"w", w}, {"b", b}});
  const auto& kernels = current_kernels().conv_pool;
  if (kernels.batch_forward) return OnBatch(op, s, x, w, b, false).y;
  s.y_layout = conv_pool_x_layout(s);
  const Tensor images_in = reorder(op, x, conv_pool_x_layout(s));
  Tensor y = Tensor::empty(op, "y", {s.n, s.c_out, s.h_out, s.w_out}, s.y_layout);
  const Floats packed(kernels.packed_floats(s));
  kernels.pack(s, w.data(), b.data(), packed.data());
  parallel_for(s.n, work_of_image(s), [&](int64_t begin, int64_t end) {
    const Floats workspace(kernels.workspace_floats(s));
    const ScratchBlock mask(size_t(kernels.mask_bytes(s) * (end - begin)));
    kernels.forward(images(s, begin, end), images_in.data() + begin * x_floats(s), packed.data(),
                    y.data() + begin * y_floats(s), mask.data(), workspace.data());
  });
  return y;
}

Conv2dGrads conv_pool_backward(const char* op, const Tensor& dy, const Tensor& x, const Tensor& w, const Tensor& b,
                               const std::array<int64_t, 4>& padding, bool need_dx) {
  ConvPoolShape s = infer_conv_pool_shape(op, x.shape(), w.shape(), padding, dy.layout());
  if (b.given()) expect_shape(op, "b", b.shape(), {s.c_out}, "one value per output channel");
  const std::string op_backward = std::string(op) + "_backward";
  expect_shape(op_backward.c_str(), "dy", dy.shape(), {s.n, s.c_out, s.h_out, s.w_out}, "the shape of the output");
  const OnDeviceOf on(op, {{"dy", dy}, {"x", x}, {"w", w}, {"b", b}});
  const auto& kernels = current_kernels().conv_pool;
  if (kernels.batch_backward) return batch_gradients(op, s, dy, x, w, b, need_dx);
  const Tensor images_in = reorder(op, x, conv_pool_x_layout(s));
  Conv2dGrads grads;
  if (need_dx) grads.dx = Tensor::empty(op, "dx", x.shape(), conv_pool_x_layout(s));
  grads.dw = Tensor::empty(op, "dw", w.shape());
  grads.db = Tensor::empty(op, "db", {s.c_out});
  const Floats packed(kernels.packed_floats(s));
  kernels.pack(s, w.data(), b.data(), packed.data());

  const int64_t shards = std::max<int64_t>(1, std::min(s.n, kShards)), gradient_floats = kernels.gradient_floats(s);
  const int64_t shard_floats = (gradient_floats + 15) / 16 * 16;  // each aligned
  const Floats gradients(shards * shard_floats);
  parallel_for(shards, work_of_image(s) * (s.n / shards + 1), [&](int64_t first, int64_t last) {
    const Floats workspace(kernels.workspace_floats(s));
    for (int64_t shard = first; shard < last; shard++) {
      const int64_t begin = s.n * shard / shards, end = s.n * (shard + 1) / shards;
      const ConvPoolShape block = images(s, begin, end);
      const ScratchBlock mask(size_t(kernels.mask_bytes(s) * block.n));
      const Floats y(block.n * y_floats(s));
      const float* block_x = images_in.data() + begin * x_floats(s);
      float* gradient = gradients.data() + shard * shard_floats;
      std::fill_n(gradient, gradient_floats, 0.0f);
      kernels.forward(block, block_x, packed.data(), y.data(), mask.data(), workspace.data());
      kernels.backward(block, dy.data() + begin * y_floats(s), mask.data(), block_x, packed.data(),
                       need_dx ? grads.dx.data() + begin * x_floats(s) : nullptr, gradient, workspace.data());
    }
  });
  std::vector<const float*> parts;
  for (int64_t shard = 0; shard < shards; shard++) parts.push_back(gradients.data() + shard * shard_floats);
  kernels.sum_gradients(s, parts.data(), shards, grads.dw.data(), grads.db.data());
  return grads;
}

}  // namespace convcore

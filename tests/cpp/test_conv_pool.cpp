// conv2d_relu_max_pool2d against the separate operations. Whole numbers, so that every sum is exact and many windows
// have equal winners.
#include "cpu/kernels.h"
#include "helpers.h"
#include "ops/activation.h"
#include "ops/conv_pool.h"
#include "ops/max_pool2d.h"

namespace convcore {
namespace {

struct Case {
  const char* name;
  Shape x, w;
  std::array<int64_t, 4> padding;  // top, bottom, left, right
};

const Case kCases[] = {
    {"LeNet-5, first", {2, 1, 28, 28}, {6, 1, 5, 5}, {2, 2, 2, 2}},
    {"LeNet-5, second", {2, 6, 14, 14}, {16, 6, 5, 5}, {0, 0, 0, 0}},
    {"one pixel", {1, 1, 2, 2}, {1, 1, 1, 1}, {0, 0, 0, 0}},
    {"empty batch", {0, 3, 8, 8}, {16, 3, 3, 3}, {1, 1, 1, 1}},
    {"odd sizes, wide rows", {1, 2, 7, 71}, {5, 2, 3, 4}, {0, 1, 2, 0}},
    {"eleven channels", {2, 3, 9, 10}, {11, 3, 2, 3}, {1, 0, 0, 1}},
    {"a kernel wider than two vectors", {1, 1, 3, 60}, {3, 1, 1, 37}, {0, 0, 3, 3}},
    {"whole vectors of channels", {2, 16, 9, 8}, {33, 16, 3, 3}, {1, 1, 1, 1}},
    {"whole vectors of channels, no padding", {2, 16, 9, 9}, {16, 16, 3, 3}, {0, 0, 0, 0}},
    {"channels beyond a vector", {1, 19, 6, 7}, {13, 19, 3, 2}, {0, 0, 1, 1}},
    {"a large kernel", {1, 3, 14, 15}, {17, 3, 9, 7}, {3, 3, 3, 3}},
    {"more outputs than a word has bits", {1, 2, 20, 22}, {12, 2, 3, 3}, {1, 1, 1, 1}},
    {"one channel in, a vector of filters", {2, 1, 28, 28}, {16, 1, 3, 3}, {1, 1, 1, 1}},
    {"one channel in, many filters, wide rows", {1, 1, 7, 62}, {35, 1, 4, 2}, {0, 1, 1, 0}},
    {"padding wider than the kernel", {1, 2, 3, 3}, {12, 2, 2, 2}, {3, 3, 3, 3}},
};

Tensor whole_numbers(const Shape& shape, uint64_t seed) {
  Tensor t = test::random_tensor(shape, seed);
  for (int64_t i = 0; i < t.count(); i++) t.data()[i] = float(int(t.data()[i] * 4));
  return t;
}

void check_equal(const Tensor& got, const Tensor& want) {
  REQUIRE(to_string(got.shape()) == to_string(want.shape()));
  const Tensor a = reorder("test", got, Layout::row_major), b = reorder("test", want, Layout::row_major);
  int64_t wrong = 0;
  for (int64_t i = 0; i < a.count(); i++) wrong += !(a.data()[i] == b.data()[i]);
  CHECK(wrong == 0);
}

TEST_CASE("conv2d_relu_max_pool2d matches the separate operations") {
  const char* op = "test";
  const PoolWindows pairs{{2, 2}, {2, 2}};
  for (const Case& c : kCases) {
    CAPTURE(c.name);
    const Tensor x = whole_numbers(c.x, 1), w = whole_numbers(c.w, 2), b = whole_numbers({c.w[0]}, 3);
    Conv2dParams params{{1, 1}, c.padding, {1, 1}, 1};
    params.algorithm = ConvAlgorithm::planar;
    const Tensor conv = conv2d_forward(op, x, w, b, params);
    const Tensor relu = activation_forward(Activation::relu, conv, {});
    const MaxPool2dResult pooled = max_pool2d_forward(op, relu, pairs, false, true);
    check_equal(conv_pool_forward(op, x, w, b, c.padding), pooled.y);

    const Tensor dy = whole_numbers(pooled.y.shape(), 4);
    const Tensor drelu = max_pool2d_backward(op, dy, relu.shape(), relu, pooled.indices, pairs, false);
    const Tensor dconv = activation_backward(Activation::relu, drelu, conv, Tensor(), {});
    const Conv2dGrads want = conv2d_backward(op, dconv, x, w, params, true, true, true);
    for (Layout layout : {Layout::row_major, Layout::channels_last}) {
      const Conv2dGrads got = conv_pool_backward(op, reorder(op, dy, layout), x, w, b, c.padding, true);
      check_equal(got.dx, want.dx);
      check_equal(got.dw, want.dw);
      check_equal(got.db, want.db);
    }
  }
}

TEST_CASE("conv2d_relu_max_pool2d writes its output in either order of memory") {
  for (const Case& c : kCases) {
    CAPTURE(c.name);
    const Tensor x = whole_numbers(c.x, 1), w = whole_numbers(c.w, 2);
    const auto& kernels = cpu::kernels().conv_pool;
    Tensor outputs[2];
    for (Layout layout : {Layout::row_major, Layout::channels_last}) {
      const ConvPoolShape s = infer_conv_pool_shape("test", c.x, c.w, c.padding, layout);
      const Tensor images = reorder("test", x, conv_pool_x_layout(s));
      const Tensor packed = Tensor::empty("test", "packed", {kernels.packed_floats(s)});
      const Tensor workspace = Tensor::empty("test", "workspace", {kernels.workspace_floats(s)});
      std::vector<char> mask(size_t(s.n * kernels.mask_bytes(s)));
      kernels.pack(s, w.data(), nullptr, packed.data());
      Tensor& y = outputs[layout == Layout::row_major];
      y = Tensor::empty("test", "y", {s.n, s.c_out, s.h_out, s.w_out}, layout);
      kernels.forward(s, images.data(), packed.data(), y.data(), mask.data(), workspace.data());
    }
    check_equal(outputs[0], outputs[1]);
  }
}

}  // namespace
}  // namespace convcore

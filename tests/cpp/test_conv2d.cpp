// conv2d: by hand, against the naive loops of its contract, and the same bits at any number of threads.
#include "ops/conv2d.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::check_same_bits;
using test::message_of;
using test::random_tensor;
using test::Sum;
using test::tensor;
using test::Threads;

struct Case {
  std::string name;
  Shape x, w;
  Conv2dParams params;  // stride, padding (top, bottom, left, right), dilation, groups
};

const Case kCases[] = {
    {"one pixel", {1, 1, 1, 1}, {1, 1, 1, 1}, {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"empty batch", {0, 2, 5, 5}, {3, 2, 3, 3}, {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"lenet", {2, 1, 12, 13}, {6, 1, 5, 5}, {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"same 3x3", {2, 5, 7, 9}, {7, 5, 3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"1x1, many channels", {3, 17, 5, 6}, {33, 17, 1, 1}, {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"1x1, strided", {3, 33, 7, 8}, {34, 33, 1, 1}, {{2, 3}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"3x3, strided, many channels", {3, 19, 9, 10}, {35, 19, 3, 3}, {{2, 2}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"strided", {2, 3, 11, 10}, {4, 3, 3, 3}, {{2, 2}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"stride larger than the kernel", {2, 2, 9, 14}, {3, 2, 2, 1}, {{3, 5}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"uneven in everything", {2, 2, 9, 12}, {3, 2, 2, 3}, {{2, 1}, {0, 2, 3, 1}, {1, 2}, 1}},
    {"dilated", {1, 3, 12, 19}, {2, 3, 3, 3}, {{1, 1}, {2, 2, 2, 2}, {2, 3}, 1}},
    {"groups", {2, 6, 6, 7}, {9, 2, 3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 3}},
    {"depthwise", {2, 5, 6, 21}, {5, 1, 3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 5}},
    {"padding wider than the kernel", {1, 2, 3, 3}, {2, 2, 2, 2}, {{1, 1}, {3, 3, 3, 3}, {1, 1}, 1}},
    {"window as large as the input", {2, 3, 6, 7}, {4, 3, 6, 7}, {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"one row, as conv1d has it", {3, 4, 1, 37}, {5, 4, 1, 3}, {{1, 1}, {0, 0, 1, 1}, {1, 1}, 1}},
    {"few channels, in place", {3, 2, 8, 13}, {16, 2, 5, 5}, {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"few channels, padded", {2, 3, 6, 19}, {14, 3, 3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"few channels, 7x7", {2, 1, 9, 26}, {15, 1, 7, 7}, {{2, 1}, {3, 1, 2, 3}, {1, 1}, 1}},
    {"few channels, strided", {2, 3, 15, 17}, {20, 3, 7, 7}, {{2, 2}, {3, 3, 3, 3}, {1, 1}, 1}},
    {"few channels, rows in blocks", {1, 3, 40, 90}, {33, 3, 3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"a vector of images", {16, 2, 7, 6}, {5, 2, 5, 5}, {{1, 1}, {2, 0, 2, 1}, {1, 1}, 1}},
    {"most of a vector of images", {13, 3, 9, 5}, {7, 3, 3, 3}, {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"two vectors of images, strided rows", {29, 2, 9, 8}, {4, 2, 3, 7}, {{3, 1}, {1, 1, 2, 2}, {2, 1}, 1}},
    {"images, strided", {12, 2, 8, 9}, {3, 2, 2, 3}, {{1, 2}, {0, 1, 1, 0}, {1, 2}, 1}},
    {"wide rows", {1, 3, 4, 70}, {4, 3, 3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
};

// Calls f(y index, x index, w index) for every product of the definition.
template <typename F>
void for_each_product(const Conv2dShape& s, F f) {
  const int64_t kh = s.window.h.kernel, kw = s.window.w.kernel;
  for (int64_t n = 0; n < s.n; n++)
    for (int64_t k = 0; k < s.c_out; k++)
      for (int64_t i = 0; i < s.h_out; i++)
        for (int64_t j = 0; j < s.w_out; j++)
          for (int64_t c = 0; c < s.c_in_per_group(); c++)
            for (int64_t r = 0; r < kh; r++)
              for (int64_t q = 0; q < kw; q++) {
                const int64_t c_x = k / s.c_out_per_group() * s.c_in_per_group() + c;
                const int64_t h = i * s.window.h.stride + r * s.window.h.dilation - s.window.h.pad_before;
                const int64_t w = j * s.window.w.stride + q * s.window.w.dilation - s.window.w.pad_before;
                if (h < 0 || h >= s.h_in || w < 0 || w >= s.w_in) continue;
                f(size_t(((n * s.c_out + k) * s.h_out + i) * s.w_out + j),
                  size_t(((n * s.c_in + c_x) * s.h_in + h) * s.w_in + w),
                  size_t(((k * s.c_in_per_group() + c) * kh + r) * kw + q));
              }
}

TEST_CASE("conv2d_forward by hand") {
  const Tensor x = tensor({1, 1, 3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9});
  const Tensor w = tensor({1, 1, 2, 2}, {1, 0, 0, -1}), b = tensor({1}, {10});
  const Tensor y = conv2d_forward("conv2d", x, w, b, {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1});
  CHECK(y.shape() == Shape{1, 1, 2, 2});
  for (int i = 0; i < 4; i++) CHECK(y.data()[i] == 6);  // x[i, j] - x[i + 1, j + 1] = -4 everywhere
}

TEST_CASE("conv2d matches the naive loops") {
  for (const Case& c : kCases) {
    CAPTURE(c.name);
    const Conv2dShape s = infer_conv2d_shape("conv2d", c.x, c.w, c.params);
    const Shape y_shape{s.n, s.c_out, s.h_out, s.w_out};
    const Tensor x = random_tensor(c.x, 1), w = random_tensor(c.w, 2), b = random_tensor({s.c_out}, 3);
    const Tensor dy = random_tensor(y_shape, 4);

    std::vector<Sum> y(size_t(dy.count())), dx(size_t(x.count())), dw(size_t(w.count())), db(size_t(s.c_out));
    for_each_product(s, [&](size_t at_y, size_t at_x, size_t at_w) {
      y[at_y].add(double(x.data()[at_x]) * w.data()[at_w]);
      dx[at_x].add(double(dy.data()[at_y]) * w.data()[at_w]);
      dw[at_w].add(double(dy.data()[at_y]) * x.data()[at_x]);
    });
    std::vector<Sum> y_bias = y;
    for (int64_t at = 0; at < dy.count(); at++) {
      const int64_t k = at / (s.h_out * s.w_out) % s.c_out;
      y_bias[size_t(at)].add(b.data()[k]);
      db[size_t(k)].add(dy.data()[at]);
    }

    const bool pointwise = s.taps() == 1 && c.params.padding == std::array<int64_t, 4>{};
    for (ConvAlgorithm algorithm :
         {ConvAlgorithm::automatic, ConvAlgorithm::planar, ConvAlgorithm::direct, ConvAlgorithm::gemm}) {
      if (algorithm == ConvAlgorithm::direct && c.params.groups > 1) continue;
      if (algorithm == ConvAlgorithm::gemm && !(pointwise && c.params.groups == 1)) continue;
      Conv2dParams params = c.params;
      params.algorithm = algorithm;
      for (Layout layout : {Layout::row_major, Layout::channels_last}) {
        CAPTURE(int(algorithm));
        CAPTURE(int(layout));
        const Tensor x_in = reorder("test", x, layout), dy_in = reorder("test", dy, layout);
        check_close(conv2d_forward("conv2d", x_in, w, {}, params), y_shape, y);
        check_close(conv2d_forward("conv2d", x_in, w, b, params), y_shape, y_bias);
        const Conv2dGrads grads = conv2d_backward("conv2d", dy_in, x_in, w, params, true, true, true);
        check_close(grads.dx, c.x, dx);
        check_close(grads.dw, c.w, dw);
        check_close(grads.db, {s.c_out}, db);
      }
    }
  }
}

TEST_CASE("conv2d gives the same bits at any number of threads") {
  for (const Case& c : {Case{"3x3", {5, 12, 14, 15}, {18, 12, 3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
                        Case{"images", {29, 1, 16, 17}, {6, 1, 5, 5}, {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1}},
                        Case{"few", {21, 3, 16, 17}, {16, 3, 3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
                        Case{"5x5", {9, 1, 16, 17}, {6, 1, 5, 5}, {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1}}}) {
    CAPTURE(c.name);
    const Conv2dShape s = infer_conv2d_shape("conv2d", c.x, c.w, c.params);
    const Tensor x = random_tensor(c.x, 1), w = random_tensor(c.w, 2), b = random_tensor({s.c_out}, 3);
    const Tensor dy = random_tensor({s.n, s.c_out, s.h_out, s.w_out}, 4);
    Threads one(1);
    const Tensor y = conv2d_forward("conv2d", x, w, b, c.params);
    const Conv2dGrads grads = conv2d_backward("conv2d", dy, x, w, c.params, true, true, true);
    for (int threads : {2, 3, 8}) {
      Threads several(threads);
      check_same_bits(conv2d_forward("conv2d", x, w, b, c.params), y);
      const Conv2dGrads again = conv2d_backward("conv2d", dy, x, w, c.params, true, true, true);
      check_same_bits(again.dx, grads.dx);
      check_same_bits(again.dw, grads.dw);
      check_same_bits(again.db, grads.db);
    }
  }
}

TEST_CASE("conv2d refuses shapes that do not fit") {
  const Conv2dParams params{{1, 1}, {0, 0, 0, 0}, {1, 1}, 1};
  CHECK(message_of([&] { infer_conv2d_shape("conv2d", {8, 1, 28, 28}, {16, 3, 5, 5}, params); }) ==
        "conv2d: x has the wrong number of channels: expected 3 (w has shape (16, 3, 5, 5), groups is 1), got 1 (x has "
        "shape (8, 1, 28, 28))");
  const int64_t huge = int64_t(1) << 61;
  CHECK(message_of([&] { infer_conv2d_shape("conv2d", {1, 1, huge, huge}, {1, 1, 1, 1}, params); }) != "");
  CHECK(message_of([&] { infer_conv2d_shape("conv2d", {1, huge, 1, 1}, {1, huge, 1, 1}, params); }) != "");
}

}  // namespace
}  // namespace convcore

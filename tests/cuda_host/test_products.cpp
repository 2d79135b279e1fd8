// Convolution and dense layers: every pass, every precision, sizes around the tiles.
#include "conv_cases.h"

namespace convcore::test {
namespace {

const Case kCases[] = {
    {"3x3, one tile", 2, 4, 5, 6, 8, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}, 1},
    {"3x3, 16 channels", 2, 16, 9, 9, 16, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}, 1},
    {"3x3, odd channels", 3, 5, 7, 6, 19, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}, 1},
    {"5x5 of one channel", 2, 1, 9, 8, 6, {5, 1, 2, 2, 1}, {5, 1, 2, 2, 1}, 1},
    {"stride 2", 2, 8, 8, 9, 20, {3, 2, 1, 1, 1}, {3, 2, 1, 1, 1}, 1},
    {"1x1 of stride 2", 2, 8, 7, 6, 36, {1, 2, 0, 0, 1}, {1, 2, 0, 0, 1}, 1},
    {"1x1", 2, 12, 4, 4, 40, {1, 1, 0, 0, 1}, {1, 1, 0, 0, 1}, 1},
    {"7x7 of stride 2", 1, 3, 13, 12, 10, {7, 2, 3, 3, 1}, {7, 2, 3, 3, 1}, 1},
    {"uneven in everything", 2, 3, 9, 11, 4, {2, 3, 0, 2, 2}, {4, 1, 3, 1, 1}, 1},
    {"dilated", 1, 4, 9, 9, 5, {3, 1, 2, 2, 2}, {3, 1, 2, 2, 2}, 1},
    {"more than a tile of channels", 1, 8, 6, 6, 70, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}, 1},
    {"3x3, a box of eight columns", 2, 20, 9, 16, 24, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}, 1},
    {"3x3, dilated rows", 1, 16, 8, 8, 40, {3, 1, 2, 2, 2}, {3, 1, 1, 1, 1}, 1},
    {"groups", 2, 6, 6, 5, 4, {3, 1, 1, 1, 1}, {3, 2, 1, 1, 1}, 2},
    {"depthwise", 2, 5, 6, 7, 5, {3, 2, 1, 1, 1}, {3, 1, 1, 1, 1}, 5},
    {"empty batch", 0, 4, 5, 5, 8, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}, 1},
};

void check_conv(const Case& c, Precision precision) {
  CAPTURE(c.name);
  CAPTURE(int(precision));
  const With with(precision);
  const Conv2dShape s = shape_of(c);
  const int64_t in = s.h_in * s.w_in, out = s.h_out * s.w_out;
  const Floats x = random_floats(s.n * s.c_in * in, 1), dy = random_floats(s.n * s.c_out * out, 2);
  const Floats w = random_floats(s.c_out * s.c_in_per_group() * s.taps(), 3), b = random_floats(s.c_out, 4);
  check_kernel(bound_of(precision), [&](const Kernels& k, Outputs& outputs) {
    Floats y(s.n * s.c_out * out);
    if (is_cuda(k)) {
      k.conv2d.direct_forward(s, x, Layout::channels_last, w, b, y);
      return keep(outputs, y);
    }
    k.conv2d.planar_forward(s, turned(x, s.n, s.c_in, in, false), w, b, y);
    keep(outputs, turned(y, s.n, s.c_out, out, true));
  });
  check_kernel(bound_of(precision), [&](const Kernels& k, Outputs& outputs) {
    Floats dx(s.n * s.c_in * in);
    if (is_cuda(k)) {
      k.conv2d.direct_backward_input(s, dy, Layout::channels_last, w, dx);
      return keep(outputs, dx);
    }
    k.conv2d.planar_backward_input(s, dy, Layout::channels_last, w, dx);
    keep(outputs, turned(dx, s.n, s.c_in, in, true));
  });
  check_kernel(bound_of(precision), [&](const Kernels& k, Outputs& outputs) {
    Floats dw(w.count()), db(s.c_out);
    if (is_cuda(k))
      k.conv2d.direct_backward_weight(s, dy, x, dw);
    else
      k.conv2d.planar_backward_weight(s, turned(dy, s.n, s.c_out, out, false), turned(x, s.n, s.c_in, in, false), dw);
    k.conv2d.backward_bias(s, dy, Layout::channels_last, db);
    keep(outputs, dw);
    keep(outputs, db);
  });
}

TEST_CASE("conv2d, float32") {
  for (const Case& c : kCases) check_conv(c, Precision::fp32);
}
TEST_CASE("conv2d, 3xTF32") {
  for (const Case& c : kCases) check_conv(c, Precision::tf32x3);
}
TEST_CASE("conv2d, TF32") {
  for (const Case& c : {kCases[1], kCases[2], kCases[10]}) check_conv(c, Precision::tf32);
}
TEST_CASE("conv2d, BF16") {
  for (const Case& c : kCases) check_conv(c, Precision::bf16);
}

TEST_CASE("conv2d, the tiles of large images") {
  // More than kFewResults results: the large tiles of float32.
  check_conv({"large", 1, 1, 126, 125, 17, {1, 1, 0, 0, 1}, {1, 1, 0, 0, 1}, 1}, Precision::fp32);
}

void check_linear(const LinearShape& s, Precision precision) {
  CAPTURE(s.n);
  CAPTURE(s.in);
  CAPTURE(s.out);
  const With with(precision);
  const Floats x = random_floats(s.n * s.in, 1), w = random_floats(s.out * s.in, 2), b = random_floats(s.out, 3);
  const Floats dy = random_floats(s.n * s.out, 4);
  check_kernel(bound_of(precision), [&](const Kernels& k, Outputs& outputs) {
    Floats y(s.n * s.out), dx(s.n * s.in), dw(s.out * s.in), db(s.out);
    k.linear.forward(s, x, w, b, y);
    k.linear.backward_input(s, dy, w, dx);
    k.linear.backward_weight(s, dy, x, dw);
    k.linear.backward_bias(s, dy, db);
    for (const Floats* values : {&y, &dx, &dw, &db}) keep(outputs, *values);
  });
}

TEST_CASE("linear") {
  for (const LinearShape& s : {LinearShape{1, 1, 1}, {7, 40, 12}, {33, 13, 65}, {64, 84, 10}, {0, 4, 4}, {300, 20, 33}})
    for (const Precision p : {Precision::fp32, Precision::tf32x3, Precision::bf16}) check_linear(s, p);
}

#ifndef CONVCORE_CUDA_HOST_RACES
TEST_CASE("no bank conflicts in the products") {
  auto& settings = cuda_host::settings();
  settings = {};
  for (const Precision p : {Precision::fp32, Precision::tf32x3, Precision::bf16}) {
    const With with(p);
    for (const int64_t c_out : {16, 32, 64}) {
      // Large enough for the large tiles of float32; tensor cores have no others.
      const int64_t side = p != Precision::fp32 ? 24 : c_out == 16 ? 128 : c_out == 32 ? 96 : 64;
      const Case c{"", 1, 16, side, side, c_out, {3, 1, 1, 1, 1}, {1, 1, 0, 0, 1}, 1};
      const Conv2dShape s = shape_of(c);
      const Floats x = random_floats(s.n * s.c_in * s.h_in * s.w_in, 1), w = random_floats(c_out * 16 * 3, 2);
      Floats y(s.n * c_out * s.h_out * s.w_out), dw(w.count());
      cuda_host::counts() = {};
      settings.count_bank_conflicts = true;
      cuda_kernels().conv2d.direct_forward(s, x, Layout::channels_last, w, nullptr, y);
      cuda_kernels().conv2d.direct_backward_weight(s, y, x, dw);
      settings.count_bank_conflicts = false;
      CAPTURE(c_out);
      CAPTURE(int(p));
      CHECK(cuda_host::counts().shared_accesses > 0);
      CHECK(cuda_host::counts().bank_conflicts == 0);
    }
  }
}
#endif

}  // namespace
}  // namespace convcore::test

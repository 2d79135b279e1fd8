// The direct weight gradient on channels-last data: against the naive loops, and the same bits at any number of
// threads.
#include "cpu/kernels.h"
#include "weight_gradient.h"

namespace convcore {
namespace {

using test::check_close;
using test::check_same_bits;
using test::random_tensor;
using test::Threads;
using test::WeightCase;

const WeightCase kCases[] = {
    {"one pixel", 1, 1, 1, 1, 1, {1, 1}, {{1, 1}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"empty batch", 0, 5, 5, 3, 4, {3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"same 3x3", 3, 7, 9, 16, 16, {3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"odd channels", 2, 6, 5, 13, 19, {3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"three vectors and a half", 2, 5, 6, 5, 51, {3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"two ranges of channels", 2, 4, 5, 70, 33, {3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"1x1, strided", 3, 8, 7, 18, 32, {1, 1}, {{2, 2}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"3x3, strided", 2, 11, 10, 16, 24, {3, 3}, {{2, 2}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"first layer", 2, 13, 12, 3, 8, {7, 7}, {{2, 2}, {3, 3, 3, 3}, {1, 1}, 1}},
    {"uneven in everything", 2, 9, 12, 6, 7, {2, 3}, {{2, 1}, {0, 2, 3, 1}, {1, 2}, 1}},
    {"dilated", 1, 12, 19, 4, 5, {3, 3}, {{1, 1}, {2, 2, 2, 2}, {2, 3}, 1}},
    {"stride larger than the kernel", 2, 9, 14, 3, 4, {2, 1}, {{3, 5}, {0, 0, 0, 0}, {1, 1}, 1}},
    {"padding wider than the kernel", 1, 3, 3, 2, 3, {2, 2}, {{1, 1}, {3, 3, 3, 3}, {1, 1}, 1}},
    {"rows in several blocks", 5, 21, 33, 16, 16, {3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
    {"many images in a block", 41, 3, 3, 16, 17, {3, 3}, {{1, 1}, {1, 1, 1, 1}, {1, 1}, 1}},
};

Tensor gradient(const Conv2dShape& s, const Tensor& dy, const Tensor& x) {
  Tensor dw = Tensor::empty("test", "dw", {s.c_out, s.c_in, s.window.h.kernel, s.window.w.kernel});
  cpu::kernels().conv2d.direct_backward_weight(s, dy.data(), x.data(), dw.data());
  return dw;
}

TEST_CASE("the direct weight gradient matches the naive loops") {
  for (const WeightCase& c : kCases) {
    CAPTURE(c.name);
    const Conv2dShape s = c.shape();
    const Tensor x = random_tensor({s.n, s.h_in, s.w_in, s.c_in}, 1);
    const Tensor dy = random_tensor({s.n, s.h_out, s.w_out, s.c_out}, 2);
    const Tensor dw = gradient(s, dy, x);
    check_close(dw, dw.shape(), test::naive_weight_gradient(s, dy, x));
  }
}

TEST_CASE("the direct weight gradient gives the same bits at any number of threads") {
  for (const WeightCase& c : kCases) {
    CAPTURE(c.name);
    const Conv2dShape s = c.shape();
    const Tensor x = random_tensor({s.n, s.h_in, s.w_in, s.c_in}, 1);
    const Tensor dy = random_tensor({s.n, s.h_out, s.w_out, s.c_out}, 2);
    Threads one(1);
    const Tensor dw = gradient(s, dy, x);
    for (int threads : {2, 3, 8}) {
      Threads several(threads);
      check_same_bits(gradient(s, dy, x), dw);
    }
  }
}

}  // namespace
}  // namespace convcore

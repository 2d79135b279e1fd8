// The Winograd weight gradient: against the naive loops, and the same bits at any number of threads.
#include "cpu/kernels.h"
#include "weight_gradient.h"

namespace convcore {
namespace {

using test::check_same_bits;
using test::random_tensor;
using test::Sum;
using test::Threads;
using test::WeightCase;

WeightCase winograd_case(const char* name, int64_t n, int64_t h, int64_t w, int64_t c_in, int64_t c_out,
                         std::array<int64_t, 4> padding, int64_t taps = 3) {
  return {name, n, h, w, c_in, c_out, {taps, taps}, {{1, 1}, padding, {1, 1}, 1}};
}

const WeightCase kCases[] = {
    winograd_case("empty batch", 0, 5, 5, 3, 4, {1, 1, 1, 1}),
    winograd_case("one pixel", 1, 3, 3, 1, 1, {0, 0, 0, 0}),
    winograd_case("one pixel, padded", 2, 1, 1, 2, 3, {1, 1, 1, 1}),
    winograd_case("whole tiles", 3, 8, 8, 16, 16, {1, 1, 1, 1}),
    winograd_case("whole tiles, no padding", 2, 10, 14, 16, 32, {0, 0, 0, 0}),
    winograd_case("parts of tiles", 2, 7, 9, 16, 48, {1, 1, 1, 1}),
    winograd_case("full padding", 2, 6, 5, 8, 8, {2, 2, 2, 2}),
    winograd_case("uneven padding", 2, 9, 11, 12, 20, {0, 2, 2, 1}),
    winograd_case("odd channels", 2, 13, 6, 13, 19, {1, 1, 1, 1}),
    winograd_case("three vectors and a half", 2, 5, 6, 5, 51, {1, 1, 1, 1}),
    winograd_case("two ranges of channels", 2, 5, 6, 70, 67, {1, 1, 1, 1}),
    winograd_case("a wide image", 1, 3, 70, 16, 16, {1, 1, 1, 1}),
    winograd_case("several blocks and shards", 19, 19, 18, 16, 17, {1, 1, 1, 1}),
    winograd_case("5x5", 2, 7, 9, 16, 48, {2, 2, 2, 2}, 5),
    winograd_case("5x5, one pixel", 1, 5, 5, 1, 1, {0, 0, 0, 0}, 5),
    winograd_case("5x5, uneven padding", 3, 9, 11, 70, 20, {0, 4, 3, 1}, 5),
    winograd_case("5x5, several blocks and shards", 19, 9, 18, 16, 17, {2, 2, 2, 2}, 5),
};

Tensor gradient(const Conv2dShape& s, const Tensor& dy, const Tensor& x) {
  Tensor dw = Tensor::empty("test", "dw", {s.c_out, s.c_in, s.window.h.kernel, s.window.w.kernel});
  cpu::kernels().conv2d.winograd_backward_weight(s, dy.data(), x.data(), dw.data());
  return dw;
}

// The same, an image at a time.
Tensor gradient_in_parts(const Conv2dShape& s, const Tensor& dy, const Tensor& x) {
  const Conv2dKernels& kernels = cpu::kernels().conv2d;
  const int64_t kept = kernels.weight_sum_floats(s);
  Tensor sums = Tensor::empty("test", "sums", {kept}),
         part = Tensor::empty("test", "part", {kernels.weight_part_floats(s)});
  Conv2dShape image = s;
  image.n = 1;
  for (int64_t n = 0; n < s.n; n++)
    kernels.winograd_weight_part(image, dy.data() + n * s.h_out * s.w_out * s.c_out,
                                 x.data() + n * s.h_in * s.w_in * s.c_in, kept ? sums.data() : nullptr, n == 0,
                                 n + 1 == s.n, part.data());
  Tensor dw = Tensor::empty("test", "dw", {s.c_out, s.c_in, s.window.h.kernel, s.window.w.kernel});
  kernels.sum_weight_parts(s, part.data(), part.count(), 1, dw.data());
  return dw;
}

// The transforms mix the sums of neighbouring taps, so an error is measured against a typical sum, not against its own
// terms: the bound is 1e-5 of the root mean square of a sum of products of numbers in [-1, 1).
TEST_CASE("the Winograd weight gradient matches the naive loops") {
  for (const WeightCase& c : kCases) {
    CAPTURE(c.name);
    const Conv2dShape s = c.shape();
    const Tensor x = random_tensor({s.n, s.h_in, s.w_in, s.c_in}, 1);
    const Tensor dy = random_tensor({s.n, s.h_out, s.w_out, s.c_out}, 2);
    const std::vector<Sum> want = test::naive_weight_gradient(s, dy, x);
    const double typical = std::sqrt(double(s.n * s.h_out * s.w_out)) / 3;
    for (bool in_parts : {false, true}) {
      if (in_parts && s.n == 0) continue;
      CAPTURE(in_parts);
      const Tensor dw = in_parts ? gradient_in_parts(s, dy, x) : gradient(s, dy, x);
      double worst = 0;
      for (int64_t i = 0; i < dw.count(); i++) {
        const double error = std::fabs(dw.data()[i] - want[size_t(i)].value);
        worst = error <= worst ? worst : error;  // a NaN stays
      }
      CHECK(worst <= 1e-5 * typical);
    }
  }
}

TEST_CASE("the Winograd weight gradient gives the same bits at any number of threads") {
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

// Winograd convolution: against the naive loops of the definition, and the same bits at any number of threads.
#include "cpu/kernels.h"
#include "helpers.h"

namespace convcore {
namespace {

using test::random_tensor;
using test::Threads;

struct Case {
  std::string name;
  int64_t n, c_in, h, w, c_out;
  std::array<int64_t, 4> padding;  // top, bottom, left, right
  int64_t taps = 3, stride = 1;    // along both axes
};

const Case kCases[] = {
    {"one pixel", 1, 1, 1, 1, 1, {1, 1, 1, 1}},
    {"empty batch", 0, 3, 8, 8, 5, {1, 1, 1, 1}},
    {"whole tiles", 2, 16, 8, 8, 16, {1, 1, 1, 1}},
    {"whole vectors, odd sizes", 3, 32, 7, 9, 48, {1, 1, 1, 1}},
    {"odd in everything", 2, 5, 11, 6, 19, {1, 1, 1, 1}},
    {"no padding", 2, 17, 9, 10, 33, {0, 0, 0, 0}},
    {"widest padding", 1, 4, 5, 6, 7, {2, 2, 2, 2}},
    {"uneven padding", 2, 18, 6, 13, 20, {0, 2, 1, 0}},
    {"uneven padding, the other way", 2, 18, 6, 13, 20, {2, 1, 0, 2}},
    {"output of one pixel", 3, 20, 3, 3, 4, {0, 0, 0, 0}},
    {"rows longer than a block", 1, 3, 5, 75, 2, {1, 1, 1, 1}},
    {"image smaller than the padding", 2, 3, 1, 2, 3, {2, 2, 2, 2}},
    {"long channel sums, odd vectors", 1, 70, 5, 9, 40, {1, 1, 1, 1}},
    {"filters larger than the cache", 3, 136, 10, 9, 264, {1, 1, 1, 1}},
    {"stride 2, whole tiles", 2, 16, 16, 32, 32, {1, 1, 1, 1}, 3, 2},
    {"stride 2, odd in everything", 2, 5, 11, 6, 19, {1, 1, 1, 1}, 3, 2},
    {"stride 2, no padding", 2, 17, 9, 10, 33, {0, 0, 0, 0}, 3, 2},
    {"stride 2, uneven padding", 2, 18, 6, 13, 20, {0, 2, 1, 0}, 3, 2},
    {"stride 2, widest padding", 1, 4, 5, 6, 7, {2, 2, 2, 2}, 3, 2},
    {"stride 2, image smaller than the padding", 2, 3, 1, 2, 3, {2, 2, 2, 2}, 3, 2},
    {"stride 2, pixels that no tap meets", 2, 3, 8, 4, 3, {0, 0, 0, 0}, 3, 2},
    {"stride 2, filters larger than the cache", 3, 136, 10, 9, 264, {1, 1, 1, 1}, 3, 2},
    {"5x5", 2, 17, 11, 8, 33, {2, 2, 2, 2}, 5},
    {"5x5, uneven padding", 2, 18, 6, 13, 20, {0, 4, 3, 1}, 5},
};

Conv2dShape shape_of(const Case& c) {
  return infer_conv2d_shape("conv2d", {c.n, c.c_in, c.h, c.w}, {c.c_out, c.c_in, c.taps, c.taps},
                            {{c.stride, c.stride}, c.padding, {1, 1}, 1});
}

Tensor random_filters(const Conv2dShape& s) {
  return random_tensor({s.c_out, s.c_in, s.window.h.kernel, s.window.w.kernel}, 2);
}

// Calls f(y index, x index, w index) for every product of the definition; x and y are channels last.
template <typename F>
void for_each_product(const Conv2dShape& s, F f) {
  for (int64_t n = 0; n < s.n; n++)
    for (int64_t i = 0; i < s.h_out; i++)
      for (int64_t j = 0; j < s.w_out; j++)
        for (int64_t tap = 0; tap < s.taps(); tap++) {
          const int64_t h = i * s.window.h.stride + tap / s.window.w.kernel - s.window.h.pad_before;
          const int64_t w = j * s.window.w.stride + tap % s.window.w.kernel - s.window.w.pad_before;
          if (h < 0 || h >= s.h_in || w < 0 || w >= s.w_in) continue;
          for (int64_t k = 0; k < s.c_out; k++)
            for (int64_t c = 0; c < s.c_in; c++)
              f(size_t(((n * s.h_out + i) * s.w_out + j) * s.c_out + k),
                size_t(((n * s.h_in + h) * s.w_in + w) * s.c_in + c), size_t((k * s.c_in + c) * s.taps() + tap));
        }
}

// Winograd's errors are spread over a tile: they are measured against the root mean square of the whole result.
void check_rms(const Tensor& got, const std::vector<double>& want, double largest) {
  REQUIRE(got.count() == int64_t(want.size()));
  double squares = 0, error = 0;
  bool finite = true;
  for (size_t i = 0; i < want.size(); i++) {
    squares += want[i] * want[i];
    error = std::max(error, std::fabs(got.data()[i] - want[i]));
    finite = finite && std::isfinite(got.data()[i]);
  }
  CHECK(finite);
  CHECK(error <= largest * std::sqrt(squares / double(std::max<size_t>(1, want.size()))));
}

TEST_CASE("winograd matches the naive loops") {
  const Conv2dKernels& kernels = cpu::kernels().conv2d;
  for (const Case& c : kCases) {
    CAPTURE(c.name);
    const Conv2dShape s = shape_of(c);
    const Tensor x = random_tensor({s.n, s.h_in, s.w_in, s.c_in}, 1), w = random_filters(s);
    const Tensor b = random_tensor({s.c_out}, 3), dy = random_tensor({s.n, s.h_out, s.w_out, s.c_out}, 4);
    std::vector<double> y(size_t(dy.count())), dx(size_t(x.count()));
    for_each_product(s, [&](size_t at_y, size_t at_x, size_t at_w) {
      y[at_y] += double(x.data()[at_x]) * w.data()[at_w];
      dx[at_x] += double(dy.data()[at_y]) * w.data()[at_w];
    });

    std::vector<double> with_bias = y;
    for (size_t i = 0; i < y.size(); i++) with_bias[i] += b.data()[i % size_t(s.c_out)];
    for (const auto& [tile, largest] : {std::pair(4, 1e-5), std::pair(2, c.taps == 5 ? 1e-5 : 4e-6)}) {
      CAPTURE(tile);
      Tensor got = Tensor::empty("test", "y", dy.shape());
      kernels.winograd_forward(s, tile, x.data(), w.data(), nullptr, got.data());
      check_rms(got, y, largest);
      kernels.winograd_forward(s, tile, x.data(), w.data(), b.data(), got.data());
      check_rms(got, with_bias, largest);
      Tensor got_dx = Tensor::empty("test", "dx", x.shape());
      kernels.winograd_backward_input(s, tile, dy.data(), w.data(), got_dx.data());
      check_rms(got_dx, dx, largest);
    }
  }
}

TEST_CASE("winograd gives the same bits at any number of threads") {
  const Conv2dKernels& kernels = cpu::kernels().conv2d;
  for (const Case& c :
       {Case{"small", 9, 12, 14, 15, 18, {1, 1, 1, 1}}, Case{"large", 2, 136, 10, 9, 264, {1, 1, 1, 1}},
        Case{"stride 2", 9, 12, 14, 15, 18, {1, 1, 1, 1}, 3, 2}, Case{"5x5", 9, 12, 14, 15, 18, {2, 2, 2, 2}, 5}}) {
    CAPTURE(c.name);
    const Conv2dShape s = shape_of(c);
    const Tensor x = random_tensor({s.n, s.h_in, s.w_in, s.c_in}, 1), w = random_filters(s);
    const Tensor b = random_tensor({s.c_out}, 3), dy = random_tensor({s.n, s.h_out, s.w_out, s.c_out}, 4);
    Tensor y = Tensor::empty("test", "y", dy.shape()), again_y = Tensor::empty("test", "y", dy.shape());
    Tensor dx = Tensor::empty("test", "dx", x.shape()), again_dx = Tensor::empty("test", "dx", x.shape());
    for (int tile : {4, 2}) {
      CAPTURE(tile);
      Threads one(1);
      kernels.winograd_forward(s, tile, x.data(), w.data(), b.data(), y.data());
      kernels.winograd_backward_input(s, tile, dy.data(), w.data(), dx.data());
      for (int threads : {2, 3, 8}) {
        Threads several(threads);
        kernels.winograd_forward(s, tile, x.data(), w.data(), b.data(), again_y.data());
        kernels.winograd_backward_input(s, tile, dy.data(), w.data(), again_dx.data());
        test::check_same_bits(again_y, y);
        test::check_same_bits(again_dx, dx);
      }
    }
  }
}

// The first half of a batch norm's backward pass in the transform of the output: against the pass by itself.
TEST_CASE("winograd sums its result for a batch norm") {
  const Conv2dKernels& kernels = cpu::kernels().conv2d;
  for (const Case& c : kCases)
    for (int tile : {4, 2})
      for (bool masked : {false, true}) {
        CAPTURE(c.name);
        CAPTURE(tile);
        const Conv2dShape s = shape_of(c);
        const Tensor dy = random_tensor({s.n, s.h_out, s.w_out, s.c_out}, 1), w = random_filters(s);
        const Tensor other = random_tensor({s.n, s.h_in, s.w_in, s.c_in}, 3), x = random_tensor(other.shape(), 4);
        const Tensor y = random_tensor(other.shape(), 5), mean = random_tensor({s.c_in}, 6);
        Tensor u = Tensor::empty("test", "u", {kernels.winograd_filter_floats(s, tile, true)});
        kernels.winograd_transform_filters(s, tile, true, w.data(), u.data());
        Tensor want = Tensor::empty("test", "dz", other.shape()), got = Tensor::empty("test", "dz", other.shape());
        const size_t channels = size_t(s.c_in);
        std::vector<double> want_dz(channels), want_dz_x(channels), got_dz(channels), got_dz_x(channels);
        const float* mask = masked ? y.data() : nullptr;
        kernels.winograd_convolve(s, tile, true, dy.data(), u.data(), {nullptr, other.data(), false, {}}, want.data());
        const BatchNormShape norm{s.n, s.c_in, s.h_in * s.w_in, Layout::channels_last};
        cpu::kernels().batch_norm.backward_partial(norm, 0, s.n, want.data(), x.data(), mean.data(), mask, want.data(),
                                                   want_dz.data(), want_dz_x.data());
        kernels.winograd_convolve(
            s, tile, true, dy.data(), u.data(),
            {nullptr, other.data(), false, {x.data(), mask, mean.data(), got_dz.data(), got_dz_x.data()}}, got.data());
        test::check_same_bits(got, want);
        const double values = double(std::max<int64_t>(1, s.n * s.h_in * s.w_in));
        const double bound = 1e-5 * std::sqrt(double(s.c_out)) * values;
        for (size_t k = 0; k < channels; k++) {
          CHECK(std::fabs(got_dz[k] - want_dz[k]) <= bound);
          CHECK(std::fabs(got_dz_x[k] - want_dz_x[k]) <= bound);
        }
      }
}

// A tile mixes its pixels: a NaN reaches its tile, and no other.
TEST_CASE("winograd passes NaN on, to one tile") {
  const Conv2dShape s = shape_of({"", 1, 3, 12, 12, 5, {1, 1, 1, 1}});
  Tensor x = random_tensor({1, 12, 12, 3}, 1);
  const Tensor w = random_tensor({5, 3, 3, 3}, 2);
  x.data()[(6 * 12 + 6) * 3 + 1] = std::nanf("");
  Tensor y = Tensor::empty("test", "y", {1, 12, 12, 5});
  for (int tile : {4, 2}) {
    CAPTURE(tile);
    cpu::kernels().conv2d.winograd_forward(s, tile, x.data(), w.data(), nullptr, y.data());
    for (int64_t i = 0; i < 12; i++)
      for (int64_t j = 0; j < 12; j++) {
        // The tiles that see the pixel reach from it by a pixel to either side.
        const auto sees = [&](int64_t at) { return at / tile * tile - 1 <= 6 && 6 <= at / tile * tile + tile; };
        const bool near = std::max(std::abs(i - 6), std::abs(j - 6)) <= 1, mixed = sees(i) && sees(j);
        const float value = y.data()[(i * 12 + j) * 5];
        if (near) CHECK(std::isnan(value));
        if (!mixed) CHECK(!std::isnan(value));
      }
  }
}

}  // namespace
}  // namespace convcore

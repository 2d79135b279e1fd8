// The ops beyond those of the usual networks: the CPU's kernel and the CUDA kernel on the same arguments.
#include "cuda/images.cuh"
#include "helpers.h"

namespace convcore::test {
namespace {

// (n, h, w, c) from (n, c, h, w), or back.
Floats turned(const Kernels& k, int64_t n, int64_t rows, int64_t columns, const Floats& x) {
  Floats y(x.count());
  k.reorder.transpose(n, rows, columns, x, y);
  return y;
}

void keep_all(Outputs& outputs, std::initializer_list<const Floats*> all) {
  for (const Floats* values : all) keep(outputs, *values);
}

TEST_CASE("division by multiplication") {
  for (const int64_t by : {1, 2, 3, 7, 24, 64, 641, 65535, 1 << 20, INT32_MAX})
    for (const int64_t n : {int64_t(0), int64_t(1), by - 1, by, by + 1, 1000 * by - 1, int64_t(INT32_MAX),
                            int64_t(INT32_MAX) + 1, int64_t(1) << 40}) {
      int64_t remainder;
      CHECK(cuda::Divisor(by).divide(n, &remainder) == n / by);
      CHECK(remainder == n % by);
    }
  CHECK(cuda::Divisor(int64_t(1) << 33).quotient((int64_t(3) << 33) + 5) == 3);
}

// ---- pooling ------------------------------------------------------------------------------------------------------

TEST_CASE("pooling of four channels at a time, and of arrays that are not aligned") {
  const Pool2dShape s{2 * 8, 7, 9, 4, 5, {{3, 2, 1, 1}, {3, 2, 1, 1}}};
  const int64_t in = s.planes * 7 * 9, out = s.planes * 4 * 5;
  for (const int64_t skip : {0, 1}) {
    const Floats x = random_floats(in + skip, 1), dy = random_floats(out + skip, 2);
    check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
      Floats y(out + skip, 0.0f), dx(in + skip, 0.0f), mean(out + skip, 0.0f), dmean(in + skip, 0.0f);
      Buffer<int32_t> indices(out + skip, 0);
      k.max_pool2d.forward_channels_last(s, 8, x + skip, y + skip, indices + skip);
      k.max_pool2d.backward_channels_last(s, 8, dy + skip, indices + skip, dx + skip);
      k.avg_pool2d.forward_channels_last({s, false, 0}, 8, x + skip, mean + skip);
      k.avg_pool2d.backward_channels_last({s, false, 0}, 8, dy + skip, dmean + skip);
      keep_all(outputs, {&y, &dx, &mean, &dmean});
      keep(outputs, indices);
    });
  }
}

TEST_CASE("pad_channels of four channels at a time") {
  const PadChannelsShape s{2, 4, 5, 7, 12, 3, 4, 4, 2, 2};
  const Floats x = random_floats(2 * 4 * 5 * 7, 1), dy = random_floats(2 * 12 * 3 * 4, 2);
  check_kernel(0, [&](const Kernels& k, Outputs& outputs) {
    Floats y(dy.count()), dx(x.count());
    k.pad_channels.forward_channels_last(s, x, y);
    k.pad_channels.backward_channels_last(s, dy, dx);
    keep_all(outputs, {&y, &dx});
  });
}

TEST_CASE("adaptive average pooling over large windows, and of four channels at a time") {
  for (const auto& [s, c] : {std::pair{AdaptiveAvgPool2dShape{2 * 40, 7, 9, 1, 1}, 40},
                             {AdaptiveAvgPool2dShape{2 * 3, 13, 11, 2, 1}, 3},
                             {AdaptiveAvgPool2dShape{1 * 8, 6, 5, 4, 3}, 8}}) {
    const int64_t in = s.planes * s.h_in * s.w_in, out = s.planes * s.h_out * s.w_out;
    const Floats x = random_floats(in, 1), dy = random_floats(out, 2);
    check_kernel(kRounding, [&, s = s, c = c](const Kernels& k, Outputs& outputs) {
      Floats y(out), dx(in);
      k.adaptive_avg_pool2d.forward_channels_last(s, c, x, y);
      k.adaptive_avg_pool2d.backward_channels_last(s, c, dy, dx);
      keep_all(outputs, {&y, &dx});
    });
  }
}

TEST_CASE("adaptive max pooling") {
  for (const AdaptiveAvgPool2dShape& s :
       {AdaptiveAvgPool2dShape{6, 7, 5, 3, 4}, {2, 2, 3, 5, 7}, {3, 8, 8, 1, 1}, {0, 4, 4, 3, 3}}) {
    const int64_t in = s.planes * s.h_in * s.w_in, out = s.planes * s.h_out * s.w_out;
    const Floats x = random_floats(in, 1), dy = random_floats(out, 2);
    if (in > 40) x[3] = NAN, x[17] = x[16];
    check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
      Floats y(out), dx(in);
      Buffer<int32_t> indices(out);
      k.adaptive_max_pool2d.forward(s, x, y, indices);
      CHECK(k.adaptive_max_pool2d.backward(s, dy, indices, dx));
      keep_all(outputs, {&y, &dx});
      keep(outputs, indices);
    });
  }
}

TEST_CASE("stochastic pooling: the same positions as on the CPU") {
  for (const auto& [h, w, kernel, stride] :
       {std::array<int64_t, 4>{6, 11, 2, 2}, {7, 20, 3, 2}, {5, 5, 5, 1}, {9, 8, 2, 3}}) {
    const WindowAxis window{kernel, stride};
    const Pool2dShape s{3, h, w, (h - kernel) / stride + 1, (w - kernel) / stride + 1, {window, window}};
    const int64_t in = s.planes * h * w, out = s.planes * s.h_out * s.w_out;
    const Floats x = random_floats(in, 1), dy = random_floats(out, 2);
    for (int64_t i = 0; i < kernel * w; i++) x[i] = -std::fabs(x[i]);  // windows without a positive value
    check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
      Floats y(out), mean(out), dx(in);
      Buffer<int32_t> indices(out);
      k.stochastic_pool2d.draw(s, on_device(RandomKey{7, 9}), 5, x, y, indices);
      k.stochastic_pool2d.mean(s, x, mean);
      k.stochastic_pool2d.mean_backward(s, dy, x, dx);
      keep_all(outputs, {&y, &mean, &dx});
      keep(outputs, indices);
    });
  }
}

TEST_CASE("lp_pool2d: powers and roots") {
  for (const double p : {1.0, 2.0, 3.0, 2.5, 0.5, 20.0})
    for (const int64_t count : {0, 5, 67}) {
      const Floats x = random_floats(count, 1), dy = random_floats(count, 2);
      for (int64_t i = 0; i < count; i++) x[i] = i == 3 ? 0.0f : std::fabs(x[i]) + (p > 1 ? 0.25f : 0.5f);
      if (count > 10 && p == 3) x[7] = -0.5f;
      if (count > 10 && p == 2.5) x[8] = -0.5f;
      check_kernel(1e-5, [&](const Kernels& k, Outputs& outputs) {
        Floats powers(count), roots(count), gradients(count), dx(count);
        k.lp_pool2d.power(count, p, x, powers);
        for (int64_t i = 0; i < count; i++) roots[i] = gradients[i] = x[i], dx[i] = i == 3 ? 0.0f : dy[i];
        k.lp_pool2d.root(count, p, roots);
        k.lp_pool2d.root_backward(count, p, dy, gradients);
        k.lp_pool2d.power_backward(count, p, x, dx);
        keep_all(outputs, {&powers, &roots, &gradients, &dx});
      });
    }
}

TEST_CASE("subsampling2d: factors per channel and their gradients, in both orders of memory") {
  for (const Layout layout : {Layout::row_major, Layout::channels_last})
    for (const auto& [n, c, plane] :
         {std::array<int64_t, 3>{3, 5, 12}, {2, 8, 7}, {40, 3, 300}, {1, 1, 1}, {0, 4, 6}, {2, 3, 0}}) {
      const ChannelsShape s{n, c, plane, layout};
      const int64_t count = n * c * plane;
      const Floats x = random_floats(count, 1), dy = random_floats(count, 2);
      const Floats weight = random_floats(c, 3), bias = random_floats(c, 4);
      check_kernel(2e-5, [&, c = c](const Kernels& k, Outputs& outputs) {
        Floats y(count), plain(count), dweight(c), dbias(c), only(c);
        k.subsampling2d.scale(s, x, weight, bias, y);
        k.subsampling2d.scale(s, x, weight, nullptr, plain);
        k.subsampling2d.sums(s, dy, x, dweight, dbias);
        k.subsampling2d.sums(s, dy, nullptr, nullptr, only);
        keep_all(outputs, {&y, &plain, &dweight, &dbias, &only});
      });
    }
}

TEST_CASE("pad") {
  for (const PadMode mode : {PadMode::constant, PadMode::reflect, PadMode::replicate, PadMode::circular})
    for (const Layout layout : {Layout::row_major, Layout::channels_last})
      for (const auto& [n, c, h, w, top, bottom, left, right] :
           {std::array<int64_t, 8>{2, 3, 4, 5, 3, 2, 1, 4}, {1, 4, 3, 2, 0, 1, 1, 0}, {0, 2, 3, 3, 1, 1, 1, 1}}) {
        const PadShape s{n, c, h, w, h + top + bottom, w + left + right, {mode, 0.5f, top, bottom, left, right}};
        const Floats x = random_floats(n * c * h * w, 1), dy = random_floats(n * c * s.h_out * s.w_out, 2);
        check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
          Floats y(dy.count()), dx(x.count());
          k.pad.forward(s, layout, x, y);
          k.pad.backward(s, layout, dy, dx);
          keep_all(outputs, {&y, &dx});
        });
      }
}

// ---- norms and losses ---------------------------------------------------------------------------------------------

TEST_CASE("group_norm and layer_norm") {
  for (const GroupNormShape& s : {GroupNormShape{2, 3, 2, 5},
                                  {3, 2, 4, 8},
                                  {2, 1, 67, 1},
                                  {5, 1, 64, 1},
                                  {70, 2, 3, 1},
                                  {1, 2, 3, 700},
                                  {2, 1, 2, 1200},
                                  {1, 1, 2500, 1},
                                  {1, 1, 2052, 1},
                                  {0, 2, 3, 4}}) {
    const int64_t count = s.n * s.per_sample(), groups = s.n * s.groups, c = s.all_channels();
    CAPTURE(s.per_group());
    const Floats x = random_floats(count, 1), dy = random_floats(count, 2);
    for (int64_t i = 0; i < count; i++) x[i] += 3;  // a mean that is not small beside the deviation
    const Floats weight = random_floats(c, 3), bias = random_floats(c, 4);
    check_kernel(1e-5, [&](const Kernels& k, Outputs& outputs) {
      Floats y(count), plain(count), mean(groups), rstd(groups), mean2(groups), rstd2(groups);
      Floats dx(count), dplain(count), dweight(c), dbias(c), only(c);
      k.group_norm.forward(s, 1e-5, x, weight, bias, y, mean, rstd);
      k.group_norm.forward(s, 1e-5, x, nullptr, nullptr, plain, mean2, rstd2);
      k.group_norm.forward(s, 1e-5, x, nullptr, nullptr, nullptr, mean2, rstd2);
      k.group_norm.backward_input(s, dy, x, mean, rstd, weight, dx);
      k.group_norm.backward_input(s, dy, x, mean, rstd, nullptr, dplain);
      k.group_norm.backward_weight(s, dy, x, mean, rstd, dweight, dbias);
      k.group_norm.backward_weight(s, dy, x, mean, rstd, nullptr, only);
      keep_all(outputs, {&y, &plain, &mean, &rstd, &mean2, &rstd2, &dx, &dplain, &dweight, &dbias, &only});
    });
  }
}

TEST_CASE("multi_margin_loss") {
  for (const auto& [n, c] : {std::array<int64_t, 2>{5, 10}, {9, 3}, {2, 100}, {3, 1}, {0, 4}})
    for (const int64_t p : {1, 2}) {
      const Floats x = random_floats(n * c, 1), weight = random_floats(c, 2);
      Buffer<int64_t> target(n);
      for (int64_t i = 0; i < n; i++) target[i] = (7 * i + 2) % c;
      if (n == 5) x[13] = NAN;
      check_kernel(kRounding, [&, n = n, c = c](const Kernels& k, Outputs& outputs) {
        Floats loss(n), gradient(n * c), only(n);
        const MultiMarginLossParams params{p, 0.7f, Reduction::mean};
        k.multi_margin_loss.forward(n, c, params, 0.25f, x, target, weight, loss, gradient);
        k.multi_margin_loss.forward(n, c, params, 1, x, target, nullptr, only, nullptr);
        keep_all(outputs, {&loss, &gradient, &only});
      });
    }
}

// ---- convolution with groups ----------------------------------------------------------------------------------------

TEST_CASE("conv2d with groups: depthwise, grouped, more taps than the products take") {
  struct Case {
    int64_t n, c_in, h, w, c_out, groups;
    WindowAxis rows, columns;
  };
  const WindowAxis three{3, 1, 1, 1}, five{5, 1, 2, 2};
  for (const Case& p : {Case{2, 8, 5, 9, 8, 8, three, three},
                        {1, 4, 7, 6, 4, 4, five, five},
                        {1, 12, 6, 11, 12, 12, {3, 2, 1, 0}, {3, 2, 0, 1}},
                        {1, 132, 4, 5, 132, 132, three, three},
                        {2, 4, 8, 10, 4, 4, {5, 2, 2, 1}, {5, 2, 1, 2}},
                        {1, 8, 9, 7, 8, 8, {3, 1, 2, 2, 2}, three},
                        {1, 4, 7, 7, 4, 4, {2, 3}, {4, 1, 5, 0}},
                        {2, 5, 6, 7, 5, 5, {3, 2, 1, 1}, three},
                        {2, 6, 6, 5, 9, 3, three, {3, 2, 1, 1}},
                        {1, 4, 5, 6, 12, 4, three, {1, 1}},
                        {1, 70, 4, 3, 70, 2, {3, 2, 1, 1}, three},
                        {1, 2, 13, 14, 3, 1, {12, 1}, {11, 1, 2, 2}},
                        {1, 600, 3, 2, 4, 2, {1, 1}, {2, 1}},
                        {0, 4, 5, 5, 4, 4, three, three}}) {
    Conv2dShape s{p.n, p.c_in, p.h, p.w, p.c_out, 0, 0, p.groups, {p.rows, p.columns}};
    s.h_out = window_output_size("test", "H", p.h, p.rows), s.w_out = window_output_size("test", "W", p.w, p.columns);
    CAPTURE(p.c_in);
    CAPTURE(p.groups);
    const Floats x = random_floats(p.n * p.c_in * p.h * p.w, 1), b = random_floats(p.c_out, 3);
    const Floats w = random_floats(p.c_out * s.c_in_per_group() * s.taps(), 2);
    const Floats dy = random_floats(p.n * p.c_out * s.h_out * s.w_out, 4);
    check_kernel(1e-5, [&](const Kernels& k, Outputs& outputs) {
      Floats y(dy.count()), dx(x.count()), dw(w.count());
      if (is_cuda(k)) {
        k.conv2d.direct_forward(s, x, Layout::channels_last, w, b, y);
        k.conv2d.direct_backward_input(s, dy, Layout::channels_last, w, dx);
        k.conv2d.direct_backward_weight(s, dy, x, dw);
      } else {
        const Floats rows_x = turned(k, s.n, s.h_in * s.w_in, s.c_in, x), rows_y(y.count()), rows_dx(x.count());
        const Floats rows_dy = turned(k, s.n, s.h_out * s.w_out, s.c_out, dy);
        k.conv2d.planar_forward(s, rows_x, w, b, rows_y);
        k.conv2d.planar_backward_input(s, rows_dy, Layout::row_major, w, rows_dx);
        k.conv2d.planar_backward_weight(s, rows_dy, rows_x, dw);
        y = turned(k, s.n, s.c_out, s.h_out * s.w_out, rows_y);
        dx = turned(k, s.n, s.c_in, s.h_in * s.w_in, rows_dx);
      }
      keep_all(outputs, {&y, &dx, &dw});
    });
  }
}

// ---- convolution with pooling ---------------------------------------------------------------------------------------

// Channels-last images to y and the gradients of x, w, b: the whole batch on CUDA, one block of images on the CPU.
void run_conv_pool(const Kernels& k, const ConvPoolShape& s, const Floats& x, const Floats& w, const Floats& b,
                   const Floats& dy, Outputs& outputs) {
  Floats y(dy.count()), dx(x.count()), dw(w.count()), db(s.c_out);
  const ConvPoolKernels& kernels = k.conv_pool;
  if (kernels.batch_forward) {
    const Buffer<uint8_t> mask(kernels.batch_mask_bytes(s));
    const Floats workspace(kernels.batch_workspace_floats(s)), alone(y.count()), dw_alone(w.count());
    kernels.batch_forward(s, x, w, b, y, mask, workspace);
    kernels.batch_backward(s, dy, mask, x, w, dx, dw, db, workspace);
    kernels.batch_forward(s, x, w, b, alone, nullptr, workspace);
    kernels.batch_backward(s, dy, mask, x, w, nullptr, dw_alone, nullptr, workspace);
    CHECK(std::memcmp(alone, y, size_t(y.count()) * sizeof(float)) == 0);
    CHECK(std::memcmp(dw_alone, dw, size_t(dw.count()) * sizeof(float)) == 0);
  } else {
    const bool rows = conv_pool_x_layout(s) == Layout::row_major;
    const Floats in = rows ? turned(k, s.n, s.h_in * s.w_in, s.c_in, x) : turned(k, 1, 1, x.count(), x);
    const Floats packed(kernels.packed_floats(s)), workspace(kernels.workspace_floats(s));
    const Floats gradient(kernels.gradient_floats(s), 0.0f), dx_in(x.count());
    const Buffer<uint8_t> mask(kernels.mask_bytes(s) * s.n);
    kernels.pack(s, w, b, packed);
    kernels.forward(s, in, packed, y, mask, workspace);
    kernels.backward(s, dy, mask, in, packed, dx_in, gradient, workspace);
    const float* parts[] = {gradient};
    kernels.sum_gradients(s, parts, 1, dw, db);
    dx = rows ? turned(k, s.n, s.c_in, s.h_in * s.w_in, dx_in) : turned(k, 1, 1, x.count(), dx_in);
  }
  keep_all(outputs, {&y, &dx, &dw, &db});
}

TEST_CASE("conv_pool: small convolutions, and those that go by conv2d") {
  struct Case {
    int64_t n, c_in, h, w, c_out, kh, kw, top, left, bottom, right;
  };
  for (const Case& p : {Case{2, 1, 12, 14, 6, 5, 5, 2, 2, 2, 2},
                        {3, 6, 10, 9, 16, 5, 5, 0, 0, 0, 0},
                        {1, 3, 7, 8, 20, 3, 2, 1, 0, 2, 1},
                        {2, 5, 30, 46, 3, 3, 3, 0, 1, 2, 0},
                        {1, 30, 20, 46, 3, 3, 3, 1, 1, 1, 1},
                        {1, 2, 5, 130, 13, 1, 4, 0, 3, 1, 3},
                        {2, 40, 6, 7, 18, 3, 3, 1, 1, 1, 1},
                        {1, 3, 6, 6, 33, 3, 3, 1, 1, 1, 1},
                        {0, 1, 8, 8, 6, 5, 5, 2, 2, 2, 2}}) {
    ConvPoolShape s{};
    s.n = p.n, s.c_in = p.c_in, s.h_in = p.h, s.w_in = p.w, s.c_out = p.c_out, s.kh = p.kh, s.kw = p.kw;
    s.pad_top = p.top, s.pad_left = p.left, s.pad_bottom = p.bottom, s.pad_right = p.right;
    s.h_conv = p.h + p.top + p.bottom - p.kh + 1, s.w_conv = p.w + p.left + p.right - p.kw + 1;
    s.h_out = s.h_conv / 2, s.w_out = s.w_conv / 2, s.y_layout = Layout::channels_last;
    CAPTURE(p.c_in);
    CAPTURE(p.c_out);
    const Floats x = random_floats(p.n * p.c_in * p.h * p.w, 1), b = random_floats(p.c_out, 3);
    if (p.c_out == 20) x[p.c_in * 20] = NAN;
    const Floats w = random_floats(p.c_out * p.c_in * p.kh * p.kw, 2);
    const Floats dy = random_floats(p.n * p.c_out * s.h_out * s.w_out, 4);
    check_kernel(1e-5, [&](const Kernels& k, Outputs& outputs) { run_conv_pool(k, s, x, w, b, dy, outputs); });
  }
}

// ---- transform_images ---------------------------------------------------------------------------------------------

const ImageShape kImages[] = {{3, 9, 14}, {1, 5, 4}, {3, 17, 3}};

Floats image_of(const ImageShape& s) {
  Floats x = random_floats(s.count(), 1);
  for (int64_t i = 0; i < s.count(); i++) x[i] = 0.5f + 0.5f * x[i];
  return x;
}

// In place: f(kernels, x) on a copy.
template <typename F>
void check_in_place(const ImageShape& s, F f) {
  check_kernel(2e-5, [&](const Kernels& k, Outputs& outputs) {
    const Floats x = image_of(s);
    f(k.transform_images, x);
    keep(outputs, x);
  });
}
// f(kernels, x, y)
template <typename F>
void check_image(const ImageShape& s, int64_t count_out, F f) {
  check_kernel(2e-5, [&](const Kernels& k, Outputs& outputs) {
    const Floats x = image_of(s);
    Floats y(count_out);
    f(k.transform_images, x, y);
    keep(outputs, y);
  });
}

using Transforms = TransformImagesKernels;

TEST_CASE("transform_images: in, out and mixed") {
  for (const int64_t count : {0, 1, 5, 130}) {
    const Floats x = random_floats(count, 1), other = random_floats(count, 2);
    Buffer<uint8_t> bytes(count);
    for (int64_t i = 0; i < count; i++) bytes[i] = uint8_t(i * 37);
    if (count > 3) x[0] = 1.5f, x[1] = 0.5f, x[2] = 0.49803922f;
    check_kernel(kRounding, [&](const Kernels& k, Outputs& outputs) {
      Floats from_bytes(count), from_floats(count);
      const Floats mixed = random_floats(count, 3);
      Buffer<uint8_t> to_bytes(count);
      k.transform_images.from_bytes(count, 1 / 255.0f, bytes, from_bytes);
      k.transform_images.from_floats(count, 0.3f, x, from_floats);
      k.transform_images.to_bytes(count, x, to_bytes);
      k.transform_images.mix(count, 0.3f, other, mixed);
      keep_all(outputs, {&from_bytes, &from_floats, &mixed});
      keep(outputs, to_bytes);
    });
  }
}

TEST_CASE("transform_images: geometry") {
  const Floats fill = random_floats(3, 5);
  for (const ImageShape& s : kImages) {
    for (const ImageBox& box : {ImageBox{1, 1, 3, 2}, {-2, -1, 8, 7}, {3, 2, 9, 6}, {-20, 0, 4, 4}})
      check_image(s, s.c * box.h * box.w,
                  [&](const Transforms& k, const float* x, float* y) { k.crop(s, box, fill, x, y); });
    for (const bool horizontal : {false, true})
      check_image(s, s.count(), [&](const Transforms& k, const float* x, float* y) { k.flip(s, horizontal, x, y); });
    for (const int64_t turns : {1, 2, 3})
      check_image(s, s.count(),
                  [&](const Transforms& k, const float* x, float* y) { k.quarter_turns(s, turns, x, y); });
    for (const double angle : {0.3, 2.0, -1.1})
      check_image(s, s.count(), [&](const Transforms& k, const float* x, float* y) {
        k.rotate(s, float(std::cos(angle)), float(std::sin(angle)), fill, x, y);
      });
    check_in_place(s, [&](const Transforms& k, float* x) {
      k.fill(s, {1, 2, 3, 1}, fill, x);
      k.fill(s, {0, 0, 0, 0}, fill, x);
    });
  }
}

TEST_CASE("transform_images: resize, with tables of more than one launch") {
  for (const auto& [rows_out, columns_out] : {std::array<int64_t, 2>{4, 5}, {11, 3}, {2, 700}}) {
    const ImageShape s{2, 9, 7};
    const ImageBox box{1, 2, 6, 4};
    Buffer<int32_t> row_first(rows_out), column_first(columns_out);
    for (int64_t i = 0; i < rows_out; i++) row_first[i] = int32_t(i % 4);
    for (int64_t i = 0; i < columns_out; i++) column_first[i] = int32_t(i % 2);
    const Floats row_weights = random_floats(3 * rows_out, 3), column_weights = random_floats(3 * columns_out, 4);
    const ResizeTaps rows{rows_out, 3, row_first, row_weights}, columns{columns_out, 3, column_first, column_weights};
    check_image(s, s.c * rows_out * columns_out, [&, w = columns_out](const Transforms& k, const float* x, float* y) {
      const Floats scratch(box.h * w);
      k.resize(s, box, rows, columns, x, scratch, y);
    });
  }
}

TEST_CASE("transform_images: colour") {
  const Floats scale = random_floats(3, 5), shift = random_floats(3, 6);
  for (const ImageShape& s : kImages) {
    check_in_place(s, [&](const Transforms& k, float* x) { k.normalize(s, scale, shift, x); });
    for (const float factor : {0.0f, 0.6f, 1.7f}) {
      check_in_place(s, [&](const Transforms& k, float* x) { k.brightness(s, factor, x); });
      check_in_place(s, [&](const Transforms& k, float* x) { k.contrast(s, factor, x); });
      if (s.c == 3) check_in_place(s, [&](const Transforms& k, float* x) { k.saturation(s, factor, x); });
    }
    if (s.c != 3) continue;
    for (const float turn : {-0.4f, 0.0f, 0.25f})
      check_in_place(s, [&](const Transforms& k, float* x) {
        x[1] = x[s.h * s.w + 1] = x[2 * s.h * s.w + 1];  // a grey pixel
        k.hue(s, turn, x);
      });
    for (const int64_t channels : {1, 3})
      check_image(s, channels * s.h * s.w,
                  [&](const Transforms& k, const float* x, float* y) { k.grayscale(s, channels, x, y); });
  }
}

TEST_CASE("transform_images: noise, blur and Sobel") {
  for (const ImageShape& s : kImages) {
    for (const bool clip : {false, true})
      check_in_place(s, [&](const Transforms& k, float* x) { k.noise(s.count(), {3, 4}, 0.1f, 0.2f, clip, x); });
    for (const auto& [rows, columns] : {std::array<int64_t, 2>{3, 5}, {1, 1}, {7, 3}}) {
      const Floats row_weights = random_floats(rows, 5), column_weights = random_floats(columns, 6);
      check_image(s, s.count(), [&, rows = rows, columns = columns](const Transforms& k, const float* x, float* y) {
        const Floats scratch(s.h * s.w + s.w + columns);
        k.blur(s, rows, row_weights, columns, column_weights, x, scratch, y);
      });
    }
    check_image(s, s.count(), [&](const Transforms& k, const float* x, float* y) {
      const Floats scratch(2 * (s.w + 2));
      k.sobel(s, x, scratch, y);
    });
  }
}

}  // namespace
}  // namespace convcore::test

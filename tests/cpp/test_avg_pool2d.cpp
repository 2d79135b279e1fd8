// avg_pool2d: by hand, against the naive loops of its contract, and the same bits at any number of threads.
#include "ops/avg_pool2d.h"

#include "helpers.h"
#include "pool_cases.h"

namespace convcore {
namespace {

using test::check_close;
using test::message_of;
using test::PoolCase;
using test::random_tensor;
using test::Sum;
using test::tensor;

// Pixels of window i on the padded input along one axis, or on the input itself.
int64_t pixels(const WindowAxis& w, int64_t in, int64_t i, bool padded) {
  int64_t count = 0;
  for (int64_t r = 0; r < w.kernel; r++) {
    const int64_t at = i * w.stride - w.pad_before + r;
    count += padded ? at < in + w.pad_after : at >= 0 && at < in;
  }
  return count;
}

void check(const PoolCase& c, bool count_include_pad, std::optional<int64_t> divisor_override) {
  const AvgPool2dParams params{c.windows, c.ceil_mode, count_include_pad, divisor_override};
  const Pool2dShape s = infer_pool2d_shape("avg_pool2d", c.x, c.windows, c.ceil_mode);
  const Shape y_shape = pool2d_output_shape(c.x, s);
  const Tensor x = random_tensor(c.x, 1), dy = random_tensor(y_shape, 2);
  std::vector<Sum> y(size_t(dy.count())), dx(size_t(x.count()));
  test::for_each_tap(s, [&](size_t at_y, size_t at_x) {
    const int64_t i = int64_t(at_y) / s.w_out % s.h_out, j = int64_t(at_y) % s.w_out;
    const double divisor = double(divisor_override.value_or(pixels(s.window.h, s.h_in, i, count_include_pad) *
                                                            pixels(s.window.w, s.w_in, j, count_include_pad)));
    y[at_y].add(x.data()[at_x] / divisor);
    dx[at_x].add(dy.data()[at_y] / divisor);
  });
  for (Layout layout : {Layout::row_major, Layout::channels_last}) {
    if (layout == Layout::channels_last && c.x.size() != 4) continue;
    const Tensor x_in = reorder("test", x, layout), dy_in = reorder("test", dy, layout);
    check_close(avg_pool2d_forward("avg_pool2d", x_in, params), y_shape, y);
    check_close(avg_pool2d_backward("avg_pool2d", dy_in, c.x, params), c.x, dx);
  }
}

TEST_CASE("avg_pool2d_forward by hand: what the divisor counts") {
  const Tensor x = tensor({1, 1, 1}, {12});
  const PoolWindows windows = {{2, 1, 1, 0, 1}};  // one window: the padding and the 12
  CHECK(*avg_pool2d_forward("avg_pool1d", x, {windows, false, true, {}}).data() == 6);
  CHECK(*avg_pool2d_forward("avg_pool1d", x, {windows, false, false, {}}).data() == 12);
  CHECK(*avg_pool2d_forward("avg_pool1d", x, {windows, false, true, 3}).data() == 4);
}

TEST_CASE("avg_pool2d matches the naive loops") {
  for (const PoolCase& c : test::pool_cases()) {
    if (c.windows.back().dilation != 1) continue;
    CAPTURE(c.name);
    for (bool count_include_pad : {true, false}) check(c, count_include_pad, {});
    check(c, true, -3);
  }
}

TEST_CASE("avg_pool2d gives the same bits at any number of threads") {
  for (const WindowAxis& w : {WindowAxis{2, 2, 0, 0, 1}, WindowAxis{3, 2, 1, 1, 1}}) {
    const AvgPool2dParams params{{w, w}, false, true, {}};
    const Tensor x = random_tensor({5, 7, 61, 63}, 1);
    const Tensor dy = random_tensor(avg_pool2d_forward("avg_pool2d", x, params).shape(), 2);
    test::check_same_bits_at_any_thread_count([&]() -> std::vector<Tensor> {
      return {avg_pool2d_forward("avg_pool2d", x, params), avg_pool2d_backward("avg_pool2d", dy, x.shape(), params)};
    });
  }
}

TEST_CASE("avg_pool2d refuses a divisor of zero") {
  CHECK(message_of([] {
          avg_pool2d_forward("avg_pool1d", random_tensor({1, 1, 4}, 1), {{{2, 2, 0, 0, 1}}, false, true, 0});
        }) != "");
}

}  // namespace
}  // namespace convcore

// max_pool2d: by hand, against the naive loops of its contract, and the same bits at any number of threads.
#include "ops/max_pool2d.h"

#include <limits>

#include "helpers.h"
#include "pool_cases.h"

namespace convcore {
namespace {

using test::check_close;
using test::check_same_bits;
using test::message_of;
using test::PoolCase;
using test::random_tensor;
using test::Sum;
using test::tensor;

const PoolWindows kPairs = {{2, 2, 0, 0, 1}, {2, 2, 0, 0, 1}};

// Few different numbers, so that windows hold equal ones.
Tensor tensor_with_ties(const Shape& shape) {
  Tensor t = random_tensor(shape, 1);
  for (int64_t i = 0; i < t.count(); i++) t.data()[i] = std::floor(4 * t.data()[i]);
  return t;
}

TEST_CASE("max_pool2d by hand: the first of equals, the last NaN") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = tensor({1, 1, 2, 6}, {1, 3, nan, 9, -5, -7, 3, 2, 9, nan, -6, -8});
  const MaxPool2dResult got = max_pool2d_forward("max_pool2d", x, kPairs, false, true);
  CHECK(got.y.data()[0] == 3);
  CHECK(std::isnan(got.y.data()[1]));
  CHECK(got.y.data()[2] == -5);
  const int32_t want[] = {1, 9, 4};
  for (int i = 0; i < 3; i++) CHECK(got.indices.data()[i] == want[i]);
}

TEST_CASE("max_pool2d matches the naive loops") {
  for (const PoolCase& c : test::pool_cases()) {
    CAPTURE(c.name);
    const Pool2dShape s = infer_pool2d_shape("max_pool2d", c.x, c.windows, c.ceil_mode);
    const Shape y_shape = pool2d_output_shape(c.x, s);
    const Tensor x = tensor_with_ties(c.x), dy = random_tensor(y_shape, 2), y = Tensor::empty("test", "y", y_shape);
    std::vector<int64_t> position(size_t(y.count()), -1);
    test::for_each_tap(s, [&](size_t at_y, size_t at_x) {
      if (position[at_y] >= 0 && x.data()[at_x] <= x.data()[position[at_y]]) return;
      position[at_y] = int64_t(at_x);
      y.data()[at_y] = x.data()[at_x];
    });
    std::vector<Sum> dx(size_t(x.count()));
    for (int64_t i = 0; i < y.count(); i++) dx[size_t(position[size_t(i)])].add(dy.data()[i]);

    const MaxPool2dResult got = max_pool2d_forward("max_pool2d", x, c.windows, c.ceil_mode, true);
    check_same_bits(got.y, y);
    int64_t wrong = 0;
    for (int64_t i = 0; i < y.count(); i++) wrong += got.indices.data()[i] != position[size_t(i)] % (s.h_in * s.w_in);
    CHECK(wrong == 0);
    check_same_bits(max_pool2d_forward("max_pool2d", x, c.windows, c.ceil_mode, false).y, y);
    check_close(max_pool2d_backward("max_pool2d", dy, c.x, {}, got.indices, c.windows, c.ceil_mode), c.x, dx);
    check_close(max_pool2d_backward("max_pool2d", dy, c.x, x, {}, c.windows, c.ceil_mode), c.x, dx);

    if (c.x.size() != 4) continue;
    const Tensor last = reorder("test", x, Layout::channels_last);
    const MaxPool2dResult got_last = max_pool2d_forward("max_pool2d", last, c.windows, c.ceil_mode, true);
    check_same_bits(reorder("test", got_last.y, Layout::row_major), y);
    check_close(max_pool2d_backward("max_pool2d", dy, c.x, {}, got_last.indices, c.windows, c.ceil_mode), c.x, dx);
  }
}

TEST_CASE("max_pool2d gives the same bits at any number of threads") {
  for (const WindowAxis& w : {WindowAxis{2, 2, 0, 0, 1}, WindowAxis{3, 2, 1, 1, 1}}) {
    const PoolWindows windows{w, w};
    const Tensor x = random_tensor({5, 7, 61, 63}, 1);
    const Tensor dy = random_tensor(max_pool2d_forward("max_pool2d", x, windows, false, false).y.shape(), 2);
    test::check_same_bits_at_any_thread_count([&]() -> std::vector<Tensor> {
      return {max_pool2d_forward("max_pool2d", x, windows, false, true).y,
              max_pool2d_backward("max_pool2d", dy, x.shape(), x, {}, windows, false)};
    });
  }
}

TEST_CASE("max_pool2d_backward refuses indices outside their windows") {
  for (const PoolWindows& windows : {kPairs, PoolWindows{{3, 2, 1, 1, 1}, {3, 2, 1, 1, 1}}}) {
    const Tensor x = random_tensor({1, 2, 6, 38}, 1);
    const MaxPool2dResult got = max_pool2d_forward("max_pool2d", x, windows, false, true);
    const int64_t last = got.y.count() - 1;
    for (int32_t bad : {0, -1, 6 * 38, INT32_MIN, INT32_MAX}) {
      got.indices.data()[last] = bad;
      CHECK(message_of([&] { max_pool2d_backward("max_pool2d", got.y, x.shape(), {}, got.indices, windows, false); }) !=
            "");
    }
  }
}

}  // namespace
}  // namespace convcore

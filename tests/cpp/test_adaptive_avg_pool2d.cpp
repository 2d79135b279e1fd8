// adaptive_avg_pool2d: by hand, against the naive loops of its contract, and the same bits at any number of threads.
#include "ops/adaptive_avg_pool2d.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::message_of;
using test::random_tensor;
using test::Sum;
using test::tensor;

struct Case {
  Shape x;
  OutputSize size;
};

std::vector<Case> cases() {
  const std::nullopt_t same = std::nullopt;
  std::vector<Case> all = {{{0, 2, 5, 5}, {{2, 2}}},    {{2, 0, 5, 5}, {{2, 2}}}, {{1, 1, 1, 1}, {{1, 1}}},
                           {{1, 2, 5, 7}, {{0, 3}}},    {{1, 2, 5, 7}, {{3, 0}}}, {{1, 2, 5, 7}, {{same, same}}},
                           {{1, 2, 5, 7}, {{2, same}}}, {{2, 1, 2, 3}, {{5, 7}}}, {{1, 2, 12, 21}, {{4, 3}}}};
  for (int64_t w : {1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 34, 67}) {
    for (int64_t out : {1, 2, 3}) all.push_back({{1, 2, 3, w}, {{out, out}}});
    all.push_back({{2, 1, 4, 2 * w}, {{2, w}}});  // tiles of two columns
    all.push_back({{2, 1, 3, w}, {{2, w + 1}}});
  }
  return all;
}

int64_t floor_ratio(int64_t a, int64_t b) { return a / b; }
int64_t ceil_ratio(int64_t a, int64_t b) { return (a + b - 1) / b; }

TEST_CASE("adaptive_avg_pool2d_forward by hand") {
  const Tensor y = adaptive_avg_pool2d_forward(tensor({1, 1, 1, 3}, {1, 3, 8}), {1, 2});
  CHECK(y.data()[0] == 2);  // the windows share the 3
  CHECK(y.data()[1] == 5.5f);
}

TEST_CASE("adaptive_avg_pool2d matches the naive loops") {
  for (const Case& c : cases()) {
    CAPTURE(to_string(c.x));
    const int64_t h_in = c.x[2], w_in = c.x[3], h_out = c.size[0].value_or(h_in), w_out = c.size[1].value_or(w_in);
    CAPTURE(h_out);
    CAPTURE(w_out);
    const Shape y_shape{c.x[0], c.x[1], h_out, w_out};
    const Tensor x = random_tensor(c.x, 1), dy = random_tensor(y_shape, 2);
    std::vector<Sum> y(size_t(dy.count())), dx(size_t(x.count()));
    for (int64_t at_y = 0; at_y < dy.count(); at_y++) {
      const int64_t plane = at_y / (h_out * w_out), i = at_y / w_out % h_out, j = at_y % w_out;
      const int64_t top = floor_ratio(i * h_in, h_out), bottom = ceil_ratio((i + 1) * h_in, h_out);
      const int64_t left = floor_ratio(j * w_in, w_out), right = ceil_ratio((j + 1) * w_in, w_out);
      const double divisor = double((bottom - top) * (right - left));
      for (int64_t h = top; h < bottom; h++)
        for (int64_t w = left; w < right; w++) {
          const size_t at_x = size_t((plane * h_in + h) * w_in + w);
          y[size_t(at_y)].add(x.data()[at_x] / divisor);
          dx[at_x].add(dy.data()[at_y] / divisor);
        }
    }
    for (Layout layout : {Layout::row_major, Layout::channels_last}) {
      const Tensor x_in = reorder("test", x, layout), dy_in = reorder("test", dy, layout);
      check_close(adaptive_avg_pool2d_forward(x_in, c.size), y_shape, y);
      check_close(adaptive_avg_pool2d_backward(dy_in, c.x, c.size), c.x, dx);
    }
  }
}

TEST_CASE("adaptive_avg_pool2d gives the same bits at any number of threads") {
  const Tensor x = random_tensor({5, 7, 61, 62}, 1);
  for (const OutputSize& size : {OutputSize{1, 1}, OutputSize{61, 31}, OutputSize{7, 9}}) {
    const Tensor dy = random_tensor({5, 7, *size[0], *size[1]}, 2);
    test::check_same_bits_at_any_thread_count([&]() -> std::vector<Tensor> {
      return {adaptive_avg_pool2d_forward(x, size), adaptive_avg_pool2d_backward(dy, x.shape(), size)};
    });
  }
}

TEST_CASE("adaptive_avg_pool2d refuses a negative size") {
  CHECK(message_of([] { adaptive_avg_pool2d_forward(random_tensor({1, 1, 3, 3}, 1), {-1, 2}); }) != "");
}

}  // namespace
}  // namespace convcore

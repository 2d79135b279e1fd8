// stochastic_pool2d: against the naive loops of its contract, for the sanitizers.
#include "ops/stochastic_pool2d.h"

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::random_tensor;
using test::Sum;

TEST_CASE("stochastic_pool2d draws what its contract says, and averages") {
  const RandomKey key{3, 4};
  for (int64_t kernel : {1, 2, 3})
    for (int64_t stride : {1, 2, 3})
      for (int64_t w : {3, 16, 17, 35, 70}) {
        const PoolWindows windows{{kernel, stride}, {kernel, stride}};
        const Shape shape{2, 3, 5, w};
        CAPTURE(to_string(shape));
        const Pool2dShape s = infer_stochastic_pool2d_shape("test", shape, windows);
        const Tensor x = random_tensor(shape, 1);
        for (int64_t i = 0; i < x.count(); i++) x.data()[i] = std::round(x.data()[i] * 8) / 8;  // sums are exact
        const StochasticPool2dResult drawn = stochastic_pool2d_forward(x, windows, true, key);
        std::vector<Sum> mean(size_t(drawn.y.count())), dx(size_t(x.count()));
        const Tensor dy = random_tensor(drawn.y.shape(), 2);
        int64_t wrong = 0;
        for (int64_t at = 0; at < drawn.y.count(); at++) {
          const int64_t row = at / s.w_out, j = at % s.w_out, plane = row / s.h_out;
          const int64_t corner = row % s.h_out * stride * w + j * stride;
          const float* image = x.data() + plane * s.h_in * w;
          double total = 0, squares = 0, so_far = 0;
          const auto each = [&](auto f) {
            for (int64_t r = 0; r < kernel; r++)
              for (int64_t q = 0; q < kernel; q++) {
                const int64_t p = corner + r * w + q;
                f(p, double(std::max(image[p], 0.0f)));
              }
          };
          each([&](int64_t, double a) { total += a, squares += a * a; });
          const uint64_t block = uint64_t(row * ((s.w_out + 3) / 4) + j / 4);
          const double threshold = double(uniform_float(philox(key, block).value[j % 4])) * total;
          int64_t want = corner;
          bool found = false;
          each([&](int64_t p, double a) {
            so_far += a;
            if (!found && so_far > threshold) want = p, found = true;
            if (a > 0) dx[size_t(plane * s.h_in * w + p)].add(dy.data()[at] * (2 * a - squares / total) / total);
          });
          wrong += drawn.indices.data()[at] != want || drawn.y.data()[at] != (found ? image[want] : 0);
          mean[size_t(at)].add(total > 0 ? squares / total : 0);
        }
        CHECK(wrong == 0);
        check_close(stochastic_pool2d_forward(x, windows, false, key).y, drawn.y.shape(), mean);
        for (Sum& sum : dx) sum.magnitude = 10 * (sum.magnitude + 1);
        check_close(stochastic_pool2d_backward(dy, x, windows), shape, dx);
      }
}

}  // namespace
}  // namespace convcore

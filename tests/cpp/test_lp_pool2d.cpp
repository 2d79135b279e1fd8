// lp_pool2d: against the naive loops of its contract, in both orders of memory, for the sanitizers.
#include "ops/lp_pool2d.h"

#include "pool_cases.h"

namespace convcore {
namespace {

using test::check_close;
using test::random_tensor;
using test::Sum;

TEST_CASE("lp_pool2d matches the naive loops") {
  for (double p : {1.0, 2.0, 3.0, 2.5})
    for (const Shape& shape : {Shape{2, 3, 5, 7}, Shape{0, 3, 4, 4}, Shape{2, 17, 6, 35}})
      for (Layout layout : {Layout::row_major, Layout::channels_last}) {
        CAPTURE(p);
        const PoolWindows windows{{2, 2}, {3, 2}};
        const Pool2dShape s = infer_pool2d_shape("test", shape, windows, true);
        const Shape out = pool2d_output_shape(shape, s);
        const Tensor x = random_tensor(shape, 1), dy = random_tensor(out, 2);
        for (int64_t i = 0; i < x.count(); i++) x.data()[i] = std::fabs(x.data()[i]) + 0.125f;
        std::vector<Sum> y(size_t(dy.count())), dx(size_t(x.count()));
        test::for_each_tap(s, [&](size_t to, size_t from) { y[to].add(std::pow(double(x.data()[from]), p)); });
        for (Sum& sum : y) sum.value = std::pow(sum.value, 1 / p), sum.magnitude = 8 * sum.value;
        test::for_each_tap(s, [&](size_t to, size_t from) {
          dx[from].add(dy.data()[to] * std::pow(y[to].value, 1 - p) * std::pow(double(x.data()[from]), p - 1));
        });
        for (Sum& sum : dx) sum.magnitude *= 8;
        const Tensor xl = reorder("test", x, layout), dyl = reorder("test", dy, layout);
        check_close(lp_pool2d_forward(xl, p, windows, true), out, y);
        check_close(lp_pool2d_backward(dyl, xl, p, windows, true), shape, dx);
      }
}

}  // namespace
}  // namespace convcore

// subsampling2d: against the naive loops of its contract, in both orders of memory, for the sanitizers.
#include "ops/subsampling2d.h"

#include "pool_cases.h"

namespace convcore {
namespace {

using test::check_close;
using test::random_tensor;
using test::Sum;

struct Case {
  Shape x;
  PoolWindows windows;
};
const Case kCases[] = {{{2, 3, 5, 7}, {{2, 2}, {2, 2}}},   {{3, 17, 9, 35}, {{3, 2}, {2, 1}}},
                       {{0, 3, 4, 4}, {{2, 2}, {2, 2}}},   {{2, 0, 4, 4}, {{2, 2}, {2, 2}}},
                       {{20, 2, 4, 66}, {{2, 2}, {2, 2}}}, {{1, 33, 7, 9}, {{4, 3}, {5, 4}}}};

TEST_CASE("subsampling2d matches the naive loops") {
  for (const Case& c : kCases)
    for (Layout layout : {Layout::row_major, Layout::channels_last}) {
      CAPTURE(to_string(c.x));
      const Pool2dShape s = subsampling2d_windows(c.x, c.windows).pool;
      const Shape out = pool2d_output_shape(c.x, s);
      const int64_t channels = c.x[1], in = s.h_in * s.w_in, pixels = s.h_out * s.w_out;
      const Tensor x = random_tensor(c.x, 1), dy = random_tensor(out, 2);
      const Tensor weight = random_tensor({channels}, 3), bias = random_tensor({channels}, 4);
      std::vector<Sum> y(size_t(dy.count())), dx(size_t(x.count())), dweight(size_t(weight.count()));
      std::vector<Sum> dbias(dweight.size());
      for (int64_t at = 0; at < dy.count(); at++) {
        const int64_t k = at / pixels % channels;
        y[size_t(at)].add(bias.data()[k]);
        dbias[size_t(k)].add(dy.data()[at]);
      }
      test::for_each_tap(s, [&](size_t to, size_t from) {
        const size_t k = from / size_t(in) % size_t(channels);
        y[to].add(double(weight.data()[k]) * x.data()[from]);
        dx[from].add(double(weight.data()[k]) * dy.data()[to]);
        dweight[k].add(double(dy.data()[to]) * x.data()[from]);
      });
      const Tensor xl = reorder("test", x, layout), dyl = reorder("test", dy, layout);
      check_close(subsampling2d_forward(xl, weight, bias, c.windows), out, y);
      const Subsampling2dGrads grads = subsampling2d_backward(dyl, xl, weight, c.windows, true, true, true);
      check_close(grads.dx, c.x, dx);
      check_close(grads.dweight, {channels}, dweight);
      check_close(grads.dbias, {channels}, dbias);
    }
}

}  // namespace
}  // namespace convcore

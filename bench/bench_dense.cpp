// Dense layers: forward, gradient of the input, gradient of weight and bias.
#include <memory>

#include "helpers.h"
#include "ops/linear.h"

namespace convcore::bench {
namespace {

struct Data {
  explicit Data(const DenseCase& c)
      : c(c),
        x(random_tensor({c.batch, c.in}, 1)),
        w(random_tensor({c.out, c.in}, 2)),
        b(random_tensor({c.out}, 3)),
        dy(random_tensor({c.batch, c.out}, 4)) {}

  const DenseCase& c;
  const Tensor x, w, b, dy;
};

Sum naive_y(const Data& d, int64_t index) {
  const int64_t n = index / d.c.out, o = index % d.c.out;
  Sum sum;
  sum.add(d.b.data()[o]);
  for (int64_t i = 0; i < d.c.in; i++) sum.add(double(d.x.data()[n * d.c.in + i]) * d.w.data()[o * d.c.in + i]);
  return sum;
}

Sum naive_dx(const Data& d, int64_t index) {
  const int64_t n = index / d.c.in, i = index % d.c.in;
  Sum sum;
  for (int64_t o = 0; o < d.c.out; o++) sum.add(double(d.dy.data()[n * d.c.out + o]) * d.w.data()[o * d.c.in + i]);
  return sum;
}

Sum naive_dw(const Data& d, int64_t index) {
  const int64_t o = index / d.c.in, i = index % d.c.in;
  Sum sum;
  for (int64_t n = 0; n < d.c.batch; n++) sum.add(double(d.dy.data()[n * d.c.out + o]) * d.x.data()[n * d.c.in + i]);
  return sum;
}

void add(const DenseCase& c) {
  const std::string name = c.name;
  add_job(name + "/forward", c.cost(), Peak::fma, [&c] {
    const auto d = std::make_shared<Data>(c);
    return Job{[d] { return linear_forward(d->x, d->w, d->b); }, [d](int64_t i) { return naive_y(*d, i); }};
  });
  add_job(name + "/backward_input", c.cost(), Peak::fma, [&c] {
    const auto d = std::make_shared<Data>(c);
    return Job{[d] { return linear_backward(d->dy, d->x, d->w, true, false, false).dx; },
               [d](int64_t i) { return naive_dx(*d, i); }};
  });
  add_job(name + "/backward_weight", c.cost(), Peak::fma, [&c] {
    const auto d = std::make_shared<Data>(c);
    return Job{[d] { return linear_backward(d->dy, d->x, d->w, false, true, true).dw; },
               [d](int64_t i) { return naive_dw(*d, i); }};
  });
}

}  // namespace
}  // namespace convcore::bench

int main(int argc, char** argv) {
  using namespace convcore::bench;
  return run_main(argc, argv, [] {
    for (const DenseCase& c : kDenseCases) add(c);
  });
}

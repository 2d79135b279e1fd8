// Convolutions of known networks: forward, gradient of the input, gradient of weight and bias.
#include <memory>

#include "helpers.h"
#include "ops/conv2d.h"
#include "ops/conv2d_algorithm.h"

namespace convcore::bench {
namespace {

struct Data {
  explicit Data(const ConvCase& c)
      : c(c),
        x(random_tensor({c.batch, c.c_in, c.size, c.size}, 1)),
        w(random_tensor({c.c_out, c.c_in, c.kernel, c.kernel}, 2)),
        b(random_tensor({c.c_out}, 3)),
        dy(random_tensor({c.batch, c.c_out, c.size_out(), c.size_out()}, 4)),
        x_given(as_in_network(x)),
        dy_given(as_in_network(dy)),
        params{{c.stride, c.stride}, {c.padding, c.padding, c.padding, c.padding}, {1, 1}, 1} {}

  float x_at(int64_t n, int64_t ch, int64_t i, int64_t j) const {
    if (i < 0 || i >= c.size || j < 0 || j >= c.size) return 0;
    return x.data()[((n * c.c_in + ch) * c.size + i) * c.size + j];
  }
  float w_at(int64_t k, int64_t ch, int64_t r, int64_t s) const {
    return w.data()[((k * c.c_in + ch) * c.kernel + r) * c.kernel + s];
  }
  float dy_at(int64_t n, int64_t k, int64_t i, int64_t j) const {
    return dy.data()[((n * c.c_out + k) * c.size_out() + i) * c.size_out() + j];
  }

  const ConvCase& c;
  std::string algorithm(ConvPass pass) const {
    const Conv2dShape s = infer_conv2d_shape("conv2d", x.shape(), w.shape(), params);
    return algorithm_name(choose_algorithm("conv2d", s, pass, params.algorithm));
  }

  const Tensor x, w, b, dy;        // in row-major order, for the naive loops
  const Tensor x_given, dy_given;  // the same
  const Conv2dParams params;
};

Sum naive_y(const Data& d, int64_t index) {
  const ConvCase& c = d.c;
  const int64_t j = index % c.size_out(), i = index / c.size_out() % c.size_out();
  const int64_t plane = index / (c.size_out() * c.size_out()), k = plane % c.c_out, n = plane / c.c_out;
  Sum sum;
  sum.add(d.b.data()[k]);
  for (int64_t ch = 0; ch < c.c_in; ch++)
    for (int64_t r = 0; r < c.kernel; r++)
      for (int64_t s = 0; s < c.kernel; s++)
        sum.add(double(d.w_at(k, ch, r, s)) *
                d.x_at(n, ch, i * c.stride + r - c.padding, j * c.stride + s - c.padding));
  return sum;
}

Sum naive_dx(const Data& d, int64_t index) {
  const ConvCase& c = d.c;
  const int64_t w = index % c.size, h = index / c.size % c.size;
  const int64_t plane = index / (c.size * c.size), ch = plane % c.c_in, n = plane / c.c_in;
  Sum sum;
  for (int64_t r = 0; r < c.kernel; r++)
    for (int64_t s = 0; s < c.kernel; s++) {
      const int64_t top = h + c.padding - r, left = w + c.padding - s;
      if (top < 0 || left < 0 || top % c.stride != 0 || left % c.stride != 0) continue;
      const int64_t i = top / c.stride, j = left / c.stride;
      if (i >= c.size_out() || j >= c.size_out()) continue;
      for (int64_t k = 0; k < c.c_out; k++) sum.add(double(d.w_at(k, ch, r, s)) * d.dy_at(n, k, i, j));
    }
  return sum;
}

Sum naive_dw(const Data& d, int64_t index) {
  const ConvCase& c = d.c;
  const int64_t s = index % c.kernel, r = index / c.kernel % c.kernel;
  const int64_t filter = index / (c.kernel * c.kernel), ch = filter % c.c_in, k = filter / c.c_in;
  Sum sum;
  for (int64_t n = 0; n < c.batch; n++)
    for (int64_t i = 0; i < c.size_out(); i++)
      for (int64_t j = 0; j < c.size_out(); j++)
        sum.add(double(d.dy_at(n, k, i, j)) *
                d.x_at(n, ch, i * c.stride + r - c.padding, j * c.stride + s - c.padding));
  return sum;
}

void add(const ConvCase& c) {
  const std::string name = c.name;
  add_job(name + "/forward", c.cost(), Peak::fma, [&c] {
    const auto d = std::make_shared<Data>(c);
    return Job{[d] { return conv2d_forward("conv2d", d->x_given, d->w, d->b, d->params); },
               [d](int64_t i) { return naive_y(*d, i); }, d->algorithm(ConvPass::forward)};
  });
  add_job(name + "/backward_input", c.cost(), Peak::fma, [&c] {
    const auto d = std::make_shared<Data>(c);
    return Job{
        [d] { return conv2d_backward("conv2d", d->dy_given, d->x_given, d->w, d->params, true, false, false).dx; },
        [d](int64_t i) { return naive_dx(*d, i); }, d->algorithm(ConvPass::backward_input)};
  });
  add_job(name + "/backward_weight", c.cost(), Peak::fma, [&c] {
    const auto d = std::make_shared<Data>(c);
    return Job{
        [d] { return conv2d_backward("conv2d", d->dy_given, d->x_given, d->w, d->params, false, true, true).dw; },
        [d](int64_t i) { return naive_dw(*d, i); }, d->algorithm(ConvPass::backward_weight)};
  });
}

}  // namespace
}  // namespace convcore::bench

int main(int argc, char** argv) {
  using namespace convcore::bench;
  return run_main(argc, argv, [] {
    for (const ConvCase& c : kConvCases) add(c);
  });
}

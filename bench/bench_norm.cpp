// Batch norm in training: forward, and backward with all gradients.
#include <memory>

#include "helpers.h"
#include "ops/batch_norm.h"

namespace convcore::bench {
namespace {

constexpr BatchNormParams kParams{true, 0.1, 1e-5};

struct Data {
  explicit Data(const NormCase& c)
      : c(c),
        x(random_tensor({c.batch, c.channels, c.size, c.size}, 1)),
        dy(random_tensor(x.shape(), 2)),
        x_given(as_in_network(x)),
        dy_given(as_in_network(dy)),
        weight(random_tensor({c.channels}, 3)),
        bias(random_tensor({c.channels}, 4)),
        running_mean(random_tensor({c.channels}, 5)),
        running_var(random_tensor({c.channels}, 6)),
        saved(forward().saved) {}

  BatchNormResult forward() const {
    return batch_norm_forward(x_given, running_mean, running_var, weight, bias, kParams);
  }
  BatchNormGrads backward() const {
    return batch_norm_backward(dy_given, x_given, running_mean, running_var, weight, kParams, saved, true, true, true);
  }

  const NormCase& c;
  const Tensor x, dy;              // in row-major order, for the naive loops
  const Tensor x_given, dy_given;  // the same
  const Tensor weight, bias, running_mean, running_var;
  const BatchNormSaved saved;
};

struct Channel {
  double mean = 0, rstd = 0, mean_dy = 0, mean_dy_xhat = 0;
};

// What a channel's values are normalised with, in double precision.
Channel channel_of(const Data& d, int64_t channel) {
  const int64_t plane = d.c.size * d.c.size, m = d.c.batch * plane;
  const auto for_each = [&](auto f) {
    for (int64_t n = 0; n < d.c.batch; n++)
      for (int64_t i = 0; i < plane; i++) f((n * d.c.channels + channel) * plane + i);
  };
  Channel s;
  double var = 0;
  for_each([&](int64_t at) { s.mean += d.x.data()[at] / double(m); });
  for_each([&](int64_t at) { var += (d.x.data()[at] - s.mean) * (d.x.data()[at] - s.mean) / double(m); });
  s.rstd = 1 / std::sqrt(var + kParams.eps);
  for_each([&](int64_t at) {
    s.mean_dy += d.dy.data()[at] / double(m);
    s.mean_dy_xhat += d.dy.data()[at] * (d.x.data()[at] - s.mean) * s.rstd / double(m);
  });
  return s;
}

Sum naive_y(const Data& d, int64_t index) {
  const int64_t k = index / (d.c.size * d.c.size) % d.c.channels;
  const Channel s = channel_of(d, k);
  Sum sum;
  sum.add((d.x.data()[index] - s.mean) * s.rstd * d.weight.data()[k]);
  sum.add(d.bias.data()[k]);
  return sum;
}

Sum naive_dx(const Data& d, int64_t index) {
  const int64_t k = index / (d.c.size * d.c.size) % d.c.channels;
  const Channel s = channel_of(d, k);
  const double scale = d.weight.data()[k] * s.rstd, xhat = (d.x.data()[index] - s.mean) * s.rstd;
  Sum sum;
  sum.add(scale * d.dy.data()[index]);
  sum.add(-scale * s.mean_dy);
  sum.add(-scale * xhat * s.mean_dy_xhat);
  return sum;
}

void add(const NormCase& c) {
  const std::string name = c.name;
  add_job(name + "/forward", c.forward_cost(), Peak::memory_copy, [&c] {
    const auto d = std::make_shared<Data>(c);
    return Job{[d] { return d->forward().y; }, [d](int64_t i) { return naive_y(*d, i); }};
  });
  add_job(name + "/backward", c.backward_cost(), Peak::memory_copy, [&c] {
    const auto d = std::make_shared<Data>(c);
    return Job{[d] { return d->backward().dx; }, [d](int64_t i) { return naive_dx(*d, i); }};
  });
}

}  // namespace
}  // namespace convcore::bench

int main(int argc, char** argv) {
  using namespace convcore::bench;
  return run_main(argc, argv, [] {
    for (const NormCase& c : kNormCases) add(c);
  });
}

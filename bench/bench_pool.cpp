// Max pooling with indices and average pooling: forward and backward.
#include <memory>

#include "helpers.h"
#include "ops/avg_pool2d.h"
#include "ops/max_pool2d.h"

namespace convcore::bench {
namespace {

struct Data {
  explicit Data(const PoolCase& c)
      : c(c),
        x(random_tensor({c.batch, c.channels, c.size, c.size}, 1)),
        dy(random_tensor({c.batch, c.channels, c.size_out(), c.size_out()}, 2)),
        windows(2, WindowAxis{c.kernel, c.stride, c.padding, c.padding, 1}),
        avg{windows, false, true, std::nullopt} {
    if (c.kind == "avg") return;
    x_given = as_in_network(x), dy_given = as_in_network(dy);
    indices = max_pool2d_forward("max_pool2d", x, windows, false, true).indices;
    indices_given = max_pool2d_forward("max_pool2d", x_given, windows, false, true).indices;
  }

  const PoolCase& c;
  const Tensor x, dy;
  const PoolWindows windows;
  const AvgPool2dParams avg;
  IndexArray indices;        // in row-major order, for the naive loops
  Tensor x_given, dy_given;  // of max pooling: average pooling takes row-major order only
  IndexArray indices_given;
};

Sum naive_y(const Data& d, int64_t index) {
  const PoolCase& c = d.c;
  const int64_t j = index % c.size_out(), i = index / c.size_out() % c.size_out();
  const float* plane = d.x.data() + index / (c.size_out() * c.size_out()) * c.size * c.size;
  Sum sum;
  double largest = -INFINITY;
  for (int64_t r = 0; r < c.kernel; r++)
    for (int64_t s = 0; s < c.kernel; s++) {
      const int64_t h = i * c.stride - c.padding + r, w = j * c.stride - c.padding + s;
      if (h < 0 || h >= c.size || w < 0 || w >= c.size) continue;
      sum.add(double(plane[h * c.size + w]) / double(c.kernel * c.kernel));
      largest = std::fmax(largest, plane[h * c.size + w]);
    }
  return c.kind == "avg" ? sum : Sum{largest, std::fabs(largest)};
}

Sum naive_dx(const Data& d, int64_t index) {
  const PoolCase& c = d.c;
  const int64_t pixel = index % (c.size * c.size), h = pixel / c.size, w = pixel % c.size, outputs = c.size_out();
  const int64_t first = index / (c.size * c.size) * outputs * outputs;  // of the plane's outputs
  Sum sum;
  for (int64_t i = 0; i < outputs; i++)
    for (int64_t j = 0; j < outputs; j++) {
      const int64_t at = first + i * outputs + j, r = h - (i * c.stride - c.padding),
                    s = w - (j * c.stride - c.padding);
      if (r < 0 || r >= c.kernel || s < 0 || s >= c.kernel) continue;
      if (c.kind == "avg")
        sum.add(double(d.dy.data()[at]) / double(c.kernel * c.kernel));
      else if (d.indices.data()[at] == pixel)
        sum.add(d.dy.data()[at]);
    }
  return sum;
}

Tensor forward(const Data& d) {
  if (d.c.kind == "avg") return avg_pool2d_forward("avg_pool2d", d.x, d.avg);
  return max_pool2d_forward("max_pool2d", d.x_given, d.windows, false, true).y;
}

Tensor backward(const Data& d) {
  if (d.c.kind == "avg") return avg_pool2d_backward("avg_pool2d_backward", d.dy, d.x.shape(), d.avg);
  return max_pool2d_backward("max_pool2d_backward", d.dy_given, d.x.shape(), d.x_given, d.indices_given, d.windows,
                             false);
}

void add(const PoolCase& c) {
  const std::string name = c.name;
  add_job(name + "/forward", c.cost(), Peak::memory_copy, [&c] {
    const auto d = std::make_shared<Data>(c);
    return Job{[d] { return forward(*d); }, [d](int64_t i) { return naive_y(*d, i); }};
  });
  add_job(name + "/backward", c.cost(), Peak::memory_copy, [&c] {
    const auto d = std::make_shared<Data>(c);
    return Job{[d] { return backward(*d); }, [d](int64_t i) { return naive_dx(*d, i); }};
  });
}

}  // namespace
}  // namespace convcore::bench

int main(int argc, char** argv) {
  using namespace convcore::bench;
  return run_main(argc, argv, [] {
    for (const PoolCase& c : kPoolCases) add(c);
  });
}

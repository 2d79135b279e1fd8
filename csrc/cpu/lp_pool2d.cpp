// lp_pool2d: powers before the sums of windows, which are the kernels of avg_pool2d, and roots after them. Small
// integer exponents are products, others exp(p log x).
#include "ops/lp_pool2d.h"

#include "cpu/elementwise.h"
#include "cpu/math.h"

namespace convcore::cpu::CONVCORE_ISA {

constexpr int kMostProducts = 16;            // the largest exponent that is made of products
constexpr int64_t kWork = 2, kManyWork = 8;  // cost of an element: some products; a logarithm and an exponential

// An exponent: an integer from 0 to kMostProducts, or another number.
struct Exponent {
  float number;
  int integer;  // -1: none
  explicit Exponent(double p) : number(float(p)), integer(p >= 0 && p <= kMostProducts && p == int(p) ? int(p) : -1) {}
  int64_t work() const { return integer >= 0 ? kWork : kManyWork; }
};

CONVCORE_INLINE Vec to_power(Vec x, const Exponent& e) {
  if (e.integer < 0) return exp(log(x) * e.number);  // NaN for negative x, 0 and infinity at 0 (log is -inf there)
  Vec power = splat(1.0f);
  for (int bits = e.integer; bits > 0; bits >>= 1) {
    if (bits & 1) power = power * x;
    x = x * x;
  }
  return power;
}

CONVCORE_INLINE Vec rooted(Vec s, double p) {
  if (p == 1) return s;
  if (p == 2) return square_root(s);
  return to_power(s, Exponent(1 / p));
}

static void power(int64_t count, double p, const float* x, float* y) {
  const Exponent e(p);
  parallel_for_each_vector(count, e.work(), [=](int64_t i, int64_t lanes) {
    store_lanes(y + i, to_power(load_lanes(x + i, lanes), e), lanes);
  });
}

static void root(int64_t count, double p, float* s) {
  parallel_for_each_vector(count, p <= 2 ? kWork : kManyWork, [=](int64_t i, int64_t lanes) {
    store_lanes(s + i, rooted(load_lanes(s + i, lanes), p), lanes);
  });
}

static void root_backward(int64_t count, double p, const float* dy, float* s) {
  if (p == 1) {
    parallel_for_each_vector(count, 1,
                             [=](int64_t i, int64_t lanes) { store_lanes(s + i, load_lanes(dy + i, lanes), lanes); });
    return;
  }
  const Exponent less(p - 1);
  parallel_for_each_vector(count, kManyWork, [=](int64_t i, int64_t lanes) {
    const Vec y = rooted(load_lanes(s + i, lanes), p), g = load_lanes(dy + i, lanes);
    store_lanes(s + i, select(y == Vec{}, Vec{}, g / to_power(y, less)), lanes);
  });
}

static void power_backward(int64_t count, double p, const float* x, float* dx) {
  if (p == 1) return;
  const Exponent less(p - 1);
  parallel_for_each_vector(count, less.work(), [=](int64_t i, int64_t lanes) {
    const Vec g = load_lanes(dx + i, lanes), by = to_power(load_lanes(x + i, lanes), less);
    // No gradient stays none: below p = 1 the slope at 0 is infinite.
    store_lanes(dx + i, select(g == Vec{}, Vec{}, g * by), lanes);
  });
}

LpPool2dKernels lp_pool2d_kernels();
LpPool2dKernels lp_pool2d_kernels() { return {power, root, root_backward, power_backward}; }

}  // namespace convcore::cpu::CONVCORE_ISA

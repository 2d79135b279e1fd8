// lp_pool2d: powers before the sums of windows, which are the kernels of avg_pool2d, and roots after them; one pass
// over the elements each. Small integer exponents are products, others powf.
#include "ops/lp_pool2d.h"

#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

constexpr int kMostProducts = 16;  // the largest exponent that is made of products

// An exponent: an integer from 0 to kMostProducts, or another number.
struct Exponent {
  float number;
  int integer;  // -1: none
  explicit Exponent(double p) : number(float(p)), integer(p >= 0 && p <= kMostProducts && p == int(p) ? int(p) : -1) {}
  __device__ float of(float x) const {
    if (integer < 0) return powf(x, number);  // NaN for negative x
    float power = 1;
    for (int bits = integer; bits > 0; bits >>= 1) {
      if (bits & 1) power *= x;
      x *= x;
    }
    return power;
  }
};

struct Root {
  int integer;  // 1 or 2: itself or the square root
  Exponent exponent;
  explicit Root(double p) : integer(p == 1 ? 1 : p == 2 ? 2 : 0), exponent(1 / p) {}
  __device__ float of(float s) const { return integer == 1 ? s : integer == 2 ? sqrtf(s) : exponent.of(s); }
};

struct ToPower {
  Exponent exponent;
  __device__ void operator()(int64_t, const float* in, float* out) const { out[0] = exponent.of(in[0]); }
};
struct ToRoot {
  Root root;
  __device__ void operator()(int64_t, const float* in, float* out) const { out[0] = root.of(in[0]); }
};
struct RootBackward {  // in: dy, s
  Root root;
  Exponent less;
  __device__ void operator()(int64_t, const float* in, float* out) const {
    const float y = root.of(in[1]);
    out[0] = root.integer == 1 ? in[0] : y == 0 ? 0.0f : in[0] / less.of(y);
  }
};
struct PowerBackward {  // in: dx, x
  Exponent less;
  __device__ void operator()(int64_t, const float* in, float* out) const {
    out[0] = in[0] == 0 ? 0.0f : in[0] * less.of(in[1]);  // below p = 1 the slope at 0 is infinite
  }
};

void power(int64_t count, double p, const float* x, float* y) {
  for_elements("lp_pool2d power", count, ElementArrays<1, 1>{{x}, {y}}, ToPower{Exponent(p)});
}
void root(int64_t count, double p, float* s) {
  for_elements("lp_pool2d root", count, ElementArrays<1, 1>{{s}, {s}}, ToRoot{Root(p)});
}
void root_backward(int64_t count, double p, const float* dy, float* s) {
  for_elements("lp_pool2d root backward", count, ElementArrays<2, 1>{{dy, s}, {s}},
               RootBackward{Root(p), Exponent(p - 1)});
}
void power_backward(int64_t count, double p, const float* x, float* dx) {
  if (p == 1) return;
  for_elements("lp_pool2d power backward", count, ElementArrays<2, 1>{{dx, x}, {dx}}, PowerBackward{Exponent(p - 1)});
}

}  // namespace

LpPool2dKernels lp_pool2d_kernels() { return {power, root, root_backward, power_backward}; }

}  // namespace convcore::cuda

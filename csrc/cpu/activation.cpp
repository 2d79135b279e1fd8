// Activations: one pass over contiguous memory, the function compiled in by template.
#include "ops/activation.h"

#include "cpu/elementwise.h"
#include "cpu/math.h"

namespace convcore::cpu::CONVCORE_ISA {

// Cost of one element for parallel_for: a load and a store, or an exponential and a division.
static constexpr int64_t work_of(Activation kind) {
  return kind == Activation::tanh || kind == Activation::sigmoid ? 5 : 1;
}

// ---- forward ------------------------------------------------------------------------------------------------------

template <Activation kKind>
CONVCORE_INLINE Vec value(Vec x, Vec slope) {
  if (kKind == Activation::relu) return select(x <= Vec{}, Vec{}, x);  // the comparison is false for NaN, which stays
  if (kKind == Activation::leaky_relu) return select(x > Vec{}, x, x * slope);
  if (kKind == Activation::tanh) return tanh(x);
  return sigmoid(x);
}

template <Activation kKind>
static void forward(int64_t count, float negative_slope, const float* x, float* y) {
  const Vec slope = splat(negative_slope);
  parallel_for_each_vector(count, work_of(kKind), [&](int64_t i, int64_t lanes) {
    store_lanes(y + i, value<kKind>(load_lanes(x + i, lanes), slope), lanes);
  });
}

// ---- backward -----------------------------------------------------------------------------------------------------

template <Activation kKind>
CONVCORE_INLINE Vec gradient(Vec dy, Vec of, Vec slope) {
  if (kKind == Activation::relu) return select(of <= Vec{}, Vec{}, dy);
  if (kKind == Activation::leaky_relu) return select(of > Vec{}, dy, dy * slope);
  if (kKind == Activation::tanh) return dy * (splat(1.0f) - of * of);
  return dy * of * (splat(1.0f) - of);
}

template <Activation kKind>
static void backward(int64_t count, float negative_slope, const float* dy, const float* of, float* dx) {
  const Vec slope = splat(negative_slope);
  parallel_for_each_vector(count, 1, [&](int64_t i, int64_t lanes) {
    store_lanes(dx + i, gradient<kKind>(load_lanes(dy + i, lanes), load_lanes(of + i, lanes), slope), lanes);
  });
}

ActivationKernels activation_kernels();
ActivationKernels activation_kernels() {
  using A = Activation;
  return {{forward<A::relu>, forward<A::leaky_relu>, forward<A::tanh>, forward<A::sigmoid>},
          {backward<A::relu>, backward<A::leaky_relu>, backward<A::tanh>, backward<A::sigmoid>}};
}

}  // namespace convcore::cpu::CONVCORE_ISA

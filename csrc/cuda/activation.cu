// Activations: one pass over the elements. Formulas: ops/activation.h.
#include "ops/activation.h"

#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

CONVCORE_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// x, but no number below -`bound`: there x * probability is zero already, and -inf * 0 would be NaN.
CONVCORE_DEVICE float not_below(float x, float bound) { return x < -bound ? -bound : x; }
CONVCORE_DEVICE float within(float x, float bound) { return x > bound ? bound : not_below(x, bound); }
constexpr float kGeluEnd = 40;   // exp(-x^2 / 2) is zero
constexpr float kSiluEnd = 110;  // exp(-x) is

CONVCORE_DEVICE float normal_probability(float x) { return 0.5f * erfcf(-0.707106781f * x); }

// u = kGelu (x + kGeluCubic x^3) of gelu_tanh, and its derivative; kGelu = sqrt(8 / pi)
constexpr float kGelu = 1.595769122f, kGeluCubic = 0.044715f;
CONVCORE_DEVICE float gelu_argument(float x) { return x * (x * x * kGeluCubic + 1.0f) * kGelu; }
CONVCORE_DEVICE float gelu_slope(float x) { return (x * x * (3 * kGeluCubic) + 1.0f) * kGelu; }

template <Activation kKind>
struct Forward {
  ActivationParams p;
  __device__ void operator()(int64_t, const float* in, float* out) const { out[0] = value(in[0]); }
  __device__ float value(float x) const {
    if constexpr (kKind == Activation::relu) return x <= 0 ? 0.0f : x;  // NaN passes
    if constexpr (kKind == Activation::leaky_relu) return x > 0 ? x : p.alpha * x;
    if constexpr (kKind == Activation::tanh) return tanhf(x);
    if constexpr (kKind == Activation::sigmoid) return sigmoid(x);
    if constexpr (kKind == Activation::scaled_tanh) return p.alpha * tanhf(p.beta * x);
    if constexpr (kKind == Activation::elu) return x > 0 ? x : p.alpha * expm1f(x);
    if constexpr (kKind == Activation::gelu) return not_below(x, kGeluEnd) * normal_probability(x);
    if constexpr (kKind == Activation::gelu_tanh) return not_below(x, kGeluEnd) * sigmoid(gelu_argument(x));
    return not_below(x, kSiluEnd) * sigmoid(x);
  }
};

template <Activation kKind>
struct Backward {
  ActivationParams p;
  __device__ void operator()(int64_t, const float* in, float* out) const { out[0] = value(in[0], in[1]); }
  // `of`: y where gradient_reads_output, else x.
  __device__ float value(float dy, float of) const {
    if constexpr (kKind == Activation::relu) return of <= 0 ? 0.0f : dy;
    if constexpr (kKind == Activation::leaky_relu) return of > 0 ? dy : p.alpha * dy;
    if constexpr (kKind == Activation::tanh) return dy * (1.0f - of * of);
    if constexpr (kKind == Activation::sigmoid) return dy * of * (1.0f - of);
    if constexpr (kKind == Activation::scaled_tanh) return dy * p.beta * (p.alpha - of * of / p.alpha);
    if constexpr (kKind == Activation::elu) return of > 0 ? dy : dy * p.alpha * expf(of);
    if constexpr (kKind == Activation::gelu) {
      const float x = within(of, kGeluEnd);
      return dy * (normal_probability(of) + x * expf(-0.5f * x * x) * 0.398942280f);
    }
    if constexpr (kKind == Activation::gelu_tanh) {
      const float x = within(of, kGeluEnd), s = sigmoid(gelu_argument(x));
      return dy * (s + x * s * (1.0f - s) * gelu_slope(x));
    }
    const float x = within(of, kSiluEnd), s = sigmoid(x);
    return dy * s * (1.0f + x * (1.0f - s));
  }
};

template <Activation kKind>
void forward(int64_t count, const ActivationParams& params, const float* x, float* y) {
  for_elements("activation", count, ElementArrays<1, 1>{{x}, {y}}, Forward<kKind>{params});
}
template <Activation kKind>
void backward(int64_t count, const ActivationParams& params, const float* dy, const float* of, float* dx) {
  for_elements("activation backward", count, ElementArrays<2, 1>{{dy, of}, {dx}}, Backward<kKind>{params});
}

template <int... kKinds>
ActivationKernels of_kinds(std::integer_sequence<int, kKinds...>) {
  return {{forward<Activation(kKinds)>...}, {backward<Activation(kKinds)>...}};
}

}  // namespace

ActivationKernels activation_kernels() { return of_kinds(std::make_integer_sequence<int, kActivations>()); }

}  // namespace convcore::cuda

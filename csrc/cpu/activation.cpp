// Activations: one pass over contiguous memory, the function compiled in by template.
#include "ops/activation.h"

#include "cpu/elementwise.h"
#include "cpu/math.h"

namespace convcore::cpu::CONVCORE_ISA {

// Cost of one element for parallel_for: a load and a store, or exponentials and divisions.
static constexpr int64_t work_of(Activation kind) {
  if (kind == Activation::relu || kind == Activation::leaky_relu) return 1;
  return kind == Activation::gelu ? 10 : 5;
}

struct Coefficients {  // ActivationParams in all lanes
  Vec alpha, beta, beta_by_alpha;
  explicit Coefficients(const ActivationParams& p)
      : alpha(splat(p.alpha)), beta(splat(p.beta)), beta_by_alpha(splat(p.alpha == 0 ? 0 : p.beta / p.alpha)) {}
};

// x, but no number below -`bound`: there x * probability is zero already, and -inf * 0 would be NaN.
CONVCORE_INLINE Vec not_below(Vec x, float bound) { return select(x < splat(-bound), splat(-bound), x); }
CONVCORE_INLINE Vec within(Vec x, float bound) { return select(x > splat(bound), splat(bound), not_below(x, bound)); }

constexpr float kGeluEnd = 40;   // exp(-x^2 / 2) is zero
constexpr float kSiluEnd = 110;  // exp(-x) is

// u = kGelu (x + kGeluCubic x^3) of gelu_tanh, and its derivative; kGelu = sqrt(8 / pi)
constexpr float kGelu = 1.595769122f, kGeluCubic = 0.044715f;
CONVCORE_INLINE Vec gelu_argument(Vec x) { return x * (x * x * kGeluCubic + 1.0f) * kGelu; }
CONVCORE_INLINE Vec gelu_slope(Vec x) { return (x * x * (3 * kGeluCubic) + 1.0f) * kGelu; }

// ---- forward ------------------------------------------------------------------------------------------------------

template <Activation kKind>
CONVCORE_INLINE Vec value(Vec x, const Coefficients& c) {
  if (kKind == Activation::relu) return select(x <= Vec{}, Vec{}, x);  // the comparison is false for NaN, which stays
  if (kKind == Activation::leaky_relu) return select(x > Vec{}, x, x * c.alpha);
  if (kKind == Activation::tanh) return tanh(x);
  if (kKind == Activation::sigmoid) return sigmoid(x);
  if (kKind == Activation::scaled_tanh) return c.alpha * tanh(c.beta * x);
  if (kKind == Activation::elu) return select(x > Vec{}, x, c.alpha * expm1_below_zero(x));
  if (kKind == Activation::gelu) return not_below(x, kGeluEnd) * normal(x).probability;
  if (kKind == Activation::gelu_tanh) return not_below(x, kGeluEnd) * sigmoid(gelu_argument(x));
  return not_below(x, kSiluEnd) * sigmoid(x);
}

template <Activation kKind>
static void forward(int64_t count, const ActivationParams& params, const float* x, float* y) {
  const Coefficients c(params);
  parallel_for_each_vector(count, work_of(kKind), [=](int64_t i, int64_t lanes) {
    store_lanes(y + i, value<kKind>(load_lanes(x + i, lanes), c), lanes);
  });
}

// ---- backward -----------------------------------------------------------------------------------------------------

template <Activation kKind>
CONVCORE_INLINE Vec gradient(Vec dy, Vec of, const Coefficients& c) {
  if (kKind == Activation::relu) return select(of <= Vec{}, Vec{}, dy);
  if (kKind == Activation::leaky_relu) return select(of > Vec{}, dy, dy * c.alpha);
  if (kKind == Activation::tanh) return dy * (splat(1.0f) - of * of);
  if (kKind == Activation::sigmoid) return dy * of * (splat(1.0f) - of);
  if (kKind == Activation::scaled_tanh) return dy * (c.alpha * c.beta - of * of * c.beta_by_alpha);
  if (kKind == Activation::elu) return select(of > Vec{}, dy, dy * c.alpha * exp(of));
  if (kKind == Activation::gelu) {
    const Normal n = normal(of);
    return dy * (n.probability + within(of, kGeluEnd) * n.density);
  }
  // x * S(u): S + x S (1 - S) du/dx
  const bool is_silu = kKind == Activation::silu;
  const Vec x = within(of, is_silu ? kSiluEnd : kGeluEnd);
  const Logistic s = logistic(is_silu ? x : gelu_argument(x));
  const Vec slope = is_silu ? splat(1.0f) : gelu_slope(x);
  return dy * (s.value + s.value * s.complement * (x * slope));
}

static constexpr int64_t backward_work_of(Activation kind) { return gradient_reads_output(kind) ? 1 : work_of(kind); }

template <Activation kKind>
static void backward(int64_t count, const ActivationParams& params, const float* dy, const float* of, float* dx) {
  const Coefficients c(params);
  parallel_for_each_vector(count, backward_work_of(kKind), [=](int64_t i, int64_t lanes) {
    store_lanes(dx + i, gradient<kKind>(load_lanes(dy + i, lanes), load_lanes(of + i, lanes), c), lanes);
  });
}

ActivationKernels activation_kernels();
ActivationKernels activation_kernels() {
  using A = Activation;
  return {{forward<A::relu>, forward<A::leaky_relu>, forward<A::tanh>, forward<A::sigmoid>, forward<A::scaled_tanh>,
           forward<A::elu>, forward<A::gelu>, forward<A::gelu_tanh>, forward<A::silu>},
          {backward<A::relu>, backward<A::leaky_relu>, backward<A::tanh>, backward<A::sigmoid>,
           backward<A::scaled_tanh>, backward<A::elu>, backward<A::gelu>, backward<A::gelu_tanh>, backward<A::silu>}};
}

}  // namespace convcore::cpu::CONVCORE_ISA

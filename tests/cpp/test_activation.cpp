// activation: by hand at the special values, against the formulas, and the same bits at any number of threads.
#include "ops/activation.h"

#include <limits>

#include "helpers.h"

namespace convcore {
namespace {

using test::check_close;
using test::check_same_bits;
using test::message_of;
using test::random_tensor;
using test::Sum;
using test::tensor;

const ActivationParams kParams{0.25f, 1.5f};
const Activation kKinds[] = {Activation::relu,    Activation::leaky_relu, Activation::tanh,
                             Activation::sigmoid, Activation::elu,        Activation::scaled_tanh,
                             Activation::gelu,    Activation::gelu_tanh,  Activation::silu};
constexpr int kByHand = 4;  // the first ones

double probability(Activation kind, double x) {  // the factor of x in gelu and its relatives
  if (kind == Activation::gelu) return std::erfc(-x / std::sqrt(2.0)) / 2;
  const double u = kind == Activation::silu ? x : std::sqrt(8 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
  return 1 / (1 + std::exp(-u));
}

Sum value(Activation kind, double x) {
  Sum y;
  if (kind == Activation::relu) y.add(x > 0 ? x : 0);
  if (kind == Activation::leaky_relu) y.add(x > 0 ? x : kParams.alpha * x);
  if (kind == Activation::tanh) y.add(std::tanh(x));
  if (kind == Activation::sigmoid) y.add(1 / (1 + std::exp(-x)));
  if (kind == Activation::scaled_tanh) y.add(kParams.alpha * std::tanh(kParams.beta * x));
  if (kind == Activation::elu) y.add(x > 0 ? x : kParams.alpha * std::expm1(x));
  if (kind >= Activation::gelu) y.add(x * probability(kind, x)), y.magnitude *= 1 + x * x;
  return y;
}

Sum gradient(Activation kind, double dy, double x, double y) {
  Sum dx;
  if (kind == Activation::scaled_tanh) {
    dx.add(dy * kParams.alpha * kParams.beta);
    dx.add(-dy * y * y * kParams.beta / kParams.alpha);
  }
  if (kind == Activation::elu) dx.add(x > 0 ? dy : dy * kParams.alpha * std::exp(x));
  if (kind >= Activation::gelu) {
    const double h = 1e-5;
    dx.add(dy * probability(kind, x));
    dx.add(dy * x * (probability(kind, x + h) - probability(kind, x - h)) / (2 * h));
    dx.magnitude *= 1 + x * x;
  }
  if (kind == Activation::relu) dx.add(x > 0 ? dy : 0);
  if (kind == Activation::leaky_relu) dx.add(x > 0 ? dy : kParams.alpha * dy);
  if (kind == Activation::tanh || kind == Activation::sigmoid) {
    dx.add(kind == Activation::tanh ? dy : dy * y);
    dx.add(-dy * y * y);
  }
  return dx;
}

TEST_CASE("activation by hand at zero, infinity and NaN") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = tensor({6}, {-inf, -2, 0, 2, inf, nan});
  const float want[kByHand][5] = {{0, 0, 0, 2, inf},
                                  {-inf, -0.5f, 0, 2, inf},
                                  {-1, std::tanh(-2.0f), 0, std::tanh(2.0f), 1},
                                  {0, 1 / (1 + std::exp(2.0f)), 0.5f, 1 / (1 + std::exp(-2.0f)), 1}};
  for (Activation kind : kKinds) {
    CAPTURE(name_of(kind));
    const Tensor y = activation_forward(kind, x, kParams);
    for (int i = 0; i < 5 && int(kind) < kByHand; i++) {
      const float w = want[int(kind)][i];
      CHECK((y.data()[i] == w || std::fabs(y.data()[i] - w) < 1e-6f));
    }
    CHECK(std::isnan(y.data()[5]));
  }
}

TEST_CASE("activation matches its formulas at every size") {
  for (Activation kind : kKinds)
    for (int64_t count : test::kCounts) {
      CAPTURE(name_of(kind));
      CAPTURE(count);
      const Tensor x = random_tensor({count}, 1), dy = random_tensor({count}, 2);
      const Tensor y = activation_forward(kind, x, kParams);
      std::vector<Sum> want_y, want_dx;
      for (int64_t i = 0; i < count; i++) {
        want_y.push_back(value(kind, x.data()[i]));
        want_dx.push_back(gradient(kind, dy.data()[i], x.data()[i], y.data()[i]));
      }
      check_close(y, {count}, want_y);
      check_close(activation_backward(kind, dy, x, y, kParams), {count}, want_dx);
      check_close(activation_backward(kind, dy, x, {}, kParams), {count}, want_dx);
      if (kind == Activation::relu || gradient_reads_output(kind))
        check_close(activation_backward(kind, dy, {}, y, kParams), {count}, want_dx);
    }
}

TEST_CASE("activation gives the same bits at any number of threads") {
  const Tensor x = random_tensor({3, 41, 1013}, 1), dy = random_tensor({3, 41, 1013}, 2);
  for (Activation kind : kKinds)
    test::check_same_bits_at_any_thread_count([&]() -> std::vector<Tensor> {
      return {activation_forward(kind, x, kParams), activation_backward(kind, dy, x, {}, kParams)};
    });
}

TEST_CASE("activation_backward refuses shapes that do not fit") {
  CHECK(message_of([] {
          activation_backward(Activation::relu, random_tensor({3}, 1), random_tensor({4}, 2), {}, kParams);
        }) != "");
}

}  // namespace
}  // namespace convcore

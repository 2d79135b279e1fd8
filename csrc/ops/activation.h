// Activations: functions of each element, and their gradients.
//
//   relu         y = max(x, 0)                           dx = dy where not x <= 0, else 0
//   leaky_relu   y = x where x > 0, else alpha * x       dx = dy where x > 0, else alpha * dy
//   tanh         y = tanh(x)                             dx = dy * (1 - y^2)
//   sigmoid      y = 1 / (1 + exp(-x))                   dx = dy * y * (1 - y)
//   scaled_tanh  y = alpha * tanh(beta * x)              dx = dy * beta * (alpha - y^2 / alpha)
//   elu          y = x where x > 0, else alpha * (exp(x) - 1)
//                                                        dx = dy where x > 0, else dy * alpha * exp(x)
//   gelu         y = x * P(x), P(x) = (1 + erf(x / sqrt 2)) / 2
//                                                        dx = dy * (P(x) + x * exp(-x^2 / 2) / sqrt(2 pi))
//   gelu_tanh    y = x * S(u), u = sqrt(8 / pi) * (x + 0.044715 x^3), S the sigmoid: (1 + tanh(u / 2)) / 2
//                                                        dx = dy * (S + x * S * (1 - S) * du/dx)
//   silu         y = x * S(x)                            dx = dy * S * (1 + x * (1 - S))
//
// x, y, dy, dx of any one shape; float32. NaN passes through; at -inf the last three are their limit, 0.
#pragma once
#include "core/array.h"

namespace convcore {

enum class Activation { relu, leaky_relu, tanh, sigmoid, scaled_tanh, elu, gelu, gelu_tanh, silu };
constexpr int kActivations = 9;

struct ActivationParams {
  float alpha = 0;  // leaky_relu: the slope below zero; scaled_tanh, elu: the limit, not 0 for scaled_tanh
  float beta = 0;   // scaled_tanh: the factor of x
};

const char* name_of(Activation);

// Whether the gradient is a function of the output, which then need not be computed again; else it is one of x.
static constexpr bool gradient_reads_output(Activation kind) {
  return kind == Activation::tanh || kind == Activation::sigmoid || kind == Activation::scaled_tanh;
}

Tensor activation_forward(Activation, const Tensor& x, const ActivationParams& params);

// `y`, the output, saves computing it again: then those that read the output, and relu, do not need x, which may be not
// given. The others read x only.
Tensor activation_backward(Activation, const Tensor& dy, const Tensor& x, const Tensor& y,
                           const ActivationParams& params);

struct ActivationKernels {  // indexed by Activation
  void (*forward[kActivations])(int64_t count, const ActivationParams&, const float* x, float* y);
  // `of` is what the gradient is a function of: y or x (for relu either, they have the same sign).
  void (*backward[kActivations])(int64_t count, const ActivationParams&, const float* dy, const float* of, float* dx);
};
}  // namespace convcore

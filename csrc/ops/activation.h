// Activations: functions of each element, and their gradients.
//
//   relu        y = max(x, 0)                      dx = dy where not x <= 0, else 0
//   leaky_relu  y = x where x > 0, else slope * x  dx = dy where x > 0, else slope * dy
//   tanh        y = tanh(x)                        dx = dy * (1 - y^2)
//   sigmoid     y = 1 / (1 + exp(-x))              dx = dy * y * (1 - y)
//
// x, y, dy, dx of any one shape; float32. NaN passes through.
#pragma once
#include "core/array.h"

namespace convcore {

enum class Activation { relu, leaky_relu, tanh, sigmoid };
constexpr int kActivations = 4;

const char* name_of(Activation);

// `negative_slope` is read by leaky_relu only, here and below.
Tensor activation_forward(Activation, const Tensor& x, float negative_slope);

// `y`, the output, saves computing it again: then relu, tanh and sigmoid do not need x, which may be not given.
// leaky_relu reads x only.
Tensor activation_backward(Activation, const Tensor& dy, const Tensor& x, const Tensor& y, float negative_slope);

namespace cpu {
struct ActivationKernels {  // indexed by Activation
  void (*forward[kActivations])(int64_t count, float negative_slope, const float* x, float* y);
  // `of` is what the gradient is a function of: x for relu (or y, which has the same sign) and leaky_relu, else y.
  void (*backward[kActivations])(int64_t count, float negative_slope, const float* dy, const float* of, float* dx);
};
}  // namespace cpu
}  // namespace convcore

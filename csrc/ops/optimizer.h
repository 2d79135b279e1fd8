// optimizer: one step of SGD or Adam on one parameter, in place. The rules are torch's.
//
//   SGD    g = grad + weight_decay * param
//          buffer = g at the first step, else momentum * buffer + (1 - dampening) * g        (with momentum only)
//          g = g + momentum * buffer with nesterov, else buffer
//          param = param - lr * g
//   Adam   g = grad + weight_decay * param;  decoupled (AdamW): g = grad, param = param * (1 - lr * weight_decay)
//          mean = beta1 * mean + (1 - beta1) * g,   square = beta2 * square + (1 - beta2) * g^2
//          param = param - lr / (1 - beta1^t) * mean / (sqrt(square / (1 - beta2^t)) + eps)          t = 1, 2, ...
//
// All arrays of one parameter have the same shape; float32. Hyper-parameters are trusted (optim.py checks them).
#pragma once
#include "core/array.h"

namespace convcore {

struct SgdParams {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, first_step;
};
// `buffer` may be not given when momentum is 0.
void sgd_step(const Tensor& param, const Tensor& grad, const Tensor& buffer, const SgdParams& params);

struct AdamParams {
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;
  int64_t step;  // t, from 1
};
void adam_step(const Tensor& param, const Tensor& grad, const Tensor& mean, const Tensor& square,
               const AdamParams& params);

namespace cpu {
struct SgdFactors {
  float lr, momentum, grad_rate, weight_decay;  // buffer = momentum * buffer + grad_rate * g
  bool nesterov, first_step;
};
struct AdamFactors {
  float shrink;        // of param before the step: 1 - lr * weight_decay when decoupled, else 1
  float weight_decay;  // 0 when decoupled
  float mean_rate;     // 1 - beta1
  float square_keep;   // beta2
  float square_rate;   // 1 - beta2
  float step_size;     // lr / (1 - beta1^t)
  float root_scale;    // 1 / sqrt(1 - beta2^t)
  float eps;
};
struct OptimizerKernels {
  void (*sgd)(int64_t count, const SgdFactors&, float* param, const float* grad, float* buffer /* or null */);
  void (*adam)(int64_t count, const AdamFactors&, float* param, const float* grad, float* mean, float* square);
};
}  // namespace cpu

// What the kernels need, from the hyper-parameters.
cpu::SgdFactors sgd_factors(const SgdParams& params);
cpu::AdamFactors adam_factors(const AdamParams& params);

}  // namespace convcore

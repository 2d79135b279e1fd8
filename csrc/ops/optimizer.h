// optimizer: one step of SGD, Adam, RMSprop or Adagrad on one parameter, in place. The rules are torch's.
//
//   all    g = grad + weight_decay * param + l1 * sign(param)                                     sign(0) = 0
//   SGD
//          buffer = g at the first step, else momentum * buffer + (1 - dampening) * g        (with momentum only)
//          g = g + momentum * buffer with nesterov, else buffer
//          param = param - lr * g
//   Adam   decoupled (AdamW): g = grad + l1 * sign(param), param = param * (1 - lr * weight_decay)
//          mean = beta1 * mean + (1 - beta1) * g,   square = beta2 * square + (1 - beta2) * g^2
//          param = param - lr / (1 - beta1^t) * mean / (sqrt(square / (1 - beta2^t)) + eps)          t = 1, 2, ...
//   RMSprop  square = alpha * square + (1 - alpha) * g^2
//          centered: mean = alpha * mean + (1 - alpha) * g, spread = square - mean^2;  else spread = square
//          h = g / (sqrt(spread) + eps);   with momentum: h = buffer = momentum * buffer + h
//          param = param - lr * h
//   Adagrad  sum = sum + g^2,   param = param - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum) + eps)
//
// limit_norms: each row (what leads to one output of a layer) that is longer than max_norm is scaled down to it.
//
// All arrays of one parameter have the same shape; float32. Hyper-parameters are trusted (optim.py checks them).
#pragma once
#include "core/array.h"

namespace convcore {

struct SgdParams {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, first_step;
  double l1 = 0;
};
// `buffer` may be not given when momentum is 0.
void sgd_step(const Tensor& param, const Tensor& grad, const Tensor& buffer, const SgdParams& params);

struct AdamParams {
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;
  int64_t step;  // t, from 1
  double l1 = 0;
};
void adam_step(const Tensor& param, const Tensor& grad, const Tensor& mean, const Tensor& square,
               const AdamParams& params);

struct RmspropParams {
  double lr, alpha, eps, weight_decay, momentum;
  bool centered;
  double l1 = 0;
};
// `mean` may be not given unless centered, `buffer` when momentum is 0. Both begin as 0, as `square` does.
void rmsprop_step(const Tensor& param, const Tensor& grad, const Tensor& square, const Tensor& mean,
                  const Tensor& buffer, const RmspropParams& params);

struct AdagradParams {
  double lr, lr_decay, eps, weight_decay;
  int64_t step;  // t, from 1
  double l1 = 0;
};
void adagrad_step(const Tensor& param, const Tensor& grad, const Tensor& sum, const AdagradParams& params);

// Rows along the first axis.
void limit_norms(const Tensor& param, double max_norm);

struct Penalty {  // what it adds to the gradient: weight_decay * param + l1 * sign(param)
  float weight_decay, l1;
};
struct SgdFactors {
  float lr, momentum, grad_rate;  // buffer = momentum * buffer + grad_rate * g
  Penalty penalty;
  bool nesterov, first_step;
};
struct AdamFactors {
  float shrink;       // of param before the step: 1 - lr * weight_decay when decoupled, else 1
  Penalty penalty;    // without weight decay when decoupled
  float mean_rate;    // 1 - beta1
  float square_keep;  // beta2
  float square_rate;  // 1 - beta2
  float step_size;    // lr / (1 - beta1^t)
  float root_scale;   // 1 / sqrt(1 - beta2^t)
  float eps;
};
struct RmspropFactors {
  float lr, square_keep, rate;  // alpha, 1 - alpha
  float eps, momentum;
  Penalty penalty;
};
struct AdagradFactors {
  float step_size, eps;  // lr / (1 + (t - 1) * lr_decay)
  Penalty penalty;
};
// The factors are where the kernels read them: on the device that they run on.
struct OptimizerKernels {
  void (*sgd)(int64_t count, const SgdFactors*, float* param, const float* grad, float* buffer /* or null */);
  void (*adam)(int64_t count, const AdamFactors*, float* param, const float* grad, float* mean, float* square);
  void (*rmsprop)(int64_t count, const RmspropFactors*, float* param, const float* grad, float* square,
                  float* mean /* or null: not centered */, float* buffer /* or null */);
  void (*adagrad)(int64_t count, const AdagradFactors*, float* param, const float* grad, float* sum);
  void (*limit_norms)(int64_t rows, int64_t columns, float max_norm, float* param);
  void (*mask)(int64_t count, const float* keep, float* grad);  // grad = 0 where keep is 0
  // Clipping by the norm of all gradients: factor = max_norm / (sqrt(sum of `squares`) + 1e-6), and then
  // grad *= factor unless that is 1 or more (a NaN reaches the gradients).
  void (*clip_factor)(int64_t count, const double* squares, double max_norm, float* factor);
  void (*clip)(int64_t count, const float* factor, float* grad);
};

// What the kernels need, from the hyper-parameters.
SgdFactors sgd_factors(const SgdParams& params);
AdamFactors adam_factors(const AdamParams& params);
RmspropFactors rmsprop_factors(const RmspropParams& params);
AdagradFactors adagrad_factors(const AdagradParams& params);

}  // namespace convcore

// What the optimizers do to one element. Rules: ops/optimizer.h.
#pragma once
#include "cuda/device.cuh"
#include "ops/optimizer.h"

namespace convcore::cuda {

// The gradient with that of the penalty. Without weight decay the parameter stays out, so that an infinite one does not
// make NaN.
CONVCORE_DEVICE float penalized(float grad, float param, const Penalty& penalty) {
  if (penalty.weight_decay != 0) grad = fmaf(penalty.weight_decay, param, grad);
  if (penalty.l1 == 0) return grad;
  return grad + (param > 0 ? penalty.l1 : param < 0 ? -penalty.l1 : 0.0f);
}

// in: param, grad, buffer; out: param, buffer
struct Sgd {
  const SgdFactors* factors;
  bool keeps;  // there is a buffer
  __device__ void operator()(int64_t, const float* in, float* out) const {
    const SgdFactors f = *factors;
    float g = penalized(in[1], in[0], f.penalty);
    if (keeps) {
      const float buffer = f.first_step ? g : fmaf(f.momentum, in[2], f.grad_rate * g);
      out[1] = buffer;
      g = f.nesterov ? fmaf(f.momentum, buffer, g) : buffer;
    }
    out[0] = fmaf(-f.lr, g, in[0]);
  }
};

// in: param, grad, mean, square; out: param, mean, square
struct Adam {
  const AdamFactors* factors;
  __device__ void operator()(int64_t, const float* in, float* out) const {
    const AdamFactors f = *factors;
    const float g = penalized(in[1], in[0], f.penalty);
    const float mean = fmaf(f.mean_rate, g - in[2], in[2]);
    const float square = fmaf(f.square_rate * g, g, f.square_keep * in[3]);
    out[0] = in[0] * f.shrink - f.step_size * mean / fmaf(sqrtf(square), f.root_scale, f.eps);
    out[1] = mean, out[2] = square;
  }
};

// in: param, grad, square, mean, buffer; out: param, square, mean, buffer
struct Rmsprop {
  const RmspropFactors* factors;
  bool centered, keeps;
  __device__ void operator()(int64_t, const float* in, float* out) const {
    const RmspropFactors f = *factors;
    const float g = penalized(in[1], in[0], f.penalty);
    const float square = fmaf(f.rate * g, g, f.square_keep * in[2]);
    float spread = square;
    if (centered) {
      const float mean = fmaf(f.rate, g - in[3], in[3]);
      out[2] = mean;
      spread -= mean * mean;
      spread = spread < 0 ? 0.0f : spread;  // rounding: a variance is not negative
    }
    float h = g / (sqrtf(spread) + f.eps);
    if (keeps) out[3] = h = fmaf(f.momentum, in[4], h);
    out[0] = fmaf(-f.lr, h, in[0]);
    out[1] = square;
  }
};

// in: param, grad, sum; out: param, sum
struct Adagrad {
  const AdagradFactors* factors;
  __device__ void operator()(int64_t, const float* in, float* out) const {
    const AdagradFactors f = *factors;
    const float g = penalized(in[1], in[0], f.penalty), sum = fmaf(g, g, in[2]);
    out[0] = in[0] - f.step_size * (g / (sqrtf(sum) + f.eps));
    out[1] = sum;
  }
};

}  // namespace convcore::cuda

// optimizer: one pass over parameter, gradient and state. Rules: ops/optimizer.h.
#include "ops/optimizer.h"

#include "cuda/elementwise.cuh"
#include "cuda/table.h"

namespace convcore::cuda {
namespace {

// The gradient with weight decay. Without it the parameter stays out, so that an infinite one does not make NaN.
CONVCORE_DEVICE float decayed(float grad, float param, float weight_decay) {
  return weight_decay != 0 ? fmaf(weight_decay, param, grad) : grad;
}

// in: param, grad, buffer; out: param, buffer
struct Sgd {
  cpu::SgdFactors f;
  bool keeps;  // there is a buffer
  __device__ void operator()(int64_t, const float* in, float* out) const {
    float g = decayed(in[1], in[0], f.weight_decay);
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
  cpu::AdamFactors f;
  __device__ void operator()(int64_t, const float* in, float* out) const {
    const float g = decayed(in[1], in[0], f.weight_decay);
    const float mean = fmaf(f.mean_rate, g - in[2], in[2]);
    const float square = fmaf(f.square_rate * g, g, f.square_keep * in[3]);
    out[0] = in[0] * f.shrink - f.step_size * mean / fmaf(sqrtf(square), f.root_scale, f.eps);
    out[1] = mean, out[2] = square;
  }
};

void sgd(int64_t count, const cpu::SgdFactors& factors, float* param, const float* grad, float* buffer) {
  // Without a buffer the parameter stands in for it: read, and not written.
  const bool keeps = buffer != nullptr;
  for_elements("sgd", count, ElementArrays<3, 2>{{param, grad, keeps ? buffer : param}, {param, buffer}},
               Sgd{factors, keeps});
}

void adam(int64_t count, const cpu::AdamFactors& factors, float* param, const float* grad, float* mean, float* square) {
  for_elements("adam", count, ElementArrays<4, 3>{{param, grad, mean, square}, {param, mean, square}}, Adam{factors});
}

}  // namespace

cpu::OptimizerKernels optimizer_kernels() { return {sgd, adam}; }

}  // namespace convcore::cuda

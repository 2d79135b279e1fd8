#include "ops/optimizer.h"

#include <cmath>

#include "cpu/kernels.h"

namespace convcore {

cpu::SgdFactors sgd_factors(const SgdParams& params) {
  return {float(params.lr),           float(params.momentum), float(1 - params.dampening),
          float(params.weight_decay), params.nesterov,        params.first_step};
}

cpu::AdamFactors adam_factors(const AdamParams& params) {
  const double mean_bias = 1 - std::pow(params.beta1, double(params.step));
  const double square_bias = 1 - std::pow(params.beta2, double(params.step));
  cpu::AdamFactors factors{};
  factors.shrink = params.decoupled ? float(1 - params.lr * params.weight_decay) : 1.0f;
  factors.weight_decay = params.decoupled ? 0.0f : float(params.weight_decay);
  factors.mean_rate = float(1 - params.beta1);
  factors.square_keep = float(params.beta2);
  factors.square_rate = float(1 - params.beta2);
  factors.step_size = float(params.lr / mean_bias);
  factors.root_scale = float(1 / std::sqrt(square_bias));
  factors.eps = float(params.eps);
  return factors;
}

void sgd_step(const Tensor& param, const Tensor& grad, const Tensor& buffer, const SgdParams& params) {
  expect_shape("sgd_step", "grad", grad.shape(), param.shape(), "the shape of the parameter");
  if (buffer.given())
    expect_shape("sgd_step", "momentum_buffer", buffer.shape(), param.shape(), "the shape of the parameter");
  else if (params.momentum != 0)
    fail("sgd_step", "momentum_buffer is missing", "an array when momentum is not 0", "None");
  cpu::kernels().optimizer.sgd(param.count(), sgd_factors(params), param.data(), grad.data(),
                               params.momentum != 0 ? buffer.data() : nullptr);
}

void adam_step(const Tensor& param, const Tensor& grad, const Tensor& mean, const Tensor& square,
               const AdamParams& params) {
  expect_shape("adam_step", "grad", grad.shape(), param.shape(), "the shape of the parameter");
  expect_shape("adam_step", "exp_avg", mean.shape(), param.shape(), "the shape of the parameter");
  expect_shape("adam_step", "exp_avg_sq", square.shape(), param.shape(), "the shape of the parameter");
  expect_range("adam_step", "step", params.step, 1, INT64_MAX);
  cpu::kernels().optimizer.adam(param.count(), adam_factors(params), param.data(), grad.data(), mean.data(),
                                square.data());
}

}  // namespace convcore

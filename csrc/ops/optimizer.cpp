#include "ops/optimizer.h"

#include <cmath>

#include "ops/kernels.h"

namespace convcore {

static void expect_fits(const char* op, const char* name, const Tensor& array, const Tensor& param) {
  expect_shape(op, name, array.shape(), param.shape(), "the shape of the parameter");
}

static Penalty penalty(double weight_decay, double l1) { return {float(weight_decay), float(l1)}; }

SgdFactors sgd_factors(const SgdParams& p) {
  return {float(p.lr), float(p.momentum), float(1 - p.dampening), penalty(p.weight_decay, p.l1),
          p.nesterov,  p.first_step};
}

AdamFactors adam_factors(const AdamParams& params) {
  const double mean_bias = 1 - std::pow(params.beta1, double(params.step));
  const double square_bias = 1 - std::pow(params.beta2, double(params.step));
  AdamFactors factors{};
  factors.shrink = params.decoupled ? float(1 - params.lr * params.weight_decay) : 1.0f;
  factors.penalty = penalty(params.decoupled ? 0.0 : params.weight_decay, params.l1);
  factors.mean_rate = float(1 - params.beta1);
  factors.square_keep = float(params.beta2);
  factors.square_rate = float(1 - params.beta2);
  factors.step_size = float(params.lr / mean_bias);
  factors.root_scale = float(1 / std::sqrt(square_bias));
  factors.eps = float(params.eps);
  return factors;
}

RmspropFactors rmsprop_factors(const RmspropParams& p) {
  return {float(p.lr),  float(p.alpha),    float(1 - p.alpha),
          float(p.eps), float(p.momentum), penalty(p.weight_decay, p.l1)};
}

AdagradFactors adagrad_factors(const AdagradParams& p) {
  return {float(p.lr / (1 + double(p.step - 1) * p.lr_decay)), float(p.eps), penalty(p.weight_decay, p.l1)};
}

void sgd_step(const Tensor& param, const Tensor& grad, const Tensor& buffer, const SgdParams& params) {
  expect_fits("sgd_step", "grad", grad, param);
  if (buffer.given())
    expect_fits("sgd_step", "momentum_buffer", buffer, param);
  else if (params.momentum != 0)
    fail("sgd_step", "momentum_buffer is missing", "an array when momentum is not 0", "None");
  const OnDeviceOf on("sgd_step", {{"param", param}, {"grad", grad}, {"momentum_buffer", buffer}});
  current_kernels().optimizer.sgd(param.count(), Handed<SgdFactors>(sgd_factors(params)).get(), param.data(),
                                  grad.data(), params.momentum != 0 ? buffer.data() : nullptr);
}

void adam_step(const Tensor& param, const Tensor& grad, const Tensor& mean, const Tensor& square,
               const AdamParams& params) {
  expect_fits("adam_step", "grad", grad, param);
  expect_fits("adam_step", "exp_avg", mean, param);
  expect_fits("adam_step", "exp_avg_sq", square, param);
  expect_range("adam_step", "step", params.step, 1, INT64_MAX);
  const OnDeviceOf on("adam_step", {{"param", param}, {"grad", grad}, {"exp_avg", mean}, {"exp_avg_sq", square}});
  current_kernels().optimizer.adam(param.count(), Handed<AdamFactors>(adam_factors(params)).get(), param.data(),
                                   grad.data(), mean.data(), square.data());
}

void rmsprop_step(const Tensor& param, const Tensor& grad, const Tensor& square, const Tensor& mean,
                  const Tensor& buffer, const RmspropParams& params) {
  expect_fits("rmsprop_step", "grad", grad, param);
  expect_fits("rmsprop_step", "square_avg", square, param);
  if (params.centered) expect_fits("rmsprop_step", "grad_avg", mean, param);
  if (params.momentum != 0) expect_fits("rmsprop_step", "momentum_buffer", buffer, param);
  const OnDeviceOf on(
      "rmsprop_step",
      {{"param", param}, {"grad", grad}, {"square_avg", square}, {"grad_avg", mean}, {"momentum_buffer", buffer}});
  current_kernels().optimizer.rmsprop(param.count(), Handed<RmspropFactors>(rmsprop_factors(params)).get(),
                                      param.data(), grad.data(), square.data(), params.centered ? mean.data() : nullptr,
                                      params.momentum != 0 ? buffer.data() : nullptr);
}

void adagrad_step(const Tensor& param, const Tensor& grad, const Tensor& sum, const AdagradParams& params) {
  expect_fits("adagrad_step", "grad", grad, param);
  expect_fits("adagrad_step", "sum", sum, param);
  expect_range("adagrad_step", "step", params.step, 1, INT64_MAX);
  const OnDeviceOf on("adagrad_step", {{"param", param}, {"grad", grad}, {"sum", sum}});
  current_kernels().optimizer.adagrad(param.count(), Handed<AdagradFactors>(adagrad_factors(params)).get(),
                                      param.data(), grad.data(), sum.data());
}

void limit_norms(const Tensor& param, double max_norm) {
  if (param.shape().empty()) fail("limit_norms", "param has no rows", "at least one axis", "a scalar");
  const int64_t rows = param.shape()[0];
  const OnDeviceOf on("limit_norms", {{"param", param}});
  current_kernels().optimizer.limit_norms(rows, rows ? param.count() / rows : 0, float(max_norm), param.data());
}

}  // namespace convcore

// batch_norm: each channel scaled to mean 0 and variance 1, and its gradients.
//
//   y[n,c,i] = (x[n,c,i] - mean[c]) * rstd[c] * weight[c] + bias[c],   rstd = 1 / sqrt(var + eps)
//
// In training mean and var (divided by m, the number of values per channel) are the batch's, and
//   running_mean <- (1 - momentum) * running_mean + momentum * mean
//   running_var  <- (1 - momentum) * running_var + momentum * var * m / (m - 1)
// otherwise they are the running ones. With xhat = (x - mean) * rstd:
//   dweight[c] = sum_{n,i} dy * xhat       dbias[c] = sum_{n,i} dy
//   dx = weight * rstd * (dy - dbias / m - xhat * dweight / m)      in training
//   dx = weight * rstd * dy                                         otherwise
//
// x, y (N, C) or (N, C, *), everything else (C,); float32. i runs over all the dimensions after C.
// weight none is 1, bias none is 0. An empty batch leaves the running statistics alone.
#pragma once
#include "core/array.h"

namespace convcore {

struct BatchNormShape {
  int64_t n, c, plane;  // images, channels, values per channel of one image
  int64_t per_channel() const { return n * plane; }
};

struct BatchNormParams {
  bool training;
  double momentum, eps;
};

// What the forward normalised with, for the backward: two arrays (C,).
struct BatchNormSaved {
  Tensor mean, rstd;
};

struct BatchNormResult {
  Tensor y;
  BatchNormSaved saved;
};
// Writes running_mean and running_var when params.training; they may be not given then.
BatchNormResult batch_norm_forward(const Tensor& x, const Tensor& running_mean, const Tensor& running_var,
                                   const Tensor& weight, const Tensor& bias, const BatchNormParams& params);

struct BatchNormGrads {
  Tensor dx, dweight, dbias;  // not given where not asked for
};
// `saved` may be not given: the statistics are then computed again (in training) or taken from the running ones.
BatchNormGrads batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& running_mean,
                                   const Tensor& running_var, const Tensor& weight, const BatchNormParams& params,
                                   const BatchNormSaved& saved, bool need_dx, bool need_dweight, bool need_dbias);

namespace cpu {
struct BatchNormKernels {
  // Mean and 1 / sqrt(var + eps) of each channel. The running statistics (C) are updated, or null.
  void (*statistics)(const BatchNormShape&, const float* x, double momentum, double eps, float* mean, float* rstd,
                     float* running_mean, float* running_var);
  void (*reciprocal_std)(int64_t c, const float* var, double eps, float* rstd);
  void (*normalize)(const BatchNormShape&, const float* x, const float* mean, const float* rstd,
                    const float* weight,  // (C) or null
                    const float* bias,    // (C) or null
                    float* y);
  // Each result is null when not needed. `training`: mean and rstd depend on x.
  void (*backward)(const BatchNormShape&, bool training, const float* dy, const float* x, const float* mean,
                   const float* rstd, const float* weight, float* dx, float* dweight, float* dbias);
};
}  // namespace cpu
}  // namespace convcore

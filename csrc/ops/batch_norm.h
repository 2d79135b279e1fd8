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
  Layout layout;        // an image is (C, plane) in row-major order and (plane, C) in channels-last order
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

// Per channel (x - mean) * scale + bias; (C) each. Subtracting first keeps the digits that `x * scale + shift` loses
// where the mean is large beside the deviation.
struct BatchNormAffine {
  const float *mean, *scale, *bias;
};

// What is added to a normalised array: nothing (values null), an array as it is (affine.mean null), or one that is
// normalised on the way.
struct BatchNormResidual {
  const float* values;
  BatchNormAffine affine;
};

// dx = scale * (dz - center - (x - mean) * slope), (C) each. Null `mean`: dx = scale * dz (statistics that do not
// depend on x).
struct BatchNormInputGradient {
  const float *mean, *scale, *center, *slope;
};

// The first four compute a whole op in parallel. The others are the pieces that they are made of, for a caller that
// runs a block of images at a time inside its own parallel loop:
//
// * They work on the images [n0, n1) of a batch on the calling thread, read and write nothing of the other images, and
//   use no memory but their arguments. Pointers are those of the whole batch, images (N, C, *) in the order of
//   shape.layout, everything else (C). An element's bits do not depend on the blocks.
// * Sums are added to, so clear them first. To get the same bits at any number of threads, give each block sums of its
//   own, choose the blocks by the shape alone, and add them up in order. Sums within a block are made from float sums
//   of at most 64 terms per lane, in double from there on.
// * Denormals are flushed only where the caller has set that mode (parallel_for does).
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

  // sum[c] += sum (x - pivot[c]), sum_sq[c] += sum (x - pivot[c])^2. Any pivot will do, also null for 0: squares are
  // taken about the mean of a few rows and moved to the pivot in double.
  void (*partial)(const BatchNormShape&, int64_t n0, int64_t n1, const float* x, const float* pivot, double* sum,
                  double* sum_sq);
  // y = (x - mean) * scale + bias + residual, with relu its positive part. y may be x or the residual.
  void (*apply)(const BatchNormShape&, int64_t n0, int64_t n1, const float* x, const BatchNormAffine&,
                const BatchNormResidual&, bool relu, float* y);
  // dz = dy where y > 0 and 0 elsewhere; dz = dy where y is null. sum_dz[c] += sum dz, sum_dz_x[c] += sum dz * (x -
  // mean[c]). dz is written unless null; it may be dy.
  void (*backward_partial)(const BatchNormShape&, int64_t n0, int64_t n1, const float* dy, const float* x,
                           const float* mean, const float* y, float* dz, double* sum_dz, double* sum_dz_x);
  // dx may be dz or x.
  void (*backward_apply)(const BatchNormShape&, int64_t n0, int64_t n1, const float* dz, const float* x,
                         const BatchNormInputGradient&, float* dx);
  // From the sums of all `m` values per channel to what `apply` and `backward_apply` take, and the gradients. For the
  // arrays marked with ? null means not needed (weight: 1).
  void (*finish)(int64_t c, int64_t m, const float* pivot, const double* sum, const double* sum_sq, double momentum,
                 double eps, float* mean, float* rstd, float* running_mean /*?*/, float* running_var /*?*/);
  void (*backward_finish)(int64_t c, int64_t m, const double* sum_dz, const double* sum_dz_x, const float* rstd,
                          const float* weight /*?*/, float* scale, float* center, float* slope, float* dweight /*?*/,
                          float* dbias /*?*/);
  // What `apply` takes: scale = weight * rstd, shift = bias.
  void (*factors)(int64_t c, const float* rstd, const float* weight /*?*/, const float* bias /*?*/, float* scale,
                  float* shift);
  // The weight (c_out, terms) and bias of a convolution with the batch norm after it folded in:
  //   folded[k] = w[k] * scale[k], offset[k] = (b[k] - mean[k]) * scale[k] + bias[k], scale = weight / sqrt(var + eps)
  void (*fold)(int64_t c_out, int64_t terms, const float* w, const float* b /*?*/, const float* weight /*?*/,
               const float* bias /*?*/, const float* mean, const float* var, double eps, float* folded, float* offset);
};
}  // namespace convcore

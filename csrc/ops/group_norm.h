// group_norm and layer_norm: the values of one sample, or of some of its channels, scaled to mean 0 and variance 1; and
// gradients.
//
//   y[i] = (x[i] - mean) * rstd * weight + bias,   rstd = 1 / sqrt(var + eps)
//
// Mean and var (divided by the number of values) are taken over
//   group_norm   the C / G channels of a group of one sample, weight and bias (C,) per channel
//   layer_norm   the last dimensions of one sample, `normalized_shape`, which weight and bias have, too
// With xhat = (x - mean) * rstd, g = dy * weight, and means over the same values:
//   dweight = sum over the samples of dy * xhat       dbias = sum over the samples of dy
//   dx = rstd * (g - mean(g) - xhat * mean(g * xhat))
//
// weight none is 1, bias none is 0; float32. There are no running statistics: training and evaluation do the same.
//
// Source: Y. Wu, K. He, "Group normalization", ECCV 2018; J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization",
// 2016.
#pragma once
#include "core/array.h"

namespace convcore {

// A sample is `groups` groups of `channels` channels of `plane` values, in this order. layer_norm: one group, and each
// value is a channel.
struct GroupNormShape {
  int64_t n, groups, channels, plane;
  int64_t per_group() const { return channels * plane; }
  int64_t all_channels() const { return groups * channels; }
  int64_t per_sample() const { return groups * channels * plane; }
};

// Throws for shapes that do not fit.
GroupNormShape infer_group_norm_shape(const Shape& x, int64_t num_groups);
GroupNormShape infer_layer_norm_shape(const Shape& x, const Shape& normalized_shape);

// `op` ("group_norm" or "layer_norm") is for the error messages, here and below; `parameters` is the shape that weight
// and bias must have.
struct GroupNormResult {
  Tensor y, mean, rstd;  // (N, G) each, for the backward
};
GroupNormResult group_norm_forward(const char* op, const GroupNormShape&, const Shape& parameters, const Tensor& x,
                                   const Tensor& weight, const Tensor& bias, double eps);

struct GroupNormGrads {
  Tensor dx, dweight, dbias;  // not given where not asked for
};
// `mean` and `rstd` may be not given: then they are computed again.
GroupNormGrads group_norm_backward(const char* op, const GroupNormShape&, const Shape& parameters, const Tensor& dy,
                                   const Tensor& x, const Tensor& weight, double eps, const Tensor& mean,
                                   const Tensor& rstd, bool need_dx, bool need_dweight, bool need_dbias);

struct GroupNormKernels {
  // y may be null: then only the statistics are made.
  void (*forward)(const GroupNormShape&, double eps, const float* x, const float* weight, const float* bias, float* y,
                  float* mean, float* rstd);
  void (*backward_input)(const GroupNormShape&, const float* dy, const float* x, const float* mean, const float* rstd,
                         const float* weight, float* dx);
  // Over all samples in order, on the calling thread; either may be null.
  void (*backward_weight)(const GroupNormShape&, const float* dy, const float* x, const float* mean, const float* rstd,
                          float* dweight, float* dbias);
};
}  // namespace convcore

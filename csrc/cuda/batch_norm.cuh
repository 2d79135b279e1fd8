// The last step of a batch norm's sums, per channel: formulas in ops/batch_norm.h.
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

// From the sums of x - pivot and of its squares over m values. Null: not needed (pivot: 0; weight: 1; bias: 0).
struct BatchNormFinish {
  int64_t m;
  const float* pivot;  // may be running_mean
  double momentum, eps;
  float *mean, *rstd, *running_mean, *running_var;
  const float *weight = nullptr, *bias = nullptr;
  float *scale = nullptr, *shift = nullptr;  // y = (x - mean) * scale + shift
  __device__ void operator()(int64_t c, double sum, double sum_sq) const {
    const double count = m > 1 ? double(m) : 1.0, offset = sum / count;
    const double center = (pivot ? double(pivot[c]) : 0.0) + offset, squares = sum_sq - sum * offset;
    const double var = squares > 0 || squares != squares ? squares / count : 0.0;
    const auto r = float(1.0 / sqrt(var + eps));
    mean[c] = float(center);
    rstd[c] = r;
    if (scale) scale[c] = weight ? weight[c] * r : r;
    if (shift) shift[c] = bias ? bias[c] : 0.0f;
    if (!running_mean) return;
    running_mean[c] = float((1 - momentum) * double(running_mean[c]) + momentum * center);
    running_var[c] = float((1 - momentum) * double(running_var[c]) + momentum * (var * count / (count - 1)));
  }
};

// From the sums of dz and dz * (x - mean).
struct BatchNormBackwardFinish {
  int64_t m;
  const float *rstd, *weight;
  float *scale, *center, *slope, *dweight, *dbias;
  __device__ void operator()(int64_t c, double sum_dz, double sum_dz_x) const {
    const double count = m > 1 ? double(m) : 1.0, r = double(rstd[c]);
    scale[c] = rstd[c] * (weight ? weight[c] : 1.0f);
    center[c] = float(sum_dz / count);
    slope[c] = float(sum_dz_x / count * r * r);
    if (dweight) dweight[c] = float(sum_dz_x * r);
    if (dbias) dbias[c] = float(sum_dz);
  }
};

}  // namespace convcore::cuda

// mse_loss: the squared error, and its gradients.
//
//   loss[i] = (x[i] - target[i])^2      mean: their sum / their number;  sum: their sum;  none: as they are
//   dx[i] = dy * 2 (x[i] - target[i])  (mean: / their number)            dtarget = -dx
//
// x, target, dx, dtarget of any one shape; float32. The sum is taken in shards of kMseShard elements, each with one
// float per lane, and the shards are added in order, in double. A mean over nothing is NaN.
#pragma once
#include "core/array.h"
#include "ops/reduction.h"

namespace convcore {

constexpr int64_t kMseShard = 4096;

Tensor mse_loss_forward(const Tensor& x, const Tensor& target, Reduction);

struct MseLossGrads {
  Tensor dx, dtarget;  // not given where not asked for
};
// `dy` has the shape of the loss: () or, for Reduction::none, the shape of x.
MseLossGrads mse_loss_backward(const Tensor& dy, const Tensor& x, const Tensor& target, Reduction, bool need_dx,
                               bool need_dtarget);

struct MseLossKernels {
  void (*squares)(int64_t count, const float* x, const float* target, float* loss);
  void (*shard_sums)(int64_t count, const float* x, const float* target, double* sums);  // (ceil(count / kMseShard))
  // grad = factor * dy * (x - target)
  void (*backward)(int64_t count, float factor,
                   const float* dy,  // one number or, when dy_per_element, as many as x
                   bool dy_per_element, const float* x, const float* target, float* grad);
};
}  // namespace convcore

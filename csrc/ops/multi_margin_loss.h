// multi_margin_loss: the hinge loss of a multi-class support vector machine, fused with its gradient.
//
//   loss[n] = weight[t] / C * sum_{c != t} max(0, margin - x[n,t] + x[n,c])^p,   t = target[n]
//   mean: the sum of the losses / N;  sum: their sum;  none: as they are
//   dx[n,c] = dy * weight[t] / C * p max(0, margin - x[n,t] + x[n,c])^(p-1) for c != t,   dx[n,t] = -(sum of these)
//
// x (N, C) or (C,); target (N,) or (): integers from 0 to C-1; weight (C,) or none, which is 1; float32; p 1 or 2.
// The losses are added in order, in double. A NaN among the numbers is one of the loss.
//
// Source: K. Crammer, Y. Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR
// 2001, in the form of J. Weston, C. Watkins, ESANN 1999, which sums over all classes; torch's MultiMarginLoss.
#pragma once
#include "core/array.h"
#include "ops/reduction.h"

namespace convcore {

struct MultiMarginLossParams {
  int64_t p;  // 1 or 2
  float margin;
  Reduction reduction;
};

struct MultiMarginLossResult {
  Tensor loss;      // shape (), or the target's for Reduction::none
  Tensor gradient;  // dx for dy = 1, the shape of x; not given where not asked for
};
// `op` is for the error messages.
MultiMarginLossResult multi_margin_loss_forward(const char* op, const Tensor& x, const LabelArray& target,
                                                const Tensor& weight, const MultiMarginLossParams&, bool need_gradient);

// `dy` has the shape of the loss. `gradient` is the one that the forward made, or not given: then it is made again.
Tensor multi_margin_loss_backward(const Tensor& dy, const Tensor& x, const LabelArray& target, const Tensor& weight,
                                  const MultiMarginLossParams&, const Tensor& gradient);

struct MultiMarginLossKernels {
  void (*forward)(int64_t n, int64_t c, const MultiMarginLossParams&,
                  float scale,            // of the gradient
                  const float* x,         // (N, C)
                  const int64_t* target,  // (N)
                  const float* weight,    // (C) or null
                  float* loss,            // (N)
                  float* gradient);       // (N, C) or null
};
}  // namespace convcore

// cross_entropy: softmax and negative log likelihood of class labels, fused with the gradient.
//
//   loss[n,i] = -sum_c q[n,c,i] * log p[n,c,i]     p = softmax of x over c
//   q[n,c,i]  = (1 - label_smoothing) * [c = target[n,i]] + label_smoothing / C
//   mean: the sum of the losses / the number of targets that are not ignored;  sum: their sum;  none: as they are
//   dx[n,c,i] = dy * (p - q)  (mean: / that number)
//
// x (N, C), (N, C, d1, ...) or (C,); target (N,), (N, d1, ...) or (): integers from 0 to C-1, or ignore_index, whose
// loss and gradient are zero whatever x holds there; float32. i runs over d1, ... .
// Or target (N, C) or (C,) as x, float32: the share of each class, t, and then
//   q[n,c] = (1 - label_smoothing) * t[n,c] + label_smoothing / C        dx[n,c] = dy * (p * sum_c q - q)
// The losses are added in order, in double. A mean over no target is NaN, its gradient zero.
#pragma once
#include "core/array.h"
#include "ops/reduction.h"

namespace convcore {

struct CrossEntropyParams {
  int64_t ignore_index;
  Reduction reduction;
  float label_smoothing;
};

// Class labels, or the shares of the classes: one of the two is given.
struct CrossEntropyTarget {
  LabelArray labels;
  Tensor shares;
  CrossEntropyTarget(LabelArray given) : labels(std::move(given)) {}  // NOLINT: implicit on purpose
  CrossEntropyTarget(Tensor given) : shares(std::move(given)) {}      // NOLINT
};

struct CrossEntropyShape {
  int64_t n, c, inner;
};

struct CrossEntropyResult {
  Tensor loss;      // shape (), or the target's for Reduction::none
  Tensor gradient;  // dx for dy = 1, the shape of x; not given where not asked for
};
// `op` is for the error messages.
CrossEntropyResult cross_entropy_forward(const char* op, const Tensor& x, const CrossEntropyTarget& target,
                                         const CrossEntropyParams&, bool need_gradient);

// `dy` has the shape of the loss. `gradient` is the one that the forward made, or not given: then it is made again.
Tensor cross_entropy_backward(const Tensor& dy, const Tensor& x, const CrossEntropyTarget& target,
                              const CrossEntropyParams&, const Tensor& gradient);

struct CrossEntropyKernels {
  void (*forward)(const CrossEntropyShape&, const CrossEntropyParams&,
                  const float* scale,     // of the gradient, one number
                  const float* x,         // (N, C, inner)
                  const int64_t* target,  // (N, inner)
                  float* loss,            // (N, inner)
                  float* gradient);       // (N, C, inner) or null
  // The same for shares of the classes; inner = 1.
  void (*forward_shares)(const CrossEntropyShape&, const CrossEntropyParams&, const float* scale, const float* x,
                         const float* target,  // (N, C)
                         float* loss, float* gradient);
  // right[n] = 1 where the largest of x (N, C), the first of several, is the label's (or the largest share's), else 0.
  // A NaN is larger than every number; what is ignored is not right.
  void (*right)(int64_t n, int64_t c, int64_t ignore_index, const float* x, const int64_t* target, float* right);
  void (*right_shares)(int64_t n, int64_t c, const float* x, const float* target, float* right);
  // dx = gradient * dy
  void (*backward)(const CrossEntropyShape&,
                   const float* dy,  // one number or, when dy_per_sample, (N, inner)
                   bool dy_per_sample,
                   const float* gradient,  // (N, C, inner)
                   float* dx);             // (N, C, inner)
};
}  // namespace convcore

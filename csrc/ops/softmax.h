// softmax and log_softmax along one dimension, and their gradients.
//
//   softmax      y[c] = exp(x[c] - m) / s            dx[c] = y[c] * (dy[c] - sum_k dy[k] * y[k])
//   log_softmax  y[c] = (x[c] - m) - log(s)          dx[c] = dy[c] - exp(y[c]) * sum_k dy[k]
//
// with m = max_k x[k] and s = sum_k exp(x[k] - m) over the chosen dimension; x, y, dy, dx of any one shape; float32.
#pragma once
#include "core/array.h"

namespace convcore {

enum class Softmax { plain, log };

struct SoftmaxShape {
  int64_t outer, c, inner;  // the array seen as (outer, c, inner), c the chosen dimension
};

// `dim` counts from the end when negative; an array without dimensions is taken as one of shape (1,).
Tensor softmax_forward(Softmax, const Tensor& x, int64_t dim);

// `y` is the output where it was saved: then x is not needed and may be not given.
Tensor softmax_backward(Softmax, const Tensor& dy, const Tensor& x, const Tensor& y, int64_t dim);

struct SoftmaxKernels {  // indexed by Softmax
  void (*forward[2])(const SoftmaxShape&, const float* x, float* y);
  void (*backward[2])(const SoftmaxShape&, const float* dy, const float* y, float* dx);
};
}  // namespace convcore

// stochastic_pool2d: one value of each window, drawn with a probability in proportion to it; and its gradient.
//
//   p[r,q] = a[r,q] / sum a,   a[r,q] = max(x[n, c, i*stride_h + r, j*stride_w + q], 0)
//   training     y[n,c,i,j] = x at the drawn position           dx[that position] += dy
//   otherwise    y[n,c,i,j] = sum p * a = sum a^2 / sum a       dx += dy * (2 a - y) / sum a where x > 0
//
// A negative value is never drawn: it counts as 0. A window without a positive value gives 0; it counts as drawn at its
// first pixel, and outside of training has no gradient. A NaN in a window is its result.
//
// The position is a pure function of the key and the output: with u uniform in [0, 1), the first in row-major order
// whose sum of a, up to it and with it, is more than u * sum a. Output j of row R of the outputs (counted through all
// planes) takes u from number j % 4 of Philox block R * ceil(W_out / 4) + j / 4.
//
// x (N, C, H_in, W_in), y and indices (N, C, H_out, W_out); float32; row-major.
//
// Source: M. D. Zeiler, R. Fergus, "Stochastic pooling for regularization of deep convolutional neural networks",
// ICLR 2013.
#pragma once
#include "core/random.h"
#include "ops/pool2d.h"

namespace convcore {

struct StochasticPool2dResult {
  Tensor y;
  IndexArray indices;  // h * W_in + w of what was drawn; not given outside of training
};
StochasticPool2dResult stochastic_pool2d_forward(const Tensor& x, const PoolWindows& windows, bool training,
                                                 RandomKey key);

// The gradient of training goes by max_pool2d_backward, which takes the indices; this is the other one.
Tensor stochastic_pool2d_backward(const Tensor& dy, const Tensor& x, const PoolWindows& windows);

Pool2dShape infer_stochastic_pool2d_shape(const char* op, const Shape& x, const PoolWindows& windows);

struct StochasticPool2dKernels {
  // `first_plane`: how many planes of the batch come before x, for the random numbers.
  void (*draw)(const Pool2dShape&, const RandomKey* key, int64_t first_plane, const float* x, float* y,
               int32_t* indices);
  void (*mean)(const Pool2dShape&, const float* x, float* y);
  void (*mean_backward)(const Pool2dShape&, const float* dy, const float* x, float* dx);
};
}  // namespace convcore

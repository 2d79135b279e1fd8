// adaptive_max_pool2d: the largest values of H_out x W_out windows that cover the image evenly, and their gradient.
//
//   y[n,c,i,j] = max of x[n,c,h,w] over floor(i*H_in/H_out) <= h < ceil((i+1)*H_in/H_out), and w likewise
//   indices[n,c,i,j] = h * W_in + w of that pixel
//   dx[n,c,h,w] = sum of dy over the outputs whose index is (h, w)
//
// Equal values and NaN as in ops/max_pool2d.h. Neighbouring windows share pixels where the sizes do not divide; where
// they do, it is max_pool2d. x (N, C, H_in, W_in), y and indices (N, C, H_out, W_out).
#pragma once
#include "ops/adaptive_avg_pool2d.h"
#include "ops/max_pool2d.h"

namespace convcore {

MaxPool2dResult adaptive_max_pool2d_forward(const Tensor& x, const OutputSize& output_size, bool need_indices);

// `indices` as the forward pass gave them, and then `x` is not read; without them they are computed again from `x`.
// Throws when an index is not in the image.
Tensor adaptive_max_pool2d_backward(const Tensor& dy, const Shape& x_shape, const Tensor& x, const IndexArray& indices,
                                    const OutputSize& output_size);

struct AdaptiveMaxPool2dKernels {
  void (*forward)(const AdaptiveAvgPool2dShape&, const float* x, float* y, int32_t* indices);
  // False when an index is not in the image; dx is then unspecified, and nothing else was written.
  bool (*backward)(const AdaptiveAvgPool2dShape&, const float* dy, const int32_t* indices, float* dx);
};
}  // namespace convcore

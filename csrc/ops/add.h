// add: the elementwise sum y = a + b of two arrays of one shape; float32. Both gradients are dy itself.
#pragma once
#include "core/array.h"

namespace convcore {

Tensor add_forward(const Tensor& a, const Tensor& b);

// Throws unless the three shapes are equal. There is nothing to compute: da = db = dy.
void check_add_backward(const Tensor& dy, const Tensor& a, const Tensor& b);

struct AddKernels {
  void (*forward)(int64_t count, const float* a, const float* b, float* y);
};
}  // namespace convcore

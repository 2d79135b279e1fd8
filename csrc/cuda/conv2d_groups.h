// The convolutions that are no large products: groups, depthwise, and filters of very many taps; channels-last.
#pragma once
#include "ops/conv2d.h"

namespace convcore::cuda {

void conv2d_groups_forward(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y);
void conv2d_groups_backward_input(const Conv2dShape& s, const float* dy, const float* w, float* dx);
void conv2d_groups_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw);

}  // namespace convcore::cuda

// Gradients of convolutions with few channels on small images, lanes = images.
//
// kLanes images are interleaved, so that a pixel of one channel is a vector. Then no row is too short for the lanes,
// every tap is an aligned load, and no product with the padding of a short row is made. The planar kernels call these
// where they apply.
#pragma once
#include "core/array.h"
#include "ops/conv2d.h"

namespace convcore::cpu::CONVCORE_ISA {

bool batch_can_backward_input(const Conv2dShape&);
void batch_backward_input(const Conv2dShape&, const float* dy, Layout, const float* w, float* dx);

bool batch_can_backward_weight(const Conv2dShape&);
void batch_backward_weight(const Conv2dShape&, const float* dy, const float* x, float* dw);

}  // namespace convcore::cpu::CONVCORE_ISA

// The convolution kernels of one instruction set, one source file per algorithm. csrc/ops/conv2d_algorithm.cpp chooses.
#pragma once
#include "ops/conv2d.h"

namespace convcore::cpu::CONVCORE_ISA {

// planar.cpp: row-major images, anything goes; the dy of backward_input lies in `layout`.
void planar_forward(const Conv2dShape&, const float* x, const float* w, const float* b, float* y);
void planar_backward_input(const Conv2dShape&, const float* dy, Layout, const float* w, float* dx);
void planar_backward_weight(const Conv2dShape&, const float* dy, const float* x, float* dw);

// direct.cpp: vectors of output channels; y and dx are channels-last, x and dy lie in `layout`; groups = 1.
void direct_forward(const Conv2dShape&, const float* x, Layout, const float* w, const float* b, float* y);
void direct_backward_input(const Conv2dShape&, const float* dy, Layout, const float* w, float* dx);

// direct_weight.cpp: groups = 1, channels-last dy and x, dw OIHW.
void direct_backward_weight(const Conv2dShape&, const float* dy, const float* x, float* dw);

// few.cpp: few input channels, few vectors of output channels; groups = 1, x in `layout`, y channels-last.
void few_forward(const Conv2dShape&, const float* x, Layout, const float* w, const float* b, float* y);

// few_weight.cpp: groups = 1, few input channels; channels-last dy, row-major x, dw OIHW; db too, unless null.
void few_backward_weight(const Conv2dShape&, const float* dy, const float* x, float* dw, float* db);

// pointwise.cpp: 1x1 filters without padding, groups = 1, channels-last images.
void pointwise_forward(const Conv2dShape&, const float* x, const float* w, const float* b, float* y);
void pointwise_backward_input(const Conv2dShape&, const float* dy, const float* w, float* dx);
void pointwise_backward_weight(const Conv2dShape&, const float* dy, const float* x, float* dw);

// 3x3 and 5x5 filters on channels-last images: winograd.h and winograd_weight.h.

}  // namespace convcore::cpu::CONVCORE_ISA

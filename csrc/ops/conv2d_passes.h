// The three passes of a convolution by a given algorithm: which order of memory it reads and leaves, and the call of
// its kernel. For ops/conv2d.cpp, which runs a whole batch, and for the plan, which runs blocks of images.
#pragma once
#include <optional>

#include "ops/conv2d.h"

namespace convcore {

// The images that a pass reads and leaves. No layout: it takes either.
struct ConvForwardLayouts {
  std::optional<Layout> x;
  Layout y;
};
struct ConvBackwardInputLayouts {
  std::optional<Layout> dy;
  Layout dx;
};
struct ConvBackwardWeightLayouts {
  Layout dy, x;
  bool sums_bias;  // the kernel sums db as well
};
ConvForwardLayouts conv_forward_layouts(ConvAlgorithm);
ConvBackwardInputLayouts conv_backward_input_layouts(ConvAlgorithm);
ConvBackwardWeightLayouts conv_backward_weight_layouts(ConvAlgorithm, const Conv2dShape&);

// b may be null. The layouts are those of the arrays, as the functions above say.
void conv_forward(ConvAlgorithm, const Conv2dShape&, const float* x, Layout, const float* w, const float* b, float* y);
void conv_backward_input(ConvAlgorithm, const Conv2dShape&, const float* dy, Layout, const float* w, float* dx);
// The size of the tiles of a Winograd algorithm, for the Winograd kernels in Conv2dKernels; 0 for other
// algorithms.
int winograd_tile(ConvAlgorithm);

// db: null, or where the kernel sums it.
void conv_backward_weight(ConvAlgorithm, const Conv2dShape&, const float* dy, const float* x, float* dw, float* db);

}  // namespace convcore

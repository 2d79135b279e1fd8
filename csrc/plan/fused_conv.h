// Convolutions in training on a GPU, by the kernels of ops/fused_conv.h: batch norm, ReLU and residual sums are made by
// the convolutions that write and read them (Builder::OnLoad), and both gradients by one kernel.
#pragma once
#include "plan/builder.h"

namespace convcore::plan {

// Emits the forward pass of node i, or returns false where other kernels must do it.
bool fused_conv_forward(Builder&, int i, const Conv2dShape&);
// The backward pass of a node that went through fused_conv_forward.
void fused_conv_backward(Builder&, int i, const Conv2dShape&);

// Of a batch norm: what its sums leave, (C) floats each.
enum NormBuffers { kMean, kRstd, kScale, kShift, kPivot, kGradientSums, kGradientScale, kCenter, kSlope };

}  // namespace convcore::plan

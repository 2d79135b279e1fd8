// The kernels of each op, as cpu/table.cpp names them.
#pragma once
#include "ops/kernels.h"

namespace convcore::cuda {

ActivationKernels activation_kernels();
AdaptiveAvgPool2dKernels adaptive_avg_pool2d_kernels();
AdaptiveMaxPool2dKernels adaptive_max_pool2d_kernels();
AddKernels add_kernels();
AvgPool2dKernels avg_pool2d_kernels();
BatchNormKernels batch_norm_kernels();
Conv2dKernels conv2d_kernels();
ConvPoolKernels conv_pool_kernels();
CrossEntropyKernels cross_entropy_kernels();
DropoutKernels dropout_kernels();
FusedConvKernels fused_conv_kernels();
FusedHeadKernels fused_head_kernels();
GatherImagesKernels gather_images_kernels();
GroupNormKernels group_norm_kernels();
LinearKernels linear_kernels();
LpPool2dKernels lp_pool2d_kernels();
MaxPool2dKernels max_pool2d_kernels();
MseLossKernels mse_loss_kernels();
MultiMarginLossKernels multi_margin_loss_kernels();
OptimizerKernels optimizer_kernels();
OptimizerManyKernels optimizer_many_kernels();
PadChannelsKernels pad_channels_kernels();
PadKernels pad_kernels();
ReductionKernels reduction_kernels();
ReorderKernels reorder_kernels();
SoftmaxKernels softmax_kernels();
StepKernels step_kernels();
StochasticPool2dKernels stochastic_pool2d_kernels();
Subsampling2dKernels subsampling2d_kernels();
TransformImagesKernels transform_images_kernels();

Kernels table();

}  // namespace convcore::cuda

// One instruction set's table of kernels. This file, like every kernel source, is compiled once per set.
#include "cpu/kernels.h"

#define CONVCORE_QUOTE_(x) #x
#define CONVCORE_QUOTE(x) CONVCORE_QUOTE_(x)

namespace convcore::cpu::CONVCORE_ISA {

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
GatherImagesKernels gather_images_kernels();
GroupNormKernels group_norm_kernels();
LinearKernels linear_kernels();
LpPool2dKernels lp_pool2d_kernels();
MaxPool2dKernels max_pool2d_kernels();
MseLossKernels mse_loss_kernels();
MultiMarginLossKernels multi_margin_loss_kernels();
OptimizerKernels optimizer_kernels();
PadKernels pad_kernels();
PadChannelsKernels pad_channels_kernels();
PeakKernels peak_kernels();
ReductionKernels reduction_kernels();
ReorderKernels reorder_kernels();
SoftmaxKernels softmax_kernels();
StochasticPool2dKernels stochastic_pool2d_kernels();
Subsampling2dKernels subsampling2d_kernels();
TransformImagesKernels transform_images_kernels();

Kernels table();
Kernels table() {
  Kernels t{};
  t.isa = CONVCORE_QUOTE(CONVCORE_ISA);
  t.activation = activation_kernels();
  t.adaptive_avg_pool2d = adaptive_avg_pool2d_kernels();
  t.adaptive_max_pool2d = adaptive_max_pool2d_kernels();
  t.add = add_kernels();
  t.avg_pool2d = avg_pool2d_kernels();
  t.batch_norm = batch_norm_kernels();
  t.conv2d = conv2d_kernels();
  t.conv_pool = conv_pool_kernels();
  t.cross_entropy = cross_entropy_kernels();
  t.dropout = dropout_kernels();
  t.gather_images = gather_images_kernels();
  t.group_norm = group_norm_kernels();
  t.linear = linear_kernels();
  t.lp_pool2d = lp_pool2d_kernels();
  t.max_pool2d = max_pool2d_kernels();
  t.mse_loss = mse_loss_kernels();
  t.multi_margin_loss = multi_margin_loss_kernels();
  t.optimizer = optimizer_kernels();
  t.pad = pad_kernels();
  t.pad_channels = pad_channels_kernels();
  t.peak = peak_kernels();
  t.reduction = reduction_kernels();
  t.reorder = reorder_kernels();
  t.softmax = softmax_kernels();
  t.stochastic_pool2d = stochastic_pool2d_kernels();
  t.subsampling2d = subsampling2d_kernels();
  t.transform_images = transform_images_kernels();
  return t;
}

}  // namespace convcore::cpu::CONVCORE_ISA

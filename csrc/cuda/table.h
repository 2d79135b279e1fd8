// The kernels of each op, as cpu/table.cpp names them.
#pragma once
#include "cpu/kernels.h"

namespace convcore::cuda {

cpu::ActivationKernels activation_kernels();
cpu::AdaptiveAvgPool2dKernels adaptive_avg_pool2d_kernels();
cpu::AddKernels add_kernels();
cpu::AvgPool2dKernels avg_pool2d_kernels();
cpu::BatchNormKernels batch_norm_kernels();
cpu::Conv2dKernels conv2d_kernels();
cpu::CrossEntropyKernels cross_entropy_kernels();
cpu::DropoutKernels dropout_kernels();
cpu::GatherImagesKernels gather_images_kernels();
cpu::LinearKernels linear_kernels();
cpu::MaxPool2dKernels max_pool2d_kernels();
cpu::MseLossKernels mse_loss_kernels();
cpu::OptimizerKernels optimizer_kernels();
cpu::PadChannelsKernels pad_channels_kernels();
cpu::ReorderKernels reorder_kernels();
cpu::SoftmaxKernels softmax_kernels();

cpu::Kernels table();

}  // namespace convcore::cuda

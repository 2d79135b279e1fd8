// The table of kernels: for each op a struct of function pointers. Each instruction set of the CPU fills one
// (cpu/table.cpp), and so does the CUDA plug-in (cuda/table.cu).
//
// Kernels check nothing and allocate no results: pointers, and a shape struct made by csrc/ops. Gradients are
// overwritten, never added to. Pointers are to the memory of the device that the table is of.
#pragma once
#include "ops/activation.h"
#include "ops/adaptive_avg_pool2d.h"
#include "ops/adaptive_max_pool2d.h"
#include "ops/add.h"
#include "ops/avg_pool2d.h"
#include "ops/batch_norm.h"
#include "ops/conv2d.h"
#include "ops/conv_pool.h"
#include "ops/cross_entropy.h"
#include "ops/dropout.h"
#include "ops/fused_conv.h"
#include "ops/gather_images.h"
#include "ops/group_norm.h"
#include "ops/linear.h"
#include "ops/lp_pool2d.h"
#include "ops/max_pool2d.h"
#include "ops/mse_loss.h"
#include "ops/multi_margin_loss.h"
#include "ops/optimizer.h"
#include "ops/optimizer_many.h"
#include "ops/pad.h"
#include "ops/pad_channels.h"
#include "ops/peak.h"
#include "ops/reduction.h"
#include "ops/reorder.h"
#include "ops/softmax.h"
#include "ops/step.h"
#include "ops/stochastic_pool2d.h"
#include "ops/subsampling2d.h"
#include "ops/transform_images.h"

namespace convcore {

struct Kernels {
  const char* isa;
  ActivationKernels activation;
  AdaptiveAvgPool2dKernels adaptive_avg_pool2d;
  AdaptiveMaxPool2dKernels adaptive_max_pool2d;
  AddKernels add;
  AvgPool2dKernels avg_pool2d;
  BatchNormKernels batch_norm;
  Conv2dKernels conv2d;
  ConvPoolKernels conv_pool;
  CrossEntropyKernels cross_entropy;
  DropoutKernels dropout;
  FusedConvKernels fused_conv;  // null on the CPU, like the next one and optimizer_many
  FusedHeadKernels fused_head;
  GatherImagesKernels gather_images;
  GroupNormKernels group_norm;
  LinearKernels linear;
  LpPool2dKernels lp_pool2d;
  MaxPool2dKernels max_pool2d;
  MseLossKernels mse_loss;
  MultiMarginLossKernels multi_margin_loss;
  OptimizerKernels optimizer;
  OptimizerManyKernels optimizer_many;
  PadKernels pad;
  PadChannelsKernels pad_channels;
  PeakKernels peak;
  ReductionKernels reduction;
  ReorderKernels reorder;
  SoftmaxKernels softmax;
  StepKernels step;
  StochasticPool2dKernels stochastic_pool2d;
  Subsampling2dKernels subsampling2d;
  TransformImagesKernels transform_images;
};

// The table of the current device (core/device.h).
const Kernels& current_kernels();

}  // namespace convcore

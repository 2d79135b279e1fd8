// The table of CPU kernels: for each op a struct of function pointers, filled once per instruction set.
//
// Kernels check nothing and allocate no results: pointers, and a shape struct made by csrc/ops. Gradients are
// overwritten, never added to. The kernels of one set live in namespace cpu::<set>; callers see only cpu::kernels().
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
#include "ops/gather_images.h"
#include "ops/group_norm.h"
#include "ops/linear.h"
#include "ops/lp_pool2d.h"
#include "ops/max_pool2d.h"
#include "ops/mse_loss.h"
#include "ops/multi_margin_loss.h"
#include "ops/optimizer.h"
#include "ops/pad.h"
#include "ops/pad_channels.h"
#include "ops/peak.h"
#include "ops/reorder.h"
#include "ops/softmax.h"
#include "ops/stochastic_pool2d.h"
#include "ops/subsampling2d.h"
#include "ops/transform_images.h"

namespace convcore::cpu {

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
  GatherImagesKernels gather_images;
  GroupNormKernels group_norm;
  LinearKernels linear;
  LpPool2dKernels lp_pool2d;
  MaxPool2dKernels max_pool2d;
  MseLossKernels mse_loss;
  MultiMarginLossKernels multi_margin_loss;
  OptimizerKernels optimizer;
  PadKernels pad;
  PadChannelsKernels pad_channels;
  PeakKernels peak;
  ReorderKernels reorder;
  SoftmaxKernels softmax;
  StochasticPool2dKernels stochastic_pool2d;
  Subsampling2dKernels subsampling2d;
  TransformImagesKernels transform_images;
};

// The best set this CPU has, at most the one CONVCORE_ISA names ("baseline", "avx2", "avx512"). Chosen at first use.
const Kernels& kernels();

// Names of the sets that were built and that this CPU can run, from the plainest up, comma-separated.
const char* reachable_isas();

}  // namespace convcore::cpu

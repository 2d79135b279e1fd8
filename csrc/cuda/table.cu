// The table of CUDA kernels. Entries that only the CPU has, for its own layouts, are null.
#include "cuda/table.h"

namespace convcore::cuda {

Kernels table() {
  Kernels t{};
  t.isa = "cuda";
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
  t.fused_conv = fused_conv_kernels();
  t.fused_head = fused_head_kernels();
  t.gather_images = gather_images_kernels();
  t.group_norm = group_norm_kernels();
  t.linear = linear_kernels();
  t.lp_pool2d = lp_pool2d_kernels();
  t.max_pool2d = max_pool2d_kernels();
  t.mse_loss = mse_loss_kernels();
  t.multi_margin_loss = multi_margin_loss_kernels();
  t.optimizer = optimizer_kernels();
  t.optimizer_many = optimizer_many_kernels();
  t.pad = pad_kernels();
  t.pad_channels = pad_channels_kernels();
  t.reduction = reduction_kernels();
  t.reorder = reorder_kernels();
  t.softmax = softmax_kernels();
  t.step = step_kernels();
  t.stochastic_pool2d = stochastic_pool2d_kernels();
  t.subsampling2d = subsampling2d_kernels();
  t.transform_images = transform_images_kernels();
  return t;
}

}  // namespace convcore::cuda

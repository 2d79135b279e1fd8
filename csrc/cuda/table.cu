// The table of CUDA kernels. Entries that only the CPU has, for its own layouts, are null.
#include "cuda/table.h"

namespace convcore::cuda {

Kernels table() {
  Kernels t{};
  t.isa = "cuda";
  t.activation = activation_kernels();
  t.adaptive_avg_pool2d = adaptive_avg_pool2d_kernels();
  t.add = add_kernels();
  t.avg_pool2d = avg_pool2d_kernels();
  t.batch_norm = batch_norm_kernels();
  t.conv2d = conv2d_kernels();
  t.cross_entropy = cross_entropy_kernels();
  t.dropout = dropout_kernels();
  t.fused_conv = fused_conv_kernels();
  t.fused_head = fused_head_kernels();
  t.gather_images = gather_images_kernels();
  t.linear = linear_kernels();
  t.max_pool2d = max_pool2d_kernels();
  t.mse_loss = mse_loss_kernels();
  t.optimizer = optimizer_kernels();
  t.optimizer_many = optimizer_many_kernels();
  t.pad_channels = pad_channels_kernels();
  t.reduction = reduction_kernels();
  t.reorder = reorder_kernels();
  t.softmax = softmax_kernels();
  t.step = step_kernels();
  return t;
}

}  // namespace convcore::cuda

// convcore._core: table of contents.
#include "bindings/module.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "Compiled core of convcore. The documented interface is convcore.functional.";
  convcore::bind_activation(m);
  convcore::bind_adaptive_avg_pool2d(m);
  convcore::bind_adaptive_max_pool2d(m);
  convcore::bind_add(m);
  convcore::bind_avg_pool2d(m);
  convcore::bind_batch_norm(m);
  convcore::bind_conv2d(m);
  convcore::bind_conv_pool(m);
  convcore::bind_core(m);
  convcore::bind_cross_entropy(m);
  convcore::bind_cuda(m);
  convcore::bind_device_array(m);
  convcore::bind_dropout(m);
  convcore::bind_gather_images(m);
  convcore::bind_group_norm(m);
  convcore::bind_linear(m);
  convcore::bind_lp_pool2d(m);
  convcore::bind_max_pool2d(m);
  convcore::bind_mse_loss(m);
  convcore::bind_multi_margin_loss(m);
  convcore::bind_optimizer(m);
  convcore::bind_pad(m);
  convcore::bind_pad_channels(m);
  convcore::bind_plan(m);
  convcore::bind_reorder(m);
  convcore::bind_softmax(m);
  convcore::bind_stochastic_pool2d(m);
  convcore::bind_subsampling2d(m);
  convcore::bind_transform_images(m);
}

// The parts of the module: one function per file in csrc/bindings.
#pragma once
#include <pybind11/pybind11.h>

namespace convcore {

void bind_activation(pybind11::module_&);
void bind_adaptive_avg_pool2d(pybind11::module_&);
void bind_adaptive_max_pool2d(pybind11::module_&);
void bind_add(pybind11::module_&);
void bind_avg_pool2d(pybind11::module_&);
void bind_batch_norm(pybind11::module_&);
void bind_conv2d(pybind11::module_&);
void bind_conv_pool(pybind11::module_&);
void bind_core(pybind11::module_&);
void bind_cross_entropy(pybind11::module_&);
void bind_cuda(pybind11::module_&);
void bind_device_array(pybind11::module_&);
void bind_dropout(pybind11::module_&);
void bind_gather_images(pybind11::module_&);
void bind_group_norm(pybind11::module_&);
void bind_linear(pybind11::module_&);
void bind_lp_pool2d(pybind11::module_&);
void bind_max_pool2d(pybind11::module_&);
void bind_mse_loss(pybind11::module_&);
void bind_multi_margin_loss(pybind11::module_&);
void bind_optimizer(pybind11::module_&);
void bind_pad(pybind11::module_&);
void bind_pad_channels(pybind11::module_&);
void bind_plan(pybind11::module_&);
void bind_reorder(pybind11::module_&);
void bind_softmax(pybind11::module_&);
void bind_stochastic_pool2d(pybind11::module_&);
void bind_subsampling2d(pybind11::module_&);
void bind_transform_images(pybind11::module_&);

}  // namespace convcore

"""Stateless forward/backward pairs on NumPy float32 arrays.

One rule holds for every backward: ``<op>_backward(dy, <the forward's own arguments>)`` returns the
gradients of the forward's float array arguments in their order, ``None`` for one that was ``None``.
Inputs are never copied when they are C-contiguous and never written; the GIL is released while an
op runs. A backward reads the arrays of the forward again: do not overwrite them in between. Where
no value changes (`flatten`, `dropout` outside training, `add_backward`), the result may be the
input itself or a view of it.
"""

from convcore.functional.activation import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    scaled_tanh,
    scaled_tanh_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    tanh,
    tanh_backward,
)
from convcore.functional.conv import (
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward,
    conv2d_relu_max_pool2d,
    conv2d_relu_max_pool2d_backward,
)
from convcore.functional.dropout import (
    dropout,
    dropout_backward,
)
from convcore.functional.images import (
    gather_images,
)
from convcore.functional.linear import (
    linear,
    linear_backward,
)
from convcore.functional.loss import (
    cross_entropy,
    cross_entropy_backward,
    mse_loss,
    mse_loss_backward,
)
from convcore.functional.normalization import (
    batch_norm,
    batch_norm_backward,
)
from convcore.functional.pooling import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool1d,
    avg_pool1d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    max_pool1d,
    max_pool1d_backward,
    max_pool2d,
    max_pool2d_backward,
    subsampling2d,
    subsampling2d_backward,
)
from convcore.functional.shape import (
    add,
    add_backward,
    channels_last,
    flatten,
    flatten_backward,
    pad_channels,
    pad_channels_backward,
)
from convcore.functional.softmax import (
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "add",
    "add_backward",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "channels_last",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv2d_relu_max_pool2d",
    "conv2d_relu_max_pool2d_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "dropout",
    "dropout_backward",
    "elu",
    "elu_backward",
    "flatten",
    "flatten_backward",
    "gather_images",
    "gelu",
    "gelu_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mse_loss",
    "mse_loss_backward",
    "pad_channels",
    "pad_channels_backward",
    "relu",
    "relu_backward",
    "scaled_tanh",
    "scaled_tanh_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "subsampling2d",
    "subsampling2d_backward",
    "tanh",
    "tanh_backward",
]

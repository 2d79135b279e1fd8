"""Every op again as slow, obvious float64 NumPy: the specification.

The names and arguments are those of `convcore.functional`. The tests hold the kernels against these
functions, and these functions against finite differences. Read one when you want to know exactly
what an op computes.
"""

from convcore.reference.activation import (
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
from convcore.reference.conv import (
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward,
)
from convcore.reference.dropout import (
    dropout,
    dropout_backward,
    keep_mask,
    philox,
)
from convcore.reference.images import (
    gather_images,
)
from convcore.reference.linear import (
    linear,
    linear_backward,
)
from convcore.reference.loss import (
    cross_entropy,
    cross_entropy_backward,
    mse_loss,
    mse_loss_backward,
)
from convcore.reference.normalization import (
    batch_norm,
    batch_norm_backward,
)
from convcore.reference.optim import (
    adagrad_step,
    adam_step,
    limit_norms,
    rmsprop_step,
    sgd_step,
)
from convcore.reference.pooling import (
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
from convcore.reference.shape import (
    add,
    add_backward,
    flatten,
    flatten_backward,
    pad_channels,
    pad_channels_backward,
)
from convcore.reference.softmax import (
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)

__all__ = [
    "adagrad_step",
    "adam_step",
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
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
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
    "keep_mask",
    "leaky_relu",
    "leaky_relu_backward",
    "limit_norms",
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
    "philox",
    "relu",
    "relu_backward",
    "rmsprop_step",
    "scaled_tanh",
    "scaled_tanh_backward",
    "sgd_step",
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

"""Stateless forward/backward pairs on NumPy float32 arrays.

One rule holds for every backward: ``<op>_backward(dy, <the forward's own arguments>)`` returns the
gradients of the forward's float array arguments in their order, ``None`` for one that was ``None``.
Inputs are never copied when they are C-contiguous and never written; the GIL is released while an
op runs.
"""

from convcore.functional.conv import (
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward,
)
from convcore.functional.dropout import dropout, dropout_backward
from convcore.functional.linear import linear, linear_backward
from convcore.functional.normalization import batch_norm, batch_norm_backward

__all__ = [
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "dropout",
    "dropout_backward",
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
)

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "linear",
    "linear_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
]

"""Every op again as slow, obvious float64 NumPy: the specification.

The names and arguments are those of `convcore.functional`. The tests hold the kernels against these
functions, and these functions against finite differences. Read one when you want to know exactly
what an op computes.
"""

from convcore.reference.conv import (
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward,
)
from convcore.reference.linear import linear, linear_backward

__all__ = [
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "linear",
    "linear_backward",
]

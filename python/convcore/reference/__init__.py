"""Every op again as slow, obvious float64 NumPy: the specification.

The names and arguments are those of `convcore.functional`. The tests hold the kernels against these
functions, and these functions against finite differences. Read one when you want to know exactly
what an op computes.
"""

from convcore.reference.linear import linear, linear_backward

__all__ = [
    "linear",
    "linear_backward",
]

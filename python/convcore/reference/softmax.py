"""softmax and log_softmax, written as their definitions."""

from __future__ import annotations

import numpy as np

from convcore.reference._types import Array


def softmax(x: Array, dim: int = -1) -> Array:
    """Return ``exp(x) / sum(exp(x))`` along `dim`."""
    y: Array = np.exp(log_softmax(x, dim))
    return y


def softmax_backward(dy: Array, x: Array, dim: int = -1) -> Array:
    """Return ``y * (dy - sum(dy * y))``."""
    y = softmax(x, dim)
    dx: Array = y * (dy - (dy * y).sum(axis=dim, keepdims=True))
    return dx


def log_softmax(x: Array, dim: int = -1) -> Array:
    """Return ``x - log(sum(exp(x)))`` along `dim`."""
    if x.size == 0:
        return np.zeros(x.shape)
    z: Array = x - x.max(axis=dim, keepdims=True)
    log_sum: Array = np.log(np.exp(z).sum(axis=dim, keepdims=True))
    y: Array = z - log_sum
    return y


def log_softmax_backward(dy: Array, x: Array, dim: int = -1) -> Array:
    """Return ``dy - softmax(x) * sum(dy)``."""
    dx: Array = dy - softmax(x, dim) * dy.sum(axis=dim, keepdims=True)
    return dx

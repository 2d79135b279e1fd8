"""Activations, written as their definitions."""

from __future__ import annotations

import numpy as np

from convcore.reference._types import Array


def relu(x: Array) -> Array:
    """Return ``max(x, 0)``; NaN stays NaN."""
    return np.where(x <= 0, 0.0, x)


def relu_backward(dy: Array, x: Array) -> Array:
    """Return `dy`, and 0 where ``x <= 0``."""
    return np.where(x <= 0, 0.0, dy)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """Return `x` where it is positive, ``negative_slope * x`` elsewhere."""
    return np.where(x > 0, x, negative_slope * x)


def leaky_relu_backward(dy: Array, x: Array, negative_slope: float = 0.01) -> Array:
    """Return `dy` where `x` is positive, ``negative_slope * dy`` elsewhere."""
    return np.where(x > 0, dy, negative_slope * dy)


def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent."""
    return np.tanh(x)


def tanh_backward(dy: Array, x: Array) -> Array:
    """Return ``dy * (1 - tanh(x)**2)``."""
    dx: Array = dy * (1 - np.tanh(x) ** 2)
    return dx


def sigmoid(x: Array) -> Array:
    """Return ``1 / (1 + exp(-x))``, written so that exp cannot overflow."""
    small = np.exp(-np.abs(x))
    y: Array = np.where(x > 0, 1.0, small) / (1 + small)
    return y


def sigmoid_backward(dy: Array, x: Array) -> Array:
    """Return ``dy * y * (1 - y)``, where ``1 - sigmoid(x)`` is ``sigmoid(-x)``."""
    return dy * sigmoid(x) * sigmoid(-x)

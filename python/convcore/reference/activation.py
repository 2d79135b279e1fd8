"""Activations, written as their definitions."""

from __future__ import annotations

import math

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


def scaled_tanh(x: Array, alpha: float = 1.7159, beta: float = 2 / 3) -> Array:
    """Return ``alpha * tanh(beta * x)``."""
    y: Array = alpha * np.tanh(beta * x)
    return y


def scaled_tanh_backward(dy: Array, x: Array, alpha: float = 1.7159, beta: float = 2 / 3) -> Array:
    """Return ``dy * alpha * beta * (1 - tanh(beta * x)**2)``."""
    return alpha * beta * tanh_backward(dy, beta * x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """Return `x` where it is positive, ``alpha * (exp(x) - 1)`` elsewhere."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_backward(dy: Array, x: Array, alpha: float = 1.0) -> Array:
    """Return `dy` where `x` is positive, ``dy * alpha * exp(x)`` elsewhere."""
    return np.where(x > 0, dy, dy * alpha * np.exp(np.minimum(x, 0)))


def _normal(x: Array) -> tuple[Array, Array]:
    """Return the normal distribution and its density."""
    probability = np.vectorize(lambda v: math.erfc(-v / math.sqrt(2)) / 2, otypes=[float])
    return probability(x), np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _gelu_argument(x: Array) -> tuple[Array, Array]:
    """Return ``2 * u`` of ``(1 + tanh(u)) / 2 = sigmoid(2 * u)``, and its derivative."""
    factor = math.sqrt(8 / math.pi)
    return factor * (x + 0.044715 * x**3), factor * (1 + 3 * 0.044715 * x**2)


def gelu(x: Array, approximate: str = "none") -> Array:
    """Return ``x * P(x)``, P the normal distribution or its approximation."""
    y: Array = x * (sigmoid(_gelu_argument(x)[0]) if approximate == "tanh" else _normal(x)[0])
    return y


def gelu_backward(dy: Array, x: Array, approximate: str = "none") -> Array:
    """Return ``dy * (P(x) + x * P'(x))``."""
    if approximate == "tanh":
        u, slope = _gelu_argument(x)
        probability, density = sigmoid(u), sigmoid(u) * sigmoid(-u) * slope
    else:
        probability, density = _normal(x)
    dx: Array = dy * (probability + x * density)
    return dx


def silu(x: Array) -> Array:
    """Return ``x * sigmoid(x)``."""
    return x * sigmoid(x)


def silu_backward(dy: Array, x: Array) -> Array:
    """Return ``dy * (s + x * s * (1 - s))`` with ``s = sigmoid(x)``."""
    dx: Array = dy * (sigmoid(x) + x * sigmoid(x) * sigmoid(-x))
    return dx

"""flatten and add, written as their definitions."""

from __future__ import annotations

from convcore.reference._types import Array


def add(a: Array, b: Array) -> Array:
    """Return ``a + b``."""
    return a + b


def add_backward(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Return ``da, db``."""
    return dy, dy


def flatten(x: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    """Join the dimensions from `start_dim` to `end_dim` into one."""
    if x.ndim == 0:
        return x.reshape(1)
    first, last = start_dim % x.ndim, end_dim % x.ndim
    joined = 1
    for dim in range(first, last + 1):
        joined *= x.shape[dim]
    return x.reshape((*x.shape[:first], joined, *x.shape[last + 1 :]))


def flatten_backward(dy: Array, x: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    """Return `dy` in the shape of `x`."""
    return dy.reshape(x.shape)

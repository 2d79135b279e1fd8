"""flatten, add, pad_channels and pad, written as their definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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


def pad_channels(
    x: Array, padding: int | tuple[int, int], stride: int | tuple[int, int] = 1
) -> Array:
    """Return every `stride`-th pixel, with channels of zeros before and after."""
    stride_h, stride_w = np.broadcast_to(stride, 2)
    before, after = np.broadcast_to(padding, 2)
    return np.pad(x[:, :, ::stride_h, ::stride_w], ((0, 0), (before, after), (0, 0), (0, 0)))


def pad_channels_backward(
    dy: Array, x: Array, padding: int | tuple[int, int], stride: int | tuple[int, int] = 1
) -> Array:
    """Return dx."""
    stride_h, stride_w = np.broadcast_to(stride, 2)
    before, _ = np.broadcast_to(padding, 2)
    dx = np.zeros_like(x)
    dx[:, :, ::stride_h, ::stride_w] = dy[:, before : before + x.shape[1]]
    return dx


def pad(x: Array, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Array:
    """Return `x` with pixels around it; `pad` is (left, right, top, bottom)."""
    left, right, top, bottom = (*pad, 0, 0)[:4]
    rows = [(top, bottom)] if x.ndim == 4 else []
    sides = [(0, 0), (0, 0), *rows, (left, right)]
    if mode == "constant":
        return np.pad(x, sides, constant_values=value)
    names: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return np.pad(x, sides, mode=names[mode])


def pad_backward(
    dy: Array, x: Array, pad: Sequence[int], mode: str = "constant", value: float = 0.0
) -> Array:
    """Return dx: for each pixel the sum over those that are made from it, by their numbers."""
    here = np.arange(1, x[:1].size + 1, dtype=float).reshape(x[:1].shape)
    made_from = _pad(here, pad, mode)  # 0: from none
    dx = np.zeros((x.shape[0], x[:1].size + 1))
    for n in range(x.shape[0]):
        np.add.at(dx[n], made_from.astype(np.int64).ravel(), dy[n].ravel())
    return dx[:, 1:].reshape(x.shape)


_pad = pad  # the argument of pad_backward has the same name

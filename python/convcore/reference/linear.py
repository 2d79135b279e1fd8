"""The dense layer, written as its definition."""

from __future__ import annotations

import numpy as np

from convcore.reference._types import Array


def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """Return ``y[n, o] = b[o] + sum_i x[n, i] * w[o, i]``."""
    y: Array = np.einsum("...i,oi->...o", x, w)
    return y if b is None else y + b


def linear_backward(
    dy: Array, x: Array, w: Array, b: Array | None = None
) -> tuple[Array, Array, Array | None]:
    """Return ``dx, dw, db``."""
    dx = np.einsum("...o,oi->...i", dy, w)
    dw = np.einsum("no,ni->oi", dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1]))
    db = None if b is None else dy.reshape(-1, dy.shape[-1]).sum(axis=0)
    return dx, dw, db

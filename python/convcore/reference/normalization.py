"""Batch normalisation, written as its definition."""

from __future__ import annotations

import numpy as np

from convcore.reference._types import Array


def batch_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Return ``(x - mean) / sqrt(var + eps) * weight + bias``, channel by channel.

    In training, `running_mean` and `running_var` (if given) are updated in place.
    """
    y = np.zeros_like(x)
    for c in range(x.shape[1]):
        mean, var = _statistics(x[:, c], c, running_mean, running_var, training)
        y[:, c] = (x[:, c] - mean) / np.sqrt(var + eps)
        y[:, c] = y[:, c] * (1.0 if weight is None else weight[c])
        y[:, c] = y[:, c] + (0.0 if bias is None else bias[c])
        if training and running_mean is not None and running_var is not None and x.size > 0:
            m = x[:, c].size
            running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean
            running_var[c] = (1 - momentum) * running_var[c] + momentum * var * m / (m - 1)
    return y


def batch_norm_backward(
    dy: Array,
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, Array | None, Array | None]:
    """Return ``dx, dweight, dbias``."""
    dx = np.zeros_like(x)
    dweight, dbias = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        mean, var = _statistics(x[:, c], c, running_mean, running_var, training)
        rstd = 1 / np.sqrt(var + eps)
        xhat = (x[:, c] - mean) * rstd
        dxhat = dy[:, c] * (1.0 if weight is None else weight[c])
        dweight[c] = (dy[:, c] * xhat).sum()
        dbias[c] = dy[:, c].sum()
        dx[:, c] = dxhat * rstd
        if training and x.size > 0:  # mean and var depend on x
            dx[:, c] -= rstd * (dxhat.mean() + xhat * (dxhat * xhat).mean())
    return dx, None if weight is None else dweight, None if bias is None else dbias


def _statistics(
    channel: Array, c: int, running_mean: Array | None, running_var: Array | None, training: bool
) -> tuple[float, float]:
    if not training:
        assert running_mean is not None, "needed outside training"
        assert running_var is not None, "needed outside training"
        return float(running_mean[c]), float(running_var[c])
    if channel.size == 0:
        return 0.0, 0.0
    mean = float(channel.mean())
    return mean, float(((channel - mean) ** 2).mean())

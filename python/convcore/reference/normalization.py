"""Batch normalisation, written as its definition."""

from __future__ import annotations

import math

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


def _normalize(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """Return ``(x - mean) * rstd`` and rstd, with mean and variance over `axes`."""
    mean = x.mean(axis=axes, keepdims=True)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True) + eps)
    return (x - mean) * rstd, rstd


def _normalize_backward(g: Array, x: Array, axes: tuple[int, ...], eps: float) -> Array:
    """Return ``rstd * (g - mean(g) - xhat * mean(g * xhat))``."""
    xhat, rstd = _normalize(x, axes, eps)
    means = [a.mean(axis=axes, keepdims=True) for a in (g, g * xhat)]
    dx: Array = rstd * (g - means[0] - xhat * means[1])
    return dx


def _groups(x: Array, num_groups: int) -> tuple[int, int, int]:
    """Return the shape in which a group is a row."""
    return x.shape[0], num_groups, math.prod(x.shape[1:]) // num_groups


def group_norm(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Return groups of channels of each sample with mean 0 and variance 1, scaled and shifted."""
    y = _normalize(x.reshape(_groups(x, num_groups)), (2,), eps)[0].reshape(x.shape)
    per_channel = (1, -1, *(1,) * (x.ndim - 2))
    y = y if weight is None else y * weight.reshape(per_channel)
    return y if bias is None else y + bias.reshape(per_channel)


def group_norm_backward(
    dy: Array,
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array | None, Array | None]:
    """Return ``dx, dweight, dbias``."""
    others = (0, *range(2, x.ndim))
    groups = _groups(x, num_groups)
    g = dy if weight is None else dy * weight.reshape(1, -1, *(1,) * (x.ndim - 2))
    dx = _normalize_backward(g.reshape(groups), x.reshape(groups), (2,), eps).reshape(x.shape)
    xhat = group_norm(x, num_groups, eps=eps)
    dweight = None if weight is None else (dy * xhat).sum(axis=others)
    return dx, dweight, None if bias is None else dy.sum(axis=others)


def _last_axes(normalized_shape: int | tuple[int, ...]) -> tuple[int, ...]:
    inner = 1 if isinstance(normalized_shape, int) else len(normalized_shape)
    return tuple(range(-inner, 0))


def layer_norm(
    x: Array,
    normalized_shape: int | tuple[int, ...],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Return the last dimensions of each sample with mean 0 and variance 1, scaled and shifted."""
    y = _normalize(x, _last_axes(normalized_shape), eps)[0]
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def layer_norm_backward(
    dy: Array,
    x: Array,
    normalized_shape: int | tuple[int, ...],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array | None, Array | None]:
    """Return ``dx, dweight, dbias``."""
    axes = _last_axes(normalized_shape)
    others = tuple(range(x.ndim - len(axes)))
    dx = _normalize_backward(dy if weight is None else dy * weight, x, axes, eps)
    dweight = None if weight is None else (dy * _normalize(x, axes, eps)[0]).sum(axis=others)
    return dx, dweight, None if bias is None else dy.sum(axis=others)

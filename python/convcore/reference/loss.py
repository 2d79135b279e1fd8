"""Losses, written as their definitions."""

from __future__ import annotations

import numpy as np

from convcore.reference._types import Array, IntArray
from convcore.reference.softmax import log_softmax


def cross_entropy(
    x: Array,
    target: IntArray | Array,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Return ``-sum_c q_c log(p_c)`` of each sample, its mean or its sum.

    `target` holds labels, or the shares of the classes as floats.
    """
    wanted, counts = _wanted(x, target, ignore_index, label_smoothing)
    loss = np.zeros(counts.shape)
    for sample in np.ndindex(counts.shape):
        if counts[sample]:
            log_p, q = log_softmax(_logits(x, sample)), _logits(wanted, sample)
            loss[sample] = -(q[q > 0] * log_p[q > 0]).sum()
    if reduction == "mean":
        return loss.sum() / counts.sum() if counts.any() else np.array(np.nan)
    return loss.sum() if reduction == "sum" else loss


def cross_entropy_backward(
    dy: float | Array,
    x: Array,
    target: IntArray | Array,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Return ``dy * (p * sum q - q)`` of each sample; the mean divides by how many count."""
    dx = np.zeros(x.shape)
    wanted, counts = _wanted(x, target, ignore_index, label_smoothing)
    dy = np.broadcast_to(dy, counts.shape)
    divisor = counts.sum() if reduction == "mean" else 1
    for sample in np.ndindex(counts.shape):
        if counts[sample]:
            p, q = np.exp(log_softmax(_logits(x, sample))), _logits(wanted, sample)
            _logits(dx, sample)[...] = dy[sample] * (p * q.sum() - q) / divisor
    return dx


def _logits(x: Array, sample: tuple[int, ...]) -> Array:
    """View the C logits of one sample: the class dimension comes after the first of the sample."""
    index: tuple[int | slice, ...] = (*sample[:1], slice(None), *sample[1:])
    return x[index] if sample else x


def _wanted(
    x: Array, target: IntArray | Array, ignore_index: int, label_smoothing: float
) -> tuple[Array, IntArray]:
    """Return the distributions that the softmax should have, and which samples count."""
    classes = x.shape[1 if x.ndim > 1 else 0]
    if target.dtype.kind == "f":
        shares, counts = target.astype(float), np.ones(x.shape[:-1], bool)
    else:
        shares, counts = np.zeros(x.shape), target != ignore_index
        for sample in np.ndindex(target.shape):
            if counts[sample]:
                _logits(shares, sample)[target[sample]] = 1
    return (1 - label_smoothing) * shares + label_smoothing / classes, counts


def mse_loss(x: Array, target: Array, reduction: str = "mean") -> Array:
    """Return ``(x - target)**2``, its mean or its sum."""
    loss = (x - target) ** 2
    if reduction == "mean":
        return loss.sum() / loss.size if loss.size else np.array(np.nan)
    return loss.sum() if reduction == "sum" else loss


def mse_loss_backward(
    dy: float | Array, x: Array, target: Array, reduction: str = "mean"
) -> tuple[Array, Array]:
    """Return ``dx, dtarget``."""
    dx = dy * 2 * (x - target) / (max(x.size, 1) if reduction == "mean" else 1)
    return dx, -dx


def _excess(x: Array, label: int, margin: float) -> Array:
    """Return ``max(0, margin - x[label] + x)``, and 0 for the label itself."""
    z: Array = np.maximum(0, margin - x[label] + x)
    z[label] = 0
    return z


def multi_margin_loss(
    x: Array,
    target: IntArray,
    p: int = 1,
    margin: float = 1.0,
    weight: Array | None = None,
    reduction: str = "mean",
) -> Array:
    """Return ``weight[t] / C * sum_c max(0, margin - x[t] + x[c])**p``, its mean or its sum."""
    loss = np.zeros(target.shape)
    for n in np.ndindex(target.shape):
        z = _excess(x[n], target[n], margin)
        loss[n] = (1 if weight is None else weight[target[n]]) * (z**p).sum() / z.size
    if reduction == "mean":
        return loss.sum() / loss.size if loss.size else np.array(np.nan)
    return loss.sum() if reduction == "sum" else loss


def multi_margin_loss_backward(
    dy: float | Array,
    x: Array,
    target: IntArray,
    p: int = 1,
    margin: float = 1.0,
    weight: Array | None = None,
    reduction: str = "mean",
) -> Array:
    """Return what pushes the scores above the margin down, and the right one up by as much."""
    dx = np.zeros(x.shape)
    dy = np.broadcast_to(dy, target.shape)
    divisor = max(target.size, 1) if reduction == "mean" else 1
    for n in np.ndindex(target.shape):
        label = target[n]
        z = _excess(x[n], label, margin)
        push = p * z ** (p - 1) * (z > 0) * (1 if weight is None else weight[label]) / z.size
        push[label] = -push.sum()
        dx[n] = dy[n] * push / divisor
    return dx

"""Losses, written as their definitions."""

from __future__ import annotations

import numpy as np

from convcore.reference._types import Array, IntArray
from convcore.reference.softmax import log_softmax


def cross_entropy(
    x: Array,
    target: IntArray,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Return ``-sum_c q_c log(p_c)`` of each sample, its mean or its sum."""
    loss = np.zeros(target.shape)
    for sample in np.ndindex(target.shape):
        if target[sample] != ignore_index:
            log_p = log_softmax(_logits(x, sample))
            q = _wanted(log_p.size, target[sample], label_smoothing)
            loss[sample] = -(q[q > 0] * log_p[q > 0]).sum()
    if reduction == "mean":
        counted = (target != ignore_index).sum()
        return loss.sum() / counted if counted else np.array(np.nan)
    return loss.sum() if reduction == "sum" else loss


def cross_entropy_backward(
    dy: float | Array,
    x: Array,
    target: IntArray,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Return ``dy * (p - q)`` of each sample, for the mean divided by the number that count."""
    dx = np.zeros(x.shape)
    dy = np.broadcast_to(dy, target.shape)
    divisor = (target != ignore_index).sum() if reduction == "mean" else 1
    for sample in np.ndindex(target.shape):
        if target[sample] != ignore_index:
            p = np.exp(log_softmax(_logits(x, sample)))
            q = _wanted(p.size, target[sample], label_smoothing)
            _logits(dx, sample)[...] = dy[sample] * (p - q) / divisor
    return dx


def _logits(x: Array, sample: tuple[int, ...]) -> Array:
    """View the C logits of one sample: the class dimension comes after the first of the sample."""
    index: tuple[int | slice, ...] = (*sample[:1], slice(None), *sample[1:])
    return x[index] if sample else x


def _wanted(classes: int, label: int, label_smoothing: float) -> Array:
    """Return the distribution that the softmax should have."""
    q = np.full(classes, label_smoothing / classes)
    q[label] += 1 - label_smoothing
    return q


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

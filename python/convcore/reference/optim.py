"""One step of each optimiser, written as its definition. Nothing is updated in place."""

from __future__ import annotations

import numpy as np

from convcore.reference._types import Array


def penalized(grad: Array, param: Array, weight_decay: float, l1: float) -> Array:
    """Return the gradient of ``loss + weight_decay / 2 * sum(param**2) + l1 * sum(abs(param))``."""
    return grad + weight_decay * param + l1 * np.sign(param)


def limit_norms(param: Array, max_norm: float) -> Array:
    """Return `param` with the rows that are longer than `max_norm` scaled down to it."""
    norms = np.sqrt((param**2).sum(axis=tuple(range(1, param.ndim)), keepdims=True))
    return param * np.where(norms > max_norm, max_norm / np.maximum(norms, max_norm), 1)


def sgd_step(
    param: Array,
    grad: Array,
    momentum_buffer: Array | None,
    *,
    lr: float = 1e-3,
    momentum: float = 0,
    dampening: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    l1: float = 0,
) -> tuple[Array, Array | None]:
    """Return the new ``param, momentum_buffer``; the buffer is None before the first step."""
    g = penalized(grad, param, weight_decay, l1)
    if momentum != 0:
        if momentum_buffer is None:
            momentum_buffer = g
        else:
            momentum_buffer = momentum * momentum_buffer + (1 - dampening) * g
        g = g + momentum * momentum_buffer if nesterov else momentum_buffer
    return param - lr * g, momentum_buffer


def adam_step(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    decoupled: bool = False,
    l1: float = 0,
) -> tuple[Array, Array, Array]:
    """Return the new ``param, exp_avg, exp_avg_sq``; `step` counts from 1, `decoupled` is AdamW.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015;
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """
    beta1, beta2 = betas
    g = penalized(grad, param, 0 if decoupled else weight_decay, l1)
    if decoupled:
        param = param * (1 - lr * weight_decay)
    exp_avg = beta1 * exp_avg + (1 - beta1) * g
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
    mean = exp_avg / (1 - beta1**step)
    square = exp_avg_sq / (1 - beta2**step)
    return param - lr * mean / (np.sqrt(square) + eps), exp_avg, exp_avg_sq


def rmsprop_step(
    param: Array,
    grad: Array,
    square_avg: Array,
    grad_avg: Array,
    momentum_buffer: Array,
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0,
    momentum: float = 0,
    centered: bool = False,
    l1: float = 0,
) -> tuple[Array, Array, Array, Array]:
    """Return the new ``param, square_avg, grad_avg, momentum_buffer``.

    References
    ----------
    T. Tieleman, G. Hinton, "Lecture 6.5 - RMSProp", Coursera, 2012; centered as in A. Graves,
    "Generating sequences with recurrent neural networks", 2013.
    """
    g = penalized(grad, param, weight_decay, l1)
    square_avg = alpha * square_avg + (1 - alpha) * g**2
    spread = square_avg
    if centered:
        grad_avg = alpha * grad_avg + (1 - alpha) * g
        spread = square_avg - grad_avg**2
    h = g / (np.sqrt(spread) + eps)
    if momentum != 0:
        h = momentum_buffer = momentum * momentum_buffer + h
    return param - lr * h, square_avg, grad_avg, momentum_buffer


def adagrad_step(
    param: Array,
    grad: Array,
    sum: Array,
    step: int,
    *,
    lr: float = 1e-2,
    lr_decay: float = 0,
    weight_decay: float = 0,
    eps: float = 1e-10,
    l1: float = 0,
) -> tuple[Array, Array]:
    """Return the new ``param, sum``; `step` counts from 1.

    References
    ----------
    J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", Journal of Machine Learning Research 12, 2011.
    """
    g = penalized(grad, param, weight_decay, l1)
    sum = sum + g**2
    rate = lr / (1 + (step - 1) * lr_decay)
    return param - rate * g / (np.sqrt(sum) + eps), sum

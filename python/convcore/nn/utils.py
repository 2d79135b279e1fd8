"""What a training loop of your own may need, with the names of ``torch.nn.utils``."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from convcore._arrays import beside, to_numpy
from convcore.nn import _checks as check
from convcore.nn.parameter import Parameter


def clip_grad_norm_(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients by one factor so that their common norm is at most `max_norm`.

    Parameters
    ----------
    parameters : iterable of Parameter
        Those without a gradient are left out.
    max_norm : float
        Of the gradients as one vector: the root of the sum of all squares.

    Returns
    -------
    float
        The norm before.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import nn
    >>> p = nn.Parameter(np.zeros(2, np.float32))
    >>> p.grad = np.array([3, 4], np.float32)
    >>> nn.utils.clip_grad_norm_([p], 1.0)
    5.0
    >>> p.grad.round(3)
    array([0.6, 0.8], dtype=float32)
    """
    max_norm = check.real("clip_grad_norm_", "max_norm", max_norm, 0, math.inf)
    parameters = [p for p in parameters if p.grad is not None]
    gradients = [to_numpy(p.grad) for p in parameters]
    # np.sum adds in an order of its own: the same at any number of threads.
    squares = sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients)
    norm = math.sqrt(squares)
    factor = np.float32(max_norm / (norm + 1e-6))
    if not factor >= 1:  # a NaN reaches the gradients, as in torch
        for parameter, gradient in zip(parameters, gradients, strict=True):
            gradient *= factor
            if parameter.device != "cpu":
                parameter.grad = beside(gradient, parameter.grad)
    return norm

"""Initialisation of parameters, in place, with the names of ``torch.nn.init``.

Every random call takes the next stream of `convcore.manual_seed`.
"""

from __future__ import annotations

import math
from typing import TypeVar

from convcore import random
from convcore.functional._arguments import FloatArray
from convcore.nn.parameter import Parameter

Target = TypeVar("Target", Parameter, FloatArray)


def fan_in_and_fan_out(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many values a weight of `shape` (O, I, ...) sums per output and spreads per input.

    Examples
    --------
    >>> from convcore import init
    >>> init.fan_in_and_fan_out((6, 1, 5, 5))
    (25, 150)
    """
    if len(shape) < 2:
        raise ValueError(
            "fan_in_and_fan_out: shape has the wrong number of dimensions: expected at least 2 "
            f"(outputs, inputs, ...), got {len(shape)} (shape is {shape})"
        )
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def _data(target: Parameter | FloatArray) -> FloatArray:
    return target.data if isinstance(target, Parameter) else target


def constant_(target: Target, value: float) -> Target:
    """Fill with `value`."""
    _data(target)[...] = value
    return target


def zeros_(target: Target) -> Target:
    """Fill with 0."""
    return constant_(target, 0.0)


def ones_(target: Target) -> Target:
    """Fill with 1."""
    return constant_(target, 1.0)


def uniform_(target: Target, low: float = 0.0, high: float = 1.0) -> Target:
    """Fill with numbers uniform in [low, high)."""
    data = _data(target)
    data[...] = random.uniform(data.shape, low, high)
    return target


def kaiming_uniform_(target: Target, a: float = 0.0) -> Target:
    """Fill with numbers uniform in +-sqrt(6 / ((1 + a**2) fan_in)).

    With ``a = sqrt(5)``, the default of torch's layers, the bound is ``1 / sqrt(fan_in)``.

    References
    ----------
    He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    fan_in, _ = fan_in_and_fan_out(_data(target).shape)
    bound = math.sqrt(6 / ((1 + a * a) * fan_in)) if fan_in > 0 else 0.0
    return uniform_(target, -bound, bound)


def normal_(target: Target, mean: float = 0.0, std: float = 1.0) -> Target:
    """Fill with normally distributed numbers."""
    data = _data(target)
    data[...] = random.normal(data.shape, mean, std)
    return target


def kaiming_normal_(target: Target, a: float = 0.0, mode: str = "fan_in") -> Target:
    """Fill with normally distributed numbers of standard deviation sqrt(2 / ((1 + a**2) fan)).

    `mode` says which fan it is: ``"fan_in"`` keeps the variance of the outputs, ``"fan_out"`` that
    of the gradients.

    References
    ----------
    He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    fans = dict(zip(("fan_in", "fan_out"), fan_in_and_fan_out(_data(target).shape), strict=True))
    if mode not in fans:
        raise ValueError(
            f"kaiming_normal_: mode is not known: expected 'fan_in' or 'fan_out', got {mode!r}"
        )
    fan = fans[mode]
    return normal_(target, 0.0, math.sqrt(2 / ((1 + a * a) * fan)) if fan > 0 else 0.0)


def xavier_uniform_(target: Target, gain: float = 1.0) -> Target:
    """Fill with numbers uniform in +-gain sqrt(6 / (fan_in + fan_out)).

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010.
    """
    bound = gain * math.sqrt(6 / sum(fan_in_and_fan_out(_data(target).shape)))
    return uniform_(target, -bound, bound)

"""The dense layer, and the layer that does nothing."""

from __future__ import annotations

import math

import numpy as np

import convcore.functional as F
from convcore import init
from convcore.functional._arguments import FloatArray
from convcore.nn import _checks as check
from convcore.nn.module import Module
from convcore.nn.parameter import Parameter


def weight_and_bias(shape: tuple[int, ...], bias: bool) -> tuple[Parameter, Parameter | None]:
    """Return parameters initialised as torch does: both uniform in +-1 / sqrt(fan_in)."""
    weight = Parameter(np.empty(shape, np.float32))
    init.kaiming_uniform_(weight, a=math.sqrt(5))
    if not bias:
        return weight, None
    bound = 1 / math.sqrt(max(1, init.fan_in_and_fan_out(shape)[0]))
    return weight, init.uniform_(Parameter(np.empty(shape[0], np.float32)), -bound, bound)


class Linear(Module):
    """Dense layer, ``y = x @ weight.T + bias``; `Dense` is the same class.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool, default True

    Attributes
    ----------
    weight : Parameter, shape (out_features, in_features)
    bias : Parameter, shape (out_features,), or None

    See Also
    --------
    convcore.functional.linear : The shapes and the mathematics.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import nn
    >>> layer = nn.Linear(400, 120)
    >>> layer(np.zeros((8, 400), np.float32)).shape
    (8, 120)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = check.integer("Linear", "in_features", in_features)
        self.out_features = check.integer("Linear", "out_features", out_features)
        self.weight, self.bias = weight_and_bias((self.out_features, self.in_features), bias)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return ``x @ weight.T + bias``."""
        y = F.linear(x, self.weight.data, None if self.bias is None else self.bias.data)
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Add the gradients of weight and bias; return dx."""
        (x,) = self._take()
        weight, bias = self.weight, self.bias
        dx, dw, db = F.linear_backward(
            dy,
            x,
            weight.data,
            None if bias is None else bias.data,
            need_dx=need_dx,
            need_dw=weight.requires_grad,
            need_db=bias is not None and bias.requires_grad,
        )
        accumulate(weight, dw)
        accumulate(bias, db)
        return dx

    def multiply_adds(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        """Return the multiply-adds for one sample."""
        return math.prod(y_shape) * self.in_features

    def window(self) -> str:
        """Return ``"all"``: each output sees the whole input."""
        return "all"

    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


def accumulate(parameter: Parameter | None, gradient: FloatArray | None) -> None:
    """Add `gradient` to the parameter's, where there are both."""
    if parameter is not None and gradient is not None:
        parameter.accumulate_grad(gradient)


Dense = Linear


class Identity(Module):
    """Return the input. Keeps a place in a network."""

    def forward(self, x: FloatArray) -> FloatArray:
        """Return `x`."""
        self._keep(None)
        return x

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return `dy`."""
        self._take()
        return dy if need_dx else None

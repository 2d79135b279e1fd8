"""Dropout, of single values and of whole channels."""

from __future__ import annotations

from typing import Any

import convcore.functional as F
from convcore import random
from convcore.functional._arguments import FloatArray
from convcore.nn import _checks as check
from convcore.nn.module import Module


class _Dropout(Module):
    """What Dropout and Dropout2d share."""

    _forward: Any
    _backward: Any

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        self.p = check.real(type(self).__name__, "p", p, 0.0, 1.0)
        self.inplace = bool(inplace)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return `x` with a share of zeros in training, else `x`."""
        if not self.training:
            self._keep(x, None)
            return x
        key = random.next_key()
        y: FloatArray = self._forward(x, self.p, True, key=key)
        self._keep(x, key)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx: the same zeros and scale, on dy."""
        x, key = self._take()
        if not need_dx or key is None:
            return dy if need_dx else None
        dx: FloatArray = self._backward(dy, x, self.p, True, key=key)
        return dx

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training, set a share `p` of the values to 0 and scale the others by ``1 / (1 - p)``.

    Each forward in training takes the next stream of `convcore.manual_seed`.

    Parameters
    ----------
    p : float, default 0.5
        Probability of a zero, dimensionless.
    inplace : bool, default False
        Accepted so that networks written for torch run; convcore never writes into an input.

    See Also
    --------
    convcore.functional.dropout : The mathematics.
    """

    _forward = staticmethod(F.dropout)
    _backward = staticmethod(F.dropout_backward)


class Dropout2d(_Dropout):
    """In training, set a share `p` of the channels to 0 and scale the others by ``1 / (1 - p)``.

    Each forward in training takes the next stream of `convcore.manual_seed`.

    Parameters
    ----------
    p : float, default 0.5
        Probability of a zero, dimensionless.
    inplace : bool, default False
        Accepted so that networks written for torch run; convcore never writes into an input.

    See Also
    --------
    convcore.functional.dropout2d : The mathematics.
    """

    _forward = staticmethod(F.dropout2d)
    _backward = staticmethod(F.dropout2d_backward)

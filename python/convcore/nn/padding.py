"""Channels of zeros."""

from __future__ import annotations

import convcore.functional as F
from convcore.functional._arguments import FloatArray, IntOrPair
from convcore.nn import _checks as check
from convcore.nn.module import Module


class PadChannels(Module):
    """Every `stride`-th pixel, with channels of zeros before and after: a shortcut for `Residual`.

    Parameters
    ----------
    padding : int or pair of int
        Number of channels on both ends, or (before, after).
    stride : int or pair of int, default 1

    See Also
    --------
    convcore.functional.pad_channels : The shapes and the mathematics.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import nn
    >>> nn.PadChannels(8, stride=2)(np.zeros((1, 16, 32, 32), np.float32)).shape
    (1, 32, 16, 16)
    """

    def __init__(self, padding: IntOrPair, stride: IntOrPair = 1) -> None:
        self.padding = check.integers("PadChannels", "padding", padding, 2, low=0)
        self.stride = check.integers("PadChannels", "stride", stride, 2)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the kept pixels and the channels of zeros."""
        y = F.pad_channels(x, self.padding, self.stride)
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx: `dy` where a pixel was kept, else 0."""
        (x,) = self._take()
        return F.pad_channels_backward(dy, x, self.padding, self.stride) if need_dx else None

    def window(self) -> tuple[tuple[int, int], ...]:
        """Return extent and stride per axis."""
        return tuple((1, stride) for stride in self.stride)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"padding={self.padding}, stride={self.stride}"

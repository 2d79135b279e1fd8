"""Convolutions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import convcore.functional as F
from convcore.functional._arguments import (
    FloatArray,
    IntOrPair,
    Padding,
    spatial_size,
    to_padding,
)
from convcore.nn import _checks as check
from convcore.nn.connections import Connections, connection_table
from convcore.nn.linear import accumulate, weight_and_bias
from convcore.nn.module import AnyArray, Module
from convcore.nn.parameter import Parameter

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What Conv1d and Conv2d share."""

    _axes: int
    _forward: Any
    _backward: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: Padding = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        connections: Connections | None = None,
    ) -> None:
        name = type(self).__name__
        self.in_channels = check.integer(name, "in_channels", in_channels)
        self.out_channels = check.integer(name, "out_channels", out_channels)
        self.kernel_size = check.integers(name, "kernel_size", kernel_size, self._axes)
        self.stride = check.integers(name, "stride", stride, self._axes)
        self.padding = check.padding_form(name, padding, self._axes)
        self.dilation = check.integers(name, "dilation", dilation, self._axes)
        self.groups = check.integer(name, "groups", groups)
        self.padding_mode = check.choice(name, "padding_mode", padding_mode, PADDING_MODES)
        for channels in ("in_channels", "out_channels"):
            if getattr(self, channels) % self.groups:
                raise ValueError(
                    f"{name}: {channels} cannot be divided into groups: expected a multiple of "
                    f"groups = {self.groups}, got {getattr(self, channels)}"
                )
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight, self.bias = weight_and_bias(shape, bias)
        self.connections = None
        if connections is not None:
            self.connections = connection_table(name, connections, shape[:2])
            self._connect(np.array(self.connections))

    def _connect(self, table: AnyArray) -> None:
        """Leave of the weight what is in the table, drawn for the inputs that are left."""
        mask = np.zeros(self.weight.shape, np.float32)
        mask[table] = 1
        # The range of the draw is 1 / sqrt(fan_in), so fewer inputs have a larger one.
        wider = np.sqrt(table.shape[1] / table.sum(axis=1)).astype(np.float32)
        draw = self.weight.data * wider.reshape(-1, *(1,) * (1 + self._axes))
        self.weight = Parameter(draw, mask=mask)
        if self.bias is not None:
            self.bias.data *= wider

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the cross-correlation of `x` with the weight, plus the bias."""
        self.weight.keep_mask()
        sides = self._sides(x)
        padded = x if sides is None else F.pad(x, sides, self.padding_mode)
        y: FloatArray = self._forward(padded, *self._arguments())
        self._keep(x, padded)
        return y

    def _arguments(self) -> tuple[Any, ...]:
        """Return the arguments of the op, after the input."""
        bias = None if self.bias is None else self.bias.data
        padding = self.padding if self.padding_mode == "zeros" else 0
        return self.weight.data, bias, self.stride, padding, self.dilation, self.groups

    def _sides(self, x: FloatArray) -> list[int] | None:
        """Return how much `x` is padded before the op, in the order of `functional.pad`."""
        if self.padding_mode == "zeros":
            return None
        name, axes = type(self).__name__, self._axes
        pads = to_padding(
            name,
            self.padding,
            spatial_size(name, x, axes),
            self.kernel_size,
            self.stride,
            self.dilation,
        )
        return [side for pair in reversed(pads) for side in pair]

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Add the gradients of weight and bias; return dx."""
        x, padded = self._take()
        weight, bias = self.weight, self.bias
        dx: FloatArray | None
        dx, dw, db = self._backward(
            dy,
            padded,
            *self._arguments(),
            need_dx=need_dx,
            need_dw=weight.requires_grad,
            need_db=bias is not None and bias.requires_grad,
        )
        accumulate(weight, dw)
        accumulate(bias, db)
        if dx is not None and (sides := self._sides(x)) is not None:
            dx = F.pad_backward(dx, x, sides, self.padding_mode)
        return dx

    def multiply_adds(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        """Return the multiply-adds for one sample."""
        return math.prod(y_shape[1:]) * self.weight.numel()

    def window(self) -> tuple[tuple[int, int], ...]:
        """Return extent and stride per axis."""
        extents = (d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return tuple(zip(extents, self.stride, strict=True))

    def extra_repr(self) -> str:
        """Return the arguments that are not the default, as torch does."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        if self.padding != (0,) * self._axes:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self._axes:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        if self.connections is not None:
            wired = sum(map(sum, self.connections))
            text += f", connections={wired} of {math.prod(self.weight.shape[:2])}"
        return text


class Conv1d(_Conv):
    """Cross-correlation of sequences.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int
        In samples.
    stride : int, default 1
    padding : int, pair (before, after) in a tuple, 'valid' or 'same', default 0
        On both ends, in samples. 'same' as for `Conv2d`.
    dilation : int, default 1
    groups : int, default 1
        Divides both numbers of channels.
    bias : bool, default True
    padding_mode : {'zeros', 'reflect', 'replicate', 'circular'}
        What the padding is made of (`convcore.functional.pad`).
    connections : array of bool, shape (out_channels, in_channels // groups), optional
        Which inputs each output channel sees; the default is all. The weights of the others are 0
        and stay 0: they get no gradient, no optimizer moves them, and `Parameter.numel` and
        `summary` do not count them. `nn.connections` has the table of LeNet-5.

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels // groups, kernel_size)
    bias : Parameter, shape (out_channels,), or None

    See Also
    --------
    convcore.functional.conv1d : The shapes and the mathematics.
    """

    _axes = 1
    _forward = staticmethod(F.conv1d)
    _backward = staticmethod(F.conv1d_backward)


class Conv2d(_Conv):
    """Cross-correlation of images.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or pair of int
        In pixels.
    stride : int or pair of int, default 1
    padding : int, pair of int, pairs (before, after), 'valid' or 'same', default 0
        On all sides, in pixels. 'same' gives ceil(size / stride) outputs: see the notes.
    dilation : int or pair of int, default 1
    groups : int, default 1
        Divides both numbers of channels.
    bias : bool, default True
    padding_mode : {'zeros', 'reflect', 'replicate', 'circular'}
        What the padding is made of (`convcore.functional.pad`).
    connections : array of bool, shape (out_channels, in_channels // groups), optional
        Which inputs each output channel sees; the default is all. The weights of the others are 0
        and stay 0: they get no gradient, no optimizer moves them, and `Parameter.numel` and
        `summary` do not count them. `nn.connections` has the table of LeNet-5.

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels // groups, KH, KW)
    bias : Parameter, shape (out_channels,), or None

    See Also
    --------
    convcore.functional.conv2d : The shapes and the mathematics.

    Notes
    -----
    Two rules are known for ``padding='same'``. At stride 1 they agree: ``dilation * (kernel_size -
    1)`` pixels in all, and where that is odd, the one more after the image. With a larger stride
    torch refuses; this is TensorFlow's rule, ``max(0, dilation * (kernel_size - 1) - (size - 1) %
    stride)`` pixels in all, again the odd one after the image. So the padding depends on the size:
    a kernel of 3 with stride 2 pads 32 pixels by (0, 1), and 33 by (1, 1), where a network of torch
    has ``padding=1`` for both: its weights give other results here.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import nn
    >>> layer = nn.Conv2d(1, 6, 5, padding=2)
    >>> layer(np.zeros((8, 1, 28, 28), np.float32)).shape
    (8, 6, 28, 28)
    >>> c3 = nn.Conv2d(6, 16, 5, connections=nn.connections.LENET5_C3)
    >>> sum(p.numel() for p in c3.parameters())
    1516
    """

    _axes = 2
    _forward = staticmethod(F.conv2d)
    _backward = staticmethod(F.conv2d_backward)

"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import convcore.functional as F
from convcore import random
from convcore.functional._arguments import FloatArray, IntOrPair, is_sequence, to_tuple
from convcore.nn import _checks as check
from convcore.nn.linear import accumulate
from convcore.nn.module import Module
from convcore.nn.parameter import Parameter


class _Pool(Module):
    """What the pooling windows share."""

    _axes: int
    _forward: Any
    _backward: Any
    kernel_size: IntOrPair
    stride: IntOrPair
    padding: IntOrPair
    dilation: IntOrPair = 1

    def _set_window(
        self, kernel_size: IntOrPair, stride: IntOrPair | None, padding: IntOrPair
    ) -> None:
        name = type(self).__name__
        stride = kernel_size if stride is None else stride
        check.integers(name, "kernel_size", kernel_size, self._axes)
        check.integers(name, "stride", stride, self._axes)
        check.integers(name, "padding", padding, self._axes, low=0)
        self.kernel_size, self.stride, self.padding = map(_plain, (kernel_size, stride, padding))

    def window(self) -> tuple[tuple[int, int], ...]:
        """Return extent and stride per axis."""
        name = type(self).__name__
        kernel, stride, dilation = (
            to_tuple(name, what, getattr(self, what), self._axes)
            for what in ("kernel_size", "stride", "dilation")
        )
        return tuple((d * (k - 1) + 1, s) for k, s, d in zip(kernel, stride, dilation, strict=True))


def _plain(value: IntOrPair) -> IntOrPair:
    """Return an int or a tuple of int: what repr shows and JSON keeps."""
    return tuple(int(v) for v in value) if is_sequence(value) else int(value)  # type: ignore[union-attr, arg-type]


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        name = type(self).__name__
        self._set_window(kernel_size, stride, padding)
        check.integers(name, "dilation", dilation, self._axes)
        self.dilation = _plain(dilation)
        _expect_no_indices(name, return_indices)
        self.return_indices = False
        self.ceil_mode = bool(ceil_mode)

    def _arguments(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the maximum of each window."""
        if not self._keeps:
            self._keep()
            y: FloatArray = self._forward(x, *self._arguments())
            return y
        y, indices = self._forward(x, *self._arguments(), return_indices=True)
        self._keep(x, indices)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx: each value of dy goes to the place of its window's maximum."""
        x, indices = self._take()
        if not need_dx:
            return None
        dx: FloatArray = self._backward(dy, x, *self._arguments(), indices=indices)
        return dx

    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """Maximum over windows of sequences.

    Parameters
    ----------
    kernel_size : int
        In samples.
    stride : int, default `kernel_size`
    padding : int, default 0
    dilation : int, default 1
    return_indices : {False}
        Only `convcore.functional.max_pool1d` returns indices.
    ceil_mode : bool, default False
        Let a last, partial window count.

    See Also
    --------
    convcore.functional.max_pool1d : The shapes and the mathematics.
    """

    _axes = 1
    _forward = staticmethod(F.max_pool1d)
    _backward = staticmethod(F.max_pool1d_backward)


class MaxPool2d(_MaxPool):
    """Maximum over windows of images.

    Parameters
    ----------
    kernel_size : int or pair of int
        In pixels.
    stride : int or pair of int, default `kernel_size`
    padding : int or pair of int, default 0
    dilation : int or pair of int, default 1
    return_indices : {False}
        Only `convcore.functional.max_pool2d` returns indices.
    ceil_mode : bool, default False
        Let a last, partial window count.

    See Also
    --------
    convcore.functional.max_pool2d : The shapes and the mathematics.
    """

    _axes = 2
    _forward = staticmethod(F.max_pool2d)
    _backward = staticmethod(F.max_pool2d_backward)


class _AvgPool(_Pool):
    ceil_mode: bool
    count_include_pad: bool

    def _arguments(self) -> tuple[Any, ...]:
        return (
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the mean of each window."""
        y: FloatArray = self._forward(x, *self._arguments())
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx: each value of dy spread over its window."""
        (x,) = self._take()
        if not need_dx:
            return None
        dx: FloatArray = self._backward(dy, x, *self._arguments())
        return dx

    def extra_repr(self) -> str:
        """Return the window."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """Mean over windows of sequences.

    Parameters
    ----------
    kernel_size : int
        In samples.
    stride : int, default `kernel_size`
    padding : int, default 0
    ceil_mode : bool, default False
        Let a last, partial window count.
    count_include_pad : bool, default True
        Count the padded zeros in the divisor.

    See Also
    --------
    convcore.functional.avg_pool1d : The shapes and the mathematics.
    """

    _axes = 1
    _forward = staticmethod(F.avg_pool1d)
    _backward = staticmethod(F.avg_pool1d_backward)

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self._set_window(kernel_size, stride, padding)
        # torch keeps these three as tuples, and shows them so.
        self.kernel_size, self.stride, self.padding = (
            to_tuple("AvgPool1d", what, getattr(self, what), 1)
            for what in ("kernel_size", "stride", "padding")
        )
        self.ceil_mode = bool(ceil_mode)
        self.count_include_pad = bool(count_include_pad)


class AvgPool2d(_AvgPool):
    """Mean over windows of images.

    Parameters
    ----------
    kernel_size : int or pair of int
        In pixels.
    stride : int or pair of int, default `kernel_size`
    padding : int or pair of int, default 0
    ceil_mode : bool, default False
        Let a last, partial window count.
    count_include_pad : bool, default True
        Count the padded zeros in the divisor.
    divisor_override : int, optional
        Divide by this number and not by the size of the window.

    See Also
    --------
    convcore.functional.avg_pool2d : The shapes and the mathematics.
    """

    _axes = 2
    _forward = staticmethod(F.avg_pool2d)
    _backward = staticmethod(F.avg_pool2d_backward)

    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self._set_window(kernel_size, stride, padding)
        self.ceil_mode = bool(ceil_mode)
        self.count_include_pad = bool(count_include_pad)
        if divisor_override is not None:
            divisor_override = check.integer("AvgPool2d", "divisor_override", divisor_override)
        self.divisor_override = divisor_override

    def _arguments(self) -> tuple[Any, ...]:
        return (*super()._arguments(), self.divisor_override)


class _Adaptive(Module):
    """What the adaptive layers share."""

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        name = type(self).__name__
        sizes: Any = output_size if is_sequence(output_size) else (output_size,) * 2
        if len(sizes) != 2:
            raise ValueError(
                f"{name}: output_size has the wrong length: expected an int or 2 ints, "
                f"got {output_size!r}"
            )
        plain = tuple(None if v is None else check.integer(name, "output_size", v) for v in sizes)
        self.output_size: Any = plain if is_sequence(output_size) else plain[0]

    def window(self) -> str:
        """Return ``"all"``: how much an output sees depends on the size of the input."""
        return "all"

    def extra_repr(self) -> str:
        """Return the argument."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(_Adaptive):
    """Mean over windows that divide an image of any size into `output_size`.

    ``AdaptiveAvgPool2d(1)`` is global average pooling, what Keras calls GlobalAveragePooling2D;
    `Flatten` after it makes rows of it.

    Parameters
    ----------
    output_size : int or pair of (int or None)
        Rows and columns of the output; None keeps the size of the input.

    See Also
    --------
    convcore.functional.adaptive_avg_pool2d : The shapes and the mathematics.
    """

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the means."""
        y: FloatArray = F.adaptive_avg_pool2d(x, self.output_size)
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx: each value of dy spread over its window."""
        (x,) = self._take()
        return F.adaptive_avg_pool2d_backward(dy, x, self.output_size) if need_dx else None


class AdaptiveMaxPool2d(_Adaptive):
    """Maximum over windows that divide an image of any size into `output_size`.

    ``AdaptiveMaxPool2d(1)`` is global max pooling, what Keras calls GlobalMaxPooling2D; `Flatten`
    after it makes rows of it.

    Parameters
    ----------
    output_size : int or pair of (int or None)
        Rows and columns of the output; None keeps the size of the input.
    return_indices : {False}
        Only `convcore.functional.adaptive_max_pool2d` returns indices.

    See Also
    --------
    convcore.functional.adaptive_max_pool2d : The shapes and the mathematics.
    """

    def __init__(
        self, output_size: int | Sequence[int | None] | None, return_indices: bool = False
    ) -> None:
        super().__init__(output_size)
        _expect_no_indices("AdaptiveMaxPool2d", return_indices)
        self.return_indices = False

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the maxima."""
        if not self._keeps:
            self._keep()
            return F.adaptive_max_pool2d(x, self.output_size)
        y, indices = F.adaptive_max_pool2d(x, self.output_size, True)
        self._keep(x, indices)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx: each value of dy goes to the place of its window's maximum."""
        x, indices = self._take()
        if not need_dx:
            return None
        return F.adaptive_max_pool2d_backward(dy, x, self.output_size, indices=indices)


def _expect_no_indices(name: str, return_indices: bool) -> None:
    if return_indices:
        raise ValueError(
            f"{name}: return_indices is not supported by the layer: expected False, got True "
            "(call convcore.functional)"
        )


class StochasticPool2d(_Pool):
    """In training one value of each window, drawn in proportion to it; else the mean so weighted.

    Its place is after a `ReLU`: a negative value is never drawn. Each forward in training takes the
    next stream of `convcore.manual_seed`. torch has no such layer.

    Parameters
    ----------
    kernel_size : int or pair of int
        In pixels.
    stride : int or pair of int, default `kernel_size`

    See Also
    --------
    convcore.functional.stochastic_pool2d : The shapes and the mathematics.

    References
    ----------
    Zeiler and Fergus, "Stochastic pooling for regularization of deep convolutional neural
    networks", ICLR 2013.
    """

    _axes = 2

    def __init__(self, kernel_size: IntOrPair, stride: IntOrPair | None = None) -> None:
        self._set_window(kernel_size, stride, 0)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return what was drawn; in evaluation the weighted mean."""
        arguments = (x, self.kernel_size, self.stride)
        if not self.training:
            self._keep(x, None)
            return F.stochastic_pool2d(*arguments, training=False)
        y, indices = F.stochastic_pool2d(*arguments, key=random.next_key(), return_indices=True)
        self._keep(x, indices)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx: dy goes to the drawn place; in evaluation to all places, as weighted."""
        x, indices = self._take()
        if not need_dx:
            return None
        arguments = (dy, x, self.kernel_size, self.stride, indices is not None)
        return F.stochastic_pool2d_backward(*arguments, indices=indices)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class LPPool2d(_Pool):
    """The p-norm of each window, ``(sum of x**p)**(1 / p)``.

    Parameters
    ----------
    norm_type : float
        p, above 0.
    kernel_size : int or pair of int
        In pixels.
    stride : int or pair of int, default `kernel_size`
    ceil_mode : bool, default False
        Let a last, partial window count.

    See Also
    --------
    convcore.functional.lp_pool2d : The shapes and the mathematics.
    """

    _axes = 2

    def __init__(
        self,
        norm_type: float,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        ceil_mode: bool = False,
    ) -> None:
        self.norm_type = check.real("LPPool2d", "norm_type", norm_type, 0.0, math.inf)
        if self.norm_type in (0.0, math.inf):
            raise ValueError(
                "LPPool2d: norm_type is out of range: expected a finite number above 0, "
                f"got {self.norm_type:g}"
            )
        self._set_window(kernel_size, stride, 0)
        self.ceil_mode = bool(ceil_mode)

    def _arguments(self) -> tuple[Any, ...]:
        return self.norm_type, self.kernel_size, self.stride, self.ceil_mode

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the norms."""
        y = F.lp_pool2d(x, *self._arguments())
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (x,) = self._take()
        return F.lp_pool2d_backward(dy, x, *self._arguments()) if need_dx else None

    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"norm_type={self.norm_type:g}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, ceil_mode={self.ceil_mode}"
        )


class Subsampling2d(_Pool):
    """The sum of each window, times one trained coefficient per channel, plus one trained bias.

    What LeNet-5 had where networks have pooling now: ``Subsampling2d(6)`` is its layer S2, with
    12 parameters. It begins as average pooling: the coefficients are 1 / (size of the window) at
    first, the biases 0. torch has no such layer (Torch7 had: ``SpatialSubSampling``).

    Parameters
    ----------
    num_channels : int
        C, the number of channels.
    kernel_size : int or pair of int, default 2
        In pixels.
    stride : int or pair of int, default `kernel_size`
    bias : bool, default True

    Attributes
    ----------
    weight : Parameter, shape (C,)
    bias : Parameter, shape (C,), or None

    See Also
    --------
    convcore.functional.subsampling2d : The shapes and the mathematics.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE, 1998, section II.B.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import nn
    >>> layer = nn.Subsampling2d(6)
    >>> layer(np.zeros((8, 6, 28, 28), np.float32)).shape
    (8, 6, 14, 14)
    >>> sum(p.numel() for p in layer.parameters())
    12
    """

    _axes = 2

    def __init__(
        self,
        num_channels: int,
        kernel_size: IntOrPair = 2,
        stride: IntOrPair | None = None,
        bias: bool = True,
    ) -> None:
        self.num_channels = check.integer("Subsampling2d", "num_channels", num_channels)
        self._set_window(kernel_size, stride, 0)
        taps = math.prod(to_tuple("Subsampling2d", "kernel_size", self.kernel_size, 2))
        c = self.num_channels
        self.weight = Parameter(np.full(c, 1 / taps, np.float32))
        self.bias = Parameter(np.zeros(c, np.float32)) if bias else None

    def _arguments(self) -> tuple[Any, ...]:
        bias = None if self.bias is None else self.bias.data
        return self.weight.data, bias, self.kernel_size, self.stride

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the scaled and shifted sum of each window."""
        y = F.subsampling2d(x, *self._arguments())
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Add the gradients of weight and bias; return dx."""
        (x,) = self._take()
        weight, bias = self.weight, self.bias
        dx, dweight, dbias = F.subsampling2d_backward(
            dy,
            x,
            *self._arguments(),
            need_dx=need_dx,
            need_dweight=weight.requires_grad,
            need_dbias=bias is not None and bias.requires_grad,
        )
        accumulate(weight, dweight)
        accumulate(bias, dbias)
        return dx

    def multiply_adds(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        """Return the multiply-adds for one sample: one per output, the sums are additions."""
        return math.prod(y_shape)

    def extra_repr(self) -> str:
        """Return the arguments."""
        text = f"{self.num_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        return text if self.bias is not None else text + ", bias=False"

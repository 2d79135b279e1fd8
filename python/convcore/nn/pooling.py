"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import convcore.functional as F
from convcore.functional._arguments import FloatArray, IntOrPair, is_sequence, to_tuple
from convcore.nn import _checks as check
from convcore.nn.module import Module


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
        if return_indices:
            raise ValueError(
                f"{name}: return_indices is not supported by the layer: expected False, got True "
                "(call convcore.functional)"
            )
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


class AdaptiveAvgPool2d(Module):
    """Mean over windows that divide an image of any size into `output_size`.

    Parameters
    ----------
    output_size : int or pair of (int or None)
        Rows and columns of the output; None keeps the size of the input.

    See Also
    --------
    convcore.functional.adaptive_avg_pool2d : The shapes and the mathematics.
    """

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        sizes: Any = output_size if is_sequence(output_size) else (output_size,) * 2
        if len(sizes) != 2:
            raise ValueError(
                "AdaptiveAvgPool2d: output_size has the wrong length: expected an int or 2 ints, "
                f"got {output_size!r}"
            )
        plain = tuple(
            None if v is None else check.integer("AdaptiveAvgPool2d", "output_size", v)
            for v in sizes
        )
        self.output_size: Any = plain if is_sequence(output_size) else plain[0]

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the means."""
        y: FloatArray = F.adaptive_avg_pool2d(x, self.output_size)
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx: each value of dy spread over its window."""
        (x,) = self._take()
        return F.adaptive_avg_pool2d_backward(dy, x, self.output_size) if need_dx else None

    def window(self) -> str:
        """Return ``"all"``: how much an output sees depends on the size of the input."""
        return "all"

    def extra_repr(self) -> str:
        """Return the argument."""
        return f"output_size={self.output_size}"

"""Pooling: maxima and means over windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from convcore import _core
from convcore.functional._arguments import (
    FloatArray,
    IntOrPair,
    Padding,
    expect_bias,
    is_sequence,
    spatial_size,
    to_float,
    to_int,
    to_padding,
    to_tuple,
)
from convcore.random import checked_key, next_key

IndexArray = npt.NDArray[np.int32]
IntArray = npt.NDArray[Any]
#: One size or (height, width); None keeps the size of the input.
OutputSize = int | Sequence[int | None] | None
#: Per spatial axis: kernel size, stride, padding before, padding after, dilation.
Windows = list[tuple[int, ...]]


def _windows(
    op: str,
    x: object,
    axes: int,
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: Padding,
    dilation: IntOrPair = 1,
) -> Windows:
    kernel = to_tuple(op, "kernel_size", kernel_size, axes)
    strides = kernel if stride is None else to_tuple(op, "stride", stride, axes)
    dilations = to_tuple(op, "dilation", dilation, axes)
    size = spatial_size(op, x, axes)
    pads = to_padding(op, padding, size, kernel, strides, dilations)
    return [
        (k, s, before, after, d)
        for k, s, (before, after), d in zip(kernel, strides, pads, dilations, strict=True)
    ]


def _shape(op: str, x: object) -> tuple[int, ...]:
    """Return the shape of `x` for a backward pass, which reads nothing else of it."""
    shape = getattr(x, "shape", None)
    if shape is None:
        raise TypeError(
            f"{op}: x is not an array: expected a numpy.ndarray of float32, got {type(x).__name__}"
        )
    return tuple(shape)


# ---- max ----


def _max_pool(
    op: str, x: FloatArray, windows: Windows, ceil_mode: bool, return_indices: bool
) -> Any:
    y, indices = _core.max_pool2d_forward(op, x, windows, bool(ceil_mode), bool(return_indices))
    return y if indices is None else (y, indices)


def _max_pool_backward(
    op: str,
    dy: FloatArray,
    x: FloatArray,
    windows: Windows,
    ceil_mode: bool,
    indices: IntArray | None,
) -> Any:
    shape = _shape(op, x)
    needed_x = x if indices is None else None
    return _core.max_pool2d_backward(op, dy, shape, needed_x, indices, windows, bool(ceil_mode))


@overload
def max_pool2d(
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> FloatArray: ...


@overload
def max_pool2d(
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[FloatArray, IndexArray]: ...


def max_pool2d(
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> FloatArray | tuple[FloatArray, IndexArray]:
    """Return the largest value in each window of a batch of images.

    Parameters
    ----------
    x : ndarray, shape (N, C, H_in, W_in), float32
        Images.
    kernel_size : int or pair of int
        Size of the window, in pixels: one for both axes, or (height, width).
    stride : int or pair of int, optional
        Step between windows, in pixels; `kernel_size` by default.
    padding : int, pair of int, pair of pairs, 'valid' or 'same', default 0
        Pixels around the image that never win: for all sides, per axis, or per axis
        ``(before, after)``; at most half the window. 'valid' is 0, 'same' gives
        ``ceil(H_in / stride)`` rows.
    dilation : int or pair of int, default 1
        Step between the pixels of one window.
    ceil_mode : bool, default False
        Keep a last window that reaches past the padded image.
    return_indices : bool, default False
        Return the positions of the largest values as well.

    Returns
    -------
    y : ndarray, shape (N, C, H_out, W_out), float32
        ``H_out = floor((H_in + padding - dilation * (kernel_size - 1) - 1) / stride) + 1``, where
        padding counts both sides; ceil in place of floor with `ceil_mode`, less a window that
        would begin in the padding after the image.
    indices : ndarray, shape (N, C, H_out, W_out), int32
        ``h * W_in + w`` of the largest value, without padding; only with `return_indices`.

    Raises
    ------
    TypeError
        When `x` is not an array of float32, or another argument is not made of ints.
    ValueError
        When `x` does not have four dimensions, has an empty image or more than 2**31 - 1 pixels in
        one plane; when a size is out of range, a window is larger than the padded image or steps
        over all of it, or padding is more than half the window.

    See Also
    --------
    max_pool2d_backward : The gradient.
    max_pool1d : The same for signals.
    convcore.nn.MaxPool2d : The same as a layer.

    Notes
    -----
    Costs one comparison per pixel of a window. The first of equal values wins, in row-major order;
    a NaN wins over every number, and the last of several NaNs over the others (as in torch).

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> y, indices = F.max_pool2d(x, 2, return_indices=True)
    >>> y[0, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    >>> indices[0, 0]
    array([[ 5,  7],
           [13, 15]], dtype=int32)
    """
    windows = _windows("max_pool2d", x, 2, kernel_size, stride, padding, dilation)
    result: FloatArray | tuple[FloatArray, IndexArray]
    result = _max_pool("max_pool2d", x, windows, ceil_mode, return_indices)
    return result


def max_pool2d_backward(
    dy: FloatArray,
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    *,
    indices: IntArray | None = None,
) -> FloatArray:
    """Return the gradient of `max_pool2d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C, H_out, W_out), float32
        Gradient of the loss with respect to the output.
    x, kernel_size, stride, padding, dilation, ceil_mode
        The arguments of the forward call.
    indices : ndarray, shape (N, C, H_out, W_out), integers, optional
        What the forward call returned with `return_indices`. Without them they are computed again.

    Returns
    -------
    ndarray, shape (N, C, H_in, W_in), float32
        Each element of `dy` goes to the pixel that won its window.

    Raises
    ------
    TypeError
        When `dy` is not an array of float32 or `indices` is not one of integers.
    ValueError
        When `dy` or `indices` does not have the shape of the output, or an index does not lie in
        the window of its output.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[[[1, 2], [4, 3]]]], np.float32)
    >>> F.max_pool2d_backward(np.full((1, 1, 1, 1), 5, np.float32), x, 2)
    array([[[[0., 0.],
             [5., 0.]]]], dtype=float32)
    """
    windows = _windows("max_pool2d", x, 2, kernel_size, stride, padding, dilation)
    dx: FloatArray = _max_pool_backward("max_pool2d", dy, x, windows, ceil_mode, indices)
    return dx


@overload
def max_pool1d(
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> FloatArray: ...


@overload
def max_pool1d(
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[FloatArray, IndexArray]: ...


def max_pool1d(
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> FloatArray | tuple[FloatArray, IndexArray]:
    """Return the largest value in each window of a batch of signals.

    Parameters
    ----------
    x : ndarray, shape (N, C, W_in), float32
        Signals.
    kernel_size : int
        Size of the window, in samples.
    stride : int, optional
        Step between windows, in samples; `kernel_size` by default.
    padding : int, pair ``[(before, after)]``, 'valid' or 'same', default 0
        Samples around the signal that never win; at most half the window.
    dilation : int, default 1
        Step between the samples of one window.
    ceil_mode : bool, default False
        Keep a last window that reaches past the padded signal.
    return_indices : bool, default False
        Return the positions of the largest values as well.

    Returns
    -------
    y : ndarray, shape (N, C, W_out), float32
        W_out as in `max_pool2d`.
    indices : ndarray, shape (N, C, W_out), int32
        Position of the largest value; only with `return_indices`.

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`; `x` must have three dimensions.

    See Also
    --------
    max_pool2d : The same for images; more on ties and NaN.
    max_pool1d_backward : The gradient.

    Notes
    -----
    Costs one comparison per sample of a window.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.max_pool1d(np.array([[[1, 3, 2, 0]]], np.float32), 2)
    array([[[3., 2.]]], dtype=float32)
    """
    windows = _windows("max_pool1d", x, 1, kernel_size, stride, padding, dilation)
    result: FloatArray | tuple[FloatArray, IndexArray]
    result = _max_pool("max_pool1d", x, windows, ceil_mode, return_indices)
    return result


def max_pool1d_backward(
    dy: FloatArray,
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    *,
    indices: IntArray | None = None,
) -> FloatArray:
    """Return the gradient of `max_pool1d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C, W_out), float32
        Gradient of the loss with respect to the output.
    x, kernel_size, stride, padding, dilation, ceil_mode
        The arguments of the forward call.
    indices : ndarray, shape (N, C, W_out), integers, optional
        What the forward call returned with `return_indices`. Without them they are computed again.

    Returns
    -------
    ndarray, shape (N, C, W_in), float32
        Each element of `dy` goes to the sample that won its window.

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[[1, 3, 2, 0]]], np.float32)
    >>> F.max_pool1d_backward(np.array([[[5, 7]]], np.float32), x, 2)
    array([[[0., 5., 7., 0.]]], dtype=float32)
    """
    windows = _windows("max_pool1d", x, 1, kernel_size, stride, padding, dilation)
    dx: FloatArray = _max_pool_backward("max_pool1d", dy, x, windows, ceil_mode, indices)
    return dx


# ---- average ----


def avg_pool2d(
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> FloatArray:
    """Return the mean of each window of a batch of images.

    Parameters
    ----------
    x : ndarray, shape (N, C, H_in, W_in), float32
        Images.
    kernel_size : int or pair of int
        Size of the window, in pixels: one for both axes, or (height, width).
    stride : int or pair of int, optional
        Step between windows, in pixels; `kernel_size` by default.
    padding : int, pair of int, pair of pairs, 'valid' or 'same', default 0
        Pixels of value 0 around the image: for all sides, per axis, or per axis
        ``(before, after)``; at most half the window. 'valid' is 0, 'same' gives
        ``ceil(H_in / stride)`` rows.
    ceil_mode : bool, default False
        Keep a last window that reaches past the padded image.
    count_include_pad : bool, default True
        Divide by the number of pixels of the window on the padded image; False counts only those
        on the image itself.
    divisor_override : int, optional
        Divide by this number instead.

    Returns
    -------
    ndarray, shape (N, C, H_out, W_out), float32
        ``H_out = floor((H_in + padding - kernel_size) / stride) + 1``, where padding counts both
        sides; ceil in place of floor with `ceil_mode`, less a window that would begin in the
        padding after the image.

    Raises
    ------
    TypeError
        When `x` is not an array of float32, or another argument is not made of ints.
    ValueError
        When `x` does not have four dimensions or has an empty image; when a size is out of range, a
        window is larger than the padded image, padding is more than half the window, or
        `divisor_override` is 0.

    See Also
    --------
    avg_pool2d_backward : The gradient.
    avg_pool1d : The same for signals.
    adaptive_avg_pool2d : The same with the output's size given.
    convcore.nn.AvgPool2d : The same as a layer.

    Notes
    -----
    ``y[n, c, i, j] = sum over the window of x[n, c, h, w] / divisor``. Costs one addition per pixel
    of a window.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> F.avg_pool2d(x, 2)[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """
    op = "avg_pool2d"
    windows = _windows(op, x, 2, kernel_size, stride, padding)
    divisor = None if divisor_override is None else to_int(op, "divisor_override", divisor_override)
    y: FloatArray
    y = _core.avg_pool2d_forward(op, x, windows, bool(ceil_mode), bool(count_include_pad), divisor)
    return y


def avg_pool2d_backward(
    dy: FloatArray,
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> FloatArray:
    """Return the gradient of `avg_pool2d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C, H_out, W_out), float32
        Gradient of the loss with respect to the output.
    x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        The arguments of the forward call; of `x` only the shape is read.

    Returns
    -------
    ndarray, shape (N, C, H_in, W_in), float32
        Each element of `dy`, divided as in the forward pass, is added to the pixels of its window.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.zeros((1, 1, 2, 3), np.float32)
    >>> F.avg_pool2d_backward(np.full((1, 1, 1, 1), 8, np.float32), x, 2)
    array([[[[2., 2., 0.],
             [2., 2., 0.]]]], dtype=float32)
    """
    op = "avg_pool2d"
    windows = _windows(op, x, 2, kernel_size, stride, padding)
    divisor = None if divisor_override is None else to_int(op, "divisor_override", divisor_override)
    dx: FloatArray = _core.avg_pool2d_backward(
        op, dy, _shape(op, x), windows, bool(ceil_mode), bool(count_include_pad), divisor
    )
    return dx


def avg_pool1d(
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> FloatArray:
    """Return the mean of each window of a batch of signals.

    Parameters
    ----------
    x : ndarray, shape (N, C, W_in), float32
        Signals.
    kernel_size : int
        Size of the window, in samples.
    stride : int, optional
        Step between windows, in samples; `kernel_size` by default.
    padding : int, pair ``[(before, after)]``, 'valid' or 'same', default 0
        Samples of value 0 around the signal; at most half the window.
    ceil_mode : bool, default False
        Keep a last window that reaches past the padded signal.
    count_include_pad : bool, default True
        Count padding in the mean.

    Returns
    -------
    ndarray, shape (N, C, W_out), float32
        W_out as in `avg_pool2d`.

    Raises
    ------
    TypeError, ValueError
        As `avg_pool2d`; `x` must have three dimensions.

    See Also
    --------
    avg_pool2d : The same for images.
    avg_pool1d_backward : The gradient.

    Notes
    -----
    Costs one addition per sample of a window.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.avg_pool1d(np.array([[[1, 3, 2, 0]]], np.float32), 2)
    array([[[2., 1.]]], dtype=float32)
    """
    op = "avg_pool1d"
    windows = _windows(op, x, 1, kernel_size, stride, padding)
    y: FloatArray
    y = _core.avg_pool2d_forward(op, x, windows, bool(ceil_mode), bool(count_include_pad), None)
    return y


def avg_pool1d_backward(
    dy: FloatArray,
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> FloatArray:
    """Return the gradient of `avg_pool1d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C, W_out), float32
        Gradient of the loss with respect to the output.
    x, kernel_size, stride, padding, ceil_mode, count_include_pad
        The arguments of the forward call; of `x` only the shape is read.

    Returns
    -------
    ndarray, shape (N, C, W_in), float32
        Each element of `dy`, divided as in the forward pass, is added to the samples of its window.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.zeros((1, 1, 4), np.float32)
    >>> F.avg_pool1d_backward(np.array([[[2, 4]]], np.float32), x, 2)
    array([[[1., 1., 2., 2.]]], dtype=float32)
    """
    op = "avg_pool1d"
    windows = _windows(op, x, 1, kernel_size, stride, padding)
    dx: FloatArray = _core.avg_pool2d_backward(
        op, dy, _shape(op, x), windows, bool(ceil_mode), bool(count_include_pad), None
    )
    return dx


# ---- adaptive average ----


def _output_size(op: str, output_size: OutputSize) -> list[int | None]:
    pair: Any = output_size if is_sequence(output_size) else (output_size, output_size)
    if len(pair) != 2:
        raise ValueError(
            f"{op}: output_size has the wrong length: expected an int or 2 entries (ints or None), "
            f"got {output_size!r}"
        )
    return [None if size is None else to_int(op, "output_size", size) for size in pair]


def adaptive_avg_pool2d(x: FloatArray, output_size: OutputSize) -> FloatArray:
    """Return means over windows that cover a batch of images evenly, for any size of image.

    Parameters
    ----------
    x : ndarray, shape (N, C, H_in, W_in), float32
        Images.
    output_size : int, None, or pair of them
        Size of the output, in pixels: one for both axes, or (height, width). None keeps the size
        of the input.

    Returns
    -------
    ndarray, shape (N, C, H_out, W_out), float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32, or `output_size` is not made of ints and None.
    ValueError
        When `x` does not have four dimensions or has an empty image, or `output_size` is negative.

    See Also
    --------
    adaptive_avg_pool2d_backward : The gradient.
    avg_pool2d : The same with the window's size given.
    convcore.nn.AdaptiveAvgPool2d : The same as a layer.

    Notes
    -----
    Row i of the output is the mean of the rows ``floor(i * H_in / H_out)`` to
    ``ceil((i + 1) * H_in / H_out) - 1``, and the same for columns. Costs one addition per pixel of
    a window. ``output_size=1`` is global average pooling.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    >>> F.adaptive_avg_pool2d(x, 1)[0, 0]
    array([[4.]], dtype=float32)
    >>> F.adaptive_avg_pool2d(x, (None, 2))[0, 0]
    array([[0.5, 1.5],
           [3.5, 4.5],
           [6.5, 7.5]], dtype=float32)
    """
    size = _output_size("adaptive_avg_pool2d", output_size)
    y: FloatArray = _core.adaptive_avg_pool2d_forward(x, size)
    return y


def adaptive_avg_pool2d_backward(
    dy: FloatArray, x: FloatArray, output_size: OutputSize
) -> FloatArray:
    """Return the gradient of `adaptive_avg_pool2d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C, H_out, W_out), float32
        Gradient of the loss with respect to the output.
    x, output_size
        The arguments of the forward call; of `x` only the shape is read.

    Returns
    -------
    ndarray, shape (N, C, H_in, W_in), float32
        Each element of `dy`, divided by the pixels of its window, is added to them.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.zeros((1, 1, 2, 2), np.float32)
    >>> F.adaptive_avg_pool2d_backward(np.full((1, 1, 1, 1), 8, np.float32), x, 1)
    array([[[[2., 2.],
             [2., 2.]]]], dtype=float32)
    """
    op = "adaptive_avg_pool2d"
    size = _output_size(op, output_size)
    dx: FloatArray = _core.adaptive_avg_pool2d_backward(dy, _shape(op, x), size)
    return dx


# ---- trainable subsampling ----


def subsampling2d(
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None = None,
    kernel_size: IntOrPair = 2,
    stride: IntOrPair | None = None,
) -> FloatArray:
    """Return the sum of each window, times a coefficient and plus a bias of the channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, H_in, W_in), float32
        Images.
    weight : ndarray, shape (C,), float32
        Coefficient of each channel.
    bias : ndarray, shape (C,), float32, optional
        What is added to each channel.
    kernel_size : int or pair of int, default 2
        Size of the window, in pixels: one for both axes, or (height, width).
    stride : int or pair of int, optional
        Step between windows, in pixels; `kernel_size` by default.

    Returns
    -------
    ndarray, shape (N, C, H_out, W_out), float32
        ``H_out = floor((H_in - kernel_size) / stride) + 1``, likewise W_out.

    Raises
    ------
    TypeError
        When an array is not float32, or another argument is not made of ints.
    ValueError
        When the shapes do not fit, a size is out of range, or the window is larger than the image.

    See Also
    --------
    subsampling2d_backward : The gradients.
    avg_pool2d : The same with the fixed coefficient 1 / (size of the window).
    convcore.nn.Subsampling2d : The same as a layer.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE, 1998, section II.B: the layers S2 and S4.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    >>> F.subsampling2d(x, np.array([0.5], np.float32), np.array([10], np.float32))
    array([[[[13.]]]], dtype=float32)
    """
    windows = _windows("subsampling2d", x, 2, kernel_size, stride, 0)
    return _core.subsampling2d_forward(x, weight, bias, windows)


def subsampling2d_backward(
    dy: FloatArray,
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None = None,
    kernel_size: IntOrPair = 2,
    stride: IntOrPair | None = None,
    *,
    need_dx: bool = True,
    need_dweight: bool = True,
    need_dbias: bool = True,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """Return the gradients of `subsampling2d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C, H_out, W_out), float32
        Gradient of the loss with respect to the output.
    x, weight, bias, kernel_size, stride
        The arguments of the forward call.
    need_dx, need_dweight, need_dbias : bool, default True
        False leaves that gradient out (None in its place).

    Returns
    -------
    dx : ndarray, shape (N, C, H_in, W_in), or None
    dweight : ndarray, shape (C,), or None
    dbias : ndarray, shape (C,), or None
        None when `bias` is None.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output, or as for `subsampling2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x, weight = np.ones((1, 1, 2, 2), np.float32), np.array([0.5], np.float32)
    >>> dx, dweight, dbias = F.subsampling2d_backward(np.ones((1, 1, 1, 1), np.float32), x, weight)
    >>> dx
    array([[[[0.5, 0.5],
             [0.5, 0.5]]]], dtype=float32)
    >>> dweight, dbias
    (array([4.], dtype=float32), None)
    """
    windows = _windows("subsampling2d", x, 2, kernel_size, stride, 0)
    expect_bias("subsampling2d_backward", bias, weight, ("bias", "weight"))
    with_bias = need_dbias and bias is not None
    return _core.subsampling2d_backward(dy, x, weight, windows, need_dx, need_dweight, with_bias)


# ---- stochastic ----


@overload
def stochastic_pool2d(
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    training: bool = True,
    *,
    key: tuple[int, int] | None = None,
    return_indices: Literal[False] = False,
) -> FloatArray: ...


@overload
def stochastic_pool2d(
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    training: bool = True,
    *,
    key: tuple[int, int] | None = None,
    return_indices: Literal[True],
) -> tuple[FloatArray, IndexArray]: ...


def stochastic_pool2d(
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    training: bool = True,
    *,
    key: tuple[int, int] | None = None,
    return_indices: bool = False,
) -> FloatArray | tuple[FloatArray, IndexArray]:
    """Return one value of each window, drawn with a probability in proportion to it.

    Parameters
    ----------
    x : ndarray, shape (N, C, H_in, W_in), float32
        Activations of at least 0, as after `relu`. A negative one is never drawn: it counts as 0.
    kernel_size : int or pair of int
        Size of the window, in pixels: one for both axes, or (height, width).
    stride : int or pair of int, optional
        Step between windows, in pixels; `kernel_size` by default.
    training : bool, default True
        False: return the mean of each window with the probabilities as weights,
        ``sum(a**2) / sum(a)``.
    key : convcore.random.RandomKey, optional
        The stream of random numbers, ``(seed, stream)``. By default the next one of
        `convcore.manual_seed`.
    return_indices : bool, default False
        Return the drawn positions as well (in training only).

    Returns
    -------
    y : ndarray, shape (N, C, H_out, W_out), float32
        ``H_out = floor((H_in - kernel_size) / stride) + 1``, likewise W_out. 0 where a window has
        no value above 0.
    indices : ndarray, shape (N, C, H_out, W_out), int32
        ``h * W_in + w`` of what was drawn; of a window without a value above 0 its first pixel.

    Raises
    ------
    TypeError
        When `x` is not an array of float32, or a size is not an int.
    ValueError
        When the shapes do not fit, `key` is not one, or indices are asked for outside of training.

    See Also
    --------
    stochastic_pool2d_backward : The gradient.
    convcore.nn.StochasticPool2d : The same as a layer.

    Notes
    -----
    The draw is a pure function of the key and the place of the output: the first position, in
    row-major order, up to which the values sum to more than u times the sum of the window. Output
    j of row R of the outputs (counted through all planes) takes u, uniform in [0, 1), from number
    ``j % 4`` of Philox block ``R * ceil(W_out / 4) + j // 4``.

    References
    ----------
    Zeiler and Fergus, "Stochastic pooling for regularization of deep convolutional neural
    networks", ICLR 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[[[1, 0], [0, 3]]]], np.float32)
    >>> draws = [F.stochastic_pool2d(x, 2, key=(0, i)).item() for i in range(1000)]
    >>> sorted(set(draws)), 0.7 < draws.count(3) / 1000 < 0.8
    ([1.0, 3.0], True)
    >>> F.stochastic_pool2d(x, 2, training=False)
    array([[[[2.5]]]], dtype=float32)
    """
    op = "stochastic_pool2d"
    windows = _windows(op, x, 2, kernel_size, stride, 0)
    if return_indices and not training:
        raise ValueError(f"{op}: return_indices is for training: expected False, got True")
    seed, stream = (0, 0)
    if training:
        seed, stream = next_key() if key is None else checked_key(op, "key", key)
    y, indices = _core.stochastic_pool2d_forward(x, windows, bool(training), seed, stream)
    return (y, indices) if return_indices and indices is not None else y


def stochastic_pool2d_backward(
    dy: FloatArray,
    x: FloatArray,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    training: bool = True,
    *,
    key: tuple[int, int] | None = None,
    indices: IntArray | None = None,
) -> FloatArray:
    """Return the gradient of `stochastic_pool2d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C, H_out, W_out), float32
        Gradient of the loss with respect to the output.
    x, kernel_size, stride, training
        The arguments of the forward call.
    key : convcore.random.RandomKey, optional
        The key of the forward call, with which the positions are drawn again.
    indices : ndarray, shape (N, C, H_out, W_out), integers, optional
        What the forward call drew; then `key` and the values of `x` are not read.

    Returns
    -------
    ndarray, shape of `x`, float32
        Each element of `dy` goes to the drawn position. Outside of training the gradient of the
        weighted mean y: ``dy * (2 * a - y) / sum(a)`` for each value a above 0.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output, when key and indices are missing in
        training, or an index is not in the window of its output.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[[[0, 0], [0, 3]]]], np.float32)
    >>> F.stochastic_pool2d_backward(np.ones((1, 1, 1, 1), np.float32), x, 2, key=(0, 0))
    array([[[[0., 0.],
             [0., 1.]]]], dtype=float32)
    """
    op = "stochastic_pool2d"
    windows = _windows(op, x, 2, kernel_size, stride, 0)
    if not training:
        return _core.stochastic_pool2d_backward(dy, x, windows)
    if indices is None:
        if key is None:
            raise ValueError(
                f"{op}_backward: key and indices are missing: expected one of the forward call, "
                "got None"
            )
        seed, stream = checked_key(f"{op}_backward", "key", key)
        indices = _core.stochastic_pool2d_forward(x, windows, True, seed, stream)[1]
    dx: FloatArray = _max_pool_backward(op, dy, x, windows, False, indices)
    return dx


# ---- norms ----


def lp_pool2d(
    x: FloatArray,
    norm_type: float,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    ceil_mode: bool = False,
) -> FloatArray:
    """Return the p-norm of each window, ``(sum of x**p)**(1 / p)``.

    Parameters
    ----------
    x : ndarray, shape (N, C, H_in, W_in), float32
        Images.
    norm_type : float
        p, above 0. 1 is the sum, 2 the Euclidean norm; the larger, the nearer to the maximum.
    kernel_size : int or pair of int
        Size of the window, in pixels: one for both axes, or (height, width).
    stride : int or pair of int, optional
        Step between windows, in pixels; `kernel_size` by default.
    ceil_mode : bool, default False
        Keep a last window that reaches past the image, with the pixels that there are. (torch
        scales it up to the size of a whole window.)

    Returns
    -------
    ndarray, shape (N, C, H_out, W_out), float32
        ``H_out = floor((H_in - kernel_size) / stride) + 1``, ceil with `ceil_mode`; likewise W_out.

    Raises
    ------
    TypeError
        When `x` is not an array of float32, or a parameter has the wrong type.
    ValueError
        When the shapes do not fit or a parameter is out of range.

    See Also
    --------
    lp_pool2d_backward : The gradient.
    convcore.nn.LPPool2d : The same as a layer.

    Notes
    -----
    As in torch there are no absolute values: under an odd p other than 1 a negative sum has no
    root, and the result is NaN; under a p that is no integer, so is a negative `x`.

    References
    ----------
    Sermanet, Chintala and LeCun, "Convolutional neural networks applied to house numbers digit
    classification", ICPR 2012. The parameters are those of ``torch.nn.functional.lp_pool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.lp_pool2d(np.array([[[[1, 1], [1, 1]]]], np.float32), 2, 2)
    array([[[[2.]]]], dtype=float32)
    """
    windows = _windows("lp_pool2d", x, 2, kernel_size, stride, 0)
    p = to_float("lp_pool2d", "norm_type", norm_type)
    return _core.lp_pool2d_forward(x, p, windows, bool(ceil_mode))


def lp_pool2d_backward(
    dy: FloatArray,
    x: FloatArray,
    norm_type: float,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    ceil_mode: bool = False,
) -> FloatArray:
    """Return the gradient of `lp_pool2d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C, H_out, W_out), float32
        Gradient of the loss with respect to the output.
    x, norm_type, kernel_size, stride, ceil_mode
        The arguments of the forward call.

    Returns
    -------
    ndarray, shape of `x`, float32
        ``dy * y**(1 - p) * x**(p - 1)``, added up over the windows; 0 from a window whose y is 0,
        where there is no gradient (unless p is 1).

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output, or as for `lp_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[[[3, 4], [0, 0]]]], np.float32)
    >>> F.lp_pool2d_backward(np.ones((1, 1, 1, 1), np.float32), x, 2, 2)
    array([[[[0.6, 0.8],
             [0. , 0. ]]]], dtype=float32)
    """
    windows = _windows("lp_pool2d", x, 2, kernel_size, stride, 0)
    p = to_float("lp_pool2d_backward", "norm_type", norm_type)
    return _core.lp_pool2d_backward(dy, x, p, windows, bool(ceil_mode))


# ---- adaptive max ----


@overload
def adaptive_max_pool2d(
    x: FloatArray, output_size: OutputSize, return_indices: Literal[False] = False
) -> FloatArray: ...


@overload
def adaptive_max_pool2d(
    x: FloatArray, output_size: OutputSize, return_indices: Literal[True]
) -> tuple[FloatArray, IndexArray]: ...


def adaptive_max_pool2d(
    x: FloatArray, output_size: OutputSize, return_indices: bool = False
) -> FloatArray | tuple[FloatArray, IndexArray]:
    """Return maxima of windows that cover a batch of images evenly, for any size of image.

    Parameters
    ----------
    x : ndarray, shape (N, C, H_in, W_in), float32
        Images.
    output_size : int, or pair of int or None
        H_out and W_out: one for both, or a pair; None keeps the size of the input.
    return_indices : bool, default False
        Return the positions of the largest values as well.

    Returns
    -------
    y : ndarray, shape (N, C, H_out, W_out), float32
    indices : ndarray, shape (N, C, H_out, W_out), int32
        ``h * W_in + w`` of the largest value; only with `return_indices`.

    Raises
    ------
    TypeError
        When `x` is not an array of float32, or `output_size` is not made of ints and None.
    ValueError
        When `x` does not have four dimensions or has an empty image, or `output_size` is negative.

    See Also
    --------
    adaptive_max_pool2d_backward : The gradient.
    adaptive_avg_pool2d : Means over the same windows.
    convcore.nn.AdaptiveMaxPool2d : The same as a layer.

    Notes
    -----
    The windows are those of `adaptive_avg_pool2d`; equal values and NaN are treated as in
    `max_pool2d`. ``output_size=1`` is global max pooling.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    >>> F.adaptive_max_pool2d(x, 1)[0, 0]
    array([[8.]], dtype=float32)
    >>> F.adaptive_max_pool2d(x, (None, 2))[0, 0]
    array([[1., 2.],
           [4., 5.],
           [7., 8.]], dtype=float32)
    """
    size = _output_size("adaptive_max_pool2d", output_size)
    y, indices = _core.adaptive_max_pool2d_forward(x, size, bool(return_indices))
    return y if indices is None else (y, indices)


def adaptive_max_pool2d_backward(
    dy: FloatArray,
    x: FloatArray,
    output_size: OutputSize,
    *,
    indices: IntArray | None = None,
) -> FloatArray:
    """Return the gradient of `adaptive_max_pool2d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C, H_out, W_out), float32
        Gradient of the loss with respect to the output.
    x, output_size
        The arguments of the forward call.
    indices : ndarray, shape (N, C, H_out, W_out), integers, optional
        What the forward gave with ``return_indices=True``; then only the shape of `x` is read.

    Returns
    -------
    ndarray, shape (N, C, H_in, W_in), float32
        Each element of `dy` is added to the pixel that won its window.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output, or an index is not in the image.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[[[1, 2], [4, 3]]]], np.float32)
    >>> F.adaptive_max_pool2d_backward(np.full((1, 1, 1, 1), 8, np.float32), x, 1)
    array([[[[0., 0.],
             [8., 0.]]]], dtype=float32)
    """
    op = "adaptive_max_pool2d"
    size, shape = _output_size(op, output_size), _shape(op, x)
    needed_x = x if indices is None else None
    return _core.adaptive_max_pool2d_backward(dy, shape, needed_x, indices, size)

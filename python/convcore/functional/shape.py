"""flatten, the elementwise sum of two branches, channels of zeros, and pixels around images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from convcore import _core
from convcore._arrays import DeviceArray, from_dlpack, is_array
from convcore.functional._arguments import (
    FloatArray,
    IntOrPair,
    is_sequence,
    to_float,
    to_int,
    to_str,
    to_tuple,
)


def add(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return ``a + b``, the sum of two branches of a network.

    Parameters
    ----------
    a, b : ndarray, any one shape, float32
        Summands. Shapes are not broadcast.

    Returns
    -------
    ndarray, shape of `a`, float32

    Raises
    ------
    TypeError
        When an argument is not an array of float32.
    ValueError
        When the shapes differ.

    See Also
    --------
    add_backward : The gradients.
    convcore.nn.Residual : A sum of a body and a shortcut.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.add(np.array([1, 2], np.float32), np.array([10, 20], np.float32))
    array([11., 22.], dtype=float32)
    """
    return _core.add_forward(a, b)


def add_backward(dy: FloatArray, a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the gradients of `add`: `dy`, twice.

    Parameters
    ----------
    dy : ndarray, shape of `a`, float32
        Gradient of the loss with respect to the sum.
    a, b
        The arguments of the forward call.

    Returns
    -------
    da, db : ndarray, shape of `a`, float32
        Both are `dy` itself, not copies, when it is C-contiguous: do not write to them.

    Raises
    ------
    TypeError
        When an argument is not an array of float32.
    ValueError
        When the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> dy = np.ones(2, np.float32)
    >>> da, db = F.add_backward(dy, dy, dy)
    >>> da is dy and db is dy
    True
    """
    gradient = _core.add_backward(dy, a, b)
    return gradient, gradient


def flatten(x: FloatArray, start_dim: int = 0, end_dim: int = -1) -> FloatArray:
    """Join the dimensions from `start_dim` to `end_dim` into one.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Input.
    start_dim, end_dim : int, default 0 and -1
        First and last dimension to join; negative counts from the end.

    Returns
    -------
    ndarray, float32
        A view of `x` when it is C-contiguous, otherwise a copy in order. An array without
        dimensions becomes one of shape (1,).

    Raises
    ------
    TypeError
        When `x` is not an array of float32, or a dimension not an int.
    ValueError
        When `x` has no such dimensions, or `start_dim` comes after `end_dim`.

    See Also
    --------
    flatten_backward : The gradient.
    convcore.nn.Flatten : The same as a layer, by default from dimension 1 on.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.zeros((8, 16, 5, 5), np.float32)
    >>> F.flatten(x, 1).shape
    (8, 400)
    """
    array = _as_float32("flatten", "x", x)
    return array.reshape(_flattened("flatten", array.shape, start_dim, end_dim))


def flatten_backward(
    dy: FloatArray, x: FloatArray, start_dim: int = 0, end_dim: int = -1
) -> FloatArray:
    """Return the gradient of `flatten`: `dy` in the shape of `x`.

    Parameters
    ----------
    dy : ndarray, float32
        Gradient of the loss with respect to the output.
    x, start_dim, end_dim
        The arguments of the forward call; only the shape of `x` is read.

    Returns
    -------
    ndarray, shape of `x`, float32
        A view of `dy` when it is C-contiguous.

    Raises
    ------
    TypeError
        When an argument has the wrong type or dtype.
    ValueError
        As in `flatten`, and when `dy` does not have the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.zeros((8, 16, 5, 5), np.float32)
    >>> F.flatten_backward(F.flatten(x, 1), x, 1).shape
    (8, 16, 5, 5)
    """
    op = "flatten_backward"
    gradient, array = _as_float32(op, "dy", dy), _as_float32(op, "x", x)
    expected = _flattened(op, array.shape, start_dim, end_dim)
    if gradient.shape != expected:
        raise ValueError(
            f"{op}: dy has the wrong shape: expected {expected} (the shape of the output), "
            f"got {gradient.shape}"
        )
    return gradient.reshape(array.shape)


def pad_channels(x: FloatArray, padding: IntOrPair, stride: IntOrPair = 1) -> FloatArray:
    """Return every `stride`-th pixel, with channels of zeros before and after.

    Parameters
    ----------
    x : ndarray, shape (N, C, H_in, W_in), float32
        Images.
    padding : int or pair of int
        Number of channels on both ends, or (before, after).
    stride : int or pair of int, default 1
        Distance of the pixels that are kept.

    Returns
    -------
    ndarray, shape (N, before + C + after, H_out, W_out), float32
        ``H_out = ceil(H_in / stride)``, the size that a 3x3 convolution with padding 1 gives.

    Raises
    ------
    TypeError
        When `x` is not an array of float32, or another argument not made of ints.
    ValueError
        When `x` does not have four dimensions, `padding` is negative or `stride` not positive.

    See Also
    --------
    pad_channels_backward : The gradient.
    convcore.nn.PadChannels : The same as a layer.

    References
    ----------
    He et al., "Deep residual learning for image recognition", CVPR 2016: the shortcut of option A.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    >>> F.pad_channels(x, 1, stride=2)[0, :, 0]
    array([[0., 0.],
           [0., 2.],
           [0., 0.]], dtype=float32)
    """
    op = "pad_channels"
    y: FloatArray = _core.pad_channels_forward(
        x, to_tuple(op, "padding", padding, 2), to_tuple(op, "stride", stride, 2)
    )
    return y


def pad_channels_backward(
    dy: FloatArray, x: FloatArray, padding: IntOrPair, stride: IntOrPair = 1
) -> FloatArray:
    """Return the gradient of `pad_channels`: `dy` where a pixel was kept, else 0.

    Parameters
    ----------
    dy : ndarray, shape (N, before + C + after, H_out, W_out), float32
        Gradient of the loss with respect to the output.
    x, padding, stride
        The arguments of the forward call; of `x` only the shape is read.

    Returns
    -------
    ndarray, shape (N, C, H_in, W_in), float32

    Raises
    ------
    TypeError, ValueError
        As in `pad_channels`, and when `dy` does not have the shape of the output.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> dy = np.arange(6, dtype=np.float32).reshape(1, 3, 1, 2)
    >>> F.pad_channels_backward(dy, np.zeros((1, 1, 1, 4), np.float32), 1, stride=2)
    array([[[[2., 0., 3., 0.]]]], dtype=float32)
    """
    op = "pad_channels"
    shape = tuple(getattr(x, "shape", ()))
    dx: FloatArray = _core.pad_channels_backward(
        dy, shape, to_tuple(op, "padding", padding, 2), to_tuple(op, "stride", stride, 2)
    )
    return dx


def _flattened(op: str, shape: tuple[int, ...], start_dim: int, end_dim: int) -> tuple[int, ...]:
    """Return `shape` with the dimensions from `start_dim` to `end_dim` joined."""
    rank = max(len(shape), 1)
    first, last = (
        _dimension(op, name, dim, rank, shape)
        for name, dim in (("start_dim", start_dim), ("end_dim", end_dim))
    )
    if first > last:
        raise ValueError(
            f"{op}: start_dim comes after end_dim: expected start_dim <= end_dim, "
            f"got {start_dim} and {end_dim} (x has shape {shape})"
        )
    return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])


def _dimension(op: str, name: str, dim: int, rank: int, shape: tuple[int, ...]) -> int:
    """Return `dim` counted from the front."""
    dim = to_int(op, name, dim)
    if not -rank <= dim < rank:
        raise ValueError(
            f"{op}: {name} is out of range: expected {-rank} to {rank - 1} (x has shape {shape}), "
            f"got {dim}"
        )
    return dim % rank


def _as_float32(op: str, name: str, array: object) -> FloatArray:
    """Check what the bindings check for the ops in C++; no copy."""
    if not is_array(array) and hasattr(array, "__dlpack__"):
        array = from_dlpack(array)
    if not isinstance(array, (np.ndarray, DeviceArray)):
        raise TypeError(
            f"{op}: {name} is not an array: expected a numpy.ndarray of float32, "
            f"got {type(array).__name__}"
        )
    if array.dtype != np.float32:
        raise TypeError(
            f"{op}: {name} has the wrong dtype: expected float32, "
            f"got {array.dtype} (convert it with .astype(numpy.float32))"
        )
    return cast("FloatArray", array)


def channels_last(x: FloatArray) -> FloatArray:
    """Return the same images with their memory in channels-last order.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W), float32

    Returns
    -------
    ndarray, shape (N, C, H, W), float32
        Equal to `x`; its memory lies in the order (N, H, W, C), which its strides tell. `x` itself
        when it lies so already.

    Raises
    ------
    ValueError
        When `x` does not have four dimensions.

    Notes
    -----
    Convolutions with many channels work in this order. They take and give arrays of either order
    and convert where they must, so there is no need to call this; it saves one conversion when the
    same images go through several times. ``numpy.ascontiguousarray`` is the way back.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.zeros((2, 16, 8, 8), np.float32)
    >>> F.channels_last(x).shape, F.channels_last(x).strides
    ((2, 16, 8, 8), (4096, 4, 512, 64))
    """
    return _core.channels_last(x)


def _sides(op: str, x: object, pad: Sequence[int]) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right from torch's order, which begins with the last axis."""
    if not is_sequence(pad) or len(pad) not in (2, 4):
        raise ValueError(
            f"{op}: pad has the wrong length: expected (left, right) or "
            f"(left, right, top, bottom), got {pad!r}"
        )
    numbers = [to_int(op, "pad", p) for p in pad]
    left, right, top, bottom = numbers if len(numbers) == 4 else (*numbers, 0, 0)
    return top, bottom, left, right


def pad(
    x: FloatArray, pad: Sequence[int], mode: str = "constant", value: float = 0.0
) -> FloatArray:
    """Add pixels around images.

    Parameters
    ----------
    x : ndarray, shape (N, C, H_in, W_in) or (N, C, W_in), float32
        Images, or sequences, which are padded along W alone.
    pad : (left, right) or (left, right, top, bottom)
        Pixels on each side, at least 0, in torch's order: the last axis comes first.
    mode : {'constant', 'reflect', 'replicate', 'circular'}, default 'constant'
        What the new pixels are: `value`; the image mirrored about its edge pixel, which is not
        repeated (``c b | a b c | b a``); the edge pixel (``a a | a b c | c c``); or the image
        repeated (``b c | a b c | a b``).
    value : float, default 0.0
        Of the mode 'constant'.

    Returns
    -------
    ndarray, shape (N, C, top + H_in + bottom, left + W_in + right), float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32 or `pad` is not made of ints.
    ValueError
        When `pad` is negative, at least the size of the image for 'reflect', or larger than it for
        'circular'; or when `mode` has no such value.

    See Also
    --------
    pad_backward : The gradient.
    convcore.nn.Conv2d : Its ``padding_mode`` is this.

    References
    ----------
    The meaning of the parameters is that of ``torch.nn.functional.pad``.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[[1, 2, 3]]], np.float32)
    >>> for mode in ("constant", "reflect", "replicate", "circular"):
    ...     print(F.pad(x, (2, 1), mode)[0, 0])
    [0. 0. 1. 2. 3. 0.]
    [3. 2. 1. 2. 3. 2.]
    [1. 1. 1. 2. 3. 3.]
    [2. 3. 1. 2. 3. 1.]
    """
    sides = _sides("pad", x, pad)
    return _core.pad_forward(x, sides, to_str("pad", "mode", mode), to_float("pad", "value", value))


def pad_backward(
    dy: FloatArray,
    x: FloatArray,
    pad: Sequence[int],
    mode: str = "constant",
    value: float = 0.0,
) -> FloatArray:
    """Return the gradient of `pad`.

    Parameters
    ----------
    dy : ndarray, shape of the output, float32
        Gradient of the loss with respect to the output.
    x, pad, mode, value
        The arguments of the forward call; of `x` only the shape is read.

    Returns
    -------
    ndarray, shape of `x`, float32
        For each pixel, the sum of `dy` over the pixels that were made from it.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output, or as for `pad`.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x, dy = np.zeros((1, 1, 3), np.float32), np.ones((1, 1, 6), np.float32)
    >>> F.pad_backward(dy, x, (2, 1), "replicate")
    array([[[3., 1., 2.]]], dtype=float32)
    """
    op = "pad_backward"
    sides = _sides(op, x, pad)
    return _core.pad_backward(dy, tuple(np.shape(x)), sides, to_str(op, "mode", mode))

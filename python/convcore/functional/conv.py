"""Convolution in one and two dimensions."""

from __future__ import annotations

from convcore import _core
from convcore.functional._arguments import (
    FloatArray,
    IntOrPair,
    Padding,
    expect_bias,
    spatial_size,
    to_int,
    to_padding,
    to_str,
    to_tuple,
)


def _parameters(
    op: str,
    axes: int,
    x: FloatArray,
    w: FloatArray,
    stride: IntOrPair,
    padding: Padding,
    dilation: IntOrPair,
    groups: int,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """Return stride, padding (before and after each axis), dilation and groups in plain form."""
    strides = to_tuple(op, "stride", stride, axes)
    dilations = to_tuple(op, "dilation", dilation, axes)
    pads = to_padding(
        op, padding, spatial_size(op, x, axes), spatial_size(op, w, axes), strides, dilations
    )
    return strides, tuple(p for pair in pads for p in pair), dilations, to_int(op, "groups", groups)


def conv2d(
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    algo: str = "auto",
) -> FloatArray:
    """Convolve images with a bank of filters (cross-correlation, as in all such libraries).

    Parameters
    ----------
    x : ndarray, shape (N, C_in, H_in, W_in), float32
        Images.
    w : ndarray, shape (C_out, C_in / groups, KH, KW), float32
        Filters.
    b : ndarray, shape (C_out,), float32, optional
        Bias.
    stride : int or (int, int), default 1
        Pixels from one window to the next, along H and W.
    padding : int, (int, int), ((int, int), (int, int)), 'valid' or 'same', default 0
        Pixels of zeros around the image: for all sides, for H and W, or
        ``((top, bottom), (left, right))``. ``'same'`` pads so that H_out = ceil(H_in / stride); an
        odd pixel goes to the bottom or right (torch's rule at stride 1, TensorFlow's with stride).
    dilation : int or (int, int), default 1
        Pixels from one tap of the filter to the next.
    groups : int, default 1
        The channels are cut into this many groups that do not see each other;
        ``groups = C_in`` is the depthwise convolution.
    algo : {'auto', 'planar', 'direct', 'gemm', 'winograd', 'winograd2x2'}, default 'auto'
        The algorithm. ``'auto'`` chooses by the shape alone, so that the bits are the same every
        time, unless a file of ``convcore tune`` says what was measured; ``CONVCORE_VERBOSE=1``
        shows the choice. docs/kernels.md explains the others.

    Returns
    -------
    ndarray, shape (N, C_out, H_out, W_out), float32
        ``H_out = floor((H_in + top + bottom - dilation * (KH - 1) - 1) / stride) + 1``, likewise
        W_out. With many channels the memory is in channels-last order (see `channels_last`).

    Raises
    ------
    TypeError
        When an array is not float32 or a parameter is not an int.
    ValueError
        When the shapes do not fit together, a parameter is out of range, or the dilated filter is
        larger than the padded image.

    See Also
    --------
    conv2d_backward : The gradients.
    convcore.nn.Conv2d : The same as a layer with parameters.

    Notes
    -----
    With ``h = i * stride + r * dilation - top`` and ``v = j * stride + s * dilation - left``::

        y[n, k, i, j] = b[k] + sum over c, r, s of w[k, c, r, s] * x[n, c, h, v]

    Costs N * C_out * H_out * W_out * (C_in / groups) * KH * KW multiply-adds.

    References
    ----------
    The meaning of the parameters is that of ``torch.nn.functional.conv2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    >>> w = np.ones((1, 1, 2, 2), np.float32)
    >>> F.conv2d(x, w)
    array([[[[ 8., 12.],
             [20., 24.]]]], dtype=float32)
    """
    parameters = _parameters("conv2d", 2, x, w, stride, padding, dilation, groups)
    return _core.conv2d_forward(x, w, b, *parameters, to_str("conv2d", "algo", algo))


def conv2d_backward(
    dy: FloatArray,
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    algo: str = "auto",
    need_dx: bool = True,
    need_dw: bool = True,
    need_db: bool = True,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """Return the gradients of `conv2d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C_out, H_out, W_out), float32
        Gradient of the loss with respect to the output.
    x, w, b, stride, padding, dilation, groups, algo
        The arguments of the forward call.
    need_dx, need_dw, need_db : bool, default True
        False leaves that gradient out (None in its place).

    Returns
    -------
    dx : ndarray, shape (N, C_in, H_in, W_in), or None
    dw : ndarray, shape (C_out, C_in / groups, KH, KW), or None
    db : ndarray, shape (C_out,), or None
        None when `b` is None.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output, or `b` not one value per output channel.

    Notes
    -----
    Each of dx and dw costs as many multiply-adds as the forward pass. Sums run in an order that
    does not depend on the number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)
    >>> dx, dw, db = F.conv2d_backward(np.ones((1, 1, 2, 2), np.float32), x, w)
    >>> dx
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]], dtype=float32)
    >>> dw, db
    (array([[[[4., 4.],
             [4., 4.]]]], dtype=float32), None)
    """
    expect_bias("conv2d_backward", b, w)
    return _core.conv2d_backward(
        dy,
        x,
        w,
        *_parameters("conv2d", 2, x, w, stride, padding, dilation, groups),
        to_str("conv2d_backward", "algo", algo),
        need_dx,
        need_dw,
        need_db and b is not None,
    )


def conv1d(
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> FloatArray:
    """Convolve sequences with a bank of filters: `conv2d` with one spatial axis.

    Parameters
    ----------
    x : ndarray, shape (N, C_in, L_in), float32
        Sequences.
    w : ndarray, shape (C_out, C_in / groups, K), float32
        Filters.
    b : ndarray, shape (C_out,), float32, optional
        Bias.
    stride, dilation : int or (int,), default 1
        As in `conv2d`, in elements.
    padding : int, (int,), ((int, int),), 'valid' or 'same', default 0
        As in `conv2d`; ``((before, after),)`` for unequal ends.
    groups : int, default 1
        As in `conv2d`.

    Returns
    -------
    ndarray, shape (N, C_out, L_out), float32
        ``L_out = floor((L_in + before + after - dilation * (K - 1) - 1) / stride) + 1``

    Raises
    ------
    TypeError, ValueError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[[1, 2, 4, 8]]], np.float32)
    >>> F.conv1d(x, np.array([[[-1, 1]]], np.float32))
    array([[[1., 2., 4.]]], dtype=float32)
    """
    return _core.conv1d_forward(
        x, w, b, *_parameters("conv1d", 1, x, w, stride, padding, dilation, groups)
    )


def conv1d_backward(
    dy: FloatArray,
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    need_dx: bool = True,
    need_dw: bool = True,
    need_db: bool = True,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """Return the gradients of `conv1d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C_out, L_out), float32
        Gradient of the loss with respect to the output.
    x, w, b, stride, padding, dilation, groups
        The arguments of the forward call.
    need_dx, need_dw, need_db : bool, default True
        False leaves that gradient out (None in its place).

    Returns
    -------
    dx, dw, db : ndarray or None
        In the shapes of `x`, `w` and `b`.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output, or `b` not one value per output channel.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x, w = np.array([[[1, 2, 4]]], np.float32), np.array([[[-1, 1]]], np.float32)
    >>> dx, dw, _ = F.conv1d_backward(np.ones((1, 1, 2), np.float32), x, w)
    >>> dx, dw
    (array([[[-1.,  0.,  1.]]], dtype=float32), array([[[3., 6.]]], dtype=float32))
    """
    expect_bias("conv1d_backward", b, w)
    return _core.conv1d_backward(
        dy,
        x,
        w,
        *_parameters("conv1d", 1, x, w, stride, padding, dilation, groups),
        need_dx,
        need_dw,
        need_db and b is not None,
    )


def _flat_padding(op: str, padding: Padding, x: FloatArray, w: FloatArray) -> tuple[int, ...]:
    """Return the padding of a convolution of stride 1 as top, bottom, left, right."""
    pads = to_padding(op, padding, spatial_size(op, x, 2), spatial_size(op, w, 2), (1, 1), (1, 1))
    return tuple(p for pair in pads for p in pair)


def conv2d_relu_max_pool2d(
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | None = None,
    padding: Padding = 0,
) -> FloatArray:
    """Return ``max_pool2d(relu(conv2d(x, w, b, padding=padding)), 2)`` in one pass over the images.

    The convolution has stride 1; its result, four times as large as `y`, is never stored.

    Parameters
    ----------
    x : ndarray, shape (N, C_in, H_in, W_in), float32
        Images.
    w : ndarray, shape (C_out, C_in, KH, KW), float32
        Filters.
    b : ndarray, shape (C_out,), float32, optional
        Bias.
    padding : int, (int, int), ((int, int), (int, int)), 'valid' or 'same', default 0
        As in `conv2d`.

    Returns
    -------
    ndarray, shape (N, C_out, H_out, W_out), float32
        ``H_out = (H_in + top + bottom - KH + 1) // 2``, likewise W_out. With many output channels
        the memory is in channels-last order (see `channels_last`).

    Raises
    ------
    TypeError
        When an array is not float32 or the padding is not made of ints.
    ValueError
        When the shapes do not fit together, or the convolution gives less than 2 x 2 pixels.

    See Also
    --------
    conv2d, relu, max_pool2d : The operations one by one.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    >>> w = np.ones((1, 1, 2, 2), np.float32)
    >>> F.conv2d_relu_max_pool2d(x, w)
    array([[[[24.]]]], dtype=float32)
    """
    op = "conv2d_relu_max_pool2d"
    return _core.conv_pool_forward(x, w, b, _flat_padding(op, padding, x, w))


def conv2d_relu_max_pool2d_backward(
    dy: FloatArray,
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | None = None,
    padding: Padding = 0,
    *,
    need_dx: bool = True,
) -> tuple[FloatArray | None, FloatArray, FloatArray | None]:
    """Return the gradients of `conv2d_relu_max_pool2d`.

    Parameters
    ----------
    dy : ndarray, shape (N, C_out, H_out, W_out), float32
        Gradient of the loss with respect to the output.
    x, w, b, padding
        The arguments of the forward call.
    need_dx : bool, default True
        False leaves the gradient of `x` out (None in its place).

    Returns
    -------
    dx : ndarray, shape (N, C_in, H_in, W_in), or None
    dw : ndarray, shape (C_out, C_in, KH, KW)
    db : ndarray, shape (C_out,), or None
        None when `b` is None.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output, or `b` not one value per output channel.

    Notes
    -----
    Runs the forward pass again, to learn which pixel won in each window. Then only the winners that
    passed the ReLU are visited. Sums run in an order that does not depend on the number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    >>> w = np.ones((1, 1, 2, 2), np.float32)
    >>> dx, dw, db = F.conv2d_relu_max_pool2d_backward(np.ones((1, 1, 1, 1), np.float32), x, w)
    >>> dx
    array([[[[0., 0., 0.],
             [0., 1., 1.],
             [0., 1., 1.]]]], dtype=float32)
    >>> dw, db
    (array([[[[4., 5.],
             [7., 8.]]]], dtype=float32), None)
    """
    op = "conv2d_relu_max_pool2d"
    dx, dw, db = _core.conv_pool_backward(dy, x, w, b, _flat_padding(op, padding, x, w), need_dx)
    return dx, dw, db if b is not None else None

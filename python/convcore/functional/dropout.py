"""Dropout."""

from __future__ import annotations

from convcore import _core
from convcore.functional._arguments import FloatArray, to_float
from convcore.random import checked_key, next_key


def _backward_key(op: str, p: float, key: tuple[int, int] | None) -> tuple[int, int]:
    if key is None and p > 0:
        raise ValueError(f"{op}: key is missing: expected the key of the forward call, got None")
    return checked_key(op, "key", (0, 0) if key is None else key)


def dropout(
    x: FloatArray,
    p: float = 0.5,
    training: bool = True,
    *,
    key: tuple[int, int] | None = None,
) -> FloatArray:
    """Set each element to 0 with probability `p` and scale the others by ``1 / (1 - p)``.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Input.
    p : float, default 0.5
        Probability of a zero, from 0 to 1, dimensionless.
    training : bool, default True
        False: return `x` itself.
    key : convcore.random.RandomKey, optional
        The stream of random numbers, ``(seed, stream)``. By default the next one of
        `convcore.manual_seed`. Whoever needs the gradient takes a key first
        (`convcore.random.next_key`) and hands it to both functions.

    Returns
    -------
    ndarray, the shape of `x`, float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32 or `p` is not a number.
    ValueError
        When `p` is not a probability or `key` is not one.

    See Also
    --------
    dropout_backward : The gradient.
    convcore.nn.Dropout : The same as a layer.

    Notes
    -----
    Element i (in row-major order) is dropped when random number i of the stream, uniform in [0, 1)
    with 24 bits, is less than `p`: the mask depends on key and position alone. A dropped element is
    `x` times 0, so NaN stays NaN, as in torch. Costs a quarter of a Philox block per element.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.dropout(np.ones(8, np.float32), 0.5, key=(0, 0))
    array([0., 2., 2., 2., 2., 0., 2., 0.], dtype=float32)
    """
    p = to_float("dropout", "p", p)
    if not training:
        return _core.dropout_identity("dropout", x, p)
    seed, stream = next_key() if key is None else checked_key("dropout", "key", key)
    return _core.dropout_forward(x, p, seed, stream)


def dropout_backward(
    dy: FloatArray,
    x: FloatArray,
    p: float = 0.5,
    training: bool = True,
    *,
    key: tuple[int, int] | None = None,
) -> FloatArray:
    """Return the gradient of `dropout`.

    Parameters
    ----------
    dy : ndarray, the shape of `x`, float32
        Gradient of the loss with respect to the output.
    x, p, training
        The arguments of the forward call.
    key : convcore.random.RandomKey
        The key of the forward call, from which the mask is made again. Needed in training when `p`
        is not 0.

    Returns
    -------
    ndarray, the shape of `x`, float32
        ``dy * mask / (1 - p)``; `dy` itself outside training.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of `x`, when the key is missing, or as for `dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore
    >>> import convcore.functional as F
    >>> x, dy = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    >>> key = convcore.random.next_key()
    >>> y = F.dropout(x, 0.5, key=key)
    >>> bool((F.dropout_backward(dy, x, 0.5, key=key) == y).all())
    True
    """
    p = to_float("dropout_backward", "p", p)
    if not training:
        return _core.dropout_identity("dropout_backward", dy, p)
    seed, stream = _backward_key("dropout_backward", p, key)
    return _core.dropout_backward(dy, x, p, seed, stream)


def dropout2d(
    x: FloatArray,
    p: float = 0.5,
    training: bool = True,
    *,
    key: tuple[int, int] | None = None,
) -> FloatArray:
    """Set whole channels of images to 0 with probability `p`; scale the others by ``1 / (1 - p)``.

    Parameters
    ----------
    x : ndarray, shape (N, C, ...), float32
        Images.
    p : float, default 0.5
        Probability of a zero, from 0 to 1, dimensionless.
    training : bool, default True
        False: return `x` itself.
    key : convcore.random.RandomKey, optional
        The stream of random numbers, ``(seed, stream)``, as for `dropout`.

    Returns
    -------
    ndarray, the shape of `x`, float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32 or `p` is not a number.
    ValueError
        When `x` has less than two dimensions, `p` is not a probability or `key` is not one.

    See Also
    --------
    dropout2d_backward : The gradient.
    dropout : The same for single values.
    convcore.nn.Dropout2d : The same as a layer.

    Notes
    -----
    The pixels of a feature map are so alike that dropping single ones hides little. Channel c of
    image n takes random number ``n * C + c`` of the stream.

    References
    ----------
    Tompson, Goroshin, Jain, LeCun and Bregler, "Efficient object localization using convolutional
    networks", CVPR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.dropout2d(np.ones((1, 4, 1, 2), np.float32), 0.5, key=(0, 0))[0, :, 0]
    array([[0., 0.],
           [2., 2.],
           [2., 2.],
           [2., 2.]], dtype=float32)
    """
    p = to_float("dropout2d", "p", p)
    if not training:
        return _core.dropout_identity("dropout2d", x, p)
    seed, stream = next_key() if key is None else checked_key("dropout2d", "key", key)
    return _core.dropout2d_forward(x, p, seed, stream)


def dropout2d_backward(
    dy: FloatArray,
    x: FloatArray,
    p: float = 0.5,
    training: bool = True,
    *,
    key: tuple[int, int] | None = None,
) -> FloatArray:
    """Return the gradient of `dropout2d`.

    Parameters
    ----------
    dy : ndarray, the shape of `x`, float32
        Gradient of the loss with respect to the output.
    x, p, training
        The arguments of the forward call.
    key : convcore.random.RandomKey
        The key of the forward call, from which the mask is made again. Needed in training when `p`
        is not 0.

    Returns
    -------
    ndarray, the shape of `x`, float32
        ``dy * mask / (1 - p)``; `dy` itself outside training.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of `x`, when the key is missing, or as for `dropout2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore
    >>> import convcore.functional as F
    >>> x = np.ones((2, 3, 4, 4), np.float32)
    >>> key = convcore.random.next_key()
    >>> y = F.dropout2d(x, 0.5, key=key)
    >>> bool((F.dropout2d_backward(x, x, 0.5, key=key) == y).all())
    True
    """
    p = to_float("dropout2d_backward", "p", p)
    if not training:
        return _core.dropout_identity("dropout2d_backward", dy, p)
    seed, stream = _backward_key("dropout2d_backward", p, key)
    return _core.dropout2d_backward(dy, x, p, seed, stream)

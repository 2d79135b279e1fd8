"""softmax and log_softmax along any dimension."""

from __future__ import annotations

from convcore import _core
from convcore.functional._arguments import FloatArray, to_int


def softmax(x: FloatArray, dim: int = -1) -> FloatArray:
    """Return ``exp(x)`` divided by its sum along `dim`.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Input, for example logits of shape (N, C).
    dim : int, default -1
        The dimension along which the results add up to 1; negative counts from the end.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32, or `dim` not an int.
    ValueError
        When `x` has no such dimension.

    See Also
    --------
    softmax_backward : The gradient.
    log_softmax : The logarithm of this, more accurate than ``log(softmax(x))``.
    convcore.nn.Softmax : The same as a layer.

    Notes
    -----
    The maximum is subtracted first, so that nothing overflows. NaN or +inf in a row, or a row of
    -inf only, makes the whole row NaN, as in torch. Costs one exp per element.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.softmax(np.array([[0, 0], [1000, 0]], np.float32))
    array([[0.5, 0.5],
           [1. , 0. ]], dtype=float32)
    """
    return _core.softmax_forward(x, to_int("softmax", "dim", dim))


def softmax_backward(
    dy: FloatArray, x: FloatArray | None, dim: int = -1, *, saved: FloatArray | None = None
) -> FloatArray:
    """Return the gradient of `softmax`: ``y * (dy - sum(dy * y))``.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x : ndarray, float32
        The argument of the forward call; may be None when `saved` is given.
    dim : int, default -1
        As in the forward call.
    saved : ndarray, shape of `x`, float32, optional
        The output of the forward call, which is computed again otherwise.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When an argument is not an array of float32, or `dim` not an int.
    ValueError
        When the shapes differ, or `x` has no such dimension.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.softmax_backward(np.array([1, 0], np.float32), np.zeros(2, np.float32))
    array([ 0.25, -0.25], dtype=float32)
    """
    return _core.softmax_backward(dy, x, to_int("softmax_backward", "dim", dim), saved)


def log_softmax(x: FloatArray, dim: int = -1) -> FloatArray:
    """Return the logarithm of `softmax`: ``x - log(sum(exp(x)))`` along `dim`.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Input, for example logits of shape (N, C).
    dim : int, default -1
        The dimension of the sum; negative counts from the end.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32, or `dim` not an int.
    ValueError
        When `x` has no such dimension.

    See Also
    --------
    log_softmax_backward : The gradient.
    cross_entropy : This and the choice of the label's element in one op.
    convcore.nn.LogSoftmax : The same as a layer.

    Notes
    -----
    Costs one exp per element and one log per row.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.log_softmax(np.array([[1000, 0]], np.float32))
    array([[    0., -1000.]], dtype=float32)
    """
    return _core.log_softmax_forward(x, to_int("log_softmax", "dim", dim))


def log_softmax_backward(
    dy: FloatArray, x: FloatArray | None, dim: int = -1, *, saved: FloatArray | None = None
) -> FloatArray:
    """Return the gradient of `log_softmax`: ``dy - exp(y) * sum(dy)``.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x : ndarray, float32
        The argument of the forward call; may be None when `saved` is given.
    dim : int, default -1
        As in the forward call.
    saved : ndarray, shape of `x`, float32, optional
        The output of the forward call, which is computed again otherwise.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When an argument is not an array of float32, or `dim` not an int.
    ValueError
        When the shapes differ, or `x` has no such dimension.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.log_softmax_backward(np.array([1, 0], np.float32), np.zeros(2, np.float32))
    array([ 0.5, -0.5], dtype=float32)
    """
    return _core.log_softmax_backward(dy, x, to_int("log_softmax_backward", "dim", dim), saved)

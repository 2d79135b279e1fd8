"""The dense layer."""

from __future__ import annotations

from convcore import _core
from convcore.functional._arguments import FloatArray, expect_bias


def linear(x: FloatArray, w: FloatArray, b: FloatArray | None = None) -> FloatArray:
    """Apply a dense layer: ``y = x @ w.T + b``.

    Parameters
    ----------
    x : ndarray, shape (..., I), float32
        Input; all leading dimensions are samples.
    w : ndarray, shape (O, I), float32
        Weight.
    b : ndarray, shape (O,), float32, optional
        Bias.

    Returns
    -------
    ndarray, shape (..., O), float32

    Raises
    ------
    TypeError
        When an argument is not an array of float32.
    ValueError
        When the shapes do not fit together.

    See Also
    --------
    linear_backward : The gradients.
    convcore.nn.Linear : The same as a layer with parameters.

    Notes
    -----
    Costs I * O multiply-adds per sample.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.ones((2, 3), np.float32)
    >>> w = np.array([[1, 2, 3], [0, 0, 1]], np.float32)
    >>> F.linear(x, w, np.array([10, 20], np.float32))
    array([[16., 21.],
           [16., 21.]], dtype=float32)
    """
    return _core.linear_forward(x, w, b)


def linear_backward(
    dy: FloatArray,
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | None = None,
    *,
    need_dx: bool = True,
    need_dw: bool = True,
    need_db: bool = True,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """Return the gradients of `linear`.

    Parameters
    ----------
    dy : ndarray, shape (..., O), float32
        Gradient of the loss with respect to the output.
    x, w, b
        The arguments of the forward call.
    need_dx, need_dw, need_db : bool, default True
        False leaves that gradient out (None in its place).

    Returns
    -------
    dx : ndarray, shape (..., I), or None
        ``dy @ w``
    dw : ndarray, shape (O, I), or None
        ``dy.T @ x``, summed over all samples
    db : ndarray, shape (O,), or None
        ``dy`` summed over all samples; None when `b` is None

    Raises
    ------
    ValueError
        When `dy` does not have the shape of the output, or `b` not one value per output.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x, w = np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)
    >>> dx, dw, db = F.linear_backward(np.ones((2, 1), np.float32), x, w)
    >>> dw, db
    (array([[2., 2., 2.]], dtype=float32), None)
    """
    expect_bias("linear_backward", b, w)
    return _core.linear_backward(dy, x, w, need_dx, need_dw, need_db and b is not None)

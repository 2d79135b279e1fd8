"""Activations: functions of each element."""

from __future__ import annotations

from convcore import _core
from convcore.functional._arguments import FloatArray, to_float


def relu(x: FloatArray) -> FloatArray:
    """Return ``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Input.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32.

    See Also
    --------
    relu_backward : The gradient.
    convcore.nn.ReLU : The same as a layer.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.relu(np.array([-1, 0, 2], np.float32))
    array([0., 0., 2.], dtype=float32)
    """
    return _core.relu_forward(x, 0.0)


def relu_backward(
    dy: FloatArray, x: FloatArray | None, *, saved: FloatArray | None = None
) -> FloatArray:
    """Return the gradient of `relu`: `dy`, and 0 where ``x <= 0``.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x : ndarray, float32
        The argument of the forward call; may be None when `saved` is given.
    saved : ndarray, shape of `x`, float32, optional
        The output of the forward call, which gives the same gradient: a layer need not keep `x`.

    Returns
    -------
    ndarray, shape of `x`, float32

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
    >>> F.relu_backward(np.ones(3, np.float32), np.array([-1, 0, 2], np.float32))
    array([0., 0., 1.], dtype=float32)
    """
    return _core.relu_backward(dy, x, saved, 0.0)


def leaky_relu(x: FloatArray, negative_slope: float = 0.01) -> FloatArray:
    """Return `x` where it is positive and ``negative_slope * x`` elsewhere.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Input.
    negative_slope : float, default 0.01
        Slope below zero, dimensionless.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32.

    See Also
    --------
    leaky_relu_backward : The gradient.
    convcore.nn.LeakyReLU : The same as a layer.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.leaky_relu(np.array([-1, 0, 2], np.float32), negative_slope=0.5)
    array([-0.5,  0. ,  2. ], dtype=float32)
    """
    return _core.leaky_relu_forward(x, to_float("leaky_relu", "negative_slope", negative_slope))


def leaky_relu_backward(dy: FloatArray, x: FloatArray, negative_slope: float = 0.01) -> FloatArray:
    """Return the gradient of `leaky_relu`: `dy`, times `negative_slope` unless ``x > 0``.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x, negative_slope
        The arguments of the forward call.

    Returns
    -------
    ndarray, shape of `x`, float32

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
    >>> F.leaky_relu_backward(np.ones(3, np.float32), np.array([-1, 0, 2], np.float32), 0.5)
    array([0.5, 0.5, 1. ], dtype=float32)
    """
    slope = to_float("leaky_relu_backward", "negative_slope", negative_slope)
    return _core.leaky_relu_backward(dy, x, None, slope)


def tanh(x: FloatArray) -> FloatArray:
    """Return the hyperbolic tangent of each element.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Input.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32.

    See Also
    --------
    tanh_backward : The gradient.
    convcore.nn.Tanh : The same as a layer.

    Notes
    -----
    The error is at most 1.4 units in the last place (``csrc/cpu/math.h``).

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.tanh(np.array([-np.inf, 0, np.inf], np.float32))
    array([-1.,  0.,  1.], dtype=float32)
    """
    return _core.tanh_forward(x, 0.0)


def tanh_backward(
    dy: FloatArray, x: FloatArray | None, *, saved: FloatArray | None = None
) -> FloatArray:
    """Return the gradient of `tanh`: ``dy * (1 - y**2)`` with ``y = tanh(x)``.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x : ndarray, float32
        The argument of the forward call; may be None when `saved` is given.
    saved : ndarray, shape of `x`, float32, optional
        The output of the forward call, which is computed again otherwise.

    Returns
    -------
    ndarray, shape of `x`, float32

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
    >>> F.tanh_backward(np.ones(2, np.float32), np.array([0, np.inf], np.float32))
    array([1., 0.], dtype=float32)
    """
    return _core.tanh_backward(dy, x, saved, 0.0)


def sigmoid(x: FloatArray) -> FloatArray:
    """Return the logistic function ``1 / (1 + exp(-x))`` of each element.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Input.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32.

    See Also
    --------
    sigmoid_backward : The gradient.
    convcore.nn.Sigmoid : The same as a layer.

    Notes
    -----
    The error is at most 2.4 units in the last place (``csrc/cpu/math.h``).

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.sigmoid(np.array([-np.inf, 0, np.inf], np.float32))
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return _core.sigmoid_forward(x, 0.0)


def sigmoid_backward(
    dy: FloatArray, x: FloatArray | None, *, saved: FloatArray | None = None
) -> FloatArray:
    """Return the gradient of `sigmoid`: ``dy * y * (1 - y)`` with ``y = sigmoid(x)``.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x : ndarray, float32
        The argument of the forward call; may be None when `saved` is given.
    saved : ndarray, shape of `x`, float32, optional
        The output of the forward call, which is computed again otherwise.

    Returns
    -------
    ndarray, shape of `x`, float32

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
    >>> F.sigmoid_backward(np.ones(2, np.float32), np.array([0, np.inf], np.float32))
    array([0.25, 0.  ], dtype=float32)
    """
    return _core.sigmoid_backward(dy, x, saved, 0.0)

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
    return _core.relu_forward(x, 0.0, 0.0)


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
    return _core.relu_backward(dy, x, saved, 0.0, 0.0)


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
    return _core.leaky_relu_forward(
        x, to_float("leaky_relu", "negative_slope", negative_slope), 0.0
    )


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
    return _core.leaky_relu_backward(dy, x, None, slope, 0.0)


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
    return _core.tanh_forward(x, 0.0, 0.0)


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
    return _core.tanh_backward(dy, x, saved, 0.0, 0.0)


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
    return _core.sigmoid_forward(x, 0.0, 0.0)


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
    return _core.sigmoid_backward(dy, x, saved, 0.0, 0.0)


def scaled_tanh(x: FloatArray, alpha: float = 1.7159, beta: float = 2 / 3) -> FloatArray:
    """Return ``alpha * tanh(beta * x)``.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Input.
    alpha : float, default 1.7159
        The limit for large `x`, not 0.
    beta : float, default 2/3
        Factor of `x`, dimensionless.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32, or `alpha` or `beta` is not a number.
    ValueError
        When `alpha` is 0.

    See Also
    --------
    scaled_tanh_backward : The gradient.
    convcore.nn.ScaledTanh : The same as a layer.

    Notes
    -----
    The default is the squashing function of LeNet-5: with it, f(1) = 1 and f(-1) = -1, so targets
    of +-1 lie where the curvature is largest, and not at the limits. The name is that of ONNX.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE, 1998, equation (6) and appendix A.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.scaled_tanh(np.array([-1, 0, 1, 100], np.float32)).round(3)
    array([-1.   ,  0.   ,  1.   ,  1.716], dtype=float32)
    """
    op = "scaled_tanh"
    return _core.scaled_tanh_forward(x, to_float(op, "alpha", alpha), to_float(op, "beta", beta))


def scaled_tanh_backward(
    dy: FloatArray,
    x: FloatArray | None,
    alpha: float = 1.7159,
    beta: float = 2 / 3,
    *,
    saved: FloatArray | None = None,
) -> FloatArray:
    """Return the gradient of `scaled_tanh`: ``dy * beta * (alpha - y**2 / alpha)``.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x, alpha, beta
        The arguments of the forward call; `x` may be None when `saved` is given.
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
        When the shapes differ, or `alpha` is 0.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.scaled_tanh_backward(np.ones(2, np.float32), np.array([0, 50], np.float32), 2.0, 0.5)
    array([1., 0.], dtype=float32)
    """
    op = "scaled_tanh_backward"
    numbers = to_float(op, "alpha", alpha), to_float(op, "beta", beta)
    return _core.scaled_tanh_backward(dy, x, saved, *numbers)


def elu(x: FloatArray, alpha: float = 1.0) -> FloatArray:
    """Return `x` where it is positive and ``alpha * (exp(x) - 1)`` elsewhere.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Input.
    alpha : float, default 1.0
        The limit for very negative `x` is ``-alpha``.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32 or `alpha` is not a number.

    See Also
    --------
    elu_backward : The gradient.
    convcore.nn.ELU : The same as a layer.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential
    linear units (ELUs)", ICLR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.elu(np.array([-np.inf, 0, 2], np.float32))
    array([-1.,  0.,  2.], dtype=float32)
    """
    return _core.elu_forward(x, to_float("elu", "alpha", alpha), 0.0)


def elu_backward(dy: FloatArray, x: FloatArray, alpha: float = 1.0) -> FloatArray:
    """Return the gradient of `elu`: `dy`, times ``alpha * exp(x)`` unless ``x > 0``.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x, alpha
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
    >>> F.elu_backward(np.ones(3, np.float32), np.array([-np.inf, 0, 2], np.float32), 0.5)
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return _core.elu_backward(dy, x, None, to_float("elu_backward", "alpha", alpha), 0.0)


#: Whether the normal distribution is computed or approximated by a tanh.
APPROXIMATIONS = ("none", "tanh")


def _is_approximate(op: str, approximate: object) -> bool:
    if approximate in APPROXIMATIONS:
        return approximate == "tanh"
    raise ValueError(
        f"{op}: approximate is not known: expected 'none' or 'tanh', got {approximate!r}"
    )


def gelu(x: FloatArray, approximate: str = "none") -> FloatArray:
    """Return `x` times the probability that a standard normal number is less than `x`.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Input.
    approximate : {'none', 'tanh'}, default 'none'
        'tanh' returns ``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2``, which is
        cheaper and differs by less than 0.0005.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When `x` is not an array of float32.
    ValueError
        When `approximate` has no such value.

    See Also
    --------
    gelu_backward : The gradient.
    convcore.nn.GELU : The same as a layer.

    Notes
    -----
    The result is right relative to itself, also where it is tiny (``csrc/cpu/math.h``). At -inf it
    is the limit, 0, where torch returns NaN.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian error linear units (GELUs)", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.gelu(np.array([-1, 0, 1], np.float32)).round(4)
    array([-0.1587,  0.    ,  0.8413], dtype=float32)
    """
    if _is_approximate("gelu", approximate):
        return _core.gelu_tanh_forward(x, 0.0, 0.0)
    return _core.gelu_forward(x, 0.0, 0.0)


def gelu_backward(dy: FloatArray, x: FloatArray, approximate: str = "none") -> FloatArray:
    """Return the gradient of `gelu`.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x, approximate
        The arguments of the forward call.

    Returns
    -------
    ndarray, shape of `x`, float32
        ``dy * (P(x) + x * p(x))`` with the normal distribution P and its density p.

    Raises
    ------
    TypeError
        When an argument is not an array of float32.
    ValueError
        When the shapes differ, or `approximate` has no such value.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.gelu_backward(np.ones(3, np.float32), np.array([-1, 0, 1], np.float32)).round(4)
    array([-0.0833,  0.5   ,  1.0833], dtype=float32)
    """
    if _is_approximate("gelu_backward", approximate):
        return _core.gelu_tanh_backward(dy, x, None, 0.0, 0.0)
    return _core.gelu_backward(dy, x, None, 0.0, 0.0)


def silu(x: FloatArray) -> FloatArray:
    """Return `x` times its logistic function, ``x / (1 + exp(-x))``; also called swish.

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
    silu_backward : The gradient.
    convcore.nn.SiLU : The same as a layer.

    Notes
    -----
    At -inf the result is the limit, 0, where torch returns NaN.

    References
    ----------
    Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning", Neural Networks, 2018; Ramachandran, Zoph and Le,
    "Searching for activation functions", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.silu(np.array([-np.inf, 0, 100], np.float32)) + 0
    array([  0.,   0., 100.], dtype=float32)
    """
    return _core.silu_forward(x, 0.0, 0.0)


def silu_backward(dy: FloatArray, x: FloatArray) -> FloatArray:
    """Return the gradient of `silu`: ``dy * s * (1 + x * (1 - s))`` with ``s = sigmoid(x)``.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x : ndarray, float32
        The argument of the forward call.

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
    >>> F.silu_backward(np.ones(2, np.float32), np.array([0, 100], np.float32))
    array([0.5, 1. ], dtype=float32)
    """
    return _core.silu_backward(dy, x, None, 0.0, 0.0)

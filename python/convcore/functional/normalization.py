"""Batch normalisation."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np

from convcore import _core
from convcore.functional._arguments import FloatArray, to_float

#: What the forward normalised with: mean and 1 / sqrt(var + eps), each (C,).
Saved = tuple[FloatArray, FloatArray]


@overload
def batch_norm(
    x: FloatArray,
    running_mean: FloatArray | None = None,
    running_var: FloatArray | None = None,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    return_saved: Literal[False] = False,
) -> FloatArray: ...


@overload
def batch_norm(
    x: FloatArray,
    running_mean: FloatArray | None = None,
    running_var: FloatArray | None = None,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    return_saved: Literal[True],
) -> tuple[FloatArray, Saved]: ...


def batch_norm(
    x: FloatArray,
    running_mean: FloatArray | None = None,
    running_var: FloatArray | None = None,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    return_saved: bool = False,
) -> FloatArray | tuple[FloatArray, Saved]:
    """Scale each channel to mean 0 and variance 1, then by `weight`, and add `bias`.

    Parameters
    ----------
    x : ndarray, shape (N, C) or (N, C, ...), float32
        Input; a channel is normalised over the samples and all dimensions after C.
    running_mean, running_var : ndarray, shape (C,), float32, optional
        Statistics over the batches so far. In training they are updated in place (they must be
        C-contiguous and writeable then); otherwise they are what `x` is normalised with.
    weight, bias : ndarray, shape (C,), float32, optional
        Scale and offset after normalisation; without them 1 and 0.
    training : bool, default False
        Normalise with the statistics of this batch.
    momentum : float, default 0.1
        Share of this batch in the running statistics, dimensionless.
    eps : float, default 1e-5
        Added to the variance.
    return_saved : bool, default False
        Also return what `batch_norm_backward` would otherwise have to compute again.

    Returns
    -------
    y : ndarray, the shape of `x`, float32
    saved : tuple (mean, rstd) of ndarray, shape (C,), float32
        With ``return_saved=True`` only: the mean and ``1 / sqrt(var + eps)`` used.

    Raises
    ------
    TypeError
        When an argument is not an array of float32.
    ValueError
        When the shapes do not fit together, when running statistics are missing outside training
        or cannot be written in training or share memory with each other or with `x`, when a channel
        has a single value in training, when `momentum` is not from 0 to 1, or when `eps` is
        negative (in training also: zero).

    See Also
    --------
    batch_norm_backward : The gradients.
    convcore.nn.BatchNorm2d : The same as a layer with parameters.

    Notes
    -----
    ``y = (x - mean) / sqrt(var + eps) * weight + bias``. In training, with m values per channel,
    var is the sum of squares divided by m, and ::

        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * m / (m - 1)

    The sums run in float64. An empty batch leaves the running statistics alone. Costs two passes
    over `x` in training, one otherwise.

    References
    ----------
    S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", ICML 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[1, 10], [3, 30]], np.float32)
    >>> mean, var = np.zeros(2, np.float32), np.ones(2, np.float32)
    >>> F.batch_norm(x, mean, var, training=True, eps=1e-12)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    >>> mean, var
    (array([0.2, 2. ], dtype=float32), array([ 1.1, 20.9], dtype=float32))
    """
    if training:
        _expect_own_memory(x, running_mean, running_var)
    y, mean, rstd = _core.batch_norm_forward(
        x,
        running_mean,
        running_var,
        weight,
        bias,
        bool(training),
        to_float("batch_norm", "momentum", momentum),
        to_float("batch_norm", "eps", eps),
    )
    return (y, (mean, rstd)) if return_saved else y


def batch_norm_backward(
    dy: FloatArray,
    x: FloatArray,
    running_mean: FloatArray | None = None,
    running_var: FloatArray | None = None,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    saved: Saved | None = None,
    need_dx: bool = True,
    need_dweight: bool = True,
    need_dbias: bool = True,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """Return the gradients of `batch_norm`.

    Parameters
    ----------
    dy : ndarray, the shape of `x`, float32
        Gradient of the loss with respect to the output.
    x, running_mean, running_var, weight, bias, training, momentum, eps
        The arguments of the forward call. Nothing is written.
    saved : tuple (mean, rstd), optional
        What the forward returned with ``return_saved=True``. Without it the statistics of the batch
        are computed again in training, and the running ones are taken otherwise.
    need_dx, need_dweight, need_dbias : bool, default True
        False leaves that gradient out (None in its place).

    Returns
    -------
    dx : ndarray, the shape of `x`, or None
    dweight : ndarray, shape (C,), or None
        None when `weight` is None.
    dbias : ndarray, shape (C,), or None
        None when `bias` is None. The running statistics get no gradient.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of `x`, when `saved` is not a pair of arrays, or as for
        `batch_norm`.

    Notes
    -----
    With ``xhat = (x - mean) * rstd`` and sums over the m values of a channel::

        dweight = sum(dy * xhat)
        dbias = sum(dy)
        dx = weight * rstd * (dy - dbias / m - xhat * dweight / m)    in training
        dx = weight * rstd * dy                                       otherwise

    The sums run in float64. Costs two passes over `dy` and `x`.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[1, 10], [3, 30]], np.float32)
    >>> weight, bias = np.ones(2, np.float32), np.zeros(2, np.float32)
    >>> dy = np.array([[1, 0], [3, 0]], np.float32)
    >>> dx, dweight, dbias = F.batch_norm_backward(
    ...     dy, x, None, None, weight, bias, training=True, eps=1e-12)
    >>> dx
    array([[0., 0.],
           [0., 0.]], dtype=float32)
    >>> dweight, dbias
    (array([2., 0.], dtype=float32), array([4., 0.], dtype=float32))
    """
    mean, rstd = (None, None) if saved is None else _checked_saved(saved)
    return _core.batch_norm_backward(
        dy,
        x,
        running_mean,
        running_var,
        weight,
        bool(training),
        to_float("batch_norm", "momentum", momentum),
        to_float("batch_norm", "eps", eps),
        mean,
        rstd,
        need_dx,
        need_dweight and weight is not None,
        need_dbias and bias is not None,
    )


def _expect_own_memory(x: object, running_mean: object, running_var: object) -> None:
    """Raise when the running statistics, which are written, may be the memory of another array."""
    pairs = (
        ("running_mean", running_mean, "running_var", running_var),
        ("running_mean", running_mean, "x", x),
        ("running_var", running_var, "x", x),
    )
    for name, array, other_name, other in pairs:
        both = isinstance(array, np.ndarray) and isinstance(other, np.ndarray)
        if both and np.may_share_memory(array, other):
            raise ValueError(
                f"batch_norm: {name} shares memory with {other_name}: expected memory of its own "
                "(it is written in training), got an overlap"
            )


def _checked_saved(saved: Any) -> Saved:
    """Return ``(mean, rstd)``; the op checks the arrays themselves."""
    is_pair = isinstance(saved, (tuple, list)) and len(saved) == 2
    if not is_pair or any(array is None for array in saved):
        raise ValueError(
            "batch_norm_backward: saved is not what the forward returned: expected two arrays "
            f"(mean, rstd), got {saved!r}"
        )
    mean, rstd = saved
    return mean, rstd

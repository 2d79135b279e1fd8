"""Batch, group and layer normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from convcore import _core
from convcore.functional._arguments import FloatArray, is_sequence, to_float, to_int

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


# ---- group norm, layer norm ----

#: What one sample was normalised with: mean and 1 / standard deviation per group.
GroupSaved = tuple[FloatArray, FloatArray]


@overload
def group_norm(
    x: FloatArray,
    num_groups: int,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    eps: float = 1e-5,
    *,
    return_saved: Literal[False] = False,
) -> FloatArray: ...


@overload
def group_norm(
    x: FloatArray,
    num_groups: int,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    eps: float = 1e-5,
    *,
    return_saved: Literal[True],
) -> tuple[FloatArray, GroupSaved]: ...


def group_norm(
    x: FloatArray,
    num_groups: int,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    eps: float = 1e-5,
    *,
    return_saved: bool = False,
) -> FloatArray | tuple[FloatArray, GroupSaved]:
    """Scale each group of channels of each sample to mean 0 and variance 1.

    Parameters
    ----------
    x : ndarray, shape (N, C, ...), float32
        Input.
    num_groups : int
        Into how many groups of neighbouring channels C is cut. 1 normalises over the whole sample,
        C over each channel (instance norm).
    weight, bias : ndarray, shape (C,), float32, optional
        Factor and summand of each channel afterwards; 1 and 0 by default.
    eps : float, default 1e-5
        Added to the variance.
    return_saved : bool, default False
        Also return what `group_norm_backward` takes as ``saved=``.

    Returns
    -------
    y : ndarray, shape of `x`, float32
    saved : (mean, rstd), each ndarray, shape (N, num_groups), float32
        Only with ``return_saved=True``.

    Raises
    ------
    TypeError
        When an array is not float32 or another argument has the wrong type.
    ValueError
        When `x` has less than two dimensions, C is no multiple of `num_groups`, or the shapes do
        not fit.

    See Also
    --------
    group_norm_backward : The gradients.
    batch_norm : Statistics over the batch, per channel.
    layer_norm : Statistics over the last dimensions.
    convcore.nn.GroupNorm : The same as a layer.

    Notes
    -----
    Samples do not see each other, and training and evaluation do the same: it works with batches
    of any size.

    References
    ----------
    Wu and He, "Group normalization", ECCV 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.group_norm(np.array([[1, 3, 5, 9]], np.float32), 2, eps=0)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    op = "group_norm"
    y, mean, rstd = _core.group_norm_forward(
        x, to_int(op, "num_groups", num_groups), weight, bias, to_float(op, "eps", eps)
    )
    return (y, (mean, rstd)) if return_saved else y


def group_norm_backward(
    dy: FloatArray,
    x: FloatArray,
    num_groups: int,
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    eps: float = 1e-5,
    *,
    saved: GroupSaved | None = None,
    need_dx: bool = True,
    need_dweight: bool = True,
    need_dbias: bool = True,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """Return the gradients of `group_norm`.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x, num_groups, weight, bias, eps
        The arguments of the forward call.
    saved : (mean, rstd), optional
        What ``group_norm(..., return_saved=True)`` gave; computed again otherwise.
    need_dx, need_dweight, need_dbias : bool, default True
        False leaves that gradient out (None in its place).

    Returns
    -------
    dx : ndarray, shape of `x`, or None
    dweight, dbias : ndarray, shape (C,), or None
        None when the parameter is None.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of `x`, or as for `group_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x, dy = np.array([[1, 3, 5, 9]], np.float32), np.ones((1, 4), np.float32)
    >>> dx, dweight, dbias = F.group_norm_backward(dy, x, 2, np.ones(4, np.float32), dy[0], eps=0)
    >>> dweight, dbias
    (array([-1.,  1., -1.,  1.], dtype=float32), array([1., 1., 1., 1.], dtype=float32))
    """
    op = "group_norm_backward"
    groups, tiny = to_int(op, "num_groups", num_groups), to_float(op, "eps", eps)
    _expect_parameter(op, "bias", bias, tuple(np.shape(x))[1:2])
    mean, rstd = (None, None) if saved is None else saved
    return _core.group_norm_backward(
        dy,
        x,
        groups,
        weight,
        tiny,
        mean,
        rstd,
        need_dx,
        need_dweight and weight is not None,
        need_dbias and bias is not None,
    )


def _expect_parameter(op: str, name: str, value: object, shape: tuple[int, ...]) -> None:
    """Raise when `value`, which a backward pass does not read, does not have `shape`."""
    got = getattr(value, "shape", shape)
    if tuple(got) != shape:
        raise ValueError(
            f"{op}: {name} has the wrong shape: expected {shape} (one value per normalized "
            f"element), got {tuple(got)}"
        )


def _sizes(op: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    if is_sequence(normalized_shape):
        return tuple(to_int(op, "normalized_shape", size) for size in normalized_shape)  # type: ignore[union-attr]
    return (to_int(op, "normalized_shape", normalized_shape),)


@overload
def layer_norm(
    x: FloatArray,
    normalized_shape: int | Sequence[int],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    eps: float = 1e-5,
    *,
    return_saved: Literal[False] = False,
) -> FloatArray: ...


@overload
def layer_norm(
    x: FloatArray,
    normalized_shape: int | Sequence[int],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    eps: float = 1e-5,
    *,
    return_saved: Literal[True],
) -> tuple[FloatArray, GroupSaved]: ...


def layer_norm(
    x: FloatArray,
    normalized_shape: int | Sequence[int],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    eps: float = 1e-5,
    *,
    return_saved: bool = False,
) -> FloatArray | tuple[FloatArray, GroupSaved]:
    """Scale the last dimensions of each sample to mean 0 and variance 1.

    Parameters
    ----------
    x : ndarray, shape (..., *normalized_shape), float32
        Input.
    normalized_shape : int or sequence of int
        The sizes of the last dimensions, over which mean and variance are taken.
    weight, bias : ndarray, shape `normalized_shape`, float32, optional
        Factor and summand of each element afterwards; 1 and 0 by default.
    eps : float, default 1e-5
        Added to the variance.
    return_saved : bool, default False
        Also return what `layer_norm_backward` takes as ``saved=``.

    Returns
    -------
    y : ndarray, shape of `x`, float32
    saved : (mean, rstd), each ndarray, shape (samples, 1), float32
        Only with ``return_saved=True``.

    Raises
    ------
    TypeError
        When an array is not float32 or another argument has the wrong type.
    ValueError
        When `x` does not end with `normalized_shape`, or the shapes do not fit.

    See Also
    --------
    layer_norm_backward : The gradients.
    group_norm : Statistics over groups of channels.
    convcore.nn.LayerNorm : The same as a layer.

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.layer_norm(np.array([[1, 3], [5, 9]], np.float32), 2, eps=0)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """
    op = "layer_norm"
    sizes, tiny = _sizes(op, normalized_shape), to_float(op, "eps", eps)
    y, mean, rstd = _core.layer_norm_forward(x, sizes, weight, bias, tiny)
    return (y, (mean, rstd)) if return_saved else y


def layer_norm_backward(
    dy: FloatArray,
    x: FloatArray,
    normalized_shape: int | Sequence[int],
    weight: FloatArray | None = None,
    bias: FloatArray | None = None,
    eps: float = 1e-5,
    *,
    saved: GroupSaved | None = None,
    need_dx: bool = True,
    need_dweight: bool = True,
    need_dbias: bool = True,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]:
    """Return the gradients of `layer_norm`.

    Parameters
    ----------
    dy : ndarray, shape of `x`, float32
        Gradient of the loss with respect to the output.
    x, normalized_shape, weight, bias, eps
        The arguments of the forward call.
    saved : (mean, rstd), optional
        What ``layer_norm(..., return_saved=True)`` gave; computed again otherwise.
    need_dx, need_dweight, need_dbias : bool, default True
        False leaves that gradient out (None in its place).

    Returns
    -------
    dx : ndarray, shape of `x`, or None
    dweight, dbias : ndarray, shape `normalized_shape`, or None
        None when the parameter is None.

    Raises
    ------
    ValueError
        When `dy` does not have the shape of `x`, or as for `layer_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x, dy = np.array([[1, 3], [5, 9]], np.float32), np.ones((2, 2), np.float32)
    >>> F.layer_norm_backward(dy, x, 2, dy[0], dy[0], eps=0)[1:]
    (array([-2.,  2.], dtype=float32), array([2., 2.], dtype=float32))
    """
    op = "layer_norm_backward"
    sizes, tiny = _sizes(op, normalized_shape), to_float(op, "eps", eps)
    _expect_parameter(op, "bias", bias, sizes)
    mean, rstd = (None, None) if saved is None else saved
    return _core.layer_norm_backward(
        dy,
        x,
        sizes,
        weight,
        tiny,
        mean,
        rstd,
        need_dx,
        need_dweight and weight is not None,
        need_dbias and bias is not None,
    )

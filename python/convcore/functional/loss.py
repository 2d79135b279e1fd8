"""Losses: cross entropy and hinge loss of class labels, and the squared error."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from convcore import _core
from convcore._arrays import beside
from convcore.functional._arguments import FloatArray, to_float, to_int, to_str

#: Integer class labels.
LabelArray = npt.NDArray[np.integer[Any]]
#: One number for ``reduction="mean"`` and ``"sum"``, an array for ``"none"``.
Loss = np.float32 | FloatArray


def _labels(target: object, x: object) -> object:
    """Make an array of a single label, on the device of `x`."""
    if isinstance(target, (int, np.integer)):
        return beside(np.asarray(target, np.int64), x)
    return target


def _loss_gradient(dy: object, x: object) -> object:
    """Make an array of a single number, on the device of `x`."""
    if isinstance(dy, (int, float, np.number)):
        return beside(np.asarray(dy, np.float32), x)
    return dy


@overload
def cross_entropy(
    x: FloatArray,
    target: LabelArray | FloatArray | int,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    return_gradient: Literal[False] = False,
) -> Loss: ...
@overload
def cross_entropy(
    x: FloatArray,
    target: LabelArray | FloatArray | int,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    return_gradient: Literal[True],
) -> tuple[Loss, FloatArray]: ...


def cross_entropy(
    x: FloatArray,
    target: LabelArray | FloatArray | int,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    return_gradient: bool = False,
) -> Loss | tuple[Loss, FloatArray]:
    """Return the cross entropy between the softmax of logits and class labels.

    Parameters
    ----------
    x : ndarray, shape (N, C), (N, C, d1, ...) or (C,), float32
        Logits: numbers of any size, one per class.
    target : ndarray, shape (N,), (N, d1, ...) or (), integers; or shape of `x`, float32
        Labels from 0 to C - 1, or `ignore_index`. For `x` of shape (C,) an int will do. Or, for
        `x` of shape (N, C) or (C,), the share of each class, as `transforms.MixUp` makes them.
    ignore_index : int, default -100
        Samples with this label have loss 0 and gradient 0 and do not count in the mean.
    reduction : 'mean', 'sum' or 'none', default 'mean'
        'mean' divides the sum by the number of labels that are not ignored.
    label_smoothing : float, default 0.0
        From 0 to 1: the share of the label that is spread evenly over all classes.
    return_gradient : bool, default False
        Also return the gradient for ``dy = 1``, made in the same pass. `cross_entropy_backward`
        takes it as ``saved=``.

    Returns
    -------
    loss : numpy.float32, or ndarray of the shape of `target` for ``reduction='none'``
    gradient : ndarray, shape of `x`, float32
        Only with ``return_gradient=True``.

    Raises
    ------
    TypeError
        When `x` is not an array of float32 or `target` not one of integers.
    ValueError
        When the shapes do not fit, a label is out of range (all are checked before any work), or
        an option has no such value.

    See Also
    --------
    cross_entropy_backward : The gradient.
    convcore.nn.CrossEntropyLoss : The same as a class.

    Notes
    -----
    With p the softmax of x over the classes, the loss of one sample is
    ``-sum_c q_c log(p_c)``, where ``q_c = (1 - label_smoothing) * [c == target] +
    label_smoothing / C`` (a given share stands for ``[c == target]``), and its gradient is
    ``p - q`` (``p * sum_c q_c - q`` when the shares do not add up to 1). The losses are added in
    order, in double: the same bits at any number of threads. The mean over no label at all is NaN,
    as in torch, and its gradient is zero. Costs one exp per logit.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[0, 0], [0, 100]], np.float32)
    >>> float(F.cross_entropy(x, np.array([1, 1]), reduction="sum"))  # log 2, rounded to float32
    0.6931471824645996
    >>> loss, dx = F.cross_entropy(x, np.array([1, -100]), return_gradient=True)
    >>> dx
    array([[ 0.5, -0.5],
           [ 0. ,  0. ]], dtype=float32)
    """
    loss, gradient = _core.cross_entropy_forward(
        x,
        _labels(target, x),
        to_int("cross_entropy", "ignore_index", ignore_index),
        to_str("cross_entropy", "reduction", reduction),
        to_float("cross_entropy", "label_smoothing", label_smoothing),
        return_gradient,
    )
    value = loss[()] if loss.ndim == 0 else loss
    return value if gradient is None else (value, gradient)


def cross_entropy_backward(
    dy: float | np.float32 | FloatArray,
    x: FloatArray,
    target: LabelArray | FloatArray | int,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    saved: FloatArray | None = None,
) -> FloatArray:
    """Return the gradient of `cross_entropy` with respect to `x`.

    Parameters
    ----------
    dy : float, or ndarray of the shape of the loss, float32
        Gradient of what is minimised with respect to the loss; 1 when it is the loss itself.
    x, target, ignore_index, reduction, label_smoothing
        The arguments of the forward call.
    saved : ndarray, shape of `x`, float32, optional
        The gradient that ``cross_entropy(..., return_gradient=True)`` gave: then only the
        multiplication by `dy` is left.

    Returns
    -------
    ndarray, shape of `x`, float32

    Raises
    ------
    TypeError
        When an argument has the wrong type or dtype.
    ValueError
        As in `cross_entropy`, and when `dy` does not have the shape of the loss.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.cross_entropy_backward(1.0, np.zeros((1, 2), np.float32), np.array([1]))
    array([[ 0.5, -0.5]], dtype=float32)
    """
    return _core.cross_entropy_backward(
        _loss_gradient(dy, x),
        x,
        _labels(target, x),
        to_int("cross_entropy_backward", "ignore_index", ignore_index),
        to_str("cross_entropy_backward", "reduction", reduction),
        to_float("cross_entropy_backward", "label_smoothing", label_smoothing),
        saved,
    )


def mse_loss(x: FloatArray, target: FloatArray, reduction: str = "mean") -> Loss:
    """Return the squared error ``(x - target)**2``, averaged, summed or as it is.

    Parameters
    ----------
    x : ndarray, any shape, float32
        Predictions.
    target : ndarray, shape of `x`, float32
        What they should be. Shapes are not broadcast.
    reduction : 'mean', 'sum' or 'none', default 'mean'
        'mean' divides by the number of elements.

    Returns
    -------
    numpy.float32, or ndarray of the shape of `x` for ``reduction='none'``

    Raises
    ------
    TypeError
        When an argument is not an array of float32.
    ValueError
        When the shapes differ, or `reduction` has no such value.

    See Also
    --------
    mse_loss_backward : The gradients.
    convcore.nn.MSELoss : The same as a class.

    Notes
    -----
    The sum is taken in shards of a fixed size that are added in order, in double: the same bits at
    any number of threads. The mean over no element is NaN, as in torch.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> float(F.mse_loss(np.array([1, 2], np.float32), np.array([1, 4], np.float32)))
    2.0
    """
    loss = _core.mse_loss_forward(x, target, to_str("mse_loss", "reduction", reduction))
    return loss[()] if loss.ndim == 0 else loss


def mse_loss_backward(
    dy: float | np.float32 | FloatArray,
    x: FloatArray,
    target: FloatArray,
    reduction: str = "mean",
    *,
    need_dx: bool = True,
    need_dtarget: bool = True,
) -> tuple[FloatArray | None, FloatArray | None]:
    """Return the gradients of `mse_loss`.

    Parameters
    ----------
    dy : float, or ndarray of the shape of the loss, float32
        Gradient of what is minimised with respect to the loss; 1 when it is the loss itself.
    x, target, reduction
        The arguments of the forward call.
    need_dx, need_dtarget : bool, default True
        False leaves that gradient out (None in its place).

    Returns
    -------
    dx : ndarray, shape of `x`, float32, or None
        ``dy * 2 * (x - target)``, for 'mean' divided by the number of elements
    dtarget : ndarray, shape of `x`, float32, or None
        ``-dx``

    Raises
    ------
    TypeError
        When an argument has the wrong type or dtype.
    ValueError
        As in `mse_loss`, and when `dy` does not have the shape of the loss.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x, target = np.array([1, 2], np.float32), np.array([1, 4], np.float32)
    >>> F.mse_loss_backward(1.0, x, target, need_dtarget=False)
    (array([ 0., -2.], dtype=float32), None)
    """
    reduction = to_str("mse_loss_backward", "reduction", reduction)
    return _core.mse_loss_backward(
        _loss_gradient(dy, x), x, target, reduction, need_dx, need_dtarget
    )


def _margin_arguments(
    op: str, p: int, margin: float, weight: FloatArray | None, reduction: str
) -> tuple[int, float, FloatArray | None, str]:
    numbers = to_int(op, "p", p), to_float(op, "margin", margin)
    return (*numbers, weight, to_str(op, "reduction", reduction))


@overload
def multi_margin_loss(
    x: FloatArray,
    target: LabelArray | int,
    p: int = 1,
    margin: float = 1.0,
    weight: FloatArray | None = None,
    reduction: str = "mean",
    *,
    return_gradient: Literal[False] = False,
) -> Loss: ...
@overload
def multi_margin_loss(
    x: FloatArray,
    target: LabelArray | int,
    p: int = 1,
    margin: float = 1.0,
    weight: FloatArray | None = None,
    reduction: str = "mean",
    *,
    return_gradient: Literal[True],
) -> tuple[Loss, FloatArray]: ...


def multi_margin_loss(
    x: FloatArray,
    target: LabelArray | int,
    p: int = 1,
    margin: float = 1.0,
    weight: FloatArray | None = None,
    reduction: str = "mean",
    *,
    return_gradient: bool = False,
) -> Loss | tuple[Loss, FloatArray]:
    """Return the hinge loss of a multi-class support vector machine.

    Parameters
    ----------
    x : ndarray, shape (N, C) or (C,), float32
        Scores, one per class.
    target : ndarray, shape (N,) or (), integers
        Labels from 0 to C - 1. For `x` of shape (C,) an int will do.
    p : {1, 2}, default 1
        2 squares the terms.
    margin : float, default 1.0
        By how much the score of the right class shall exceed each other one.
    weight : ndarray, shape (C,), float32, optional
        Factor of the loss of each class, 1 by default.
    reduction : 'mean', 'sum' or 'none', default 'mean'
        'mean' divides the sum by the number of samples.
    return_gradient : bool, default False
        Also return the gradient for ``dy = 1``. `multi_margin_loss_backward` takes it as
        ``saved=``.

    Returns
    -------
    loss : numpy.float32, or ndarray of the shape of `target` for ``reduction='none'``
    gradient : ndarray, shape of `x`, float32
        Only with ``return_gradient=True``.

    Raises
    ------
    TypeError
        When `x` is not an array of float32 or `target` not one of integers.
    ValueError
        When the shapes do not fit, a label is out of range, or an option has no such value.

    See Also
    --------
    multi_margin_loss_backward : The gradient.
    convcore.nn.MultiMarginLoss : The same as a class.

    Notes
    -----
    The loss of one sample with label t is
    ``weight[t] / C * sum over c != t of max(0, margin - x[t] + x[c])**p``. Courses that write the
    SVM loss without the division by C have C times as much. A NaN among the scores makes the loss
    NaN, where torch leaves it out.

    References
    ----------
    Weston and Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999;
    Crammer and Singer, "On the algorithmic implementation of multiclass kernel-based vector
    machines", JMLR 2001. The arguments are those of ``torch.nn.functional.multi_margin_loss``.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.array([[3, 2.5, -1]], np.float32)
    >>> loss, dx = F.multi_margin_loss(x, np.array([0]), return_gradient=True)
    >>> float(3 * loss)
    0.5
    >>> 3 * dx
    array([[-1.,  1.,  0.]], dtype=float32)
    """
    arguments = _margin_arguments("multi_margin_loss", p, margin, weight, reduction)
    loss, gradient = _core.multi_margin_loss_forward(
        x, _labels(target, x), *arguments, return_gradient
    )
    value = loss[()] if loss.ndim == 0 else loss
    return value if gradient is None else (value, gradient)


def multi_margin_loss_backward(
    dy: float | np.float32 | FloatArray,
    x: FloatArray,
    target: LabelArray | int,
    p: int = 1,
    margin: float = 1.0,
    weight: FloatArray | None = None,
    reduction: str = "mean",
    *,
    saved: FloatArray | None = None,
) -> FloatArray:
    """Return the gradient of `multi_margin_loss` with respect to `x`.

    Parameters
    ----------
    dy : float, or ndarray of the shape of the loss, float32
        Gradient of what is minimised with respect to the loss; 1 when it is the loss itself.
    x, target, p, margin, weight, reduction
        The arguments of the forward call.
    saved : ndarray, shape of `x`, float32, optional
        The gradient that ``multi_margin_loss(..., return_gradient=True)`` gave: then only the
        multiplication by `dy` is left.

    Returns
    -------
    ndarray, shape of `x`, float32
        0 where the margin is kept, also exactly at it.

    Raises
    ------
    TypeError
        When an argument has the wrong type or dtype.
    ValueError
        As in `multi_margin_loss`, and when `dy` does not have the shape of the loss.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> F.multi_margin_loss_backward(1.0, np.zeros((1, 2), np.float32), np.array([1]))
    array([[ 0.5, -0.5]], dtype=float32)
    """
    arguments = _margin_arguments("multi_margin_loss_backward", p, margin, weight, reduction)
    return _core.multi_margin_loss_backward(
        _loss_gradient(dy, x), x, _labels(target, x), *arguments, saved
    )

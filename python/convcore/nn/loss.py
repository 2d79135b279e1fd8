"""Losses: ``loss = criterion(y, target)``, then ``dy = criterion.backward()``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import convcore.functional as F
from convcore._arrays import beside, full_beside, to_numpy
from convcore.functional._arguments import FloatArray, to_int
from convcore.nn import _checks as check
from convcore.nn.module import AnyArray

REDUCTIONS = ("mean", "sum", "none")


class Loss:
    """The base class of the losses.

    Parameters
    ----------
    reduction : {'mean', 'sum', 'none'}
        'none' returns one loss per target, and `backward` returns the gradient of their sum.
    """

    #: Whether the targets are class indices (then the engine can count the right ones).
    takes_labels = False

    #: Whether they may also be shares of the classes, (N, classes) of float32 (what MixUp makes).
    takes_shares = False

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = check.choice(type(self).__name__, "reduction", reduction, REDUCTIONS)
        self._gradient: FloatArray | None = None

    def __call__(self, y: FloatArray, target: AnyArray) -> Any:
        """Return the loss; the same as `forward`."""
        return self.forward(y, target)

    def forward(self, y: FloatArray, target: AnyArray) -> Any:
        """Return the loss (a float, or an array with reduction 'none'); keep its gradient."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self) -> FloatArray:
        """Return the gradient of the last loss with respect to `y`.

        Raises
        ------
        RuntimeError
            When there was no forward since the last backward.
        """
        gradient, self._gradient = self._gradient, None
        if gradient is None:
            raise RuntimeError(
                f"{type(self).__name__}: backward called before forward: expected one call "
                "loss(y, target) before each backward, got none"
            )
        return gradient

    def evaluate(self, y: FloatArray, target: AnyArray) -> Any:
        """Return the loss and keep nothing."""
        loss = self.forward(y, target)
        self._gradient = None
        return loss

    def count(self, target: AnyArray) -> int:
        """Return over how many targets the mean goes."""
        return int(target.size)

    def count_right(self, y: FloatArray, target: AnyArray) -> int:
        """Return how many of the targets that `count` counts have the largest output."""
        return int(np.count_nonzero(_winners(y) == to_numpy(target)))

    def expect_target(self, owner: str, y_shape: tuple[int, ...], target: AnyArray) -> None:
        """Raise when `target` cannot go with outputs of `y_shape`; runs once before training."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class CrossEntropyLoss(Loss):
    """Softmax and negative log-likelihood of the right class, in one.

    Parameters
    ----------
    ignore_index : int, default -100
        Targets of this value count for nothing.
    reduction : {'mean', 'sum', 'none'}
    label_smoothing : float, default 0.0
        Share of the target that is spread over all classes, dimensionless.

    See Also
    --------
    convcore.functional.cross_entropy : The shapes and the mathematics.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import nn
    >>> criterion = nn.CrossEntropyLoss()
    >>> loss = criterion(np.zeros((2, 4), np.float32), np.array([0, 3]))
    >>> round(float(loss), 4)
    1.3863
    >>> criterion.backward()[0]
    array([-0.375,  0.125,  0.125,  0.125], dtype=float32)
    """

    takes_labels = True
    takes_shares = True

    def __init__(
        self, *, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(reduction)
        self.ignore_index = to_int("CrossEntropyLoss", "ignore_index", ignore_index)
        self.label_smoothing = check.real(
            "CrossEntropyLoss", "label_smoothing", label_smoothing, 0.0, 1.0
        )

    def forward(self, y: FloatArray, target: AnyArray) -> Any:
        """Return the loss of the logits `y`, shape (N, C, ...), for the classes `target`.

        Or for their shares: float32 of shape (N, C), as for `y` then.
        """
        loss, self._gradient = F.cross_entropy(y, target, **self._arguments(), return_gradient=True)
        return _plain(loss)

    def evaluate(self, y: FloatArray, target: AnyArray) -> Any:
        """Return the loss and keep nothing."""
        return _plain(F.cross_entropy(y, target, **self._arguments()))

    def _arguments(self) -> dict[str, Any]:
        return {
            "ignore_index": self.ignore_index,
            "reduction": self.reduction,
            "label_smoothing": self.label_smoothing,
        }

    def count(self, target: AnyArray) -> int:
        """Return the number of targets that are not ignored."""
        if target.dtype == np.float32:
            return len(target)
        return int(np.count_nonzero(to_numpy(target) != self.ignore_index))

    def count_right(self, y: FloatArray, target: AnyArray) -> int:
        """Return how many of the targets that are not ignored have the largest output.

        Of shares of the classes, the largest one is the target.
        """
        if target.dtype == np.float32:
            return int(np.count_nonzero(_winners(y) == _winners(target)))
        labels = to_numpy(target)
        return int(np.count_nonzero((_winners(y) == labels) & (labels != self.ignore_index)))

    def expect_target(self, owner: str, y_shape: tuple[int, ...], target: AnyArray) -> None:
        """Raise when a label has no output of the network."""
        if target.dtype == np.float32 and target.ndim == len(y_shape) == 2:  # shares of classes
            shares = len(target), y_shape[1]
            if target.shape != shares:
                raise ValueError(
                    f"{owner}: y has the wrong shape: expected {shares} (the share of each class, "
                    f"or one class index each, as integers), got {target.shape}"
                )
            return
        _expect_labels(owner, "CrossEntropyLoss", y_shape, target, self.ignore_index)

    def __repr__(self) -> str:
        changed = []
        if self.ignore_index != -100:
            changed.append(f"ignore_index={self.ignore_index}")
        if self.reduction != "mean":
            changed.append(f"reduction={self.reduction!r}")
        if self.label_smoothing:
            changed.append(f"label_smoothing={self.label_smoothing}")
        return f"CrossEntropyLoss({', '.join(changed)})"


class MultiMarginLoss(Loss):
    """The hinge loss of a multi-class support vector machine.

    ``compile(loss="hinge")`` is this loss with its defaults.

    Parameters
    ----------
    p : {1, 2}, default 1
        2 squares the terms.
    margin : float, default 1.0
        By how much the score of the right class shall exceed each other one.
    weight : ndarray, shape (C,), float32, optional
        Factor of the loss of each class.
    reduction : {'mean', 'sum', 'none'}

    See Also
    --------
    convcore.functional.multi_margin_loss : The shapes and the mathematics.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import nn
    >>> criterion = nn.MultiMarginLoss()
    >>> round(criterion(np.array([[0.5, 0, -1]], np.float32), np.array([0])) * 3, 6)
    0.5
    >>> criterion.backward() * 3
    array([[-1.,  1.,  0.]], dtype=float32)
    """

    takes_labels = True

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: FloatArray | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.p = check.integer("MultiMarginLoss", "p", p)
        if self.p > 2:
            raise ValueError(f"MultiMarginLoss: p is out of range: expected 1 or 2, got {p}")
        self.margin = check.real("MultiMarginLoss", "margin", margin, -math.inf, math.inf)
        self.weight = weight

    def forward(self, y: FloatArray, target: AnyArray) -> Any:
        """Return the loss of the scores `y`, shape (N, C), for the classes `target`."""
        arguments = self._arguments(y)
        loss, self._gradient = F.multi_margin_loss(y, target, *arguments, return_gradient=True)
        return _plain(loss)

    def evaluate(self, y: FloatArray, target: AnyArray) -> Any:
        """Return the loss and keep nothing."""
        return _plain(F.multi_margin_loss(y, target, *self._arguments(y)))

    def _arguments(self, y: FloatArray) -> tuple[int, float, FloatArray | None, str]:
        return self.p, self.margin, beside(self.weight, y), self.reduction

    def expect_target(self, owner: str, y_shape: tuple[int, ...], target: AnyArray) -> None:
        """Raise when a label has no output of the network."""
        if len(y_shape) != 2:
            raise ValueError(
                f"{owner}: the network's output has the wrong shape: expected (N, classes) for "
                f"MultiMarginLoss, got {y_shape}"
            )
        _expect_labels(owner, "MultiMarginLoss", y_shape, target)

    def __repr__(self) -> str:
        changed = []
        if self.p != 1:
            changed.append(f"p={self.p}")
        if self.margin != 1:
            changed.append(f"margin={self.margin}")
        if self.weight is not None:
            changed.append(f"weight={self.weight.tolist()}")
        if self.reduction != "mean":
            changed.append(f"reduction={self.reduction!r}")
        return f"MultiMarginLoss({', '.join(changed)})"


class MSELoss(Loss):
    """Mean of the squared differences.

    Parameters
    ----------
    reduction : {'mean', 'sum', 'none'}

    See Also
    --------
    convcore.functional.mse_loss : The shapes and the mathematics.
    """

    def forward(self, y: FloatArray, target: AnyArray) -> Any:
        """Return the loss of `y` for `target` of the same shape."""
        loss = F.mse_loss(y, target, self.reduction)
        ones = full_beside(loss, 1.0)  # the gradient of each value that was returned
        self._gradient, _ = F.mse_loss_backward(ones, y, target, self.reduction, need_dtarget=False)
        return _plain(loss)

    def evaluate(self, y: FloatArray, target: AnyArray) -> Any:
        """Return the loss and keep nothing."""
        return _plain(F.mse_loss(y, target, self.reduction))

    def expect_target(self, owner: str, y_shape: tuple[int, ...], target: AnyArray) -> None:
        """Raise when `target` does not have the shape of the output."""
        if target.dtype != np.float32:
            raise TypeError(
                f"{owner}: y has the wrong dtype: expected float32 (values for MSELoss), "
                f"got {target.dtype}"
            )
        wanted = (len(target), *y_shape[1:])
        if target.shape != wanted:
            raise ValueError(
                f"{owner}: y has the wrong shape: expected {wanted} (the shape of the network's "
                f"output), got {target.shape}"
            )

    def __repr__(self) -> str:
        return "MSELoss()" if self.reduction == "mean" else f"MSELoss(reduction={self.reduction!r})"


def _expect_labels(
    owner: str, loss: str, y_shape: tuple[int, ...], target: AnyArray, ignored: int | None = None
) -> None:
    """Raise when a label other than `ignored` has no output of the network."""
    if target.dtype.kind not in "iu":
        raise TypeError(
            f"{owner}: y has the wrong dtype: expected integers (class indices for "
            f"{loss}), got {target.dtype}"
        )
    if len(y_shape) < 2:
        raise ValueError(
            f"{owner}: the network's output has the wrong shape: expected (N, classes, ...) "
            f"for {loss}, got {y_shape}"
        )
    wanted = (len(target), *y_shape[2:])
    if target.shape != wanted:
        raise ValueError(
            f"{owner}: y has the wrong shape: expected {wanted} (one class index each), "
            f"got {target.shape}"
        )
    bad = (target < 0) | (target >= y_shape[1])
    if ignored is not None:
        bad &= target != ignored
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{owner}: y has a label that is out of range: expected 0 to {y_shape[1] - 1} "
            f"(the network has {y_shape[1]} outputs), got {int(target[where])} "
            f"at index {where[0] if len(where) == 1 else where}"
        )


def _winners(y: FloatArray) -> AnyArray:
    """Return the class with the largest value."""
    winners: AnyArray = to_numpy(y).argmax(axis=1)
    return winners


def _plain(loss: Any) -> Any:
    """Return a reduced loss as a float, the others as they are."""
    return float(loss) if np.ndim(loss) == 0 else loss

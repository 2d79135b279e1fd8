"""The confusion matrix: which class is taken for which."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convcore._names import did_you_mean
from convcore._table import table
from convcore.insight import _draw
from convcore.insight._network import IntArray, check_classes
from convcore.insight._report import Report, percent

_NORMALIZE = ("true", "predicted", "all")


@dataclass(frozen=True, eq=False, repr=False)
class ConfusionMatrix(Report):
    """How often each class was taken for each class.

    Attributes
    ----------
    counts : ndarray, shape (K, K), int64
        ``counts[i, j]`` images of class i were taken for class j: a row per true class.
    classes : tuple of str
    """

    counts: IntArray
    classes: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """The share on the diagonal; NaN without images."""
        total = int(self.counts.sum())
        return int(np.trace(self.counts)) / total if total else float("nan")

    def normalized(self, by: str = "true") -> npt.NDArray[np.float64]:
        """Return shares: of each row ('true'), each column ('predicted') or the whole ('all').

        Where there is nothing to share out (a class without images) stand zeros.
        """
        if by not in _NORMALIZE:
            raise ValueError(
                "normalized: by is not known: expected 'true', 'predicted' or 'all', "
                f"got {by!r}{did_you_mean(str(by), _NORMALIZE)}"
            )
        axis = {"true": 1, "predicted": 0, "all": None}[by]
        total = self.counts.sum(axis=axis, keepdims=True)
        shares: npt.NDArray[np.float64] = self.counts / np.maximum(total, 1)
        return shares

    def confused(self, top: int = 5) -> list[tuple[str, str, int]]:
        """Return the most frequent errors: (true class, taken for, images)."""
        errors = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-errors, axis=None, kind="stable")[:top]
        pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
        return [
            (self.classes[i], self.classes[j], int(errors[i, j])) for i, j in pairs if errors[i, j]
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers in forms that JSON knows."""
        return {
            **super().to_dict(),
            "accuracy": self.accuracy,
            "normalized": self.normalized().tolist(),
        }

    def __repr__(self) -> str:
        return (
            f"ConfusionMatrix({len(self.classes)} classes, {int(self.counts.sum()):,} images, "
            f"accuracy {percent(self.accuracy)})"
        )

    def __str__(self) -> str:
        rows = [
            (name, *(f"{n:,}" if n else "." for n in row))
            for name, row in zip(self.classes, self.counts, strict=True)
        ]
        return table(("true \\ predicted", *self.classes), rows)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        normalize: str | None = "true",
        title: str | None = None,
    ) -> Any:
        """Draw the matrix: counts in the fields, shares as their colours.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.
        normalize : {'true', 'predicted', 'all'} or None
            What the colours are shares of; None: colours by the counts.
        title : str, optional

        Returns
        -------
        matplotlib.figure.Figure
        """
        shown = self.counts if normalize is None else self.normalized(normalize)
        side = max(4.0, 0.55 * len(self.classes) + 2)
        with _draw.style():
            figure = _draw.new_figure(side + 0.8, side)
            axes = figure.subplots()
            top = float(shown.max()) if normalize is None else 1.0
            field = axes.imshow(shown, cmap="Blues", vmin=0, vmax=top or 1.0)
            # Counts of five digits need smaller letters.
            size = 9 if len(self.classes) <= 12 and self.counts.max() < 10_000 else 7
            for (i, j), count in np.ndenumerate(self.counts):
                if count:
                    ink = "white" if shown[i, j] > 0.55 * (top or 1) else "black"
                    axes.text(j, i, f"{count}", ha="center", va="center", color=ink, fontsize=size)
            ticks = range(len(self.classes))
            long = max(map(len, self.classes)) > 3
            turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
            axes.set_xticks(ticks, self.classes, **(turned if long else {}))
            axes.set_yticks(ticks, self.classes)
            axes.tick_params(length=0)
            axes.set(xlabel="predicted class", ylabel="true class")
            axes.set_title(title or f"Confusion matrix, accuracy {percent(self.accuracy)}")
            bar = figure.colorbar(field, ax=axes, shrink=0.8)
            bar.outline.set_visible(False)
            if normalize is None:
                bar.set_label("images")
            else:
                what = {"true": "of the true class", "predicted": "of the prediction"}
                bar.set_label(f"share {what.get(normalize, 'of all images')}")
            return _draw.finish(figure, path)


def confusion_matrix(
    y: npt.ArrayLike, predicted: npt.ArrayLike, classes: Sequence[str] | None = None
) -> ConfusionMatrix:
    r"""Count which class is taken for which.

    Parameters
    ----------
    y : array_like, shape (N,), integers
        The true classes.
    predicted : array_like, shape (N,), integers; or (N, K), floats
        The predicted classes; or scores, such as `Model.predict` gives, of which the largest
        counts.
    classes : sequence of str, optional
        Names of the K classes; the default numbers them.

    Returns
    -------
    ConfusionMatrix

    Notes
    -----
    ``counts[i, j] = #{n : y[n] = i and predicted[n] = j}``; the sum is N, the trace the number of
    right answers.

    References
    ----------
    S. Jegelka, "Deep learning for images: convolutional neural networks" (lecture), the confusion
    matrices of the CNN and the dense network on Fashion-MNIST.

    Examples
    --------
    >>> from convcore import insight
    >>> matrix = insight.confusion_matrix([0, 0, 1, 2], [0, 1, 1, 2], ["cat", "dog", "cup"])
    >>> print(matrix)
    true \ predicted  cat  dog  cup
    -------------------------------
    cat                 1    1    .
    dog                 .    1    .
    cup                 .    .    1
    >>> matrix.accuracy, matrix.confused()
    (0.75, [('cat', 'dog', 1)])
    """
    truth, guesses, names = check_predictions("confusion_matrix", y, predicted, classes)
    k = len(names)
    counts = np.bincount(truth * k + guesses, minlength=k * k).reshape(k, k)
    return ConfusionMatrix(counts, names)


#: Classes that nobody named: more would be one bad label, and a matrix that fills the memory.
_MOST_CLASSES = 10_000


def check_predictions(
    owner: str, y: npt.ArrayLike, predicted: npt.ArrayLike, classes: Sequence[str] | None
) -> tuple[IntArray, IntArray, tuple[str, ...]]:
    """Return true and predicted classes, and the names of all classes."""
    truth, guesses = np.asarray(y), np.asarray(predicted)
    if truth.ndim != 1:
        raise ValueError(
            f"{owner}: y has the wrong number of dimensions: expected 1 (N,), got {truth.ndim}"
        )
    count: int | None = None if classes is None else len(tuple(classes))
    if guesses.ndim == 2 and guesses.shape[1]:
        count = count or guesses.shape[1]
        if guesses.shape[1] != count:
            raise ValueError(
                f"{owner}: predicted has the wrong shape: expected {count} scores per image (that "
                f"many classes), got {guesses.shape}"
            )
        guesses = guesses.argmax(axis=1)
    if len(guesses) != len(truth):
        raise ValueError(
            f"{owner}: y and predicted have different lengths: expected one prediction per image, "
            f"got {len(truth)} and {len(guesses)}"
        )
    if count is None:
        count = 1 + int(max((a.max() for a in (truth, guesses) if a.size), default=-1))
        if count > _MOST_CLASSES:
            raise ValueError(
                f"{owner}: a label is too large: expected less than {_MOST_CLASSES} (or the names "
                f"of all classes), got {count - 1}"
            )
    n = len(truth)
    truth = check_classes(owner, "y", truth, n, count)
    guesses = check_classes(owner, "predicted", guesses, n, count)
    names = tuple(map(str, range(count) if classes is None else classes))
    return truth, guesses, names

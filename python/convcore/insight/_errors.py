"""The error table: precision, recall and F1 per class, and the errors per group."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convcore._table import table
from convcore.insight import _draw
from convcore.insight._confusion import check_predictions
from convcore.insight._report import Report, percent

_HEAD = ("precision", "recall", "F1", "images", "errors")


@dataclass(frozen=True)
class ErrorRow:
    """One class, one group, or a mean.

    Attributes
    ----------
    name : str
    precision : float
        Of what was taken for the class, the share that is of it; NaN when nothing was.
    recall : float
        Of the class, the share that was found; NaN when there is nothing of it.
    f1 : float
        The harmonic mean of both, ``2 TP / (2 TP + FP + FN)``.
    support : int
        The number of images.
    errors : int
        The images of the class (or group) that were taken for another class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    errors: int

    @property
    def accuracy(self) -> float:
        """The share of right answers; of one class it is the recall."""
        return 1 - self.errors / self.support if self.support else float("nan")


@dataclass(frozen=True, eq=False, repr=False)
class ErrorTable(Report):
    """Where a classifier errs.

    Attributes
    ----------
    classes : tuple of ErrorRow
        One per class.
    macro : ErrorRow
        The plain mean over the classes that have images; ``accuracy`` is that of all images.
    groups : tuple of ErrorRow
        One per group, with the means over its classes; empty without groups.
    """

    classes: tuple[ErrorRow, ...]
    macro: ErrorRow
    groups: tuple[ErrorRow, ...] = ()

    @property
    def accuracy(self) -> float:
        """The share of right answers among all images."""
        return self.macro.accuracy

    @property
    def largest_gap(self) -> float:
        """The best accuracy of a group minus the worst; NaN without groups."""
        values = [row.accuracy for row in self.groups]
        return max(values) - min(values) if values else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers in forms that JSON knows."""
        found = {**super().to_dict(), "accuracy": self.accuracy, "largest_gap": self.largest_gap}
        for line, row in zip(found["groups"], self.groups, strict=True):
            line["accuracy"] = row.accuracy
        return found

    def __repr__(self) -> str:
        groups = f", {len(self.groups)} groups" if self.groups else ""
        return (
            f"ErrorTable({len(self.classes)} classes{groups}, {self.macro.support:,} images, "
            f"accuracy {percent(self.accuracy)})"
        )

    def __str__(self) -> str:
        text = table(("class", *_HEAD), map(_cells, (*self.classes, self.macro)))
        if not self.groups:
            return text
        head = ("group", "accuracy", *_HEAD)
        lines = []
        for row in self.groups:
            name, *others = _cells(row)
            lines.append((name, percent(row.accuracy), *others))
        gap = f"largest gap in accuracy between groups: {percent(self.largest_gap)}"
        return f"{text}\n\n{table(head, lines)}\n{gap}"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw precision and recall of each class, and the accuracy of each group.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.

        Returns
        -------
        matplotlib.figure.Figure
        """
        with _draw.style():
            lines = max(len(self.classes), len(self.groups))
            figure = _draw.new_figure(11 if self.groups else 6.5, max(3.2, 1.8 + 0.34 * lines))
            panels = figure.subplots(1, 2 if self.groups else 1, squeeze=False)[0]
            self._draw_classes(panels[0])
            if self.groups:
                self._draw_groups(panels[1])
            return _draw.finish(figure, path)

    def _draw_classes(self, axes: Any) -> None:
        for place, row in enumerate(self.classes):
            ends = (row.precision, row.recall)
            axes.plot(ends, (place, place), color=_draw.GREY, lw=1, zorder=1)
        places = range(len(self.classes))
        # An open mark, so that both are seen where they are equal.
        for name, mark, colour in (
            ("precision", "o", _draw.BLUE),
            ("recall", "D", _draw.VERMILION),
        ):
            values = [getattr(row, name) for row in self.classes]
            fill = colour if mark == "o" else "none"
            how = {"ms": 8, "mfc": fill, "mec": colour, "mew": 1.6, "zorder": 2}
            axes.plot(values, places, mark, label=name, **how)
        axes.set_yticks(places, [row.name for row in self.classes])
        axes.invert_yaxis()
        shown = [v for row in self.classes for v in (row.precision, row.recall)]
        axes.set_xlim(_lowest(shown), 1.005)
        axes.set_title(f"Errors by class, accuracy {percent(self.accuracy)}")
        _percents(axes)
        axes.grid(alpha=0.3, axis="x")
        axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.1))

    def _draw_groups(self, axes: Any) -> None:
        places = range(len(self.groups))
        values = [row.accuracy for row in self.groups]
        axes.barh(places, values, color=_draw.SKY, height=0.6)
        for place, row in enumerate(self.groups):
            text = f" {percent(row.accuracy)} of {row.support:,} "
            axes.text(row.accuracy, place, text, va="center", ha="right", fontsize=10)
        axes.set_yticks(places, [row.name for row in self.groups])
        axes.set_ylim(max(len(self.groups), 4) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        _percents(axes)
        axes.axvline(self.accuracy, color=_draw.VERMILION, ls="--", lw=1.2)
        gap = percent(self.largest_gap)
        axes.set_title(f"Accuracy by group (dashed: all), largest gap {gap}")


def error_table(
    y: npt.ArrayLike,
    predicted: npt.ArrayLike,
    classes: Sequence[str] | None = None,
    groups: npt.ArrayLike | None = None,
) -> ErrorTable:
    """Tell where a classifier errs: per class, and per group of images.

    Parameters
    ----------
    y : array_like, shape (N,), integers
        The true classes.
    predicted : array_like, shape (N,), integers; or (N, K), floats
        The predicted classes; or scores, of which the largest counts.
    classes : sequence of str, optional
        Names of the K classes; the default numbers them.
    groups : array_like, shape (N,), optional
        The group of each image: names or numbers of any kind.

    Returns
    -------
    ErrorTable

    Notes
    -----
    With TP right answers for a class, FP images wrongly taken for it and FN of its images taken for
    another::

        precision = TP / (TP + FP)
        recall = TP / (TP + FN)
        F1 = 2 TP / (2 TP + FP + FN)

    A share of nothing is NaN and does not enter the means.

    References
    ----------
    S. Jegelka, "Deep learning for images: convolutional neural networks" (lecture): "errors can be
    very different for different classes", with the table of J. Buolamwini and T. Gebru, "Gender
    shades", 2018.

    Examples
    --------
    >>> from convcore import insight
    >>> print(insight.error_table([0, 0, 1, 1], [0, 1, 1, 1], groups=["a", "b", "a", "b"]))
    class  precision  recall     F1  images  errors
    -----------------------------------------------
    0         100.0%   50.0%  66.7%       2       1
    1          66.7%  100.0%  80.0%       2       0
    mean       83.3%   75.0%  73.3%       4       1
    <BLANKLINE>
    group  accuracy  precision  recall      F1  images  errors
    ----------------------------------------------------------
    a        100.0%     100.0%  100.0%  100.0%       2       0
    b         50.0%      50.0%   50.0%   33.3%       2       1
    largest gap in accuracy between groups: 50.0%
    """
    truth, guesses, names = check_predictions("error_table", y, predicted, classes)
    rows, macro = _rows(truth, guesses, names, "mean")
    if groups is None:
        return ErrorTable(rows, macro)
    labels = np.asarray(groups)
    if labels.shape != truth.shape:
        raise ValueError(
            f"error_table: groups has the wrong shape: expected {truth.shape} (one per image), "
            f"got {labels.shape}"
        )
    found = []
    for label in np.unique(labels):
        rows_in = labels == label
        found.append(_rows(truth[rows_in], guesses[rows_in], names, str(label))[1])
    return ErrorTable(rows, macro, tuple(found))


def _rows(
    truth: npt.NDArray[np.int64],
    guesses: npt.NDArray[np.int64],
    names: tuple[str, ...],
    mean_name: str,
) -> tuple[tuple[ErrorRow, ...], ErrorRow]:
    """Return a row per class, and their mean."""
    k = len(names)
    counts = np.bincount(truth * k + guesses, minlength=k * k).reshape(k, k)
    right = np.diag(counts)
    support, taken = counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        precision, recall = right / taken, right / support
        f1 = 2 * right / (support + taken)
    rows = tuple(
        ErrorRow(name, float(p), float(r), float(f), int(n), int(n - t))
        for name, p, r, f, n, t in zip(names, precision, recall, f1, support, right, strict=True)
    )
    present = [row for row in rows if row.support]
    means = {
        name: _mean([getattr(row, name) for row in present])
        for name in ("precision", "recall", "f1")
    }
    n = len(truth)
    return rows, ErrorRow(mean_name, support=n, errors=int(n - right.sum()), **means)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


def _cells(row: ErrorRow) -> tuple[str, ...]:
    shares = map(percent, (row.precision, row.recall, row.f1))
    return (row.name, *shares, f"{row.support:,}", f"{row.errors:,}")


def _percents(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _lowest(values: list[float]) -> float:
    """Return where the axis of shares begins: at a tenth below the smallest."""
    known = [value for value in values if not np.isnan(value)]
    return max(0.0, math.floor(min(known, default=0.0) * 10 - 0.5) / 10)

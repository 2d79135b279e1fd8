"""Learning curves, from a History or the files that ``convcore train`` writes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from convcore._table import table
from convcore.history import History
from convcore.insight import _draw
from convcore.insight._report import Report

#: A training's measurements, or the file with them.
Source: TypeAlias = "History | str | os.PathLike[str]"


@dataclass(frozen=True, eq=False, repr=False)
class LearningCurves(Report):
    """How trainings went, epoch by epoch.

    Attributes
    ----------
    names : tuple of str
        One per training.
    histories : tuple of History
    """

    names: tuple[str, ...]
    histories: tuple[History, ...]

    def best(self, index: int = 0) -> tuple[int, float] | None:
        """Return the epoch (counted from 1) with the lowest validation loss, and that loss."""
        history = self.histories[index]
        losses = np.asarray(history.history.get("val_loss", []), np.float64)
        if not np.isfinite(losses).any():
            return None
        place = int(np.nanargmin(np.where(np.isfinite(losses), losses, np.nan)))
        return history.epoch[place] + 1, float(losses[place])

    def gap(self, index: int = 0) -> float:
        """Return the last validation loss minus the last training loss: how much it overfits."""
        values = self.histories[index].history
        if not values.get("val_loss") or not values.get("loss"):
            return float("nan")
        return values["val_loss"][-1] - values["loss"][-1]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers in forms that JSON knows."""
        found = []
        for index, (name, history) in enumerate(zip(self.names, self.histories, strict=True)):
            best = self.best(index)
            found.append(
                {
                    "name": name,
                    "epoch": [epoch + 1 for epoch in history.epoch],
                    "history": history.history,
                    "best_epoch": None if best is None else best[0],
                    "best_val_loss": None if best is None else best[1],
                    "gap": self.gap(index),
                }
            )
        return {"trainings": found}

    def __repr__(self) -> str:
        epochs = ", ".join(str(len(history.epoch)) for history in self.histories)
        return f"LearningCurves({', '.join(self.names)}; epochs: {epochs})"

    def __str__(self) -> str:
        head = ("training", "epochs", "loss", "val_loss", "val_accuracy", "best epoch", "gap")
        rows = []
        for index, (name, history) in enumerate(zip(self.names, self.histories, strict=True)):
            last = [history.history.get(key, []) for key in ("loss", "val_loss", "val_accuracy")]
            best = self.best(index)
            rows.append(
                (
                    name,
                    f"{len(history.epoch)}",
                    *(f"{values[-1]:.4f}" if values else "-" for values in last),
                    "-" if best is None else f"{best[0]} ({best[1]:.4f})",
                    f"{self.gap(index):+.4f}",
                )
            )
        return table(head, rows)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the losses, and the accuracies when there are any.

        Solid lines are the validation, dotted ones the training; the ring is the lowest
        validation loss.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.

        Returns
        -------
        matplotlib.figure.Figure
        """
        metrics = ["loss"]
        if any("accuracy" in history.history for history in self.histories):
            metrics.append("accuracy")
        with _draw.style():
            figure = _draw.new_figure(5.2 * len(metrics), 3.9)
            panels = figure.subplots(1, len(metrics), squeeze=False)[0]
            for axes, metric in zip(panels, metrics, strict=True):
                self._draw(axes, metric)
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
            figure.suptitle("Learning curves")
            return _draw.finish(figure, path)

    def _draw(self, axes: Any, metric: str) -> None:
        from matplotlib.ticker import MaxNLocator

        several = len(self.names) > 1
        for index, (name, history) in enumerate(zip(self.names, self.histories, strict=True)):
            epochs = [epoch + 1 for epoch in history.epoch]
            colour = _draw.COLOURS[index % len(_draw.COLOURS)]
            pairs = ((metric, ":", "training"), (f"val_{metric}", "-", "validation"))
            for key, line, what in pairs:
                if key in history.history:
                    label = f"{name}, {what}" if several else what
                    axes.plot(epochs, history.history[key], line, color=colour, lw=2, label=label)
            best = self.best(index)
            if best is not None and f"val_{metric}" in history.history:
                value = history.history[f"val_{metric}"][epochs.index(best[0])]
                ring = {"ms": 11, "mfc": "none", "mec": colour, "mew": 1.6}
                which = "" if several else f"lowest validation loss (epoch {best[0]})"
                axes.plot([best[0]], [value], "o", label=which, **ring)
        axes.set(xlabel="epoch", title=metric[0].upper() + metric[1:])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)


def learning_curves(
    source: Source | Sequence[Source], names: Sequence[str] | None = None
) -> LearningCurves:
    """Gather what one or several trainings measured, epoch by epoch.

    Parameters
    ----------
    source : History, path, or sequence of them
        What `Model.fit` returns; ``NAME.history.json``, which ``convcore train`` writes beside the
        weights; or what ``convcore train --json`` prints.
    names : sequence of str, optional
        The default is the files' names.

    Returns
    -------
    LearningCurves

    Raises
    ------
    ValueError
        When a file is no history.
    OSError
        When a file cannot be opened.

    References
    ----------
    S. Jegelka, "Deep learning for images: convolutional neural networks" (lecture): "early
    stopping: check error on validation set after each epoch".

    Examples
    --------
    >>> from convcore import History, insight
    >>> history = History()
    >>> for epoch, (loss, val_loss) in enumerate([(0.9, 0.8), (0.4, 0.5), (0.1, 0.7)]):
    ...     history.record(epoch, {"loss": loss, "val_loss": val_loss})
    >>> curves = insight.learning_curves(history)
    >>> curves.best(), round(curves.gap(), 2)
    ((2, 0.5), 0.6)
    """
    sources = [source] if isinstance(source, (History, str, os.PathLike)) else list(source)
    if not sources:
        raise ValueError("learning_curves: source is empty: expected at least one training, got 0")
    if names is None:
        names = [_name(one, index) for index, one in enumerate(sources)]
    if len(names) != len(sources):
        raise ValueError(
            f"learning_curves: names has the wrong length: expected {len(sources)} (that of "
            f"source), got {len(names)}"
        )
    return LearningCurves(tuple(names), tuple(map(_read, sources)))


def _name(source: Source, index: int) -> str:
    if isinstance(source, History):
        return f"training {index + 1}"
    return Path(source).name.removesuffix(".json").removesuffix(".history")


def _read(source: Source) -> History:
    if isinstance(source, History):
        return source
    path = Path(source)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        values = content["history"]
        epochs = content.get("epoch", list(range(len(values["loss"]))))
        history = History.from_json(json.dumps({"epoch": epochs, "history": values}))
    except OSError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"learning_curves: {path} is no history: expected a file of convcore train "
            f"(NAME.history.json), got {type(error).__name__}: {error}"
        ) from error
    lengths = {len(column) for column in history.history.values()} | {len(history.epoch)}
    if len(lengths) > 1 or lengths == {0}:
        raise ValueError(
            f"learning_curves: {path} is no history: expected one value per epoch, "
            f"got {len(history.epoch)} epochs and lists of {sorted(lengths)} values"
        )
    return history

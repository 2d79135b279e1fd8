"""What a training measured, epoch by epoch."""

from __future__ import annotations

import json
import math
from typing import Any


class History:
    """The measurements of a training.

    Attributes
    ----------
    epoch : list of int
        The epochs, counted from 0.
    history : dict of str to list of float
        One value per epoch: ``loss`` and ``accuracy`` (averages over the epoch's training batches,
        made while it ran), ``val_loss`` and ``val_accuracy`` when there was validation data,
        ``seconds`` (of the training part of the epoch) and ``images_per_second``.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def record(self, epoch: int, logs: dict[str, float]) -> None:
        """Add the values of one epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))

    def extend(self, later: History) -> None:
        """Add the epochs of a training that went on from this one."""
        self.epoch += later.epoch
        for name, values in later.history.items():
            self.history.setdefault(name, []).extend(values)

    def to_json(self, indent: int | None = None) -> str:
        """Return ``{"epoch": [...], "history": {...}}``, with null for NaN and infinities."""
        history = {
            name: [value if math.isfinite(value) else None for value in values]
            for name, values in self.history.items()
        }
        return json.dumps({"epoch": self.epoch, "history": history}, indent=indent, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> History:
        """Return the history that `to_json` wrote; null becomes NaN."""
        content: dict[str, Any] = json.loads(text)
        history = cls()
        history.epoch = [int(e) for e in content["epoch"]]
        history.history = {
            name: [math.nan if value is None else float(value) for value in values]
            for name, values in content["history"].items()
        }
        return history

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.history.items())
        return f"History({len(self.epoch)} epochs{': ' + last if last else ''})"

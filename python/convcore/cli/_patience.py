"""Stopping early in a way that a resumed training continues."""

from __future__ import annotations

import math
from collections.abc import Sequence

from convcore.callbacks import Callback, Logs


class Patience(Callback):
    """Stop when the validation loss has not become better for some epochs.

    It depends on the losses alone, which every checkpoint has: unlike `callbacks.EarlyStopping`,
    which keeps the best weights in memory.

    Parameters
    ----------
    epochs : int
    losses : sequence of float
        Of the epochs before a resume.
    """

    def __init__(self, epochs: int, losses: Sequence[float]) -> None:
        self.epochs = epochs
        self.losses = list(losses)

    def exhausted(self) -> bool:
        """Return whether the best loss lies that many epochs back; NaN is never the best."""
        losses = [math.inf if math.isnan(loss) else loss for loss in self.losses]
        return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= self.epochs

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Count."""
        self.losses.append(logs["val_loss"])
        if self.exhausted():
            self.model.stop_training = True

"""What may happen between the epochs: learning rates, stopping early, keeping the best, saving."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convcore._names import did_you_mean
from convcore.lr_scheduler import LRScheduler, ReduceLROnPlateau
from convcore.nn import _checks as check

if TYPE_CHECKING:
    from convcore.engine import Model

Logs = dict[str, float]


class Callback:
    """The base class: override what you need.

    Attributes
    ----------
    model : Model
        The network in training; ``self.model.stop_training = True`` ends the training after the
        running epoch.
    params : dict
        ``epochs``, ``batch_size``, ``samples`` and ``metrics``: the names that `logs` will have.
    """

    model: Model
    params: dict[str, Any]

    def on_train_begin(self) -> None:
        """Run before the first epoch."""

    def on_train_end(self) -> None:
        """Run after the last epoch, also when an error or Ctrl-C ends the training."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Run before an epoch (counted from 0)."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Run after an epoch, and its validation; `logs` is a copy of what `History` records."""

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        """Run after a training step; `logs` are the averages over the epoch so far."""

    def _expect_metric(self, monitor: str) -> None:
        metrics = self.params["metrics"]
        if monitor in metrics:
            return
        validated = any(metric.startswith("val_") for metric in metrics)
        if monitor.startswith("val_") and not validated:
            hint = " (pass validation_data to fit)"
        else:
            hint = did_you_mean(monitor, metrics)
        raise ValueError(
            f"{type(self).__name__}: monitor is not recorded: expected one of "
            f"{', '.join(map(repr, metrics))}, got {monitor!r}{hint}"
        )


class _Best:
    """Remembers the best value of a metric: the highest accuracy, the lowest of anything else."""

    def __init__(self, mode: str, monitor: str, min_delta: float = 0.0) -> None:
        rising = mode == "max" or (mode == "auto" and "acc" in monitor)
        self.sign = 1.0 if rising else -1.0
        self.min_delta = min_delta
        self.value = -math.inf

    def improved(self, value: float) -> bool:
        """Take a new value; NaN is never better."""
        if self.sign * value > self.value + (0 if self.value == -math.inf else self.min_delta):
            self.value = self.sign * value
            return True
        return False


class EarlyStopping(Callback):
    """Stop when a metric has not become better for `patience` epochs.

    Parameters
    ----------
    monitor : str, default 'val_loss'
        A name that `History` records.
    patience : int, default 0
        Epochs without a better value after which the training stops; 0 and 1 mean the same.
    min_delta : float, default 0.0
        A change of at most this much is no improvement.
    restore_best_weights : bool, default True
        Go back to the weights of the best epoch at the end, however the training ends.
    mode : {'auto', 'min', 'max'}
        'auto': accuracies shall rise, anything else shall fall.

    Attributes
    ----------
    best_epoch : int or None
        Counted from 0.
    stopped_epoch : int or None
        The epoch after which the training was stopped; None when it was not.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 0,
        min_delta: float = 0.0,
        restore_best_weights: bool = True,
        mode: str = "auto",
    ) -> None:
        self.monitor = monitor
        self.patience = check.integer("EarlyStopping", "patience", patience, low=0)
        self.min_delta = check.real("EarlyStopping", "min_delta", min_delta, 0.0, math.inf)
        self.restore_best_weights = bool(restore_best_weights)
        self.mode = check.choice("EarlyStopping", "mode", mode, ("auto", "min", "max"))

    def on_train_begin(self) -> None:
        """Start over."""
        self._expect_metric(self.monitor)
        self._best = _Best(self.mode, self.monitor, self.min_delta)
        self._best_state: dict[str, np.ndarray[Any, Any]] | None = None
        self._waited = 0
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Keep the best weights; count the epochs since."""
        if self._best.improved(logs[self.monitor]):
            self.best_epoch = epoch
            self._waited = 0
            if self.restore_best_weights:
                state = self.model.state_dict()
                self._best_state = {name: array.copy() for name, array in state.items()}
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self) -> None:
        """Put the best weights back."""
        if self._best_state is not None:
            self.model.load_state_dict(self._best_state)
            self._best_state = None


class LearningRateScheduler(Callback):
    """Set the learning rate before each epoch.

    Parameters
    ----------
    schedule : callable, lr_scheduler.LRScheduler or lr_scheduler.ReduceLROnPlateau
        A callable gets the epoch, counted from 0, and returns the learning rate of all parameter
        groups. A scheduler has the epochs as its steps. As the rate depends on nothing else, a
        resumed training goes on with the right one. `ReduceLROnPlateau` gets the value of `monitor`
        after each epoch.
    monitor : str, optional
        For `ReduceLROnPlateau`; the default is 'val_loss' with validation data, else 'loss'.
    history : History, optional
        For `ReduceLROnPlateau`: the epochs before this training, when it goes on from a checkpoint,
        so that it goes on as one that was not broken (the rate itself is the optimizer's).

    See Also
    --------
    BatchLearningRateScheduler : A scheduler whose steps are batches.

    Examples
    --------
    >>> from convcore import callbacks, nn, optim
    >>> halving = callbacks.LearningRateScheduler(lambda epoch: 1e-3 * 0.5**epoch)
    >>> optimizer = optim.SGD(nn.Linear(4, 2).parameters(), lr=0.1)
    >>> cosine = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    >>> annealing = callbacks.LearningRateScheduler(cosine)
    >>> plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=3)
    >>> reducing = callbacks.LearningRateScheduler(plateau, monitor="val_loss")
    """

    def __init__(
        self,
        schedule: Callable[[int], float] | LRScheduler | ReduceLROnPlateau,
        monitor: str | None = None,
        history: Any = None,
    ) -> None:
        self.schedule = schedule
        self.monitor = monitor
        self.earlier = history

    def on_train_begin(self) -> None:
        """Choose the metric, and look at the epochs before."""
        if not isinstance(self.schedule, ReduceLROnPlateau):
            return
        validated = "val_loss" in self.params["metrics"]
        self._monitor = self.monitor or ("val_loss" if validated else "loss")
        self._expect_metric(self._monitor)
        if self.earlier is not None:
            for value in self.earlier.history.get(self._monitor, []):
                self.schedule.observe(value)
            self.earlier = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Let `ReduceLROnPlateau` look at the metric."""
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(logs[self._monitor])

    def on_epoch_begin(self, epoch: int) -> None:
        """Set it."""
        if isinstance(self.schedule, ReduceLROnPlateau):
            return
        if isinstance(self.schedule, LRScheduler):
            self.schedule.set(epoch)
            return
        rate = check.real("LearningRateScheduler", "schedule", self.schedule(epoch), 0.0, math.inf)
        for group in self.model.optimizer.param_groups:
            group["lr"] = rate


class BatchLearningRateScheduler(Callback):
    """Set the learning rate before each batch.

    Parameters
    ----------
    scheduler : lr_scheduler.LRScheduler
        Has the batches of the whole training as its steps: ``epochs * ceil(samples / batch_size)``.
        As the rate depends on nothing else, a resumed training goes on with the right one.

    Examples
    --------
    >>> from convcore import callbacks, nn, optim
    >>> optimizer = optim.SGD(nn.Linear(4, 2).parameters(), lr=0.1, momentum=0.9)
    >>> one_cycle = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=10 * 391)
    >>> cycling = callbacks.BatchLearningRateScheduler(one_cycle)
    """

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler = scheduler

    def on_epoch_begin(self, epoch: int) -> None:
        """Set it for the first batch."""
        self._begin = epoch * math.ceil(self.params["samples"] / self.params["batch_size"])
        self.scheduler.set(self._begin)

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        """Set it for the next batch."""
        self.scheduler.set(self._begin + batch + 1)


class ModelCheckpoint(Callback):
    """Save the model after each epoch.

    Parameters
    ----------
    path : str or Path
        May have fields for the epoch (from 1) and the metrics:
        ``"lenet5-{epoch:02d}-{val_accuracy:.3f}.safetensors"``.
    monitor : str, optional
        The metric that decides what is best; the default is 'val_loss' with validation data, else
        'loss'.
    save_best_only : bool, default False
        Save only when the metric has become better.
    mode : {'auto', 'min', 'max'}
        'auto': accuracies shall rise, anything else shall fall.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str | None = None,
        save_best_only: bool = False,
        mode: str = "auto",
    ) -> None:
        self.path = os.fsdecode(path)
        self.monitor = monitor
        self.save_best_only = bool(save_best_only)
        self.mode = check.choice("ModelCheckpoint", "mode", mode, ("auto", "min", "max"))

    def on_train_begin(self) -> None:
        """Choose the metric."""
        validated = "val_loss" in self.params["metrics"]
        self._monitor = self.monitor or ("val_loss" if validated else "loss")
        self._expect_metric(self._monitor)
        self._best = _Best(self.mode, self._monitor)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save, if it is time to."""
        better = self._best.improved(logs[self._monitor])
        if better or not self.save_best_only:
            self.model.save(self.path.format(epoch=epoch + 1, **logs))


class TrainingCheckpoint(Callback):
    """Save all that a resume needs after each epoch (see `serialization.save_checkpoint`).

    Parameters
    ----------
    directory : str or Path
        Holds the newest checkpoint only.
    history : History, optional
        The epochs before this training, when it goes on from a checkpoint.
    extra : dict, optional
        What else the checkpoint shall say (see `serialization.save_checkpoint`).

    Attributes
    ----------
    epoch : int or None
        The number of epochs done in the checkpoint that was saved last; None before the first.
    """

    epoch: int | None = None

    def __init__(
        self,
        directory: str | os.PathLike[str],
        history: Any = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = Path(os.fsdecode(directory))
        self.earlier = history
        self.extra = extra

    @property
    def path(self) -> Path:
        """The file."""
        from convcore.serialization import CHECKPOINT_NAME

        return self.directory / CHECKPOINT_NAME

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Save."""
        from convcore.history import History
        from convcore.serialization import save_checkpoint

        history = History()
        for part in (self.earlier, self.model.history):
            if part is not None:
                history.extend(part)
        save_checkpoint(
            self.directory, self.model, self.model.optimizer, epoch + 1, history, self.extra
        )
        self.epoch = epoch + 1

"""Learning-rate schedules with the names, arguments and values of ``torch.optim.lr_scheduler``.

Each schedule but `ReduceLROnPlateau` is a plain function of the number of steps done
(`LRScheduler.lr_at`). In a loop of
your own, call ``scheduler.step()`` after each epoch or batch, as with torch. For `Model.fit`, hand
it to `convcore.callbacks.LearningRateScheduler`, or `BatchLearningRateScheduler` where its steps
are batches: they set the rate by the epoch or the batch, so that a resumed training goes on with
the right one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from convcore.nn import _checks as check


class LRScheduler(ABC):
    """The base class: the learning rates that the optimizer has now are the base of the schedule.

    Parameters
    ----------
    optimizer : optimizer
        Whose ``param_groups`` get the rates.

    Attributes
    ----------
    base_lrs : list of float
        The rate that each parameter group had before its first schedule (kept as ``initial_lr``).
    last_epoch : int
        The number of steps done.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        groups = optimizer.param_groups
        self.base_lrs = [float(group.setdefault("initial_lr", group["lr"])) for group in groups]
        self.set(0)

    @abstractmethod
    def lr_at(self, step: int, base: float) -> float:
        """Return the learning rate after `step` steps of a group that began with `base`."""

    def set(self, step: int) -> None:
        """Give the optimizer what it has after `step` steps."""
        self.last_epoch = step
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = self.lr_at(step, base)

    def step(self) -> None:
        """Go on by one step: one epoch or one batch, as the schedule counts."""
        self.set(self.last_epoch + 1)

    def get_last_lr(self) -> list[float]:
        """Return the rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs."""
        return {"base_lrs": list(self.base_lrs), "last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        name = type(self).__name__
        try:
            rates = [float(rate) for rate in state_dict["base_lrs"]]
            step = int(state_dict["last_epoch"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{name}: state_dict does not fit: expected 'base_lrs' and 'last_epoch', "
                f"got {state_dict!r}"
            ) from error
        if len(rates) != len(self.base_lrs):
            raise ValueError(
                f"{name}: state_dict has the wrong number of parameter groups: "
                f"expected {len(self.base_lrs)}, got {len(rates)}"
            )
        self.base_lrs = rates
        self.set(step)


class StepLR(LRScheduler):
    """The rate times `gamma` after every `step_size` steps.

    Parameters
    ----------
    optimizer : optimizer
    step_size : int
    gamma : float, default 0.1
    """

    def __init__(self, optimizer: Any, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = check.integer("StepLR", "step_size", step_size)
        self.gamma = check.real("StepLR", "gamma", gamma, 0, math.inf)
        super().__init__(optimizer)

    def lr_at(self, step: int, base: float) -> float:
        """Return ``base * gamma ** (step // step_size)``."""
        return base * self.gamma ** (step // self.step_size)


class MultiStepLR(LRScheduler):
    """The rate times `gamma` at each of the `milestones`.

    Parameters
    ----------
    optimizer : optimizer
    milestones : sequence of int
        Numbers of steps, rising.
    gamma : float, default 0.1
    """

    def __init__(self, optimizer: Any, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones = [
            check.integer("MultiStepLR", "milestones", milestone, low=0) for milestone in milestones
        ]
        if self.milestones != sorted(self.milestones):
            raise ValueError(
                f"MultiStepLR: milestones do not rise: expected a sorted sequence, got {milestones}"
            )
        self.gamma = check.real("MultiStepLR", "gamma", gamma, 0, math.inf)
        super().__init__(optimizer)

    def lr_at(self, step: int, base: float) -> float:
        """Return ``base * gamma`` to the power of the milestones reached."""
        return base * self.gamma ** bisect_right(self.milestones, step)


class ExponentialLR(LRScheduler):
    """The rate times `gamma` after every step.

    Parameters
    ----------
    optimizer : optimizer
    gamma : float
    """

    def __init__(self, optimizer: Any, gamma: float) -> None:
        self.gamma = check.real("ExponentialLR", "gamma", gamma, 0, math.inf)
        super().__init__(optimizer)

    def lr_at(self, step: int, base: float) -> float:
        """Return ``base * gamma ** step``."""
        return base * self.gamma**step


class LinearLR(LRScheduler):
    """A warm-up: a factor that goes in a straight line from `start_factor` to `end_factor`.

    Parameters
    ----------
    optimizer : optimizer
    start_factor, end_factor : float, default 1/3 and 1
    total_iters : int, default 5
        The step at which `end_factor` is reached; it stays.
    """

    def __init__(
        self,
        optimizer: Any,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        self.start_factor = check.real("LinearLR", "start_factor", start_factor, 0, 1)
        self.end_factor = check.real("LinearLR", "end_factor", end_factor, 0, 1)
        self.total_iters = check.integer("LinearLR", "total_iters", total_iters)
        super().__init__(optimizer)

    def lr_at(self, step: int, base: float) -> float:
        """Return `base` times the factor."""
        part = min(step, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * part)


class CosineAnnealingLR(LRScheduler):
    """The rate along half a cosine, from the base to `eta_min` in `T_max` steps.

    Parameters
    ----------
    optimizer : optimizer
    T_max : int
        After it the rate rises again, as in torch.
    eta_min : float, default 0

    References
    ----------
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    """

    def __init__(self, optimizer: Any, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = check.integer("CosineAnnealingLR", "T_max", T_max)
        self.eta_min = check.real("CosineAnnealingLR", "eta_min", eta_min, 0, math.inf)
        super().__init__(optimizer)

    def lr_at(self, step: int, base: float) -> float:
        """Return ``eta_min + (base - eta_min) * (1 + cos(pi * step / T_max)) / 2``."""
        return _between(base, self.eta_min, step / self.T_max)


class OneCycleLR(LRScheduler):
    """Up along half a cosine to `max_lr` and down to almost 0; the momentum goes the other way.

    Parameters
    ----------
    optimizer : optimizer
    max_lr : float
    total_steps : int
        Steps of the whole training; usually they are batches.
    pct_start : float, default 0.3
        Share of the steps that go up.
    anneal_strategy : {'cos', 'linear'}
    cycle_momentum : bool, default True
        Move the momentum (of Adam: the first of the betas) from `max_momentum` down to
        `base_momentum` and back.
    base_momentum, max_momentum : float, default 0.85 and 0.95
    div_factor : float, default 25
        The first rate is ``max_lr / div_factor``.
    final_div_factor : float, default 1e4
        The last rate is the first, divided by this.

    References
    ----------
    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning
    rates", 2018.
    """

    def __init__(
        self,
        optimizer: Any,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        name = "OneCycleLR"
        self.max_lr = check.real(name, "max_lr", max_lr, 0, math.inf)
        self.total_steps = check.integer(name, "total_steps", total_steps)
        self.pct_start = check.real(name, "pct_start", pct_start, 0, 1)
        self.anneal_strategy = check.choice(
            name, "anneal_strategy", anneal_strategy, ("cos", "linear")
        )
        self.cycle_momentum = bool(cycle_momentum)
        groups = optimizer.param_groups
        if cycle_momentum and not all(group.keys() & {"momentum", "betas"} for group in groups):
            raise ValueError(
                "OneCycleLR: cycle_momentum does not fit: expected an optimizer with momentum or "
                f"betas (or cycle_momentum=False), got {type(optimizer).__name__}"
            )
        self.base_momentum = check.real(name, "base_momentum", base_momentum, 0, 1)
        self.max_momentum = check.real(name, "max_momentum", max_momentum, 0, 1)
        self.div_factor = check.real(name, "div_factor", div_factor, 1, math.inf)
        self.final_div_factor = check.real(name, "final_div_factor", final_div_factor, 1, math.inf)
        super().__init__(optimizer)

    def lr_at(self, step: int, base: float) -> float:
        """Return the rate; `base` does not matter."""
        first = self.max_lr / self.div_factor
        return self._cycle(step, first, self.max_lr, first / self.final_div_factor)

    def set(self, step: int) -> None:
        """Give the optimizer what it has after `step` steps, the momentum too."""
        if step > self.total_steps:
            raise ValueError(
                f"OneCycleLR: there are no more steps: expected at most {self.total_steps} "
                f"(total_steps), got {step}"
            )
        super().set(step)
        if not self.cycle_momentum:
            return
        momentum = self._cycle(step, self.max_momentum, self.base_momentum, self.max_momentum)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum

    def _cycle(self, step: int, first: float, middle: float, last: float) -> float:
        top = self.pct_start * self.total_steps - 1
        end = self.total_steps - 1
        way = _between if self.anneal_strategy == "cos" else _straight
        if step <= top:
            return way(first, middle, step / top if top else 1.0)
        return way(middle, last, (step - top) / (end - top) if end > top else 1.0)


class SequentialLR(LRScheduler):
    """One schedule after another, such as a warm-up and then a cosine.

    Parameters
    ----------
    optimizer : optimizer
    schedulers : sequence of LRScheduler
        Each counts its steps from its own beginning.
    milestones : sequence of int
        The steps at which the second, third, ... begin.

    Examples
    --------
    >>> from convcore import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(4, 2).parameters(), lr=0.1)
    >>> warm_up = optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5)
    >>> cosine = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=95)
    >>> schedule = optim.lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], milestones=[5])
    """

    def __init__(
        self, optimizer: Any, schedulers: Sequence[LRScheduler], milestones: Sequence[int]
    ) -> None:
        self.schedulers = list(schedulers)
        self.milestones = [check.integer("SequentialLR", "milestones", m) for m in milestones]
        if len(self.schedulers) != len(self.milestones) + 1 or any(
            scheduler.optimizer is not optimizer for scheduler in self.schedulers
        ):
            raise ValueError(
                "SequentialLR: schedulers do not fit: expected one more than milestones, all of "
                f"the same optimizer, got {len(self.schedulers)} and {len(self.milestones)}"
            )
        super().__init__(optimizer)

    def lr_at(self, step: int, base: float) -> float:
        """Return what the schedule in charge gives."""
        index = bisect_right(self.milestones, step)
        begin = self.milestones[index - 1] if index else 0
        return self.schedulers[index].lr_at(step - begin, base)


class ReduceLROnPlateau:
    """The rate times `factor` when a metric has not become better for more than `patience` steps.

    Parameters
    ----------
    optimizer : optimizer
    mode : {'min', 'max'}
        Whether the metric shall fall or rise.
    factor : float, default 0.1
        Less than 1.
    patience : int, default 10
        Steps without a better value that are tolerated; the rate falls at the one after.
    threshold : float, default 1e-4
        What is not better by this much is not better.
    threshold_mode : {'rel', 'abs'}
        Whether that is a share of the best value so far, or a difference.
    cooldown : int, default 0
        Steps after each reduction that do not count.
    min_lr : float or sequence of float, default 0
        The rate, or that of each parameter group, goes no lower.
    eps : float, default 1e-8
        A change of the rate by no more than this is left out.

    Attributes
    ----------
    best : float
        The best value so far.
    num_bad_epochs : int
        Steps since, as far as they count.

    See Also
    --------
    convcore.callbacks.LearningRateScheduler : Calls `step` after each epoch of `fit`.

    Examples
    --------
    >>> from convcore import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(4, 2).parameters(), lr=0.1)
    >>> plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in (1.0, 1.1, 1.2):
    ...     plateau.step(loss)
    >>> plateau.get_last_lr()
    [0.05]
    """

    def __init__(
        self,
        optimizer: Any,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        name = "ReduceLROnPlateau"
        self.optimizer = optimizer
        self.mode = check.choice(name, "mode", mode, ("min", "max"))
        self.factor = check.real(name, "factor", factor, 0, 1)
        if self.factor == 1:
            raise ValueError(f"{name}: factor is out of range: expected less than 1, got 1")
        self.patience = check.integer(name, "patience", patience, low=0)
        self.threshold = check.real(name, "threshold", threshold, 0, math.inf)
        self.threshold_mode = check.choice(name, "threshold_mode", threshold_mode, ("rel", "abs"))
        self.cooldown = check.integer(name, "cooldown", cooldown, low=0)
        groups = len(optimizer.param_groups)
        lowest = min_lr if isinstance(min_lr, (list, tuple)) else [min_lr] * groups
        if len(lowest) != groups:
            raise ValueError(
                f"{name}: min_lr has the wrong length: expected one rate for each of {groups} "
                f"parameter groups, got {len(lowest)}"
            )
        self.min_lrs = [check.real(name, "min_lr", rate, 0, math.inf) for rate in lowest]
        self.eps = check.real(name, "eps", eps, 0, math.inf)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch = 0

    def step(self, metrics: float) -> None:
        """Take the value of an epoch, and reduce the rate when it is time to."""
        if not self.observe(metrics):
            return
        for group, lowest in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            rate = max(group["lr"] * self.factor, lowest)
            if group["lr"] - rate > self.eps:
                group["lr"] = rate

    def observe(self, metrics: float) -> bool:
        """Take the value of an epoch; return whether the rate shall fall, and leave it alone.

        With the values of earlier epochs, a new schedule gets to where a resumed training stood:
        the rate itself comes back with the optimizer.
        """
        value = float(metrics)
        self.last_epoch += 1
        if self._is_better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs <= self.patience:
            return False
        self.cooldown_counter = self.cooldown
        self.num_bad_epochs = 0
        return True

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1 + sign * self.threshold)
        return sign * value > sign * self.best + self.threshold

    def get_last_lr(self) -> list[float]:
        """Return the rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs beside the state of the optimizer, which has the rates."""
        return {name: getattr(self, name) for name in self._STATE}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        try:
            new = {name: kind(state_dict[name]) for name, kind in self._STATE.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"ReduceLROnPlateau: state_dict does not fit: expected {', '.join(self._STATE)}, "
                f"got {state_dict!r}"
            ) from error
        vars(self).update(new)

    _STATE: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "best": float,
        "num_bad_epochs": int,
        "cooldown_counter": int,
        "last_epoch": int,
    }


def _between(first: float, last: float, part: float) -> float:
    """Return what half a cosine from `first` to `last` gives after `part` of the way."""
    return last + (first - last) * (1 + math.cos(math.pi * part)) / 2


def _straight(first: float, last: float, part: float) -> float:
    return first + (last - first) * part

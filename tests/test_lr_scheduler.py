"""Learning-rate schedules: torch's values, and the same in fit and after a resume."""

from __future__ import annotations

import re

import numpy as np
import pytest

import convcore
from convcore import nn, optim, serialization
from convcore.callbacks import (
    BatchLearningRateScheduler,
    Callback,
    LearningRateScheduler,
    TrainingCheckpoint,
)
from convcore.optim import lr_scheduler as schedules


def sgd(lr=0.4):
    return optim.SGD(nn.Linear(3, 2).parameters(), lr=lr, momentum=0.9)


def warm_up_then_cosine(module, optimizer):
    first = module.LinearLR(optimizer, start_factor=0.1, total_iters=4)
    second = module.CosineAnnealingLR(optimizer, T_max=9)
    return module.SequentialLR(optimizer, [first, second], milestones=[4])


# Each makes a schedule out of the module: ours or torch's.
MAKERS = {
    "step": lambda m, o: m.StepLR(o, 3, gamma=0.5),
    "multi_step": lambda m, o: m.MultiStepLR(o, [2, 5, 5, 9]),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.9),
    "linear": lambda m, o: m.LinearLR(o),
    "linear_down": lambda m, o: m.LinearLR(o, 1.0, 0.2, 7),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 10),
    "cosine_past_its_end": lambda m, o: m.CosineAnnealingLR(o, 6, eta_min=0.01),
    "one_cycle": lambda m, o: m.OneCycleLR(o, 1.5, total_steps=50),
    "one_cycle_linear": lambda m, o: m.OneCycleLR(
        o, 1.5, total_steps=51, pct_start=0.4, anneal_strategy="linear", cycle_momentum=False
    ),
    "sequential": warm_up_then_cosine,
}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # torch wants optimizer.step() before, and more
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_schedule_has_the_values_of_torch(torch, name, kind):
    layer, torch_layer = nn.Linear(3, 2), torch.nn.Linear(3, 2)
    if kind == "sgd":
        ours = optim.SGD(layer.parameters(), lr=0.4, momentum=0.9)
        theirs = torch.optim.SGD(torch_layer.parameters(), lr=0.4, momentum=0.9)
    else:
        ours = optim.Adam(layer.parameters(), lr=0.4)
        theirs = torch.optim.Adam(torch_layer.parameters(), lr=0.4)
    got = MAKERS[name](schedules, ours)
    want = MAKERS[name](torch.optim.lr_scheduler, theirs)
    for _ in range(50):
        assert got.get_last_lr() == pytest.approx(want.get_last_lr(), rel=1e-9, abs=1e-15)
        for group, torch_group in zip(ours.param_groups, theirs.param_groups, strict=True):
            if kind == "sgd":
                assert group["momentum"] == pytest.approx(torch_group["momentum"])
            else:
                assert group["betas"] == pytest.approx(torch_group["betas"])
        got.step()
        want.step()
    assert got.get_last_lr() == pytest.approx(want.get_last_lr(), rel=1e-9, abs=1e-15)


PLATEAUS = {
    "default": {},
    "quick": {"factor": 0.5, "patience": 2},
    "rising": {"mode": "max", "patience": 1, "factor": 0.5, "threshold": 0.05},
    "differences": {"threshold_mode": "abs", "threshold": 0.1, "patience": 0, "factor": 0.7},
    "rising differences": {"mode": "max", "threshold_mode": "abs", "threshold": 0.2, "patience": 1},
    "cooldown": {"cooldown": 3, "patience": 1, "factor": 0.3, "min_lr": 1e-3},
    "eps": {"patience": 0, "factor": 0.5, "eps": 0.05},
}


@pytest.mark.torch
@pytest.mark.parametrize("name", PLATEAUS)
def test_plateau_has_the_values_of_torch(torch, name, rng):
    theirs = torch.optim.SGD(torch.nn.Linear(3, 2).parameters(), lr=0.4)
    got = schedules.ReduceLROnPlateau(sgd(), **PLATEAUS[name])
    want = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **PLATEAUS[name])
    for value in [*rng.uniform(0.5, 1.5, 50).tolist(), float("nan"), -0.1, -0.2]:
        got.step(value)
        want.step(value)
        assert got.get_last_lr() == pytest.approx(want.get_last_lr(), rel=1e-12)
        assert got.best == want.best
        assert got.num_bad_epochs == want.num_bad_epochs


def test_plateau_goes_on_from_its_state(rng):
    first, second = (schedules.ReduceLROnPlateau(sgd(), patience=3, cooldown=2) for _ in range(2))
    for value in rng.uniform(size=9):
        first.step(value)
    second.load_state_dict(first.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    for value in rng.uniform(size=9):
        first.step(value)
        second.step(value)
        assert second.get_last_lr() == first.get_last_lr()


def test_each_parameter_group_keeps_its_own_base():
    layers = nn.Linear(3, 2), nn.Linear(2, 1)
    groups = [{"params": layers[0].parameters(), "lr": 1.0}, {"params": layers[1].parameters()}]
    optimizer = optim.SGD(groups, lr=0.1)
    scheduler = schedules.StepLR(optimizer, 2)
    scheduler.set(5)
    assert scheduler.get_last_lr() == pytest.approx([0.01, 0.001])


@pytest.mark.parametrize("name", MAKERS)
def test_schedule_goes_on_from_its_state(name):
    first, second = (MAKERS[name](schedules, sgd()) for _ in range(2))
    for _ in range(7):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(4):
        assert second.get_last_lr() == first.get_last_lr()
        first.step()
        second.step()


class Rates(Callback):
    """Notes the learning rate of each batch, which the step before it set."""

    def __init__(self):
        self.rates = []

    def on_epoch_begin(self, epoch):
        self.rates.append(self.model.optimizer.param_groups[0]["lr"])

    def on_batch_end(self, batch, logs):
        self.rates.append(self.model.optimizer.param_groups[0]["lr"])


def rates_of(begin, end, batches):
    model, rates = nn.Sequential(nn.Linear(3, 2)), Rates()
    model.compile(lambda p: optim.SGD(p, lr=0.4))
    scheduler = schedules.CosineAnnealingLR(model.optimizer, 12 if batches else 4)
    kind = BatchLearningRateScheduler if batches else LearningRateScheduler
    x, y = np.ones((7, 3), np.float32), np.zeros(7, int)
    callbacks = [kind(scheduler), rates]
    model.fit(x, y, end, batch_size=3, callbacks=callbacks, verbose=0, initial_epoch=begin)
    return rates.rates


def cosine(step, steps):
    return 0.4 * (1 + np.cos(np.pi * step / steps)) / 2


def test_fit_sets_the_rate_of_the_epoch():
    want = [cosine(epoch, 4) for epoch in range(4) for _ in range(4)]
    assert rates_of(0, 4, batches=False) == pytest.approx(want)
    assert rates_of(2, 4, batches=False) == pytest.approx(want[8:])


def test_fit_sets_the_rate_of_the_batch():
    # Of each epoch of three batches: the rate at its begin, then that after each batch.
    want = [cosine(3 * epoch + batch, 12) for epoch in range(4) for batch in range(4)]
    assert rates_of(0, 4, batches=True) == pytest.approx(want)
    assert rates_of(2, 4, batches=True) == pytest.approx(want[8:])


def plateau_rates(tmp_path, stops):
    """Train in pieces that end at `stops`, each from the checkpoint of the one before."""
    x, y = np.ones((7, 3), np.float32), np.zeros(7, int)
    rates, history, begin = [], None, 0
    for end in stops:
        convcore.manual_seed(0)
        model, seen = nn.Sequential(nn.Linear(3, 2)), Rates()
        model.compile(lambda p: optim.SGD(p, lr=3.0))
        if begin:
            begin, history = serialization.load_checkpoint(tmp_path, model, model.optimizer)
        # Only the first loss is the best one: the rate falls again and again.
        plateau = schedules.ReduceLROnPlateau(
            model.optimizer, factor=0.5, patience=1, threshold=1, threshold_mode="abs"
        )
        callbacks = [
            LearningRateScheduler(plateau, monitor="loss", history=history),
            seen,
            TrainingCheckpoint(tmp_path, history),
        ]
        model.fit(x, y, end, callbacks=callbacks, verbose=0, initial_epoch=begin)
        rates += seen.rates[::2]
        begin = end
    return rates


def test_fit_reduces_the_rate_on_a_plateau_and_after_a_resume(tmp_path):
    whole = plateau_rates(tmp_path / "whole", [9])
    assert whole == [3.0] * 3 + [1.5] * 2 + [0.75] * 2 + [0.375] * 2
    assert plateau_rates(tmp_path / "broken", [2, 6, 9]) == whole


def test_fit_knows_what_the_plateau_is_of():
    model = nn.Sequential(nn.Linear(3, 2))
    model.compile("sgd")
    plateau = schedules.ReduceLROnPlateau(model.optimizer)
    callback = LearningRateScheduler(plateau, monitor="val_loss")
    with pytest.raises(ValueError, match="LearningRateScheduler: monitor is not recorded"):
        model.fit(np.ones((7, 3), np.float32), np.zeros(7, int), callbacks=callback, verbose=0)


def test_a_schedule_made_after_a_resume_has_the_first_rate_as_its_base():
    first, second = sgd(0.4), sgd(0.4)
    schedules.CosineAnnealingLR(first, 10).set(7)
    second.load_state_dict(first.state_dict())
    scheduler = schedules.CosineAnnealingLR(second, 10)
    assert scheduler.base_lrs == [0.4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: schedules.OneCycleLR(optim.Adagrad(nn.Linear(3, 2).parameters()), 1, 3),
            "OneCycleLR: cycle_momentum does not fit: expected an optimizer with momentum or betas",
        ),
        (
            lambda: schedules.ReduceLROnPlateau(sgd(), factor=1.0),
            "ReduceLROnPlateau: factor is out of range: expected less than 1",
        ),
        (
            lambda: schedules.ReduceLROnPlateau(sgd(), min_lr=[0.1, 0.2]),
            "ReduceLROnPlateau: min_lr has the wrong length: expected one rate for each of 1",
        ),
        (
            lambda: schedules.ReduceLROnPlateau(sgd()).load_state_dict({"best": 1.0}),
            "ReduceLROnPlateau: state_dict does not fit",
        ),
        (lambda: schedules.StepLR(sgd(), 0), "StepLR: step_size is out of range"),
        (lambda: schedules.MultiStepLR(sgd(), [5, 2]), "MultiStepLR: milestones do not rise"),
        (lambda: schedules.OneCycleLR(sgd(), 1, 3).set(4), "OneCycleLR: there are no more steps"),
        (
            lambda: schedules.OneCycleLR(sgd(), 1, 3, anneal_strategy="exp"),
            "OneCycleLR: anneal_strategy is not known",
        ),
        (
            lambda: schedules.SequentialLR(sgd(), [schedules.StepLR(sgd(), 1)], []),
            "SequentialLR: schedulers do not fit",
        ),
        (
            lambda: schedules.StepLR(sgd(), 1).load_state_dict({"last_epoch": 1}),
            "StepLR: state_dict does not fit",
        ),
        (
            lambda: schedules.StepLR(sgd(), 1).load_state_dict({"last_epoch": 1, "base_lrs": []}),
            "StepLR: state_dict has the wrong number of parameter groups: expected 1, got 0",
        ),
    ],
)
def test_schedule_rejects(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()

"""Batch normalisation as an exercise (CS231n's form), and what goes wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convcore import reference
from convcore.teaching.check.bugs import COMMON, GRADIENT, Array, Bug, Inputs, changed
from convcore.teaching.check.exercise import Case, Exercise

#: CS231n's momentum is the part of the old value that stays; convcore's (and torch's) the new part.
_MOMENTUM = 0.9
_EPS = 1e-3  # large enough that its place in the formula shows


def _cases(rng: np.random.Generator) -> list[Case]:
    cases = []
    for n, features, training in ((4, 3, True), (2, 1, True), (6, 5, True), (3, 4, False)):
        inputs: Inputs = {
            "x": 0.3 * rng.standard_normal((n, features)) + 2,
            "gamma": rng.standard_normal(features),
            "beta": rng.standard_normal(features),
            "running_mean": rng.standard_normal(features),
            "running_var": 0.1 + rng.random(features),
            "training": training,
            "dy": rng.standard_normal((n, features)),
        }
        mode = "train" if training else "test"
        tags = frozenset({f"mode {mode!r}"})
        label = f"x {n}x{features}, mode {mode!r}"
        # In test mode CS231n's usual solution keeps nothing for backward.
        cases.append(Case(inputs, label, tags, has_backward=training))
    return cases


def _out(i: Inputs) -> Array:
    running = i["running_mean"].copy(), i["running_var"].copy()
    return reference.batch_norm(
        i["x"], *running, i["gamma"], i["beta"], i["training"], 1 - _MOMENTUM, _EPS
    )


def _running(name: str) -> Callable[[Inputs], Array]:
    """Return the new running mean, or variance: as CS231n, of the variance without N - 1."""

    def compute(i: Inputs) -> Array:
        old: Array = i[name]
        if not i["training"]:
            return old
        batch: Array = i["x"].mean(axis=0) if name == "running_mean" else i["x"].var(axis=0)
        return _MOMENTUM * old + (1 - _MOMENTUM) * batch

    return compute


def _gradient(which: int) -> Callable[[Inputs], Array]:
    def compute(i: Inputs) -> Array:
        running = i["running_mean"].copy(), i["running_var"].copy()
        arrays = i["dy"], i["x"], *running, i["gamma"], i["beta"]
        gradients = reference.batch_norm_backward(*arrays, i["training"], 1 - _MOMENTUM, _EPS)
        gradient = gradients[which]
        assert gradient is not None
        return gradient

    return compute


_dx, _dgamma, _dbeta = (_gradient(which) for which in range(3))


def _normalised(i: Inputs, mean: Any, deviation: Any) -> Array:
    result: Array = (i["x"] - mean) / deviation * i["gamma"] + i["beta"]
    return result


def _batch_or_running(i: Inputs) -> tuple[Array, Array]:
    if i["training"]:
        return i["x"].mean(axis=0), i["x"].var(axis=0)
    return i["running_mean"], i["running_var"]


def _unbiased(i: Inputs) -> Array:
    mean, var = _batch_or_running(i)
    n = len(i["x"])
    return _normalised(i, mean, np.sqrt(var * (n / (n - 1) if i["training"] else 1) + _EPS))


def _eps_outside(i: Inputs) -> Array:
    mean, var = _batch_or_running(i)
    return _normalised(i, mean, np.sqrt(var) + _EPS)


def _no_eps(i: Inputs) -> Array:
    mean, var = _batch_or_running(i)
    return _normalised(i, mean, np.sqrt(var))


def _by_variance(i: Inputs) -> Array:
    mean, var = _batch_or_running(i)
    return _normalised(i, mean, var + _EPS)


def _batch_always(i: Inputs) -> Array:
    return _out({**i, "training": True})


def _constant_statistics(i: Inputs) -> Array:
    """Return dx as if mean and variance did not depend on x."""
    _, var = _batch_or_running(i)
    dx: Array = i["dy"] * i["gamma"] / np.sqrt(var + _EPS)
    return dx


def _running_bugs(name: str) -> tuple[Bug, ...]:
    def batch(i: Inputs) -> Array:
        x: Array = i["x"]
        statistic: Array = x.mean(axis=0) if name == "running_mean" else x.var(axis=0)
        return statistic

    def swapped(i: Inputs) -> Array:
        old: Array = i[name]
        return (1 - _MOMENTUM) * old + _MOMENTUM * batch(i) if i["training"] else old

    return (
        Bug(
            "running average not kept",
            f"{name} is not stored in bn_param",
            instead=lambda i: i[name],
        ),
        Bug(
            "momentum the other way round",
            "CS231n: running = momentum * running + (1 - momentum) * batch",
            instead=swapped,
        ),
        Bug(
            "running average without the old value",
            "the batch replaces the running average",
            instead=lambda i: batch(i) if i["training"] else i[name],
        ),
        *COMMON,
    )


_PER_FEATURE = (
    Bug(
        "not summed over N",
        "the sum over the batch is missing: .sum(axis=0)",
        instead=lambda i: i["dy"],
    ),
    *GRADIENT,
)

BATCHNORM = Exercise(
    name="batchnorm",
    functions=("batchnorm_forward", "batch_norm_forward"),
    signature="batchnorm_forward(x, gamma, beta, bn_param) -> out, cache",
    arrays=("x", "gamma", "beta"),
    outputs={
        "out": _out,
        "running_mean": _running("running_mean"),
        "running_var": _running("running_var"),
    },
    gradients={"dx": _dx, "dgamma": _dgamma, "dbeta": _dbeta},
    cases=_cases,
    bugs={
        "out": (
            Bug(
                "variance with N - 1",
                "the variance is the mean of the squares: np.var without ddof=1",
                instead=_unbiased,
            ),
            Bug(
                "eps outside of the root",
                "it is sqrt(var + eps), not sqrt(var) + eps",
                instead=_eps_outside,
            ),
            Bug("eps missing", "it is sqrt(var + eps)", instead=_no_eps),
            Bug("divided by the variance", "divide by sqrt(var + eps)", instead=_by_variance),
            Bug(
                "batch statistics in test mode",
                "in test mode running_mean and running_var are used, not those of the batch",
                instead=_batch_always,
            ),
            changed("gamma missing", "multiply by gamma", gamma=lambda i: np.ones_like(i["gamma"])),
            changed("beta missing", "add beta", beta=lambda i: np.zeros_like(i["beta"])),
            *COMMON,
        ),
        "running_mean": _running_bugs("running_mean"),
        "running_var": (
            Bug(
                "variance with N - 1",
                "CS231n's running variance is that of np.var, without ddof=1",
                instead=lambda i: (
                    i["running_var"]
                    if not i["training"]
                    else _MOMENTUM * i["running_var"] + (1 - _MOMENTUM) * i["x"].var(axis=0, ddof=1)
                ),
            ),
            *_running_bugs("running_var"),
        ),
        "dx": (
            Bug(
                "mean and variance taken as constants",
                "mean and variance depend on x: their gradients add to dx",
                instead=_constant_statistics,
            ),
            changed(
                "gamma missing", "multiply dout by gamma", gamma=lambda i: np.ones_like(i["gamma"])
            ),
            *GRADIENT,
        ),
        "dgamma": (
            Bug(
                "x for x normalised",
                "dgamma is the sum of dout times the normalised x",
                instead=lambda i: (i["dy"] * i["x"]).sum(axis=0),
            ),
            *_PER_FEATURE,
        ),
        "dbeta": _PER_FEATURE,
    },
    settings=lambda i: {
        "mode": "train" if i["training"] else "test",
        "eps": _EPS,
        "momentum": _MOMENTUM,
        "running_mean": i["running_mean"].copy(),
        "running_var": i["running_var"].copy(),
    },
    updated=("running_mean", "running_var"),
    differentiated=("x", "gamma", "beta"),
)

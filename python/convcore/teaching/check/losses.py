"""The two losses of CS231n's assignments as exercises, and what goes wrong with them."""

from __future__ import annotations

import numpy as np

from convcore import reference
from convcore.teaching.check.bugs import COMMON, GRADIENT, Array, Bug, Inputs, scaled
from convcore.teaching.check.exercise import Case, Exercise


def _cases(rng: np.random.Generator) -> list[Case]:
    cases = []
    for n, classes in ((3, 4), (1, 2), (5, 10), (6, 3)):
        inputs: Inputs = {
            "x": rng.standard_normal((n, classes)),
            "y": rng.integers(0, classes, n),
        }
        tags = frozenset({"several images"} if n > 1 else ())
        cases.append(Case(inputs, f"x {n}x{classes}", tags))
    return cases


def _softmax_cases(rng: np.random.Generator) -> list[Case]:
    inputs: Inputs = {"x": 1000 * rng.standard_normal((3, 4)), "y": np.array([0, 3, 1])}
    large = Case(inputs, "x 3x4, numbers around 1000", frozenset({"large numbers"}))
    return [*_cases(rng), large]


def _softmax(i: Inputs) -> Array:
    return np.asarray(reference.cross_entropy(i["x"], i["y"]))


def _softmax_dx(i: Inputs) -> Array:
    return reference.cross_entropy_backward(1.0, i["x"], i["y"])


def _margins(i: Inputs) -> Array:
    x, y = i["x"], i["y"]
    rows = np.arange(len(x))
    margins: Array = np.maximum(0.0, x - x[rows, y][:, None] + 1)
    margins[rows, y] = 0
    return margins


def _svm(i: Inputs) -> Array:
    """Return ``mean over n of sum over j != y of max(0, x_j - x_y + 1)`` (Weston & Watkins)."""
    return np.asarray(_margins(i).sum() / len(i["x"]))


def _svm_dx(i: Inputs) -> Array:
    dx = (_margins(i) > 0).astype(np.float64)
    dx[np.arange(len(dx)), i["y"]] -= dx.sum(axis=1)
    return dx / len(dx)


_NOT_AVERAGED = scaled(
    "batch not averaged",
    "the loss is the mean over the batch, so both it and its gradient are divided by N",
    lambda i: float(len(i["x"])),
)
_AVERAGED_TWICE = scaled(
    "averaged twice", "divided by N twice: once is enough", lambda i: 1 / len(i["x"])
)


def _naive_probabilities(i: Inputs) -> Array:
    """Return the softmax that overflows."""
    with np.errstate(all="ignore"):
        powers = np.exp(i["x"])
        p: Array = powers / powers.sum(axis=1, keepdims=True)
    return p


def _picked(p: Array, i: Inputs) -> Array:
    with np.errstate(all="ignore"):
        loss: Array = -np.log(p[np.arange(len(p)), i["y"]])
    return np.asarray(loss.mean())


def _without_one(i: Inputs) -> Array:
    return reference.softmax(i["x"]) / len(i["x"])


def _one_hot(i: Inputs) -> Array:
    hot = np.zeros(i["x"].shape)
    hot[np.arange(len(hot)), i["y"]] = 1
    return hot


_OVERFLOW = "exp overflows for large numbers: subtract each row's maximum first, x - x.max(axis=1)"

SOFTMAX_LOSS = Exercise(
    name="softmax_loss",
    functions=("softmax_loss", "cross_entropy_loss", "softmax_cross_entropy"),
    signature="softmax_loss(x, y) -> loss, dx",
    arrays=("x", "y"),
    outputs={"loss": _softmax, "dx": _softmax_dx},
    gradients={},
    cases=_softmax_cases,
    bugs={
        "loss": (
            _NOT_AVERAGED,
            Bug("overflow", _OVERFLOW, instead=lambda i: _picked(_naive_probabilities(i), i)),
            _AVERAGED_TWICE,
            scaled(
                "logarithm to the base 2",
                "the logarithm is the natural one: np.log",
                lambda i: 1 / np.log(2),
            ),
            scaled(
                "logarithm to the base 10",
                "the logarithm is the natural one: np.log",
                lambda i: 1 / np.log(10),
            ),
            *COMMON,
        ),
        "dx": (
            _NOT_AVERAGED,
            Bug(
                "overflow",
                _OVERFLOW,
                instead=lambda i: (_naive_probabilities(i) - _one_hot(i)) / len(i["x"]),
            ),
            Bug(
                "1 not subtracted",
                "the gradient is p - 1 at the right class",
                instead=_without_one,
            ),
            _AVERAGED_TWICE,
            *GRADIENT,
        ),
    },
    form="loss",
)

SVM_LOSS = Exercise(
    name="svm_loss",
    functions=("svm_loss", "hinge_loss"),
    signature="svm_loss(x, y) -> loss, dx",
    arrays=("x", "y"),
    outputs={"loss": _svm, "dx": _svm_dx},
    gradients={},
    cases=_cases,
    bugs={
        "loss": (
            _NOT_AVERAGED,
            Bug(
                "right class counted",
                "the right class adds its margin of 1: leave it out of the sum",
                after=lambda result, _: result + 1,
            ),
            _AVERAGED_TWICE,
            *COMMON,
        ),
        "dx": (
            _NOT_AVERAGED,
            Bug(
                "right class left out",
                "the right class has a gradient too: minus the number of margins above 0",
                after=lambda result, i: np.where(_one_hot(i) > 0, 0.0, result),
            ),
            Bug(
                "right class counted once",
                "the right class loses 1 for each margin above 0, not 1 in all",
                after=lambda result, i: np.where(_one_hot(i) > 0, -1 / len(i["x"]), result),
            ),
            _AVERAGED_TWICE,
            *GRADIENT,
        ),
    },
    form="loss",
)

"""Deliberately wrong variants of the reference, and the search for the one that a student wrote.

A `Bug` changes what goes into the reference, what comes out, or both; so two bugs can be combined,
and a layer with two mistakes is recognised as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Inputs = dict[str, Any]
Compute = Callable[[Inputs], Array]


@dataclass(frozen=True)
class Bug:
    """One mistake.

    Attributes
    ----------
    cause : str
        In a few words, for tables and JSON.
    advice : str
        One sentence for the student.
    before : callable, optional
        Changes the inputs.
    after : callable, optional
        Changes the result, given the (original) inputs.
    instead : callable, optional
        Computes the result, instead of the reference.
    """

    cause: str
    advice: str
    before: Callable[[Inputs], Inputs] | None = None
    after: Callable[[Array, Inputs], Array] | None = None
    instead: Compute | None = None


def variant(bugs: Sequence[Bug], compute: Compute, inputs: Inputs) -> Array | None:
    """Return what a layer with these bugs gives; None when it could not compute anything."""
    changed = dict(inputs)
    try:
        for bug in bugs:
            if bug.before is not None:
                changed = bug.before(changed)
            if bug.instead is not None:
                compute = bug.instead
        result = compute(changed)
        for bug in bugs:
            if bug.after is not None:
                result = bug.after(result, inputs)
    except (ArithmeticError, IndexError, ValueError, TypeError, AssertionError):
        return None
    return np.asarray(result, np.float64)


def tolerance(got: npt.NDArray[Any]) -> float:
    """Return the relative error that is allowed, by the precision of the result."""
    return 1e-6 if got.dtype == np.float64 else 2e-4 if got.dtype == np.float32 else 1e-9


def wrong_places(got: npt.NDArray[Any], want: Array, relative: float | None = None) -> Any:
    """Return where two arrays of the same shape differ, beyond rounding."""
    with np.errstate(all="ignore"):
        allowed = (tolerance(got) if relative is None else relative) * max(
            float(np.abs(want).max(initial=0.0)), 1e-3
        )
        return ~(np.abs(got.astype(np.float64) - want) <= allowed)


def equal(got: npt.NDArray[Any], want: Array | None) -> bool:
    """Return whether two arrays have the same shape and numbers, NaN beside NaN."""
    if want is None or got.shape != want.shape:
        return False
    if not np.isfinite(want).all():
        return bool(np.array_equal(np.isfinite(got), np.isfinite(want)))
    return not wrong_places(got, want).any()


#: An observation: what went in, what came out, and what should have.
Observation = tuple[Inputs, npt.NDArray[Any], Array]


def find_cause(
    known: Iterable[Bug], compute: Compute, observations: Sequence[Observation]
) -> tuple[Bug, ...]:
    """Return the bug, or the two, with which the reference gives all that was observed."""
    known = tuple(known)
    # Wrong results first: they rule out most variants at once.
    ordered = sorted(observations, key=lambda seen: equal(seen[1], seen[2]))
    for bugs in _singles_and_pairs(known):
        if all(equal(got, variant(bugs, compute, inputs)) for inputs, got, _ in ordered):
            return bugs
    return ()


def _singles_and_pairs(known: tuple[Bug, ...]) -> Iterator[tuple[Bug, ...]]:
    for bug in known:
        yield (bug,)
    for first, second in itertools.combinations(known, 2):
        if first.instead is None or second.instead is None:
            yield first, second


# ---- mistakes that every array can have ----------------------------------------------------------


def _batch(inputs: Inputs) -> int:
    return len(inputs["x"])


def scaled(cause: str, advice: str, factor: Callable[[Inputs], float]) -> Bug:
    """Return the bug of a result that is too large or too small by a factor."""
    return Bug(cause, advice, after=lambda result, inputs: result * factor(inputs))


def changed(cause: str, advice: str, **change: Callable[[Inputs], Any]) -> Bug:
    """Return the bug of a layer that takes something else for some of its inputs."""

    def before(inputs: Inputs) -> Inputs:
        return {**inputs, **{name: value(inputs) for name, value in change.items()}}

    return Bug(cause, advice, before=before)


COMMON = (
    Bug(
        "never filled",
        "the array is still what np.zeros made of it: is it assigned, and is it what is returned?",
        after=lambda result, _: np.zeros_like(result),
    ),
    scaled("wrong sign", "every number has the wrong sign", lambda _: -1.0),
    Bug(
        "integers",
        "the numbers are cut off to integers: make the array with np.zeros(shape), not with "
        "dtype=int or zeros_like of an integer array",
        after=lambda result, _: np.trunc(result),
    ),
    Bug("transposed", "the result is transposed", after=lambda result, _: result.T),
)

GRADIENT = (
    *COMMON,
    scaled(
        "averaged over the batch",
        "divide by N only in the loss: the gradient of a layer is the sum over the batch",
        lambda inputs: 1 / _batch(inputs),
    ),
    scaled("doubled", "the gradient is added twice", lambda _: 2.0),
)


def only(name: str, index: int) -> Callable[[Inputs], Array]:
    """Return the function that zeros all of an input but one entry of its first axis."""

    def keep(inputs: Inputs) -> Array:
        kept: Array = np.zeros_like(inputs[name])
        kept[index] = inputs[name][index]
        return kept

    return keep

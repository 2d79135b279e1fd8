"""Checks of hyper-parameters in the constructors, in the wording of the ops."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from convcore.functional._arguments import IntOrPair, Padding, to_int, to_tuple

AnyArray = np.ndarray[Any, Any]


def integer(layer: str, name: str, value: object, low: int = 1) -> int:
    """Return `value` as an int of at least `low`."""
    number = to_int(layer, name, value)
    if number < low:
        raise ValueError(f"{layer}: {name} is out of range: expected at least {low}, got {number}")
    return number


def integers(layer: str, name: str, value: IntOrPair, length: int, low: int = 1) -> tuple[int, ...]:
    """Return `length` ints of at least `low`, from one int or a sequence."""
    return tuple(integer(layer, name, v, low) for v in to_tuple(layer, name, value, length))


def real(layer: str, name: str, value: object, low: float, high: float) -> float:
    """Return `value` as a float from `low` to `high`."""
    if not isinstance(value, numbers.Real):
        raise TypeError(
            f"{layer}: {name} has the wrong type: expected a number, "
            f"got {value!r} ({type(value).__name__})"
        )
    number = float(value)
    if not low <= number <= high:
        bounds = f"a number from {low:g} to {high:g}"
        raise ValueError(f"{layer}: {name} is out of range: expected {bounds}, got {number:g}")
    return number


def choice(layer: str, name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return `value` when it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        expected = ", ".join(map(repr, choices))
        raise ValueError(f"{layer}: {name} is not known: expected {expected}, got {value!r}")
    return value


def padding_form(layer: str, padding: Padding, axes: int) -> Padding:
    """Return padding as a name, one int per axis, or one pair (before, after) per axis."""
    if isinstance(padding, str):
        return choice(layer, "padding", padding, ("valid", "same"))
    if isinstance(padding, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in padding):
        if len(padding) != axes:
            raise ValueError(
                f"{layer}: padding has the wrong length: expected {axes} pairs (before, after), "
                f"got {padding!r}"
            )
        return tuple(integers(layer, "padding", p, 2, low=0) for p in padding)
    return integers(layer, "padding", padding, axes, low=0)  # type: ignore[arg-type]


def converted(given: AnyArray, dtype: np.dtype[Any]) -> AnyArray | None:
    """Return a contiguous copy in `dtype`, or None when a value does not fit into it."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = given.astype(dtype, order="C")
        return array if (np.isinf(array) == np.isinf(given)).all() else None
    limits = np.iinfo(dtype)
    fits = given.size == 0 or limits.min <= int(given.min()) <= int(given.max()) <= limits.max
    return given.astype(dtype, order="C") if fits else None

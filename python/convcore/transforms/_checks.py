"""Checks of the arguments of transforms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from convcore.functional._arguments import is_sequence, to_float, to_int

IntOrPair = int | Sequence[int]
Range = float | Sequence[float]

_MOST_PIXELS = 1 << 30  # of a size or a padding


def count(owner: str, name: str, value: object, low: int) -> float:
    number = to_int(owner, name, value)
    if not low <= number <= _MOST_PIXELS:
        raise ValueError(f"{owner}: {name} is out of range: expected at least {low}, got {number}")
    return float(number)


def size(owner: str, name: str, value: IntOrPair) -> tuple[float, float]:
    """Return (height, width), both at least 1."""
    sides = list(value) if is_sequence(value) else [value, value]  # type: ignore[arg-type]
    if len(sides) != 2:
        raise ValueError(
            f"{owner}: {name} has the wrong length: expected an int or (height, width), "
            f"got {value!r}"
        )
    return count(owner, name, sides[0], 1), count(owner, name, sides[1], 1)


def padding(owner: str, value: IntOrPair | None) -> tuple[float, ...]:
    """Return left, top, right, bottom."""
    sides: list[Any]
    if value is None:
        value = 0
    sides = list(value) if is_sequence(value) else [value]  # type: ignore[arg-type]
    if len(sides) not in (1, 2, 4):
        raise ValueError(
            f"{owner}: padding has the wrong length: expected 1, 2 or 4 ints, got {value!r}"
        )
    return tuple(count(owner, "padding", side, 0) for side in sides * (4 // len(sides)))


def numbers(owner: str, name: str, value: Range) -> tuple[float, ...]:
    values = list(value) if is_sequence(value) else [value]  # type: ignore[arg-type]
    numbers = tuple(to_float(owner, name, v) for v in values)
    if not numbers or not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"{owner}: {name} is no finite number: got {value!r}")
    return numbers


def pair(
    owner: str, name: str, value: object, low: float, above: bool = False
) -> tuple[float, float]:
    """Return a range whose ends are at least, or `above`, `low`."""
    ends = numbers(owner, name, value)  # type: ignore[arg-type]
    if len(ends) != 2:
        raise ValueError(f"{owner}: {name} is not a range: expected (from, to), got {value!r}")
    if ends[0] > ends[1] or ends[0] < low or (above and ends[0] == low):
        word = "more than" if above else "at least"
        bound = "" if low == -math.inf else f" {word} {low:g},"
        raise ValueError(
            f"{owner}: {name} is out of range: expected from <= to,{bound} got {value!r}"
        )
    return ends[0], ends[1]


def around(owner: str, name: str, value: Range, middle: float, low: float) -> tuple[float, float]:
    """Return a range; a number d stands for middle - d (at least 0 around 1) to middle + d."""
    if is_sequence(value):
        return pair(owner, name, value, low)
    spread = to_float(owner, name, value)
    if not 0 <= spread < math.inf:
        raise ValueError(f"{owner}: {name} is out of range: expected 0 or more, got {spread}")
    return max(middle - spread, low), middle + spread


def probability(owner: str, p: object) -> float:
    number = to_float(owner, "p", p)
    if not 0 <= number <= 1:
        raise ValueError(f"{owner}: p is out of range: expected 0 to 1, got {number}")
    return number

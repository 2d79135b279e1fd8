"""Argument forms shared by the ops: ints or pairs, and the ways to write padding."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convcore import _core
from convcore._arrays import is_array

FloatArray = npt.NDArray[np.float32]
IntOrPair = int | Sequence[int]
#: ``0``, ``(1, 2)``, ``((top, bottom), (left, right))``, ``"valid"`` or ``"same"``.
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]


def wrong_type(op: str, name: str, expected: str, value: object) -> TypeError:
    """Return the error for an argument of the wrong type."""
    return TypeError(
        f"{op}: {name} has the wrong type: expected {expected}, "
        f"got {value!r} ({type(value).__name__})"
    )


def to_int(op: str, name: str, value: object) -> int:
    """Return `value` as an int, or raise a TypeError that names the op and the argument."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise wrong_type(op, name, "an int", value) from None
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{op}: {name} is out of range: expected a 64-bit int, got {number}")
    return number


def to_unsigned(op: str, name: str, value: object) -> int:
    """Return `value` as an int from 0 to 2**64 - 1, or raise; a bool is no number here."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise wrong_type(op, name, "an int", value) from None
    if not 0 <= number < 2**64:
        raise ValueError(f"{op}: {name} is out of range: expected 0 to 2**64 - 1, got {number}")
    return number


def to_float(op: str, name: str, value: object) -> float:
    """Return `value` as a float, or raise a TypeError that names the op and the argument."""
    if isinstance(value, numbers.Real):
        return float(value)
    raise wrong_type(op, name, "a number", value)


def to_str(op: str, name: str, value: object) -> str:
    """Return `value`, or raise a TypeError when it is no str."""
    if isinstance(value, str):
        return value
    raise wrong_type(op, name, "a str", value)


def is_sequence(value: object) -> bool:
    """Tell whether `value` holds several values; an array without dimensions is one number."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def to_tuple(op: str, name: str, value: IntOrPair, length: int) -> tuple[int, ...]:
    """Expand an int to `length` equal ones; check the length of a sequence."""
    # int and tuple first: this runs at every call of an op, and isinstance with Sequence is slow.
    if isinstance(value, int) or not (isinstance(value, tuple) or is_sequence(value)):
        return (to_int(op, name, value),) * length
    if len(value) == 1:
        return (to_int(op, name, value[0]),) * length
    if len(value) != length:
        raise ValueError(
            f"{op}: {name} has the wrong length: expected an int or {length} ints, got {value!r}"
        )
    return tuple(to_int(op, name, v) for v in value)


def expect_bias(op: str, b: Any, w: Any, names: tuple[str, str] = ("b", "w")) -> None:
    """Raise when `b` cannot be the bias beside `w`: a backward pass does not read it otherwise."""
    bias, weight = names
    if b is None or not is_array(w):  # the op reports the latter
        return
    if not hasattr(b, "shape"):
        raise TypeError(
            f"{op}: {bias} is not an array: expected a numpy.ndarray of float32, "
            f"got {type(b).__name__}"
        )
    if tuple(b.shape) != tuple(w.shape[:1]):
        raise ValueError(
            f"{op}: {bias} has the wrong shape: expected {w.shape[:1]} (one value per output of "
            f"{weight}), "
            f"got {tuple(b.shape)}"
        )


def to_padding(
    op: str,
    padding: Padding,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> list[tuple[int, int]]:
    """Return ``(before, after)`` in pixels for each spatial axis.

    Parameters
    ----------
    op : str
        For the error message.
    padding : int, sequence of int, sequence of pairs, 'valid' or 'same'
        One int for all sides, one per axis, or a pair ``(before, after)`` per axis.
    size, kernel, stride, dilation : sequence of int
        Per spatial axis; only ``'same'`` reads them.
    """
    axes = len(kernel)
    if isinstance(padding, str):
        if padding == "valid":
            return [(0, 0)] * axes
        if padding == "same":
            return [
                tuple(_core.same_padding(*args))  # type: ignore[misc]
                for args in zip(size, kernel, stride, dilation, strict=True)
            ]
        raise ValueError(
            f"{op}: padding is not known: expected an int, ints, pairs, 'valid' or 'same', "
            f"got {padding!r}"
        )
    if isinstance(padding, int):
        return [(to_int(op, "padding", padding),) * 2] * axes
    if isinstance(padding, Sequence) and any(
        not isinstance(p, int) and isinstance(p, Sequence) for p in padding
    ):
        if len(padding) != axes:
            raise ValueError(
                f"{op}: padding has the wrong length: expected {axes} pairs (before, after), "
                f"got {padding!r}"
            )
        pairs = [to_tuple(op, "padding", p, 2) for p in padding]  # type: ignore[arg-type]
        return [(p[0], p[1]) for p in pairs]
    return [(p, p) for p in to_tuple(op, "padding", padding, axes)]  # type: ignore[arg-type]


def spatial_size(op: str, x: object, axes: int) -> tuple[int, ...]:
    """Return the last `axes` sizes of `x`; zeros when it is no array (the op reports that)."""
    shape = tuple(getattr(x, "shape", ()))
    return shape[-axes:] if len(shape) >= axes else (0,) * axes


def expect_channels_first(owner: str, image: np.ndarray[Any, Any]) -> None:
    """Raise when a single image looks like (H, W, C), with 3 or 4 channels at its end."""
    shape = image.shape
    if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 4:
        raise ValueError(
            f"{owner}: the image has its channels last: expected (C, H, W), got {shape}: is this "
            "(H, W, C)? transpose it by x.transpose(2, 0, 1)"
        )

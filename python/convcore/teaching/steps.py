"""Convolution and pooling by hand, one product at a time, as on the slides."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convcore.reference._types import Array
from convcore.teaching.arithmetic import Pads, window_count


@dataclass(frozen=True)
class Step:
    """One value of the output and how it came about.

    Attributes
    ----------
    place : tuple of int
        Output channel, row, column.
    window : ndarray, shape (C, KH, KW)
        What the filter lies on; zeros where that is padding.
    filter : ndarray of the same shape, or None
        None for pooling.
    bias : float or None
    value : float
        The sum of the products and the bias; the maximum; the mean.
    """

    place: tuple[int, int, int]
    window: Array
    filter: Array | None
    bias: float | None
    value: float

    @property
    def products(self) -> list[tuple[float, float]]:
        """The pairs that are multiplied, in the order of reading; none for pooling."""
        if self.filter is None:
            return []
        return [
            (float(a), float(b)) for a, b in zip(self.window.flat, self.filter.flat, strict=True)
        ]


def convolve(
    image: Any,
    filters: Any,
    bias: Any = None,
    stride: Sequence[int] = (1, 1),
    padding: Pads = ((0, 0), (0, 0)),
    dilation: Sequence[int] = (1, 1),
) -> Iterator[Step]:
    """Yield the steps of a convolution: each product by itself, nothing vectorised.

    "In the machine learning literature, the convolution operation is actually the cross-correlation
    operation" (the statistics lecture): the filter is not turned around.

    Parameters
    ----------
    image : array_like, shape (C, H, W)
    filters : array_like, shape (K, C, KH, KW)
    bias : array_like, shape (K,), optional
    stride, dilation : sequence of int
    padding : sequence of pairs

    Yields
    ------
    Step
        For each filter, row and column.

    Examples
    --------
    The example of the statistics lecture, [1,2,3,4,5,6] * [1,2] = [5,8,11,14,17]:

    >>> from convcore.teaching.steps import convolve
    >>> [step.value for step in convolve([[[1, 2, 3, 4, 5, 6]]], [[[[1, 2]]]])]
    [5.0, 8.0, 11.0, 14.0, 17.0]

    The image and the filter of the UPC lecture and of CS 725:

    >>> image = [[1,1,1,0,0], [0,1,1,1,0], [0,0,1,1,1], [0,0,1,1,0], [0,1,1,0,0]]
    >>> [int(step.value) for step in convolve([image], [[[[1,0,1], [0,1,0], [1,0,1]]]])]
    [4, 3, 4, 2, 4, 3, 2, 3, 4]
    """
    x, w = np.asarray(image, np.float64), np.asarray(filters, np.float64)
    b = None if bias is None else np.asarray(bias, np.float64)
    for k, place, window in _windows(x, w.shape[2:], stride, padding, dilation, range(len(w))):
        total = 0.0
        for pixel, weight in zip(window.flat, w[k].flat, strict=True):
            total += float(pixel) * float(weight)
        shift = None if b is None else float(b[k])
        yield Step((k, *place), window, w[k], shift, total + (shift or 0.0))


def pool(
    image: Any,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pads = ((0, 0), (0, 0)),
    *,
    mean: bool = False,
) -> Iterator[Step]:
    """Yield the steps of max pooling, or of average pooling.

    Examples
    --------
    The example of the statistics lecture; and that of the UPC lecture (from CS231n):

    >>> from convcore.teaching.steps import pool
    >>> [step.value for step in pool([[[1,2,3], [4,5,6], [7,8,9]]], (2, 2), (1, 1))]
    [5.0, 6.0, 8.0, 9.0]
    >>> image = [[1,1,2,4], [5,6,7,8], [3,2,1,0], [1,2,3,4]]
    >>> [step.value for step in pool([image], (2, 2), (2, 2))]
    [6.0, 8.0, 3.0, 4.0]
    """
    x = np.asarray(image, np.float64)
    outside = 0.0 if mean else -np.inf
    places = _windows(x, kernel, stride, padding, (1, 1), range(len(x)), outside)
    for c, place, window in places:
        under = window[c : c + 1]
        yield Step((c, *place), under, None, None, float(under.mean() if mean else under.max()))


def _windows(
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pads,
    dilation: Sequence[int],
    outputs: Iterable[int],
    outside: float = 0.0,
) -> Iterator[tuple[int, tuple[int, int], Array]]:
    """Yield output channel, row and column, and what the window shows of all channels."""
    padded = np.pad(x, ((0, 0), *padding), constant_values=outside)
    axes = zip(x.shape[1:], kernel, stride, padding, dilation, strict=True)
    rows, columns = (window_count(*axis).value for axis in axes)
    for k, i, j in itertools.product(outputs, range(rows), range(columns)):
        top, left = i * stride[0], j * stride[1]
        bottom = top + dilation[0] * (kernel[0] - 1) + 1
        right = left + dilation[1] * (kernel[1] - 1) + 1
        yield k, (i, j), padded[:, top : bottom : dilation[0], left : right : dilation[1]]


# ---- text ----------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Return a number without needless digits."""
    return f"{value:.6g}"


def matrix(values: Array, indent: str = "") -> list[str]:
    """Return the lines of a matrix, columns aligned."""
    cells = [[number(float(value)) for value in row] for row in values]
    width = max((len(cell) for row in cells for cell in row), default=0)
    return [indent + " ".join(cell.rjust(width) for cell in row) for row in cells]


def _beside(blocks: Sequence[Sequence[str]], gap: str = "    ") -> list[str]:
    height = max(map(len, blocks))
    widths = [max(map(len, block), default=0) for block in blocks]
    lines = []
    for i in range(height):
        cells = (block[i] if i < len(block) else "" for block in blocks)
        lines.append(gap.join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip())
    return lines


def _signed(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)


def _sum(step: Step) -> list[str]:
    """Return the lines of the products, one per row of the filter, and of their sum."""
    assert step.filter is not None
    width = step.filter.shape[2]
    terms = [f"{_signed(a)}*{_signed(b)}" for a, b in step.products]
    rows = [" + ".join(terms[i : i + width]) for i in range(0, len(terms), width)]
    lines = [("  " if i == 0 else "+ ") + row for i, row in enumerate(rows)]
    if step.bias:
        lines.append(f"+ {_signed(step.bias)} (bias)")
    return [*lines, f"= {number(step.value)}"]


def _shown(step: Step, rule: str) -> list[str]:
    """Return the lines that show one step."""
    k, i, j = step.place
    head = f"output[{k}, {i}, {j}]"
    window = [line for channel in step.window for line in matrix(channel)]
    if step.filter is None:
        values = ", ".join(number(float(value)) for value in step.window.flat)
        return [head, *_beside([window, [f"{rule}({values}) = {number(step.value)}"]], "    ")]
    weights = [line for channel in step.filter for line in matrix(channel)]
    blocks = [["window", *window], ["filter", *weights], ["products", *_sum(step)]]
    return [head, *(f"  {line}" for line in _beside(blocks))]


def text(steps: Iterable[Step], rule: str = "", limit: int = 16) -> str:
    """Return the steps as text, the first `limit` in full, and the whole output below."""
    steps = list(steps)
    if not steps:
        return "the output is empty"
    lines: list[str] = []
    for step in steps[:limit]:
        lines += [*_shown(step, rule), ""]
    if len(steps) > limit:
        lines += [f"... and {len(steps) - limit} more values", ""]
    output = np.zeros([1 + max(step.place[axis] for step in steps) for axis in range(3)])
    for step in steps:
        output[step.place] = step.value
    for k, channel in enumerate(output):
        lines += [f"output[{k}]", *matrix(channel, "  ")]
    return "\n".join(lines)

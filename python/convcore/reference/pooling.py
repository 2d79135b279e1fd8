"""Pooling, written as its definition: a window is the list of the pixels under its taps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from convcore.reference._types import Array, IntArray
from convcore.reference.dropout import philox

Positions = list[list[int]]  # per output along one axis: the pixels under the taps, padding too


class _Axis:
    """The windows along one axis of `size` pixels: `positions[i]` are the pixels of output `i`."""

    def __init__(
        self, size: int, kernel: int, stride: int, padding: Any, dilation: int, ceil_mode: bool
    ) -> None:
        extent = dilation * (kernel - 1) + 1
        if isinstance(padding, str):
            total = max(0, (math.ceil(size / stride) - 1) * stride + extent - size)
            padding = (total // 2, total - total // 2) if padding == "same" else (0, 0)
        before, self.after = padding if isinstance(padding, Sequence) else (padding, padding)
        self.size = size
        steps = (size + before + self.after - extent) / stride
        out = (math.ceil(steps) if ceil_mode else math.floor(steps)) + 1
        if ceil_mode and (out - 1) * stride >= size + before:
            out -= 1  # it would begin in the padding after the input
        self.positions: Positions = [
            [i * stride - before + r * dilation for r in range(kernel)] for i in range(out)
        ]

    def inside(self, i: int) -> list[int]:
        """Return the pixels of output `i` that lie on the input."""
        return [p for p in self.positions[i] if 0 <= p < self.size]

    def padded(self, i: int) -> int:
        """Return how many pixels of output `i` lie on the padded input."""
        return sum(p < self.size + self.after for p in self.positions[i])


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _axes(
    x: Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[_Axis, _Axis]:
    def pair(value: Any) -> Any:
        return value if _is_pair(value) else (value, value)

    stride = kernel_size if stride is None else stride
    arguments = zip(
        x.shape[-2:],
        pair(kernel_size),
        pair(stride),
        pair(padding),
        pair(dilation),
        (ceil_mode,) * 2,
        strict=True,
    )
    h, w = (_Axis(*a) for a in arguments)
    return h, w


def _outputs(h: _Axis, w: _Axis) -> Iterator[tuple[int, int]]:
    return itertools.product(range(len(h.positions)), range(len(w.positions)))


def _lift(value: Any, height: Any) -> tuple[Any, Any]:
    """Return a 1-D argument as the 2-D one for images of one row."""
    return height, value[0] if _is_pair(value) else value


# ---- max ----


def max_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the largest value of each window; a NaN is larger than any number.

    The first of equal values wins, but the last of several NaNs.
    """
    h, w = _axes(x, kernel_size, stride, padding, dilation, ceil_mode)
    shape = (*x.shape[:2], len(h.positions), len(w.positions))
    y, indices = np.empty(shape), np.empty(shape, np.int64)
    for i, j in _outputs(h, w):
        best = np.full(x.shape[:2], -np.inf)
        index = np.full(x.shape[:2], h.inside(i)[0] * w.size + w.inside(j)[0])
        for row, column in itertools.product(h.inside(i), w.inside(j)):
            value = x[:, :, row, column]
            wins = (value > best) | np.isnan(value)
            best[wins] = value[wins]
            index[wins] = row * w.size + column
        y[:, :, i, j], indices[:, :, i, j] = best, index
    return (y, indices) if return_indices else y


def max_pool2d_backward(
    dy: Array,
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    indices: IntArray | None = None,
) -> Array:
    """Return `dx`: each `dy` goes to the pixel that won its window."""
    if indices is None:
        indices = max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, True)[1]
    dx = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(dy.shape):
        row, column = divmod(int(indices[n, c, i, j]), x.shape[3])
        dx[n, c, row, column] += dy[n, c, i, j]
    return dx


def max_pool1d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return `max_pool2d` of images of one row."""
    y, indices = max_pool2d(
        x[:, :, None, :],
        _lift(kernel_size, 1),
        _lift(kernel_size if stride is None else stride, 1),
        _lift(padding, 0),
        _lift(dilation, 1),
        ceil_mode,
        True,
    )
    return (y[:, :, 0], indices[:, :, 0]) if return_indices else y[:, :, 0]


def max_pool1d_backward(
    dy: Array,
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    indices: IntArray | None = None,
) -> Array:
    """Return `dx`: each `dy` goes to the pixel that won its window."""
    if indices is None:
        indices = max_pool1d(x, kernel_size, stride, padding, dilation, ceil_mode, True)[1]
    dx = np.zeros(x.shape)
    for n, c, j in np.ndindex(dy.shape):
        dx[n, c, indices[n, c, j]] += dy[n, c, j]
    return dx


# ---- average ----


def _divisor(
    h: _Axis, w: _Axis, i: int, j: int, count_include_pad: bool, divisor_override: int | None
) -> int:
    if divisor_override is not None:
        return divisor_override
    if count_include_pad:
        return h.padded(i) * w.padded(j)
    return len(h.inside(i)) * len(w.inside(j))


def avg_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Return the mean of each window."""
    h, w = _axes(x, kernel_size, stride, padding, 1, ceil_mode)
    y = np.empty((*x.shape[:2], len(h.positions), len(w.positions)))
    for i, j in _outputs(h, w):
        window = x[:, :, h.inside(i)][:, :, :, w.inside(j)]
        divisor = _divisor(h, w, i, j, count_include_pad, divisor_override)
        y[:, :, i, j] = window.sum(axis=(2, 3)) / divisor
    return y


def avg_pool2d_backward(
    dy: Array,
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Return `dx`: each `dy` is spread evenly over the pixels of its window."""
    h, w = _axes(x, kernel_size, stride, padding, 1, ceil_mode)
    dx = np.zeros(x.shape)
    for i, j in _outputs(h, w):
        share = dy[:, :, i, j] / _divisor(h, w, i, j, count_include_pad, divisor_override)
        for row, column in itertools.product(h.inside(i), w.inside(j)):
            dx[:, :, row, column] += share
    return dx


def avg_pool1d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Return `avg_pool2d` of images of one row."""
    stride = kernel_size if stride is None else stride
    lifted = _lift(kernel_size, 1), _lift(stride, 1), _lift(padding, 0)
    return avg_pool2d(x[:, :, None, :], *lifted, ceil_mode, count_include_pad)[:, :, 0]


def avg_pool1d_backward(
    dy: Array,
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Return `dx`: each `dy` is spread evenly over the pixels of its window."""
    stride = kernel_size if stride is None else stride
    lifted = _lift(kernel_size, 1), _lift(stride, 1), _lift(padding, 0)
    images = dy[:, :, None, :], x[:, :, None, :]
    return avg_pool2d_backward(*images, *lifted, ceil_mode, count_include_pad)[:, :, 0]


# ---- adaptive average ----


def _adaptive_windows(size: int, out: int) -> list[slice]:
    return [slice(i * size // out, math.ceil((i + 1) * size / out)) for i in range(out)]


def _adaptive_axes(x: Array, output_size: Any) -> tuple[list[slice], list[slice]]:
    pair = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    h, w = (
        _adaptive_windows(size, size if out is None else out)
        for size, out in zip(x.shape[-2:], pair, strict=True)
    )
    return h, w


def adaptive_avg_pool2d(x: Array, output_size: Any) -> Array:
    """Return means over windows that cover the image evenly."""
    h, w = _adaptive_axes(x, output_size)
    y = np.empty((*x.shape[:2], len(h), len(w)))
    for i, j in np.ndindex(len(h), len(w)):
        y[:, :, i, j] = x[:, :, h[i], w[j]].mean(axis=(2, 3))
    return y


def adaptive_avg_pool2d_backward(dy: Array, x: Array, output_size: Any) -> Array:
    """Return `dx`: each `dy` is spread evenly over the pixels of its window."""
    h, w = _adaptive_axes(x, output_size)
    dx = np.zeros(x.shape)
    for i, j in np.ndindex(len(h), len(w)):
        window = dx[:, :, h[i], w[j]]
        window += dy[:, :, i : i + 1, j : j + 1] / (window.shape[2] * window.shape[3])
    return dx


# ---- trainable subsampling ----


def subsampling2d(
    x: Array, weight: Array, bias: Array | None = None, kernel_size: Any = 2, stride: Any = None
) -> Array:
    """Return the sum of each window, times the weight and plus the bias of its channel."""
    sums = avg_pool2d(x, kernel_size, stride, divisor_override=1)
    return sums * weight[:, None, None] + (0 if bias is None else bias[:, None, None])


def subsampling2d_backward(
    dy: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    kernel_size: Any = 2,
    stride: Any = None,
) -> tuple[Array, Array, Array | None]:
    """Return ``dx, dweight, dbias``."""
    sums = avg_pool2d(x, kernel_size, stride, divisor_override=1)
    dsums = dy * weight[:, None, None]
    dx = avg_pool2d_backward(dsums, x, kernel_size, stride, divisor_override=1)
    dbias = None if bias is None else dy.sum(axis=(0, 2, 3))
    return dx, (dy * sums).sum(axis=(0, 2, 3)), dbias


# ---- stochastic ----


def stochastic_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    training: bool = True,
    *,
    key: tuple[int, int] = (0, 0),
    return_indices: bool = False,
) -> Any:
    """Return a value of each window, drawn in proportion to it; else the mean with these weights.

    The first position wins up to which the values sum to more than u times their sum, u uniform in
    [0, 1).
    """
    h, w = _axes(x, kernel_size, stride, 0, 1, False)
    shape = (*x.shape[:2], len(h.positions), len(w.positions))
    y, indices = np.zeros(shape), np.zeros(shape, np.int64)
    for n, c, i, j in np.ndindex(shape):
        places = list(itertools.product(h.positions[i], w.positions[j]))
        values = np.array([max(x[n, c, row, column], 0) for row, column in places])
        total = values.sum()
        if not training:
            y[n, c, i, j] = (values**2).sum() / total if total > 0 else 0
            continue
        drawn = 0
        if total > 0:
            row_of_outputs = (n * shape[1] + c) * shape[2] + i
            block = row_of_outputs * math.ceil(shape[3] / 4) + j // 4
            u = philox(*key, block)[j % 4] // 2**8 / 2**24
            drawn = int(np.argmax(np.cumsum(values) > u * total))
        row, column = places[drawn]
        y[n, c, i, j], indices[n, c, i, j] = values[drawn], row * w.size + column
    return (y, indices) if return_indices else y


def stochastic_pool2d_backward(
    dy: Array,
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    training: bool = True,
    *,
    key: tuple[int, int] = (0, 0),
    indices: IntArray | None = None,
) -> Array:
    """Return `dx`: each `dy` goes to the pixel that was drawn; else that of the weighted mean."""
    if training and indices is None:
        indices = stochastic_pool2d(x, kernel_size, stride, key=key, return_indices=True)[1]
    if indices is not None:
        return max_pool2d_backward(dy, x, kernel_size, stride, indices=indices)
    h, w = _axes(x, kernel_size, stride, 0, 1, False)
    dx = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(dy.shape):
        places = list(itertools.product(h.positions[i], w.positions[j]))
        values = np.array([max(x[n, c, row, column], 0) for row, column in places])
        for (row, column), value in zip(places, values, strict=True):
            if value > 0:
                mean = (values**2).sum() / values.sum()
                dx[n, c, row, column] += dy[n, c, i, j] * (2 * value - mean) / values.sum()
    return dx


# ---- norms ----


def lp_pool2d(
    x: Array, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Array:
    """Return ``(sum of x**p)**(1 / p)`` of each window."""
    sums = avg_pool2d(x**norm_type, kernel_size, stride, 0, ceil_mode, divisor_override=1)
    y: Array = sums ** (1 / norm_type)
    return y


def lp_pool2d_backward(
    dy: Array,
    x: Array,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Array:
    """Return ``dy * y**(1 - p) * x**(p - 1)``, 0 where y is 0 (unless p is 1)."""
    y = lp_pool2d(x, norm_type, kernel_size, stride, ceil_mode)
    flat = (y == 0) & (norm_type != 1)
    scaled = np.where(flat, 0.0, dy * np.where(flat, 1.0, y) ** (1 - norm_type))
    spread = avg_pool2d_backward(scaled, x, kernel_size, stride, 0, ceil_mode, divisor_override=1)
    dx: Array = spread * np.where(spread == 0, 1.0, x) ** (norm_type - 1)
    return dx


# ---- adaptive max ----


def adaptive_max_pool2d(x: Array, output_size: Any, return_indices: bool = False) -> Any:
    """Return maxima over windows that cover the image evenly."""
    h, w = _adaptive_axes(x, output_size)
    y = np.empty((*x.shape[:2], len(h), len(w)))
    indices = np.empty(y.shape, np.int64)
    for i, j in np.ndindex(len(h), len(w)):
        kernel = h[i].stop - h[i].start, w[j].stop - w[j].start
        best, at = max_pool2d(x[:, :, h[i], w[j]], kernel, return_indices=True)
        row, column = divmod(at[:, :, 0, 0], kernel[1])
        y[:, :, i, j] = best[:, :, 0, 0]
        indices[:, :, i, j] = (row + h[i].start) * x.shape[3] + column + w[j].start
    return (y, indices) if return_indices else y


def adaptive_max_pool2d_backward(
    dy: Array, x: Array, output_size: Any, *, indices: IntArray | None = None
) -> Array:
    """Return `dx`: each `dy` goes to the pixel that won its window."""
    if indices is None:
        indices = adaptive_max_pool2d(x, output_size, True)[1]
    dx = np.zeros(x.shape)
    for n, c, i, j in np.ndindex(dy.shape):
        row, column = divmod(int(indices[n, c, i, j]), x.shape[3])
        dx[n, c, row, column] += dy[n, c, i, j]
    return dx

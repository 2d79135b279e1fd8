"""A single layer on paper: the homework, and convolutions step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convcore import nn
from convcore._names import did_you_mean
from convcore.functional._arguments import FloatArray, to_int, to_padding, to_tuple
from convcore.nn.module import Module
from convcore.teaching import steps as by_hand
from convcore.teaching.arithmetic import Shape, convolution, dense, pooling
from convcore.teaching.explanation import Explanation, Row, make_row, totals
from convcore.teaching.explanation import measure as timed

#: Single layers that `explain` knows by name.
KINDS = ("conv", "pool", "avg_pool", "linear")

#: Steps are shown without being asked for when there are no more products than this: 3x3 windows of
#: a 5x5 image are 81, and fill two screens.
_FEW_PRODUCTS = 200
#: Larger layers are not made just to be timed: 400 MB.
_LARGEST_TIMED = 10**8


def explain_layer(
    kind: str,
    input_shape: Sequence[int] | None = None,
    *,
    filters: int | None = None,
    kernel: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    bias: bool = True,
    image: Any = None,
    filter: Any = None,
    steps: bool | None = None,
    measure: bool = False,
    batch: int | None = None,
) -> Explanation:
    """Explain one layer that exists on paper only.

    Parameters
    ----------
    kind : {'conv', 'pool', 'avg_pool', 'linear'}
    input_shape : sequence of int
        (C, H, W), or (C, L) for a sequence; may be left out when `image` is given.
    filters : int
        Number of filters, or of units of a dense layer.
    kernel, stride, padding, dilation, groups, bias
        As of the layers; the stride of pooling is its kernel by default.
    image : array_like, shape (H, W), (C, H, W) or (L,), optional
        Numbers to convolve or pool step by step.
    filter : array_like, shape (KH, KW), (C, KH, KW) or (KW,), optional
        The filter for `image`; there is one filter then, without a bias.
    steps : bool, optional
        Whether to show the steps; by default when there are few of them.
    measure, batch
        As in `explain`.

    Returns
    -------
    Explanation
        With one row.

    Examples
    --------
    >>> import convcore
    >>> print(convcore.explain("conv", image=[1, 2, 3, 4, 5, 6], filter=[1, 2]).steps[-26:])
    output[0]
       5  8 11 14 17
    >>> print(convcore.explain("linear", (1, 28, 28), filters=30).rows[0].parameters)
    28*28*30 + 30 = 23,550
    """
    if kind not in KINDS:
        raise ValueError(
            f"explain: the kind is not known: expected one of {', '.join(KINDS)}, "
            f"got {kind!r}{did_you_mean(str(kind), KINDS)}"
        )
    if kind in ("pool", "avg_pool") and filters is not None:
        raise ValueError(
            f"explain: filters has no meaning for {kind}: expected None, got {filters!r}"
        )
    numbers = _Numbers.of(image, filter)
    if numbers is not None and numbers.filters is not None:
        filters, kernel, bias = 1, tuple(numbers.filters.shape)[4 - numbers.axes :], False
    shape = _expect_shape(input_shape, numbers)
    layer = _Layer.of(
        kind, shape, filters, kernel, stride, padding, dilation, groups, bias, numbers is not None
    )
    row = layer.row(shape)
    explanation = totals(kind, shape, row.output_shape, [row])
    explanation = replace(explanation, steps=layer.steps(numbers, shape, steps))
    if not measure:
        return explanation
    if explanation.parameters + math.prod(shape) > _LARGEST_TIMED:
        return replace(explanation, note="not measured: the layer is too large to be made")
    return timed(explanation, _AllGradients(layer.module(shape)), batch)


class _AllGradients(nn.Sequential):
    """A layer that has its input's gradient measured too, as inside of a network."""

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx, wanted or not."""
        return super().backward(dy)


@dataclass(frozen=True)
class _Numbers:
    """An image (C, H, W) and filters (1, C, KH, KW) that a person gave; 1 row for a sequence."""

    image: FloatArray
    filters: FloatArray | None
    axes: int

    @classmethod
    def of(cls, image: Any, filter: Any) -> _Numbers | None:
        if image is None:
            if filter is not None:
                raise ValueError("explain: filter needs an image: expected both, got no image")
            return None
        x = _as_array("image", image)
        axes = 1 if x.ndim == 1 else 2
        x = x.reshape((1,) * (3 - x.ndim) + x.shape)
        if filter is None:
            return cls(x, None, axes)
        filters = _as_array("filter", filter)
        w: FloatArray = filters.reshape((1,) * (4 - filters.ndim) + filters.shape)
        channels, rows = w.shape[1:3]
        if channels != len(x) or (rows > 1 and axes == 1):
            raise ValueError(
                "explain: filter does not fit the image: expected as many channels and dimensions "
                f"as the image of shape {np.shape(image)}, got shape {np.shape(filter)}"
            )
        return cls(x, w, axes)


def _as_array(name: str, values: Any) -> FloatArray:
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        array = np.zeros((), np.float32)
    if not 1 <= array.ndim <= 3 or array.size == 0:
        raise ValueError(
            f"explain: {name} has no usable numbers: expected rows of equal length, got {values!r}"
        )
    return array


def _expect_shape(input_shape: Sequence[int] | None, numbers: _Numbers | None) -> Shape:
    if numbers is not None:
        return numbers.image.shape if numbers.axes == 2 else (1, numbers.image.shape[2])
    if input_shape is None:
        raise ValueError("explain: input_shape is missing: expected one as (3, 64, 64), got None")
    shape = tuple(to_int("explain", "input_shape", size) for size in input_shape)
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise ValueError(
            "explain: input_shape is out of range: expected (C, H, W) or (C, L) of at least 1, "
            f"got {shape}"
        )
    return shape


@dataclass(frozen=True)
class _Layer:
    """A layer on paper; sequences have one value per spatial axis."""

    kind: str
    filters: int
    kernel: Shape
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape
    groups: int
    bias: bool

    @classmethod
    def of(
        cls,
        kind: str,
        shape: Shape,
        filters: int | None,
        kernel: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        bias: bool,
        has_numbers: bool,
    ) -> _Layer:
        if kind == "linear":
            return cls(kind, _positive("filters", filters), (), (), (), (), 1, bias)
        axes = len(shape) - 1
        if axes == 0:
            raise ValueError(
                f"explain: input_shape has no pixels: expected (C, H, W) or (C, L), got {shape}"
            )
        if kernel is None:
            raise ValueError("explain: kernel is missing: expected its size as 5 or (3, 5)")
        step: Any = (1 if kind == "conv" else kernel) if stride is None else stride
        sizes = [
            _positives(name, value, axes)
            for name, value in (("kernel", kernel), ("stride", step), ("dilation", dilation))
        ]
        pads = tuple(to_padding("explain", padding, shape[1:], *sizes))
        for size, extent, gap, pad in zip(shape[1:], sizes[0], sizes[2], pads, strict=True):
            if gap * (extent - 1) + 1 > size + sum(pad):
                raise ValueError(
                    "explain: kernel is larger than the padded image: expected at most "
                    f"{size + sum(pad)}, got {gap * (extent - 1) + 1}"
                )
        if kind != "conv":
            return cls(kind, shape[0], sizes[0], sizes[1], pads, sizes[2], 1, False)
        count, groups = _positive("filters", filters), _positive("groups", groups)
        if shape[0] % groups or count % groups:
            raise ValueError(
                "explain: groups does not divide the channels: expected a divisor of "
                f"{shape[0]} and of {count}, got {groups}"
            )
        return cls(kind, count, sizes[0], sizes[1], pads, sizes[2], groups, bias)

    def row(self, shape: Shape) -> Row:
        """Return what is known about the layer for inputs of that shape."""
        if self.kind == "linear":
            formula = dense(shape, self.filters, self.bias)
            name, seen = "Linear", shape[1:]
        elif self.kind == "conv":
            formula = convolution(
                shape[0],
                shape[1:],
                filters=self.filters,
                kernel=self.kernel,
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                groups=self.groups,
                bias=self.bias,
            )
            name, seen = f"Conv{len(self.kernel)}d", self._extent()
        else:
            formula = pooling(
                shape[1:],
                kernel=self.kernel,
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
            )
            name = f"{'Max' if self.kind == 'pool' else 'Avg'}Pool{len(self.kernel)}d"
            seen = self._extent()
        parameters = 0 if formula.parameters is None else formula.parameters.value
        work = 0 if formula.multiply_adds is None else formula.multiply_adds.value
        output = (self.filters, *(axis.value for axis in formula.size or ()))
        return make_row("", name, shape, output, formula, parameters, work, seen)

    def _extent(self) -> Shape:
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def module(self, shape: Shape) -> Module:
        """Return the layer itself, for measuring."""
        if self.kind == "linear":
            dense_layer = nn.Linear(math.prod(shape), self.filters, self.bias)
            return nn.Sequential(nn.Flatten(), dense_layer) if len(shape) > 1 else dense_layer
        one = len(self.kernel) == 1
        if self.kind == "conv":
            convolve = nn.Conv1d if one else nn.Conv2d
            return convolve(
                shape[0],
                self.filters,
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                self.groups,
                self.bias,
            )
        pads = tuple(before for before, _ in self.padding)
        pool: Any = {
            ("pool", True): nn.MaxPool1d,
            ("pool", False): nn.MaxPool2d,
            ("avg_pool", True): nn.AvgPool1d,
            ("avg_pool", False): nn.AvgPool2d,
        }[self.kind, one]
        made: Module = pool(self.kernel, self.stride, pads)
        return made

    def steps(self, numbers: _Numbers | None, shape: Shape, wanted: bool | None) -> str:
        """Return the steps as text: on the given numbers, or on some small integers."""
        if self.kind == "linear" or wanted is False:
            return ""
        output = self.row(shape).output_shape
        products = math.prod(output) * math.prod(self.kernel)
        products *= shape[0] // self.groups if self.kind == "conv" else 1
        if wanted is None and products > _FEW_PRODUCTS:
            return ""
        if self.groups != 1:
            return "no steps: they are shown for groups = 1"
        if math.prod(shape) * math.prod(self.kernel) > _LARGEST_TIMED // 100:
            return "no steps: the image is too large for them"
        example = numbers if numbers is not None else self._example(shape)
        windows = self.kernel, self.stride, self.dilation
        kernel, stride, dilation = ((1,) * (2 - len(v)) + v for v in windows)
        pads = ((0, 0),) * (2 - len(self.padding)) + self.padding
        if self.kind == "conv":
            assert example.filters is not None
            done = by_hand.convolve(example.image, example.filters, None, stride, pads, dilation)
            return by_hand.text(done)
        if dilation != (1, 1):
            return "no steps: they are shown for pooling without dilation"
        mean = self.kind == "avg_pool"
        done = by_hand.pool(example.image, kernel, stride, pads, mean=mean)
        return by_hand.text(done, "mean" if mean else "max")

    def _example(self, shape: Shape) -> _Numbers:
        """Return numbers that are easy to multiply; those of the slides where the sizes are."""
        one = (1,) * (3 - len(shape))
        size, kernel = (shape[0], *one, *shape[1:]), (*one, *self.kernel)
        weights = (self.filters, shape[0], *kernel)
        if size == (1, 5, 5) and weights == (1, 1, 3, 3):
            return _Numbers(_SLIDE_IMAGE[None], _SLIDE_FILTER[None, None], 2)
        rng = np.random.default_rng(0)
        x = rng.integers(0, 10 if self.kind != "conv" else 4, size).astype(np.float32)
        w = None
        if self.kind == "conv":
            w = rng.integers(-1, 2, weights).astype(np.float32)
        return _Numbers(x, w, len(shape) - 1)


#: "Convolution in Images" of the UPC lecture, "Convolution Layer" of CS 725.
_SLIDE_IMAGE = np.array(
    [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]],
    np.float32,
)
_SLIDE_FILTER = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], np.float32)


def _positive(name: str, value: int | None) -> int:
    if value is None:
        raise ValueError(f"explain: {name} is missing: expected a number of at least 1")
    count = to_int("explain", name, value)
    if count < 1:
        raise ValueError(f"explain: {name} is out of range: expected at least 1, got {count}")
    return count


def _positives(name: str, value: Any, axes: int) -> Shape:
    return tuple(_positive(name, v) for v in to_tuple("explain", name, value, axes))

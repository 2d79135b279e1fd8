"""The sizes and counts of layers, with the arithmetic written out as the lectures do.

Nothing here makes a layer, so that a dense layer of 10^12 weights costs nothing to explain.

The questions of the lectures, and their answers (``F`` filter, ``S`` stride, ``P`` padding):

"Accepts a volume of size W1 x H1 x D1 ... produces W2 = floor((W1 - F + 2P)/S) + 1" (CS 725,
"Convolution Layers: Summary"). The homework of the UPC lecture: 8 filters of 5x5 on an RGB input of
64x64 pixels with a stride of 2 and no padding:

>>> from convcore.teaching.arithmetic import convolution, dense, pooling
>>> homework = convolution(3, (64, 64), filters=8, kernel=(5, 5), stride=(2, 2))
>>> print(homework.parameters)
(5*5*3 + 1)*8 = 608
>>> print(homework.size)
floor((64 + 2*0 - 5)/2) + 1 = 30

The first quiz of CS 725: the output of two layers of 5x5 filters (6, then 10) on an image of
32x32x3, and max pooling of 2x2 with stride 2, is 12x12x10. Its second quiz: how many parameters,
without biases?

>>> first = convolution(3, (32, 32), filters=6, kernel=(5, 5), bias=False)
>>> second = convolution(6, (28, 28), filters=10, kernel=(5, 5), bias=False)
>>> third = pooling((24, 24), kernel=(2, 2), stride=(2, 2))
>>> for layer in (first, second, third):
...     print(layer.size)
(32 + 2*0 - 5)/1 + 1 = 28
(28 + 2*0 - 5)/1 + 1 = 24
(24 - 2)/2 + 1 = 12
>>> print(first.parameters, second.parameters, sep="; ")
(5*5*3)*6 = 450; (5*5*6)*10 = 1,500
>>> first.parameters.value + second.parameters.value
1950

"520 parameters per layer - independent of input size!" against "23,550 parameters for one layer"
("Deep Learning for Images", weight sharing):

>>> print(convolution(1, (28, 28), filters=20, kernel=(5, 5)).parameters)
(5*5*1 + 1)*20 = 520
>>> print(dense((1, 28, 28), 30).parameters)
28*28*30 + 30 = 23,550

"768,000 ops per layer!" for 10 filters of 5x5 over 3x32x32 with the padding that keeps the size
(the statistics lecture, "a quick note on computational complexity"), and its parameters:

>>> layer = convolution(3, (32, 32), filters=10, kernel=(5, 5), padding=((2, 2), (2, 2)))
>>> print(layer.multiply_adds)
(5*5*3)*(32*32)*10 = 768,000
>>> print(layer.parameters)
(5*5*3 + 1)*10 = 760

"Finally, 10.1K vs 10^12 parameters" for an image of 1000x1000 pixels (UPC, "Example reduction
parameters"):

>>> print(convolution(1, (1000, 1000), filters=100, kernel=(10, 10)).parameters)
(10*10*1 + 1)*100 = 10,100
>>> print(dense((1, 1000, 1000), 10**6, bias=False).parameters)
1000*1000*1000000 = 1,000,000,000,000

The table of the UPC lecture for a network 784-512-512-10 has 401,920, 262,656 and 5,130 parameters:

>>> print(*(dense((i,), o).parameters for i, o in ((784, 512), (512, 512), (512, 10))), sep="; ")
784*512 + 512 = 401,920; 512*512 + 512 = 262,656; 512*10 + 10 = 5,130

The statistics lecture: "a 28 x 28 x 3 image ... 2352 weights" for one dense unit, against 75 for a
filter of 5x5x3:

>>> print(dense((3, 28, 28), 1, bias=False).parameters)
3*28*28*1 = 2,352
>>> print(convolution(3, (28, 28), filters=1, kernel=(5, 5), bias=False).parameters)
(5*5*3)*1 = 75
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from convcore import nn
from convcore.functional._arguments import to_padding, to_tuple
from convcore.nn.containers import _Shortcut
from convcore.nn.conv import _Conv
from convcore.nn.module import Module
from convcore.nn.normalization import _BatchNorm, _SampleNorm
from convcore.nn.pooling import _Pool

Shape = tuple[int, ...]
Pads = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Worked:
    """An expression and its value; ``str`` gives ``"(5*5*1 + 1)*6 = 156"``."""

    text: str
    value: int

    def __str__(self) -> str:
        return f"{self.text} = {self.value:,}"


class Sizes(tuple[Worked, ...]):
    """One expression per spatial axis; ``str`` gives one where all are the same."""

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys(map(str, self)))


@dataclass(frozen=True)
class Formula:
    """What the lectures say about a layer; None where they say nothing."""

    size: Sizes | None = None
    parameters: Worked | None = None
    multiply_adds: Worked | None = None


# ---- the formulas --------------------------------------------------------------------------------


def window_count(
    size: int,
    kernel: int,
    stride: int = 1,
    pads: tuple[int, int] = (0, 0),
    dilation: int = 1,
    *,
    ceil_mode: bool = False,
    show_padding: bool = True,
) -> Worked:
    """Return how many windows fit along one axis.

    Examples
    --------
    >>> from convcore.teaching.arithmetic import window_count
    >>> print(window_count(28, 5, pads=(2, 2)))
    (28 + 2*2 - 5)/1 + 1 = 28
    """
    before, after = pads
    padding = f" + 2*{before}" if before == after else f" + {before} + {after}"
    if not show_padding and before == after == 0:
        padding = ""
    extent = dilation * (kernel - 1) + 1
    extent_text = str(kernel) if dilation == 1 else f"({dilation}*({kernel} - 1) + 1)"
    span = size + before + after - extent
    text = f"({size}{padding} - {extent_text})/{stride}"
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    if span % stride:
        text = f"{'ceil' if ceil_mode else 'floor'}({text})"
    text += " + 1"
    if ceil_mode and (count - 1) * stride >= size + before:
        count -= 1  # the last window would begin in the padding after the image
        text += " - 1"
    return Worked(text, count)


def convolution(
    channels: int,
    size: Sequence[int],
    *,
    filters: int,
    kernel: Sequence[int],
    stride: Sequence[int] | None = None,
    padding: Pads | None = None,
    dilation: Sequence[int] | None = None,
    groups: int = 1,
    bias: bool = True,
    connections: int | None = None,
) -> Formula:
    """Return the formulas of a convolution; sequences have one value per spatial axis.

    With a table of connections their number takes the place of channels times filters: "the layer
    C3 has 1,516 trainable parameters" (LeCun et al., 1998, section II.B).

    >>> c3 = convolution(6, (14, 14), filters=16, kernel=(5, 5), connections=60)
    >>> print(c3.parameters, c3.multiply_adds, sep="; ")
    60*(5*5) + 16 = 1,516; 60*(5*5)*(10*10) = 150,000
    """
    ones = (1,) * len(size)
    stride, dilation = stride or ones, dilation or ones
    padding = padding or ((0, 0),) * len(size)
    sizes = Sizes(map(window_count, size, kernel, stride, padding, dilation))
    outputs = [axis.value for axis in sizes]
    places = f"({'*'.join(map(str, outputs))})"
    if connections is not None:
        window = f"{connections}*({'*'.join(map(str, kernel))})"
        weights = connections * math.prod(kernel)
        return Formula(
            sizes,
            Worked(window + f" + {filters}" * bias, weights + filters * bias),
            Worked(f"{window}*{places}", weights * math.prod(outputs)),
        )
    depth = str(channels) if groups == 1 else f"({channels}/{groups})"
    one = "*".join([*map(str, kernel), depth])
    weights = math.prod(kernel) * (channels // groups)
    return Formula(
        sizes,
        Worked(f"({one}{' + 1' if bias else ''})*{filters}", (weights + bias) * filters),
        Worked(f"({one})*{places}*{filters}", weights * math.prod(outputs) * filters),
    )


def pooling(
    size: Sequence[int],
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Pads | None = None,
    dilation: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Formula:
    """Return the formula of a pooling layer: ``W2 = floor((W1 - F)/S) + 1``, no parameters.

    (The statistics lecture prints ``(H - K)/(s + 1)``; that is a slip, as its own examples show.)
    """
    padding = padding or ((0, 0),) * len(size)
    axes = zip(size, kernel, stride, padding, dilation or (1,) * len(size), strict=True)
    return Formula(
        Sizes(window_count(*axis, ceil_mode=ceil_mode, show_padding=False) for axis in axes)
    )


def dense(inputs: Shape, outputs: int, bias: bool = True) -> Formula:
    """Return the formulas of a dense layer on an input of that shape."""
    long = [size for size in inputs if size != 1] or [1]
    product = "*".join(map(str, [*long, outputs]))
    weights = math.prod(inputs) * outputs
    return Formula(
        None,
        Worked(f"{product} + {outputs}", weights + outputs) if bias else Worked(product, weights),
        Worked(product, weights),
    )


# ---- the layers ----------------------------------------------------------------------------------


def _convolution(layer: Any, x: Shape, y: Shape) -> Formula:
    window = layer.kernel_size, layer.stride, layer.dilation
    table = getattr(layer, "connections", None)
    return convolution(
        x[0],
        x[1:],
        filters=layer.out_channels,
        kernel=layer.kernel_size,
        stride=layer.stride,
        padding=to_padding("explain", layer.padding, x[1:], *window),
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
        connections=None if table is None else sum(map(sum, table)),
    )


def _pooling(layer: Any, x: Shape, y: Shape) -> Formula:
    axes = len(x) - 1
    kernel, stride, dilation = (
        to_tuple("explain", name, getattr(layer, name), axes)
        for name in ("kernel_size", "stride", "dilation")
    )
    return pooling(
        x[1:],
        kernel=kernel,
        stride=stride,
        padding=to_padding("explain", layer.padding, x[1:], kernel, stride, dilation),
        dilation=dilation,
        ceil_mode=getattr(layer, "ceil_mode", False),
    )


def _dense(layer: Any, x: Shape, y: Shape) -> Formula:
    formula = dense((layer.in_features,), layer.out_features, layer.bias is not None)
    rows = math.prod(x[:-1])  # a dense layer takes each row of its input by itself
    if rows == 1:
        return formula
    product = formula.multiply_adds
    assert product is not None
    return Formula(None, formula.parameters, Worked(f"{rows}*{product.text}", rows * product.value))


def _scale_and_shift(layer: Any, x: Shape, y: Shape) -> Formula:
    """Return the formula of a layer with a scale and perhaps a shift for each channel or value."""
    if layer.weight is None:
        return Formula()
    shape = layer.weight.shape
    sizes = "*".join(map(str, shape if layer.bias is None else (2, *shape)))
    return Formula(parameters=Worked(sizes, math.prod(shape) * (1 if layer.bias is None else 2)))


def _subsampling(layer: Any, x: Shape, y: Shape) -> Formula:
    """Return the formula of LeNet-5's pooling: "12 trainable parameters" (LeCun et al., 1998)."""
    return Formula(
        _pooling(layer, x, y).size,
        _scale_and_shift(layer, x, y).parameters,
        Worked("*".join(map(str, y)), math.prod(y)),
    )


def _distances(layer: Any, x: Shape, y: Shape) -> Formula:
    """Return the formula of a dense layer without parameters."""
    return Formula(multiply_adds=dense(x, y[0], bias=False).multiply_adds)


def _strided(layer: Any, x: Shape, y: Shape) -> Formula:
    axes = zip(x[1:], layer.stride, strict=True)
    return Formula(Sizes(window_count(size, 1, step, show_padding=False) for size, step in axes))


#: What is known about the layers, by class; a subclass has its parent's unless it stands here.
FORMULAS: dict[type, Callable[[Any, Shape, Shape], Formula]] = {
    _Conv: _convolution,
    _Pool: _pooling,
    nn.Linear: _dense,
    _BatchNorm: _scale_and_shift,
    _SampleNorm: _scale_and_shift,
    nn.EuclideanRBF: _distances,
    nn.PadChannels: _strided,
    nn.Subsampling2d: _subsampling,
}

#: Layers that return their input or a view of it when they do not train: they need no memory.
#: (`Flatten` does copy images whose memory is channels-last.)
VIEWS = (nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Identity)

#: Blocks that return a sum, which no layer makes.
SUMS = (_Shortcut,)


def formula_of(
    layer: Module, x_shape: Shape, y_shape: Shape, parameters: int, multiply_adds: int
) -> Formula:
    """Return the formulas of a layer; the shapes are without the batch.

    Only what agrees with the layer's own shape and counts is returned: a layer that overrides what
    it inherits has no arithmetic rather than a wrong one.
    """
    known = next((FORMULAS[kind] for kind in type(layer).__mro__ if kind in FORMULAS), None)
    if known is None:
        return Formula()
    try:
        formula = known(layer, x_shape, y_shape)
    except (AttributeError, TypeError, ValueError):
        return Formula()
    size, count, work = formula.size, formula.parameters, formula.multiply_adds
    return Formula(
        size if size and tuple(axis.value for axis in size) == y_shape[1:] else None,
        count if count and count.value == parameters else None,
        work if work and work.value == multiply_adds else None,
    )

"""Receptive fields: which pixels a unit sees, by exact arithmetic."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from convcore._table import table
from convcore._training import to_count
from convcore.functional._arguments import FloatArray, to_padding, to_tuple
from convcore.insight import _draw
from convcore.insight._network import Layers, Shapes
from convcore.insight._report import Report, by, called
from convcore.nn.containers import Sequential, _Shortcut
from convcore.nn.module import Module, observe
from convcore.summary import in_mode

#: First and last index along an axis.
Span = tuple[int, int]


class UnknownContainer(ValueError):
    """A container that connects its layers in a way of its own."""


class FieldRow(NamedTuple):
    """The receptive field of one layer, per spatial axis, padding included.

    `jump` is the distance of two neighbours' fields in pixels; `start` the first pixel that the
    first unit sees, negative in the padding.
    """

    name: str
    layer: str
    output_shape: tuple[int, ...]
    size: tuple[int, ...]
    jump: tuple[int, ...]
    start: tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class ReceptiveField(Report):
    """What a unit sees of the input.

    Attributes
    ----------
    layer : str
    input_shape : tuple of int
        Of one sample: (C, H, W).
    output_shape : tuple of int
        Of the layer, without the batch.
    position : tuple of int
        Row and column of the unit in its map; empty when the layer has none.
    size, jump, start : tuple of int
        Per spatial axis, in pixels: the extent of the field, the distance of two neighbours'
        fields, and the first pixel that unit 0 sees (negative in the padding). Units after a dense
        layer or a mean of all pixels see the whole image, with a jump of 0.
    pixels : tuple of (int, int)
        Per spatial axis: the first pixel that the unit sees and the one after the last, padding
        and unreachable pixels left out.
    rows : tuple of FieldRow
        The same for every layer up to this one.
    """

    layer: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    position: tuple[int, ...]
    size: tuple[int, ...]
    jump: tuple[int, ...]
    start: tuple[int, ...]
    pixels: tuple[Span, ...]
    rows: tuple[FieldRow, ...]

    def window(self) -> tuple[Span, ...]:
        """Return the field of the unit as if the image went on: first pixel, one after the last."""
        return tuple(
            (s + p * j, s + p * j + n)
            for s, p, j, n in zip(
                self.start, self.position or (0,) * len(self.start), self.jump, self.size,
                strict=True,
            )
        )  # fmt: skip

    def __repr__(self) -> str:
        return (
            f"ReceptiveField(layer {self.layer!r}, unit {self.position}, {by(self.size)} pixels, "
            f"jump {by(self.jump)})"
        )

    def __str__(self) -> str:
        head = ("layer", "", "output shape", "receptive field", "jump", "start")
        rows = [
            (
                row.name,
                row.layer,
                *map(by, (row.output_shape, row.size, row.jump)),
                _list(row.start),
            )
            for row in self.rows
        ]
        seen = " and ".join(
            f"{axis} {low} to {high - 1}"
            for axis, (low, high) in zip(_axis_names(len(self.pixels)), self.pixels, strict=True)
        )
        unit = f"unit {self.position} of layer {self.layer!r}"
        if not self.position:
            unit = f"each unit of layer {self.layer!r}"
        return f"{table(head, rows, left=(0, 1, 2))}\n\n{unit} sees {seen}"

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        image: FloatArray | None = None,
        *,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ) -> Any:
        """Draw the field on the input, beside the unit in its map.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.
        image : ndarray, shape (C, H, W), optional
            What to draw on; the default is an empty grid.
        mean, std : float or sequence of float, optional
            What the image was standardised with; without them it is stretched.

        Returns
        -------
        matplotlib.figure.Figure
        """
        if len(self.input_shape) != 3:
            raise ValueError(
                "receptive_field: there is no picture: expected images (C, H, W) as input, got "
                f"{self.input_shape}"
            )
        with _draw.style():
            figure = _draw.new_figure(9.6, 5.2)
            left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (3, 2)})
            self._draw_input(left, image, mean, std)
            self._draw_map(right)
            what = by(self.size) if any(self.jump) else "the whole image"
            pixels = " pixels" if any(self.jump) else ""
            figure.suptitle(f"Receptive field, {called(self.layer)}: {what}{pixels}")
            return _draw.finish(figure, path)

    def _draw_input(self, axes: Any, image: FloatArray | None, mean: Any, std: Any) -> None:
        from matplotlib.patches import Rectangle

        height, width = self.input_shape[1:]
        if image is None:
            _grid(axes, height, width)
        else:
            axes.imshow(_draw.on_paper(_draw.to_pixels(image[None], mean, std)[0]))
        (top, bottom), (left, right) = self.window()
        edge: dict[str, Any] = {"fill": False, "ec": _draw.VERMILION, "clip_on": False}
        box = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, ls=":", lw=1.5, **edge)
        axes.add_patch(box)
        (top, bottom), (left, right) = self.pixels
        corner, across, down = (left - 0.5, top - 0.5), right - left, bottom - top
        axes.add_patch(Rectangle(corner, across, down, color=_draw.ORANGE, alpha=0.3, lw=0))
        axes.add_patch(Rectangle(corner, across, down, lw=2.5, **edge))
        window = self.window()
        reach = [
            max(0, -low, high - n) for (low, high), n in zip(window, (height, width), strict=True)
        ]
        axes.set_xlim(-1 - reach[1], width + reach[1])
        axes.set_ylim(height + reach[0], -1 - reach[0])
        _draw.bare(axes)
        note = (
            f"input, {height} x {width}: rows {top} to {bottom - 1}, columns {left} to {right - 1}"
        )
        if any(reach):
            note += "\n(dotted: with the padding)"
        axes.set_xlabel(note)

    def _draw_map(self, axes: Any) -> None:
        from matplotlib.patches import Rectangle

        if not self.position:
            axes.text(
                0.5, 0.5, f"{self.output_shape[0]} values\nwithout rows and columns",
                ha="center", va="center", transform=axes.transAxes,
            )  # fmt: skip
            _draw.bare(axes)
            return
        height, width = self.output_shape[1:]
        _grid(axes, height, width)
        row, column = self.position
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=_draw.VERMILION))
        axes.set_xlim(-1, width)
        axes.set_ylim(height, -1)
        _draw.bare(axes)
        axes.set_xlabel(f"map, {height} x {width}: the unit in row {row}, column {column}")


def _grid(axes: Any, height: int, width: int) -> None:
    """Draw a sheet of squares."""
    axes.imshow(np.full((height, width), 0.95), cmap="gray", vmin=0, vmax=1)
    ink = {"color": "white", "lw": 0.8}
    axes.hlines(np.arange(height + 1) - 0.5, -0.5, width - 0.5, **ink)
    axes.vlines(np.arange(width + 1) - 0.5, -0.5, height - 0.5, **ink)


def _axis_names(axes: int) -> tuple[str, ...]:
    return ("rows", "columns") if axes == 2 else ("samples",)


def _list(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def receptive_field(
    model: Module,
    layer: str,
    input_shape: Sequence[int],
    position: Sequence[int] | None = None,
) -> ReceptiveField:
    """Return which pixels of the input a unit sees.

    Parameters
    ----------
    model : Module
        `Sequential`, `Residual`, `ResidualBlock` and layers in them.
    layer : str
        By its name.
    input_shape : (C, H, W)
        Of one image; (C, L) of a sequence.
    position : (row, column), optional
        Of the unit in its map; the default is the middle.

    Returns
    -------
    ReceptiveField

    Raises
    ------
    ValueError
        When there is no such layer or unit, or a container connects its layers in a way of its own.

    Notes
    -----
    A layer with windows of extent k (``dilation * (k - 1) + 1``), stride s and padding p turns the
    field of the layer before it into::

        size = size + (k - 1) * jump
        start = start - p * jump
        jump = jump * s

    beginning with size 1, jump 1 and start 0. The pixels of one unit are found backwards: the span
    [a, b] of a layer's units sees [a s - p, b s - p + k - 1] of its input, of which each layer cuts
    off what is outside. Both branches of a residual block count. With a stride larger than the
    window, or a dilation, there are pixels in the span that are not seen.

    The effective field is smaller: pixels in the middle have more paths to the unit.

    References
    ----------
    A. Araujo, W. Norris and J. Sim, "Computing receptive fields of convolutional neural networks",
    Distill 2019. Lecture of X. Giro-i-Nieto: "a filter of 2x2 will see a bigger patch of the input
    image"; lecture of P. Jyothi, the arithmetic of layers.

    Examples
    --------
    >>> from convcore import insight, models
    >>> field = insight.receptive_field(models.lenet5(), "3", (1, 28, 28), (0, 0))
    >>> field
    ReceptiveField(layer '3', unit (0, 0), 14 x 14 pixels, jump 2 x 2)
    >>> field.start, field.pixels
    ((-2, -2), ((0, 12), (0, 12)))
    """
    owner = "receptive_field"
    shape = tuple(to_count(owner, "input_shape", size) for size in input_shape)
    layers = Layers(owner, model, shape)
    name = layers.expect(layer)
    outputs = layers.shapes[name]
    place = _expect_position(outputs, position)
    walker = _Walker(model, shape)
    rows = []
    for other, other_shape in layers.shapes.items():
        if other in (*layers.own, name):
            kind = type(layers.modules[other]).__name__
            rows.append(FieldRow(other, kind, other_shape, *walker.field(other)))
        if other == name:
            break
    size, jump, start = walker.field(name)
    pixels = []
    for axis in range(len(shape) - 1):
        low, high = walker.span(name, axis, place[axis] if place else None)
        pixels.append((low, high + 1))
    return ReceptiveField(
        name, shape, outputs, place, size, jump, start, tuple(pixels), tuple(rows)
    )


def upsampling(
    model: Module, layer: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> tuple[FloatArray, FloatArray]:
    """Return what brings maps of a layer to the size of the image: ``rows @ map @ columns.T``.

    Between the centres of the units' receptive fields the values are interpolated linearly; outside
    of them the nearest value goes on (Bau et al. 2017, section 2.2).
    """
    try:
        jump, centre = _centres(model, layer, input_shape)
    except UnknownContainer:  # then the maps are stretched over the image
        jump = centre = (0.0, 0.0)
    matrices = []
    for pixels, units, step, first in zip(
        input_shape[1:], output_shape[1:], jump, centre, strict=True
    ):
        if step == 0:
            step = pixels / units
            first = (step - 1) / 2
        places = np.clip((np.arange(pixels) - first) / step, 0, units - 1)
        below = np.minimum(places.astype(np.int64), max(units - 2, 0))
        share = (places - below).astype(np.float32)
        matrix = np.zeros((pixels, units), np.float32)
        np.add.at(matrix, (np.arange(pixels), below), 1 - share)
        np.add.at(matrix, (np.arange(pixels), np.minimum(below + 1, units - 1)), share)
        matrices.append(matrix)
    return matrices[0], matrices[1]


def _centres(
    model: Module, layer: str, input_shape: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the jump of a layer's fields, and the centre of the first one."""
    size, jump, start = _Walker(model, input_shape).field(layer)
    centre = tuple(s + (n - 1) / 2 for s, n in zip(start, size, strict=True))
    return tuple(map(float, jump)), centre


def _expect_position(shape: tuple[int, ...], position: Sequence[int] | None) -> tuple[int, ...]:
    sizes = shape[1:]
    if position is None:
        return tuple(size // 2 for size in sizes)
    place = tuple(int(p) for p in position)
    inside = len(place) == len(sizes) and all(
        0 <= p < size for p, size in zip(place, sizes, strict=True)
    )
    if not inside:
        raise ValueError(
            f"receptive_field: position is outside of the layer: expected {len(sizes)} indices "
            f"below {sizes}, got {place}"
        )
    return place


class _Walker:
    """Goes from a unit back to the input, layer by layer, along one axis."""

    def __init__(self, model: Module, input_shape: tuple[int, ...]) -> None:
        self.model = model
        self.axes = len(input_shape) - 1
        self.inputs: Shapes = {}
        self.outputs: Shapes = {}
        self.names = {id(module): name for name, module in model.named_modules()}
        x = np.zeros((0, *input_shape), np.float32)
        with in_mode(model, training=False), observe(self._see):
            model(x)

    def _see(self, module: Module, x: FloatArray) -> FloatArray:
        y = module.forward(x)
        if id(module) in self.names:
            name = self.names[id(module)]
            self.inputs[name], self.outputs[name] = x.shape[1:], y.shape[1:]
        return y

    def span(self, name: str, axis: int, index: int | None) -> Span:
        """Return the first and the last pixel that unit `index` sees (None: that any unit sees)."""
        span = (0, 0) if index is None else (index, index)
        if index is None and len(self.outputs[name]) == self.axes + 1:
            span = (0, self.outputs[name][1 + axis] - 1)
        return self._back(name, span, axis, cut=True)

    def field(self, name: str) -> tuple[tuple[int, ...], ...]:
        """Return size, jump and start per axis: as if the image went on without an end."""
        sizes, jumps, starts = [], [], []
        for axis in range(self.axes):
            first, second = (self._back(name, (i, i), axis, cut=False) for i in (0, 1))
            sizes.append(first[1] - first[0] + 1)
            jumps.append(second[0] - first[0])
            starts.append(first[0])
        return tuple(sizes), tuple(jumps), tuple(starts)

    def _back(self, name: str, span: Span, axis: int, cut: bool) -> Span:
        for modules in reversed(list(_stages(self.model, name))):
            spans = [self._through(module, span, axis, cut) for module in modules]
            span = _union(spans)
        return span

    def _through(self, module: Module | None, span: Span, axis: int, cut: bool) -> Span:
        """Return what of its input the span of a module's units sees."""
        if module is None:  # the identity around a block
            return span
        if isinstance(module, Sequential):
            for layer in reversed(list(module)):
                span = self._through(layer, span, axis, cut)
            return span
        if isinstance(module, _Shortcut):
            span = self._through(module.activation, span, axis, cut)
            return _union([self._through(one, span, axis, cut) for one in module._branches()])
        if next(module.children(), None) is not None:
            raise UnknownContainer(
                "receptive_field: the network has a container of its own kind: expected Sequential "
                f"and residual blocks, got {type(module).__name__}"
            )
        return self._through_layer(module, span, axis, cut)

    def _through_layer(self, module: Module, span: Span, axis: int, cut: bool) -> Span:
        name = self.names[id(module)]
        source, result = self.inputs[name], self.outputs[name]
        if len(source) <= 1 + axis:  # values without rows and columns: every one sees all
            return span
        size = source[1 + axis]
        window = module.window()
        whole = (0, size - 1)
        if len(result) != len(source):  # flattened: which of the maps' pixels it was is forgotten
            return whole
        low, high = span
        if hasattr(module, "output_size"):  # adaptive pooling divides the input into bins
            bins = result[1 + axis]
            if cut or (size % bins == 0 and bins > 1):
                return low * size // bins, -(-(high + 1) * size // bins) - 1
            return whole
        if window is None:
            return span
        if isinstance(window, str):
            return whole
        extent, stride = window[axis]
        before = self._padding(module, source)[axis]
        low, high = low * stride - before, high * stride - before + extent - 1
        if cut:
            mode = getattr(module, "padding_mode", "zeros")
            return _cut(low, high, size, mode)
        return low, high

    def _padding(self, module: Module, source: tuple[int, ...]) -> tuple[int, ...]:
        """Return the padding before the first pixel, per axis."""
        padding = getattr(module, "padding", 0)
        kernel = getattr(module, "kernel_size", None)
        if kernel is None:  # `PadChannels` pads other things
            return (0,) * self.axes
        kernel, stride, dilation = (
            to_tuple("receptive_field", what, value, self.axes)
            for what, value in (
                ("kernel_size", kernel),
                ("stride", getattr(module, "stride", 1)),
                ("dilation", getattr(module, "dilation", 1)),
            )
        )
        sizes = source[-self.axes :]
        pairs = to_padding("receptive_field", padding, sizes, kernel, stride, dilation)
        return tuple(before for before, _ in pairs)


def _stages(module: Module, name: str) -> Iterator[tuple[Module | None, ...]]:
    """Iterate over what lies between the input and the output of a layer: modules side by side."""
    if not name:
        yield (module,)
        return
    child, _, rest = name.partition(".")
    inner = dict(module.named_children())[child]
    row: Module = module
    if isinstance(module, _Shortcut):
        body, shortcut = module._branches()
        if inner is module.activation:
            yield body, shortcut
        row = body  # its layers may stand in the block itself
    if isinstance(row, Sequential) and inner in row.children():
        for layer in row:
            if layer is inner:
                break
            yield (layer,)
    yield from _stages(inner, rest)


def _union(spans: list[Span]) -> Span:
    return min(low for low, _ in spans), max(high for _, high in spans)


def _cut(low: int, high: int, size: int, mode: str) -> Span:
    """Return the pixels of an image of `size` that fill [low, high] under a mode of padding."""
    inside = (min(max(low, 0), size - 1), max(min(high, size - 1), 0))
    before, after = max(0, -low), max(0, high - (size - 1))
    if mode == "circular" and (before or after):
        return 0, size - 1
    if mode == "reflect":  # -1 is pixel 1
        first, last = inside
        if before:
            last = max(last, min(before, size - 1))
        if after:
            first = min(first, max(size - 1 - after, 0))
        return first, last
    return inside

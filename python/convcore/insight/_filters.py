"""The filters of a layer, as pictures: what it looks for."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from convcore._names import did_you_mean
from convcore._table import table
from convcore.functional._arguments import FloatArray
from convcore.insight import _draw
from convcore.insight._report import Report, by, called
from convcore.nn.linear import Linear
from convcore.nn.module import Module
from convcore.nn.parameter import Parameter

_MOST_SHOWN = 64


@dataclass(frozen=True, eq=False, repr=False)
class Filters(Report):
    """The weights of a layer.

    Attributes
    ----------
    layer : str
    weights : ndarray, shape (K, C, KH, KW), float32
        A copy: K filters that look at C channels.
    """

    layer: str
    weights: FloatArray

    @property
    def sums(self) -> FloatArray:
        """The sum of each filter: its answer to a white image; near 0 for edge detectors."""
        total: FloatArray = self.weights.sum(axis=(1, 2, 3))
        return total

    @property
    def norms(self) -> FloatArray:
        """The length of each filter: the root of its sum of squares."""
        length: FloatArray = np.sqrt(np.square(self.weights).sum(axis=(1, 2, 3)))
        return length

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers in forms that JSON knows."""
        return {**super().to_dict(), "sums": self.sums.tolist(), "norms": self.norms.tolist()}

    def __repr__(self) -> str:
        return f"Filters(layer {self.layer!r}, {by(self.weights.shape)})"

    def __str__(self) -> str:
        flat = self.weights.reshape(len(self.weights), -1)
        rows = [
            (str(i), *(f"{v:.3f}" for v in values))
            for i, values in enumerate(
                zip(flat.min(axis=1), flat.max(axis=1), self.sums, self.norms, strict=True)
            )
        ]
        title = f"layer {self.layer!r}: {len(flat)} filters of {by(self.weights.shape[1:])}"
        return f"{title}\n\n{table(('filter', 'min', 'max', 'sum', 'norm'), rows)}"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the filters: in colours when they look at red, green and blue.

        Filters on three channels are stretched one by one, with grey for 0. Others are drawn on one
        scale: red above 0, blue below; of filters on many channels each channel is a column.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.

        Returns
        -------
        matplotlib.figure.Figure
        """
        with _draw.style():
            count, channels = self.weights.shape[:2]
            figure = self._grid() if channels in (1, 3) else self._matrix()
            shown = min(count, _MOST_SHOWN)
            which = f"the first {shown} of {count}" if shown < count else f"{count}"
            size = by(self.weights.shape[2:])
            title = f"{called(self.layer)}: {which} filters of {size}, channels: {channels}"
            figure.suptitle(title[0].upper() + title[1:])
            return _draw.finish(figure, path)

    def _grid(self) -> Any:
        weights = self.weights[:_MOST_SHOWN].astype(np.float64)
        columns = min(8, len(weights))
        rows = -(-len(weights) // columns)
        figure = _draw.new_figure(max(5.0, 0.95 * columns + 1.2), 1.2 * rows + 0.7)
        how: dict[str, Any] = {}
        if weights.shape[1] == 3:  # grey is 0
            extents = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
            weights = np.moveaxis(weights / (2 * np.maximum(extents, 1e-30)) + 0.5, 1, -1)
        else:
            weights, how = weights[:, 0], _draw.symmetric(weights)
        lines = [range(i, min(i + columns, len(weights))) for i in range(0, len(weights), columns)]
        axes = figure.subplots()
        field = _draw.tiles(
            axes,
            [[weights[i] for i in line] for line in lines],
            titles=[[str(i) for i in line] for line in lines],
            **how,
        )
        if how:
            bar = figure.colorbar(field, ax=axes, shrink=0.9, label="weight")
            bar.outline.set_visible(False)
        return figure

    def _matrix(self) -> Any:
        weights = self.weights[:_MOST_SHOWN, :_MOST_SHOWN]
        count, channels, height, width = weights.shape
        whole = _draw.mosaic(weights.reshape(-1, height, width).astype(np.float64), channels)
        cell = min(0.45, 12 / max(count, channels))  # inches
        figure = _draw.new_figure(max(4.5, cell * channels + 2), max(3.0, cell * count + 1.3))
        axes = figure.subplots()
        field = axes.imshow(whole, **_draw.symmetric(weights))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        steps = [max(1, n // 16) for n in (channels, count)]
        across, down = range(0, channels, steps[0]), range(0, count, steps[1])
        axes.set_xticks([i * (width + 1) + (width - 1) / 2 for i in across], list(map(str, across)))
        axes.set_yticks([i * (height + 1) + (height - 1) / 2 for i in down], list(map(str, down)))
        axes.set(xlabel="channel of the input", ylabel="filter")
        figure.colorbar(field, ax=axes, shrink=0.8, label="weight").outline.set_visible(False)
        return figure


def filters(
    model: Module, layer: str | None = None, input_shape: tuple[int, ...] | None = None
) -> Filters:
    """Return the filters of a layer.

    Parameters
    ----------
    model : Module
    layer : str, optional
        A convolution or a dense layer, by its name; the default is the first.
    input_shape : (C, H, W), optional
        The images that a dense layer looks at: its weights become as many templates of that shape.

    Returns
    -------
    Filters

    Raises
    ------
    ValueError
        When the layer has no filters, or a dense layer does not fit `input_shape`.

    Notes
    -----
    A convolution compares each patch x of its input with the filter w: ``sum(w * x) + b`` is large
    where the patch looks like the filter. First layers learn edges in all directions and spots of
    colour.

    References
    ----------
    S. Jegelka, "Deep learning for images: convolutional neural networks" (lecture): "learned
    filters (1st layer): first layer learns edge detectors!". A. Krizhevsky, I. Sutskever and
    G. Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012,
    figure 3.

    Examples
    --------
    >>> from convcore import insight, models
    >>> insight.filters(models.lenet5())
    Filters(layer '0', 6 x 1 x 5 x 5)
    """
    known = {
        name: weight
        for name, module in model.named_modules()
        if (weight := _weight(module)) is not None
    }
    name = next(iter(known), "") if layer is None else str(layer)
    if name not in known:
        raise ValueError(
            f"filters: layer has no filters: expected one of {', '.join(map(repr, known))}, got "
            f"{name!r}{did_you_mean(name, known)}"
        )
    weights = known[name].data
    if weights.ndim == 4:
        return Filters(name, weights.copy())
    if weights.ndim == 3:  # of sequences
        return Filters(name, weights[:, :, None].copy())
    if input_shape is None or len(input_shape) != 3 or weights.shape[1] != math.prod(input_shape):
        raise ValueError(
            f"filters: layer {name!r} is dense: expected the shape (C, H, W) of images with "
            f"{weights.shape[1]} values as input_shape, got {input_shape}"
        )
    return Filters(name, weights.reshape(-1, *input_shape).copy())


def _weight(module: Module) -> Parameter | None:
    weight = getattr(module, "weight", None)
    fits = isinstance(weight, Parameter) and (weight.data.ndim > 2 or isinstance(module, Linear))
    return weight if fits else None

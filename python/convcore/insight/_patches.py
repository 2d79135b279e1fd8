"""The patches of a data set that excite a unit most."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from convcore._table import table
from convcore._training import to_count
from convcore.functional._arguments import FloatArray
from convcore.insight import _draw
from convcore.insight._network import (
    BATCH_SIZE,
    IntArray,
    Layers,
    Samples,
    check_images,
    walk,
)
from convcore.insight._receptive_field import Span, receptive_field
from convcore.insight._report import Report, by, called
from convcore.nn.module import Module

_MOST_UNITS = 12  # in one picture


@dataclass(frozen=True, eq=False, repr=False)
class Patches(Report):
    """The patches that excite units most, the strongest first, one per image.

    Attributes
    ----------
    layer : str
    units : tuple of int
        Channels of maps, or values of vectors.
    values : ndarray, shape (U, T), float32
        The activations.
    images : ndarray, shape (U, T), int64
        The images' indices in the data set.
    positions : ndarray, shape (U, T, 2), int64
        Row and column in the map; of vectors -1.
    patches : ndarray, shape (U, T, C, h, w), float32
        What the unit sees there; NaN outside of the image.
    """

    layer: str
    units: tuple[int, ...]
    values: FloatArray
    images: IntArray
    positions: IntArray
    patches: FloatArray

    _large: ClassVar[tuple[str, ...]] = ("patches",)

    def __repr__(self) -> str:
        what = f"{self.values.shape[1]} patches of {by(self.patches.shape[-2:])} each"
        return f"Patches(layer {self.layer!r}, {len(self.units)} units, {what})"

    def __str__(self) -> str:
        rows = []
        for u, unit in enumerate(self.units):
            for place in range(self.values.shape[1]):
                row, column = self.positions[u, place]
                rows.append(
                    (
                        str(unit) if place == 0 else "",
                        f"{place + 1}.",
                        f"{self.values[u, place]:.3f}",
                        f"{self.images[u, place]:,}",
                        "-" if row < 0 else f"({row}, {column})",
                    )
                )
        head = ("unit", "", "activation", "image", "(row, column)")
        return f"layer {self.layer!r}\n\n{table(head, rows)}"

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ) -> Any:
        """Draw a row of patches for each of the first twelve units; blue is outside of the image.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.
        mean, std : float or sequence of float, optional
            What the images were standardised with; without them each patch is stretched.

        Returns
        -------
        matplotlib.figure.Figure
        """
        shown, top = min(len(self.units), _MOST_UNITS), self.values.shape[1]
        height, width = self.patches.shape[-2:]
        with _draw.style():
            tall = 0.95 * height / width + 0.25
            figure = _draw.new_figure(0.95 * top + 1.3, tall * shown + 0.7)
            _draw.tiles(
                figure.subplots(),
                [list(_draw.to_pixels(self.patches[u], mean, std)) for u in range(shown)],
                [
                    f"unit {unit}" + ("\nnever active" if row.max() <= 0 else "")
                    for unit, row in zip(self.units[:shown], self.values, strict=False)
                ],
                [[f"{value:.2f}" for value in row] for row in self.values[:shown]],
            )
            figure.suptitle(
                f"What excites {called(self.layer)} most ({by((height, width))} pixels)"
            )
            return _draw.finish(figure, path)


class _Top:
    """The strongest activation of each image, and the strongest images, for each unit."""

    def __init__(self, units: npt.NDArray[Any], top: int) -> None:
        self.units, self.top = units, top
        empty = np.empty((len(units), 0))
        self.values = empty.astype(np.float32)
        self.images = empty.astype(np.int64)
        self.places = empty.astype(np.int64)

    def add(self, y: FloatArray, first: int) -> None:
        """Take a batch whose first image has the index `first`."""
        flat = y[:, self.units].reshape(len(y), len(self.units), -1)
        places = flat.argmax(axis=2).T
        values = flat.max(axis=2).T
        images = np.broadcast_to(np.arange(first, first + len(y)), values.shape)
        self.values = np.concatenate([self.values, values], axis=1)
        self.images = np.concatenate([self.images, images], axis=1)
        self.places = np.concatenate([self.places, places], axis=1)
        # A stable sort: of equal activations the earlier image wins, whatever the batches.
        order = np.argsort(-self.values, axis=1, kind="stable")[:, : self.top]
        for name in ("values", "images", "places"):
            setattr(self, name, np.take_along_axis(getattr(self, name), order, axis=1))


def top_patches(
    model: Module,
    x: Samples,
    layer: str | None = None,
    units: Sequence[int] | None = None,
    top: int = 9,
    batch_size: int = BATCH_SIZE,
) -> Patches:
    """Return the patches of a data set that excite units most.

    Parameters
    ----------
    model : Module
    x : ndarray, shape (N, C, H, W), float32, or data.Images
    layer : str, optional
        The default is what follows the last convolution.
    units : sequence of int, optional
        Channels of the layer's maps; the default is all.
    top : int, default 9
        Patches per unit, of different images.
    batch_size : int, default 64
        Has no influence on the result.

    Returns
    -------
    Patches

    Notes
    -----
    For each image the place of the unit's largest activation counts; the patch is the unit's
    receptive field there (`receptive_field`), of one size for all.

    References
    ----------
    S. Jegelka, "Deep learning for images: convolutional neural networks" (lecture): "view neurons
    as pattern detectors: find patches that activate a neuron, and see whether they classify a
    concept". M. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks",
    ECCV 2014.

    Examples
    --------
    >>> from convcore import data, insight, models
    >>> x = data.load("digits", "test").x
    >>> found = insight.top_patches(models.lenet5(), x, "1", units=[0, 5], top=3)
    >>> found
    Patches(layer '1', 2 units, 3 patches of 5 x 5 each)
    >>> bool((found.values[:, 0] >= found.values[:, 1]).all())
    True
    """
    owner = "top_patches"
    x = check_images(owner, x)
    layers = Layers(owner, model, x.shape[1:])
    layer = layers.last_maps() if layer is None else layers.expect(layer)
    shape = layers.shapes[layer]
    chosen = check_units(owner, units, shape[0])
    best = _Top(chosen, min(to_count(owner, "top", top), len(x)))
    for rows, found in walk(model, x, (layer,), to_count(owner, "batch_size", batch_size)):
        best.add(found[layer], rows.start)
    window, jump = _window(model, layer, x.shape[1:])
    positions = np.full((*best.places.shape, 2), -1)
    if len(shape) == 3:
        positions = np.stack(np.unravel_index(best.places, shape[1:]), axis=-1)
    patches = np.stack(
        [
            np.stack(
                [
                    _crop(x[int(i)], window, np.maximum(place, 0) * jump)
                    for i, place in zip(images, places, strict=True)
                ]
            )
            for images, places in zip(best.images, positions, strict=True)
        ]
    )
    units_found = tuple(int(unit) for unit in chosen)
    return Patches(layer, units_found, best.values, best.images, positions, patches)


def check_units(owner: str, units: Sequence[int] | None, count: int) -> IntArray:
    """Return the indices of units: all, or those that were named."""
    chosen = np.arange(count) if units is None else np.asarray(units)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not chosen.size:
        raise ValueError(
            f"{owner}: units is no list of units: expected indices below {count}, got {units!r}"
        )
    if not (chosen.min() >= 0 and chosen.max() < count):
        raise ValueError(
            f"{owner}: units is out of range: expected indices below {count}, "
            f"got {int(chosen.min())} to {int(chosen.max())}"
        )
    return chosen.astype(np.int64)


def _window(
    model: Module, layer: str, input_shape: tuple[int, ...]
) -> tuple[tuple[Span, ...], IntArray]:
    """Return the field of unit 0, cut to what can lie in an image, and the jump."""
    field = receptive_field(model, layer, input_shape)
    sizes = input_shape[1:]
    if not any(field.jump) or any(n > 2 * size for n, size in zip(field.size, sizes, strict=True)):
        # The unit sees everything, or nearly: the whole image, wherever the unit is.
        return tuple((0, size) for size in sizes), np.zeros(2, np.int64)
    window = tuple((s, s + n) for s, n in zip(field.start, field.size, strict=True))
    return window, np.asarray(field.jump)


def _crop(image: FloatArray, window: tuple[Span, ...], shift: IntArray) -> FloatArray:
    """Return the part of an image in the shifted window, with NaN outside of it."""
    (top, bottom), (left, right) = window
    patch = np.full((len(image), bottom - top, right - left), np.nan, np.float32)
    row, column = top + int(shift[0]), left + int(shift[1])
    height, width = image.shape[1:]
    rows = slice(max(row, 0), min(row + bottom - top, height))
    columns = slice(max(column, 0), min(column + right - left, width))
    inside = image[:, rows, columns]
    patch[:, rows.start - row : rows.stop - row, columns.start - column : columns.stop - column] = (
        inside
    )
    return patch

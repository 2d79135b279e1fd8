"""The feature maps of an image: what every layer makes of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from convcore._table import table
from convcore.functional._arguments import FloatArray
from convcore.insight import _draw
from convcore.insight._network import Samples, activations, check_images
from convcore.insight._report import Report, by, percent
from convcore.nn.module import Module

_MOST_LAYERS = 14  # in one picture
_MOST_NUMBERED = 20  # values of a vector that are numbered


@dataclass(frozen=True, eq=False, repr=False)
class FeatureMaps(Report):
    """What the layers return for one image.

    Attributes
    ----------
    image : ndarray, shape (C, H, W), float32
    maps : dict of str to ndarray
        By the layer's name, in the order in which they run, without the batch: (C, H, W) or (C,).
    kinds : dict of str to str
        The layers' classes.
    """

    image: FloatArray
    maps: dict[str, FloatArray]
    kinds: dict[str, str]

    _large: ClassVar[tuple[str, ...]] = ("image", "kinds")

    def last_of_each_size(self) -> tuple[str, ...]:
        """Return the layers after which the shape changes: the stages of the network."""
        names = list(self.maps)
        shapes = [self.maps[name].shape for name in names]
        ends = [a != b for a, b in zip(shapes, [*shapes[1:], ()], strict=True)]
        return tuple(name for name, end in zip(names, ends, strict=True) if end)

    def __repr__(self) -> str:
        return f"FeatureMaps(image {by(self.image.shape)}, {len(self.maps)} layers)"

    def __str__(self) -> str:
        rows = [
            (
                name,
                self.kinds[name],
                by(y.shape),
                *(f"{v:.3f}" for v in (y.min(), y.mean(), y.max())),
                percent(float((y == 0).mean())),
            )
            for name, y in self.maps.items()
        ]
        head = ("layer", "", "output shape", "min", "mean", "max", "zeros")
        return table(head, rows, left=(0, 1, 2))

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        layers: Sequence[str] | None = None,
        most: int = 16,
        *,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ) -> Any:
        """Draw the image, and below it a row of maps per layer.

        The maps of a layer share their colours. Where a layer returns negative values they are
        blue, positive ones red; otherwise dark is 0.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.
        layers : sequence of str, optional
            The default is all; of networks with more than 14, the last layer of each size.
        most : int, default 16
            Maps per layer.
        mean, std : float or sequence of float, optional
            What the images were standardised with, as `data.Dataset` says; without them the
            image is stretched.

        Returns
        -------
        matplotlib.figure.Figure
        """
        if layers is None:
            layers = tuple(self.maps)
            if len(layers) > _MOST_LAYERS:
                layers = self.last_of_each_size()
        with _draw.style():
            heights = [1.5, *(self._height(self.maps[name], most) for name in layers)]
            figure = _draw.new_figure(11, sum(heights) + 0.33 * len(heights) + 0.2)
            panels = figure.subplots(
                len(heights), 1, gridspec_kw={"height_ratios": heights}, squeeze=False
            )[:, 0]
            picture = _draw.to_pixels(self.image[None], mean, std)[0]
            _draw.picture(panels[0], picture, f"image, {by(self.image.shape)}", loc="left")
            panels[0].set_anchor("W")
            for axes, name in zip(panels[1:], layers, strict=True):
                self._draw(axes, name, most)
            return _draw.finish(figure, path)

    @staticmethod
    def _height(y: FloatArray, most: int) -> float:
        if y.ndim < 3:
            return 0.3
        columns = min(most, len(y))
        return min(1.5, 10.5 / columns * float(y.shape[1] / y.shape[2]))

    def _draw(self, axes: Any, name: str, most: int) -> None:
        y = self.maps[name].astype(np.float64)
        shown: npt.NDArray[Any]
        if y.ndim == 3:
            shown = _draw.mosaic(y[:most], min(most, len(y)), max(1, y.shape[2] // 14))
        else:
            shown = y.reshape(1, -1)
            for i in range(y.size if y.size <= _MOST_NUMBERED else 0):
                bright = y[i] > 0.6 * y.max() if y.min() >= 0 else abs(y[i]) < 0.6 * abs(y).max()
                ink = "black" if bright else "white"
                axes.text(i, 0, str(i), ha="center", va="center", color=ink, fontsize=9)
        high = float(y.max()) if y.size else 1.0
        colours = _draw.symmetric(y)
        if y.size and y.min() >= 0:
            colours = {"cmap": _draw.SEQUENTIAL, "vmin": 0, "vmax": high or 1.0}
        axes.imshow(shown, aspect="equal" if y.ndim == 3 else "auto", **colours)
        axes.set_anchor("W")
        part = f" (the first {most})" if y.ndim == 3 and len(y) > most else ""
        values = f"values {y.min():.2g} to {high:.2g}"
        title = f"{name}  {self.kinds[name]}, {by(y.shape)}{part}; {values}"
        _draw.bare(axes, title, loc="left", fontsize=10, pad=3)


def feature_maps(model: Module, image: Samples, layers: Sequence[str] | None = None) -> FeatureMaps:
    """Return what every layer makes of one image.

    Parameters
    ----------
    model : Module
    image : ndarray, shape (C, H, W) or (1, C, H, W), float32
    layers : sequence of str, optional
        The default is every layer.

    Returns
    -------
    FeatureMaps

    References
    ----------
    X. Giro-i-Nieto, "Convolutional neural networks" (lecture AA2): "the responses at different
    locations from these filters create what's called feature maps". M. Zeiler and R. Fergus,
    "Visualizing and understanding convolutional networks", ECCV 2014.

    Examples
    --------
    >>> from convcore import data, insight, models
    >>> maps = insight.feature_maps(models.lenet5(), data.load("digits", "test").x[0])
    >>> maps.maps["3"].shape
    (16, 10, 10)
    >>> maps.last_of_each_size()
    ('1', '2', '4', '5', '6', '8', '10', '11')
    """
    if getattr(image, "ndim", 0) == 3:
        image = image[None]
    image = check_images("feature_maps", image)
    if len(image) != 1:
        raise ValueError(f"feature_maps: image is a batch: expected one image, got {len(image)}")
    found = activations(model, image, layers)
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    maps = {name: np.ascontiguousarray(y[0]) for name, y in found.items()}
    return FeatureMaps(image[0], maps, {name: kinds[name] for name in maps})

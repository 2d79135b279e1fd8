"""Activation statistics: mean, spread and zeros of each layer, and units that never fire."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convcore._table import table
from convcore._training import to_count
from convcore.functional._arguments import FloatArray
from convcore.insight import _draw
from convcore.insight._network import (
    BATCH_SIZE,
    Layers,
    Samples,
    check_samples,
    walk,
)
from convcore.insight._report import Report, by, percent
from convcore.nn.module import Module

_PIECE = 1 << 22  # values that are float64 at a time


@dataclass(frozen=True)
class LayerStatistics:
    """One layer.

    Attributes
    ----------
    name, layer : str
        As in `Model.summary`.
    output_shape : tuple of int
        Without the batch.
    mean, std, minimum, maximum : float
        Of all values, over all images.
    zeros : float
        The share of values that are 0.
    units : int
        Channels of maps, or values of vectors.
    dead : int
        Units that are 0 for every image, everywhere.
    """

    name: str
    layer: str
    output_shape: tuple[int, ...]
    mean: float
    std: float
    minimum: float
    maximum: float
    zeros: float
    units: int
    dead: int


@dataclass(frozen=True, eq=False, repr=False)
class ActivationStatistics(Report):
    """What the layers of a network return, in numbers.

    Attributes
    ----------
    layers : tuple of LayerStatistics
        In the order in which they run.
    images : int
    """

    layers: tuple[LayerStatistics, ...]
    images: int

    def __repr__(self) -> str:
        dead = sum(row.dead for row in self.layers)
        return (
            f"ActivationStatistics({len(self.layers)} layers, {self.images:,} images, {dead} dead)"
        )

    def __str__(self) -> str:
        head = ("layer", "", "output shape", "mean", "std", "min", "max", "zeros", "dead units")
        rows = [
            (
                row.name,
                row.layer,
                by(row.output_shape),
                *(f"{v:.4g}" for v in (row.mean, row.std, row.minimum, row.maximum)),
                percent(row.zeros),
                f"{row.dead} of {row.units}",
            )
            for row in self.layers
        ]
        return table(head, rows, left=(0, 1, 2))

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw mean and standard deviation, zeros and dead units, a line per layer.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.

        Returns
        -------
        matplotlib.figure.Figure
        """
        places = np.arange(len(self.layers))
        with _draw.style():
            figure = _draw.new_figure(11, 1.9 + 0.3 * len(self.layers))
            left, right = figure.subplots(1, 2, sharey=True)
            means, spreads = ([getattr(row, n) for row in self.layers] for n in ("mean", "std"))
            left.axvline(0, color=_draw.GREY, lw=0.8)
            left.errorbar(
                means, places, xerr=spreads, fmt="o", color=_draw.BLUE, ms=5, lw=1.5, capsize=3
            )
            left.set(title="Mean and standard deviation", xlabel="activation")
            left.set_yticks(places, [f"{row.name}  {row.layer}" for row in self.layers])
            left.set_ylim(len(places) - 0.4, -0.6)
            shares = [row.dead / max(row.units, 1) for row in self.layers]
            zeros = [row.zeros for row in self.layers]
            right.barh(places - 0.2, zeros, 0.38, color=_draw.SKY, label="values that are 0")
            right.barh(
                places + 0.2, shares, 0.38, color=_draw.VERMILION, label="units that are always 0"
            )
            right.set(xlim=(0, 1), title="Zeros", xlabel="share")
            for axes in (left, right):
                axes.grid(alpha=0.3, axis="x")
            figure.legend(loc="outside lower right", ncols=2)
            figure.suptitle(f"Activations on {self.images:,} images")
            return _draw.finish(figure, path)


class _Sums:
    """Sums over the values of one layer, in float64."""

    def __init__(self) -> None:
        self.values = 0
        self.zeros = 0
        self.mean = 0.0
        self.squares = 0.0  # of the distances from the mean
        self.low, self.high = np.inf, -np.inf
        self.alive: Any = False

    def add(self, y: FloatArray) -> None:
        """Take a batch, in pieces."""
        step = max(1, _PIECE // max(1, y[0].size))
        for start in range(0, len(y), step):
            self._add(y[start : start + step])

    def _add(self, y: FloatArray) -> None:
        """Take a few images: the rule of Chan, Golub and LeVeque for the sum of squares."""
        if y.size == 0:
            return
        wide = y.astype(np.float64)
        mean, count = float(wide.mean()), y.size
        total = self.values + count
        shift = mean - self.mean
        self.squares += float(np.square(wide - mean).sum())
        self.squares += shift * shift * self.values * count / total
        self.mean += shift * count / total
        self.values = total
        self.zeros += int(np.count_nonzero(y == 0))
        self.low, self.high = min(self.low, float(y.min())), max(self.high, float(y.max()))
        others = tuple(axis for axis in range(y.ndim) if axis != 1)
        self.alive = self.alive | (y != 0).any(axis=others)

    def row(self, name: str, layer: str, shape: tuple[int, ...]) -> LayerStatistics:
        count = max(self.values, 1)
        units = shape[0] if shape else 1
        return LayerStatistics(
            name=name,
            layer=layer,
            output_shape=shape,
            mean=self.mean,
            std=float(np.sqrt(self.squares / count)),
            minimum=self.low,
            maximum=self.high,
            zeros=self.zeros / count,
            units=units,
            dead=units - int(np.count_nonzero(self.alive)),
        )


def activation_statistics(
    model: Module,
    x: Samples,
    layers: Sequence[str] | None = None,
    batch_size: int = BATCH_SIZE,
) -> ActivationStatistics:
    """Measure mean, standard deviation, zeros and dead units of each layer, over a data set.

    Parameters
    ----------
    model : Module
    x : ndarray, shape (N, ...), float32, or data.Images
    layers : sequence of str, optional
        The default is every layer.
    batch_size : int, default 64
        Has no influence on the result but for rounding in float64.

    Returns
    -------
    ActivationStatistics

    Notes
    -----
    A unit behind a ReLU that is 0 for every image gets no gradient and learns nothing any more: it
    is dead. Many of them hint at a learning rate that was too high. Shares of zeros near one half
    behind ReLUs are usual; means and standard deviations that grow or shrink from layer to layer
    show weights that began too large or too small.

    References
    ----------
    X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010. The statistics lecture: "see only positive covariance because of the
    ReLU nonlinearity".

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import insight, nn
    >>> model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    >>> model[0].weight.data[:] = [[1, 1], [-1, -1]]
    >>> x = np.array([[1, 2], [0, 3]], np.float32)
    >>> print(insight.activation_statistics(model, x))
    layer          output shape  mean  std  min  max  zeros  dead units
    -------------------------------------------------------------------
    0      Linear  2                0    3   -3    3   0.0%      0 of 2
    1      ReLU    2              1.5  1.5    0    3  50.0%      1 of 2
    """
    owner = "activation_statistics"
    x = check_samples(owner, x)
    if len(x) == 0:
        raise ValueError(f"{owner}: x has no samples: expected at least 1, got 0")
    known = Layers(owner, model, x.shape[1:])
    wanted = known.expect_all(layers)
    sums = {name: _Sums() for name in known.shapes if name in wanted}
    for _, found in walk(model, x, wanted, to_count(owner, "batch_size", batch_size)):
        for name, y in found.items():
            sums[name].add(y)
    rows = tuple(
        one.row(name, type(known.modules[name]).__name__, known.shapes[name])
        for name, one in sums.items()
    )
    return ActivationStatistics(rows, len(x))

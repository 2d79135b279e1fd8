"""Network dissection: which units have become detectors of which concepts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
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
from convcore.insight._patches import check_units
from convcore.insight._receptive_field import upsampling
from convcore.insight._report import Report, called
from convcore.nn.module import Module

#: From this IoU on the paper calls a unit a detector.
DETECTOR = 0.04
_EXAMPLES = 5  # images per unit
_MOST_UNITS = 6  # with examples, in one picture


@dataclass(frozen=True, eq=False, repr=False)
class Dissection(Report):
    """How well the places where units are active agree with concepts.

    Attributes
    ----------
    layer : str
    units : tuple of int
    concepts : tuple of str
    iou : ndarray, shape (U, Q), float64
        Intersection over union of each unit with each concept, over the whole data set.
    thresholds : ndarray, shape (U,), float32
        A unit is active where its activation is above its threshold.
    share : float
        Of the activations, how many lie above it at most.
    images : ndarray, shape (U, E), int64
        The indices of the images with the unit's largest activations.
    examples : ndarray, shape (U, E, C, H, W), float32
        These images.
    masks : ndarray, shape (U, E, H, W), bool
        Where the unit is active in them.
    """

    layer: str
    units: tuple[int, ...]
    concepts: tuple[str, ...]
    iou: npt.NDArray[np.float64]
    thresholds: FloatArray
    share: float
    images: IntArray
    examples: FloatArray
    masks: npt.NDArray[np.bool_]

    _large: ClassVar[tuple[str, ...]] = ("examples", "masks")

    def best(self) -> list[tuple[int, str, float]]:
        """Return for each unit the concept that it agrees with most: (unit, concept, IoU)."""
        return [
            (unit, self.concepts[int(row.argmax())] if row.any() else "none", float(row.max()))
            for unit, row in zip(self.units, self.iou, strict=True)
        ]

    def detectors(self, iou: float = DETECTOR) -> list[tuple[int, str, float]]:
        """Return the units whose best concept reaches `iou`, the best first."""
        return sorted((found for found in self.best() if found[2] >= iou), key=lambda f: -f[2])

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers in forms that JSON knows."""
        best = [{"unit": u, "concept": c, "iou": value} for u, c, value in self.best()]
        return {**super().to_dict(), "best": best}

    def __repr__(self) -> str:
        return (
            f"Dissection(layer {self.layer!r}, {len(self.units)} units, {len(self.concepts)} "
            f"concepts, {len(self.detectors())} detectors)"
        )

    def __str__(self) -> str:
        rows = []
        for unit, row, threshold in zip(self.units, self.iou, self.thresholds, strict=True):
            first, second = np.argsort(-row, kind="stable")[[0, min(1, len(row) - 1)]]
            rows.append(
                (
                    str(unit),
                    self.concepts[first] if row[first] else "none",
                    f"{row[first]:.3f}",
                    self.concepts[second] if row[second] else "-",
                    f"{row[second]:.3f}" if row[second] else "-",
                    f"{threshold:.3f}",
                )
            )
        head = ("unit", "concept", "IoU", "next concept", "IoU", "threshold")
        return f"layer {self.layer!r}\n\n{table(head, rows, left=(1, 3))}"

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ) -> Any:
        """Draw the IoU of all units with all concepts, and the best units in their images.

        Dark parts of the images are those where the unit is not active.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.
        mean, std : float or sequence of float, optional
            What the images were standardised with; without them each is stretched.

        Returns
        -------
        matplotlib.figure.Figure
        """
        best = self.iou.max(axis=1)
        shown = min(_MOST_UNITS, max(1, np.count_nonzero(best)))
        order = np.argsort(-best, kind="stable")[:shown]
        count = self.examples.shape[1]
        with _draw.style():
            wide = 1.9 + 0.42 * len(self.concepts)
            high = max(4.2, 2.2 + 0.3 * len(self.units), 0.8 + 1.0 * len(order))
            shares = (wide, 1.0 * count + 1.8)
            figure = _draw.new_figure(sum(shares), high)
            left, right = figure.subfigures(1, 2, width_ratios=shares)
            self._draw_matrix(left)
            pictures, labels = [], []
            for u in order:
                pixels = _draw.to_pixels(self.examples[u], mean, std)
                masks = self.masks[u] if pixels.ndim == 3 else self.masks[u][..., None]
                pictures.append(list(pixels * np.where(masks, 1, 0.35)))
                _, concept, value = self.best()[u]
                labels.append(f"unit {self.units[u]}\n{concept}\nIoU {value:.2f}")
            _draw.tiles(right.subplots(), pictures, labels)
            right.suptitle("The best units, where they are active", fontsize=12)
            return _draw.finish(figure, path)

    def _draw_matrix(self, figure: Any) -> None:
        axes = figure.subplots()
        top = float(self.iou.max()) or 1.0
        field = axes.imshow(self.iou, cmap=_draw.SEQUENTIAL, vmin=0, vmax=top, aspect="auto")
        for u, q in enumerate(self.iou.argmax(axis=1)):
            if not self.iou[u, q]:
                continue
            ink = "black" if self.iou[u, q] > 0.6 * top else "white"
            text = f"{self.iou[u, q]:.2f}".lstrip("0")
            axes.text(q, u, text, ha="center", va="center", color=ink, fontsize=8)
        turned = {"rotation": 50, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(self.concepts)), self.concepts, **turned)
        step = max(1, len(self.units) // 32)
        axes.set_yticks(range(0, len(self.units), step), list(map(str, self.units[::step])))
        axes.tick_params(length=0)
        axes.set(ylabel="unit")
        figure.colorbar(field, ax=axes, shrink=0.8, label="IoU").outline.set_visible(False)
        figure.suptitle(f"Units of {called(self.layer)}, and concepts", fontsize=12)


def dissect(
    model: Module,
    x: Samples,
    masks: Mapping[str, npt.ArrayLike],
    layer: str | None = None,
    units: Sequence[int] | None = None,
    share: float = 0.05,
    batch_size: int = BATCH_SIZE,
) -> Dissection:
    """Compare where units are active with where concepts are.

    Parameters
    ----------
    model : Module
    x : ndarray, shape (N, C, H, W), float32, or data.Images
    masks : mapping of str to array_like, shape (N, H, W), bool
        For each concept, the pixels that show it; `concepts` computes a set of simple ones.
    layer : str, optional
        One with maps; the default is what follows the last convolution.
    units : sequence of int, optional
        Channels of the layer; the default is all.
    share : float, default 0.05
        Of a unit's activations over the data set, how many count as active. The paper takes 0.005:
        its concepts are parts of photographs; strokes fill more of an image of a digit.
    batch_size : int, default 64
        Has no influence on the result.

    Returns
    -------
    Dissection

    Notes
    -----
    For each unit k the threshold T_k is such that at most `share` of its activations, over all
    places of all images, lie above it. Its maps are brought to the size of the images by linear
    interpolation between the centres of the receptive fields, M_k is where they are above T_k, and
    with the masks L_c::

        IoU(k, c) = sum over images |M_k and L_c| / sum over images |M_k or L_c|

    The paper calls a unit a detector of c from an IoU of 0.04 on. (It takes M_k where the map is at
    least T_k; behind a ReLU T_k can be 0, and then that would be everywhere.)

    References
    ----------
    D. Bau, B. Zhou, A. Khosla, A. Oliva and A. Torralba, "Network dissection: quantifying
    interpretability of deep visual representations", CVPR 2017. S. Jegelka (lecture): "when you
    learn to classify scenes, the network learns object detectors", with IoU from 0.087 to 0.255.

    Examples
    --------
    >>> from convcore import data, insight, models
    >>> x = data.load("digits", "test", normalize=False).x
    >>> found = insight.dissect(models.lenet5(), x, insight.concepts(x), layer="1")
    >>> found.iou.shape
    (6, 14)
    >>> bool((found.iou >= 0).all() and (found.iou <= 1).all())
    True
    """
    owner = "dissect"
    x = check_images(owner, x)
    layers = Layers(owner, model, x.shape[1:])
    layer = layers.expect_maps(layer)
    shape = layers.shapes[layer]
    if not 0 < share < 1:
        raise ValueError(f"{owner}: share is out of range: expected 0 to 1, got {share:g}")
    batch_size = to_count(owner, "batch_size", batch_size)
    truth = _check_masks(owner, masks, (len(x), *x.shape[2:]))
    chosen = check_units(owner, units, shape[0])
    thresholds, peaks = _thresholds(model, x, layer, chosen, share, batch_size)
    images = np.argsort(-peaks.T, axis=1, kind="stable")[:, :_EXAMPLES]
    matrices = upsampling(model, layer, x.shape[1:], shape)
    concepts = np.stack(list(truth.values())).reshape(len(truth), len(x), -1)
    both = np.zeros((len(chosen), len(truth)), np.int64)
    of_units = np.zeros((len(chosen), 1), np.int64)
    active = np.zeros((*images.shape, *x.shape[2:]), np.bool_)
    for i, maps in _large_maps(model, x, layer, chosen, matrices, batch_size):
        on = maps > thresholds[:, None, None]
        of_example = images == i
        active[of_example] = on[of_example.any(axis=1)]
        flat = on.reshape(len(on), -1)
        # Sums below 2^24 are exact in float32.
        overlap = flat.astype(np.float32) @ concepts[:, i].astype(np.float32).T
        both += np.rint(overlap).astype(np.int64)
        of_units[:, 0] += flat.sum(axis=1)
    union = of_units + concepts.sum(axis=(1, 2)) - both
    return Dissection(
        layer=layer,
        units=tuple(int(unit) for unit in chosen),
        concepts=tuple(truth),
        iou=both / np.maximum(union, 1),
        thresholds=thresholds,
        share=float(share),
        images=images,
        examples=np.stack([np.stack([x[int(i)] for i in row]) for row in images]),
        masks=active,
    )


def _thresholds(
    model: Module, x: Samples, layer: str, units: IntArray, share: float, batch_size: int
) -> tuple[FloatArray, FloatArray]:
    """Return the threshold of each unit, and its largest activation in each image."""
    largest = np.empty((len(units), 0), np.float32)
    peaks = np.empty((len(x), len(units)), np.float32)
    for rows, found in walk(model, x, (layer,), batch_size):
        y = found[layer][:, units]
        peaks[rows] = y.max(axis=(2, 3))
        # Of the sorted activations that many are active: those above the next one.
        active = int(share * len(x) * y[0, 0].size)
        values = np.concatenate([largest, np.moveaxis(y, 1, 0).reshape(len(units), -1)], axis=1)
        keep = min(active + 1, values.shape[1])
        largest = -np.partition(-values, keep - 1, axis=1)[:, :keep]
    return largest.min(axis=1), peaks


def _large_maps(
    model: Module,
    x: Samples,
    layer: str,
    units: IntArray,
    matrices: tuple[FloatArray, FloatArray],
    batch_size: int,
) -> Iterator[tuple[int, FloatArray]]:
    """Iterate over the images: the index, and the units' maps in the size of the image."""
    rows, columns = matrices
    for batch, found in walk(model, x, (layer,), batch_size):
        for i, maps in zip(range(batch.start, batch.stop), found[layer], strict=True):
            yield i, np.matmul(np.matmul(rows, maps[units]), columns.T)


def _check_masks(
    owner: str, masks: Mapping[str, npt.ArrayLike], shape: tuple[int, ...]
) -> dict[str, npt.NDArray[np.bool_]]:
    if not masks:
        raise ValueError(f"{owner}: masks is empty: expected at least one concept, got 0")
    found = {}
    for name, mask in masks.items():
        array = np.asarray(mask)
        if array.shape != shape or array.dtype != np.bool_:
            raise ValueError(
                f"{owner}: the mask of {name!r} does not fit: expected booleans of shape {shape}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        found[str(name)] = array
    return found

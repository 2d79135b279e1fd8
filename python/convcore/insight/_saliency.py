"""Which pixels a decision hangs on: saliency maps and Grad-CAM."""

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
    check_classes,
    check_images,
    expect_scores,
    gradients,
    softmax,
)
from convcore.insight._receptive_field import upsampling
from convcore.insight._report import Report, called, percent
from convcore.nn.module import Module

_MOST_SHOWN = 8


@dataclass(frozen=True, eq=False, repr=False)
class _Explanation(Report):
    """A heat map per image, for the score of one class."""

    images: FloatArray
    targets: IntArray
    scores: FloatArray
    probabilities: FloatArray
    maps: FloatArray

    _title: ClassVar[str]
    _large: ClassVar[tuple[str, ...]] = ("images",)

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        rows = []
        for index, heat in enumerate(self.maps):
            row, column = np.unravel_index(int(heat.argmax()), heat.shape)
            rows.append(
                (
                    str(index),
                    str(self.targets[index]),
                    f"{self.scores[index]:.3f}",
                    percent(float(self.probabilities[index])),
                    f"{heat.max():.3g}",
                    f"({row}, {column})",
                )
            )
        return table(
            ("image", "class", "score", "probability", "largest", "at (row, column)"), rows
        )

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        classes: Sequence[str] | None = None,
        *,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ) -> Any:
        """Draw the first eight images, their maps, and both on top of each other.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.
        classes : sequence of str, optional
            Names of the classes.
        mean, std : float or sequence of float, optional
            What the images were standardised with; without them each is stretched.

        Returns
        -------
        matplotlib.figure.Figure
        """
        shown = min(len(self), _MOST_SHOWN)
        pixels = _draw.to_pixels(self.images[:shown], mean, std)
        with _draw.style():
            figure = _draw.new_figure(max(4.4, 1.6 * shown + 0.8), 5.6)
            panels = figure.subplots(3, shown, squeeze=False)
            for i in range(shown):
                name = str(self.targets[i]) if classes is None else classes[self.targets[i]]
                share = percent(float(self.probabilities[i]))
                _draw.picture(panels[0, i], pixels[i], f"{name}\n{share}")
                high = float(self.maps[i].max()) or 1.0
                heat = {"cmap": _draw.HEAT, "vmin": 0, "vmax": high}
                panels[1, i].imshow(self.maps[i], **heat)
                _draw.picture(panels[2, i], pixels[i] * 0.9)
                strength = np.clip(self.maps[i] / high, 0, 1)
                panels[2, i].imshow(self.maps[i], alpha=0.75 * np.sqrt(strength), **heat)
                _draw.bare(panels[1, i])
            labels = ("image", self._title, "both")
            for axes, label in zip(panels[:, 0], labels, strict=True):
                axes.set_ylabel(label)
            figure.suptitle(self._heading())
            return _draw.finish(figure, path)

    def _heading(self) -> str:
        return self._title


@dataclass(frozen=True, eq=False, repr=False)
class Saliency(_Explanation):
    """How much each pixel moves the score of a class.

    Attributes
    ----------
    images : ndarray, shape (N, C, H, W), float32
    targets : ndarray, shape (N,), int64
        The classes whose scores were differentiated.
    scores, probabilities : ndarray, shape (N,), float32
        Of these classes.
    maps : ndarray, shape (N, H, W), float32
        The largest absolute gradient of a pixel's channels.
    gradients : ndarray, shape (N, C, H, W), float32
        Of the score with respect to the image.
    """

    gradients: FloatArray

    _title: ClassVar[str] = "saliency"
    _large: ClassVar[tuple[str, ...]] = ("images", "gradients")

    def __repr__(self) -> str:
        return f"Saliency({len(self)} images, maps {self.maps.shape[1:]})"

    def _heading(self) -> str:
        return "Saliency: |gradient of the class score|"


@dataclass(frozen=True, eq=False, repr=False)
class GradCAM(_Explanation):
    """Where a layer sees a class.

    Attributes
    ----------
    images : ndarray, shape (N, C, H, W), float32
    targets : ndarray, shape (N,), int64
    scores, probabilities : ndarray, shape (N,), float32
        Of these classes.
    maps : ndarray, shape (N, H, W), float32
        `coarse`, brought to the size of the images.
    coarse : ndarray, shape (N, h, w), float32
        In the size of the layer's maps.
    weights : ndarray, shape (N, K), float32
        Of the layer's K maps.
    layer : str
    """

    coarse: FloatArray
    weights: FloatArray
    layer: str

    _title: ClassVar[str] = "Grad-CAM"

    def __repr__(self) -> str:
        return f"GradCAM({len(self)} images, layer {self.layer!r}, {self.coarse.shape[1:]})"

    def _heading(self) -> str:
        return f"Grad-CAM, {called(self.layer)}"


def saliency(
    model: Module,
    x: Samples,
    target: npt.ArrayLike | None = None,
    batch_size: int = BATCH_SIZE,
) -> Saliency:
    """Return how much each pixel moves the score of a class.

    Parameters
    ----------
    model : Module
        A classifier: images to scores (N, K).
    x : ndarray, shape (N, C, H, W), float32, or data.Images
    target : int, or array_like, shape (N,), optional
        The classes; the default is the predicted ones.
    batch_size : int, default 64

    Returns
    -------
    Saliency

    Notes
    -----
    With the score S_c, before the softmax::

        map[i, j] = max over channels of |dS_c / dx[:, i, j]|

    The gradient is that of the network in evaluation mode.

    References
    ----------
    K. Simonyan, A. Vedaldi and A. Zisserman, "Deep inside convolutional networks: visualising image
    classification models and saliency maps", ICLR 2014 workshop. S. Jegelka (lecture): "are we
    using the right features?".

    Examples
    --------
    >>> from convcore import data, insight, models
    >>> x = data.load("digits", "test").x[:2]
    >>> found = insight.saliency(models.lenet5(), x, target=7)
    >>> found.targets, found.maps.shape
    (array([7, 7]), (2, 28, 28))
    """
    x = check_images("saliency", x)
    parts = _explain("saliency", model, x, target, batch_size, None)
    maps = np.abs(parts["dx"]).max(axis=1)
    return Saliency(
        parts["x"], parts["targets"], parts["scores"], parts["probabilities"], maps, parts["dx"]
    )


def grad_cam(
    model: Module,
    x: Samples,
    target: npt.ArrayLike | None = None,
    layer: str | None = None,
    batch_size: int = BATCH_SIZE,
) -> GradCAM:
    """Return where the maps of a layer speak for a class.

    Parameters
    ----------
    model : Module
        A classifier: images to scores (N, K).
    x : ndarray, shape (N, C, H, W), float32, or data.Images
    target : int, or array_like, shape (N,), optional
        The classes; the default is the predicted ones.
    layer : str, optional
        The default is what follows the last convolution, before its maps are pooled or flattened.
    batch_size : int, default 64

    Returns
    -------
    GradCAM

    Notes
    -----
    With the score S_c and the maps A_k (h x w) of the layer::

        weight_k = mean over i, j of dS_c / dA_k[i, j]
        coarse = relu(sum over k of weight_k * A_k)

    The coarse map is brought to the size of the image by linear interpolation between the centres
    of the units' receptive fields.

    References
    ----------
    R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
    localization", ICCV 2017. S. Jegelka (lecture): "are we using the right features?".

    Examples
    --------
    >>> from convcore import data, insight, models
    >>> x = data.load("digits", "test").x[:2]
    >>> insight.grad_cam(models.lenet5(), x)
    GradCAM(2 images, layer '4', (10, 10))
    """
    x = check_images("grad_cam", x)
    layers = Layers("grad_cam", model, x.shape[1:])
    layer = layers.expect_maps(layer)
    parts = _explain("grad_cam", model, x, target, batch_size, layer)
    rows, columns = upsampling(model, layer, x.shape[1:], layers.shapes[layer])
    maps = np.matmul(np.matmul(rows, parts["coarse"]), columns.T)
    return GradCAM(
        parts["x"],
        parts["targets"],
        parts["scores"],
        parts["probabilities"],
        maps,
        parts["coarse"],
        parts["weights"],
        layer,
    )


def _explain(
    owner: str,
    model: Module,
    x: Samples,
    target: npt.ArrayLike | None,
    batch_size: int,
    layer: str | None,
) -> dict[str, Any]:
    """Differentiate the scores; return everything per image."""
    given: IntArray | None = None
    chosen: list[IntArray] = []

    def output_gradient(y: FloatArray, rows: slice) -> FloatArray:
        nonlocal given
        classes = expect_scores(owner, y).shape[1]
        if target is not None and given is None:
            given = check_classes(owner, "target", target, len(x), classes)
        chosen.append(y.argmax(axis=1) if given is None else given[rows])
        dy = np.zeros_like(y)
        dy[np.arange(len(y)), chosen[-1]] = 1
        return dy

    parts: dict[str, list[Any]] = {}
    batch_size = to_count(owner, "batch_size", batch_size)
    for step in gradients(model, x, output_gradient, batch_size, layer):
        targets = chosen[-1]
        index = np.arange(len(targets))
        found: dict[str, Any] = {
            "x": np.ascontiguousarray(x[step.rows]),
            "targets": targets,
            "scores": step.y[index, targets],
            "probabilities": softmax(step.y)[index, targets].astype(np.float32),
        }
        if layer is None:
            found["dx"] = np.ascontiguousarray(step.dx)
        else:
            assert step.activation is not None
            assert step.gradient is not None
            weights = step.gradient.mean(axis=(2, 3), dtype=np.float64)
            maps = np.einsum("nk,nkhw->nhw", weights, step.activation.astype(np.float64))
            found["weights"] = weights.astype(np.float32)
            found["coarse"] = np.maximum(maps, 0).astype(np.float32)
        for name, value in found.items():
            parts.setdefault(name, []).append(value)
    return {name: np.concatenate(values) for name, values in parts.items()}

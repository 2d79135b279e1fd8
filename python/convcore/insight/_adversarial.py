"""Adversarial examples by the fast gradient sign method."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

import convcore.functional as F
from convcore._table import table
from convcore._training import to_count
from convcore.functional._arguments import FloatArray
from convcore.insight import _draw
from convcore.insight._network import (
    BATCH_SIZE,
    IntArray,
    Samples,
    check_classes,
    check_images,
    expect_scores,
    gradients,
    softmax,
)
from convcore.insight._report import Report, percent
from convcore.nn.module import Module
from convcore.summary import in_mode

_MOST_SHOWN = 6


@dataclass(frozen=True, eq=False, repr=False)
class Adversarial(Report):
    """Images before and after an attack with FGSM.

    Attributes
    ----------
    epsilon : float
        In pixels' units: the share of the range from black to white.
    labels : ndarray, shape (N,), int64
        The true classes.
    before, after : ndarray, shape (N,), int64
        The predicted classes.
    confidence_before, confidence_after : ndarray, shape (N,), float32
        The probabilities of these.
    loss_before, loss_after : ndarray, shape (N,), float32
        Cross entropy.
    images, adversarial : ndarray, shape (N, C, H, W), float32
        As the network takes them: standardised.
    mean, std : tuple of float
        What they are standardised with.
    """

    epsilon: float
    labels: IntArray
    before: IntArray
    after: IntArray
    confidence_before: FloatArray
    confidence_after: FloatArray
    loss_before: FloatArray
    loss_after: FloatArray
    images: FloatArray
    adversarial: FloatArray
    mean: tuple[float, ...]
    std: tuple[float, ...]

    _large: ClassVar[tuple[str, ...]] = ("images", "adversarial")

    @property
    def accuracy_before(self) -> float:
        """The share of right answers on the images."""
        return _share(self.before == self.labels)

    @property
    def accuracy_after(self) -> float:
        """The share of right answers on the adversarial images."""
        return _share(self.after == self.labels)

    @property
    def fooled(self) -> npt.NDArray[np.bool_]:
        """Which images were classified rightly before and wrongly after."""
        found: npt.NDArray[np.bool_] = (self.before == self.labels) & (self.after != self.labels)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers in forms that JSON knows."""
        return {
            "accuracy_before": self.accuracy_before,
            "accuracy_after": self.accuracy_after,
            **super().to_dict(),
        }

    def __repr__(self) -> str:
        return (
            f"Adversarial({len(self.labels)} images, epsilon {self.epsilon:g}, accuracy "
            f"{percent(self.accuracy_before)} -> {percent(self.accuracy_after)})"
        )

    def __str__(self) -> str:
        rows = [
            (f"epsilon {epsilon:g}", percent(share), f"{loss:.4f}")
            for epsilon, share, loss in (
                (0.0, self.accuracy_before, float(self.loss_before.mean())),
                (self.epsilon, self.accuracy_after, float(self.loss_after.mean())),
            )
        ]
        return table(("", "accuracy", "loss"), rows)

    def plot(
        self, path: str | os.PathLike[str] | None = None, classes: Sequence[str] | None = None
    ) -> Any:
        """Draw images, what was added to them, and the sums, with predictions and confidence.

        The first six images that were fooled; when there are too few, others follow.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.
        classes : sequence of str, optional
            Names of the classes.

        Returns
        -------
        matplotlib.figure.Figure
        """
        order = np.argsort(~self.fooled, kind="stable")[:_MOST_SHOWN]

        def guess(classes_of: IntArray, confidence: FloatArray, i: int) -> str:
            name = str(classes_of[i]) if classes is None else classes[classes_of[i]]
            return f"{name}\n{percent(float(confidence[i]))}"

        with _draw.style():
            figure = _draw.new_figure(max(5.0, 1.6 * len(order) + 1.2), 6.6)
            panels = figure.subplots(3, len(order), squeeze=False)
            before, after = (
                _draw.to_pixels(x[order], self.mean, self.std)
                for x in (self.images, self.adversarial)
            )
            for column, i in enumerate(order):
                right = self.after[i] == self.labels[i]
                title = guess(self.before, self.confidence_before, i)
                _draw.picture(panels[0, column], before[column], title, color=_draw.BLUE)
                change = after[column] - before[column]
                shown = 0.5 + change / (2 * self.epsilon or 1.0)
                _draw.picture(panels[1, column], np.clip(shown, 0, 1))
                colour = _draw.BLUE if right else _draw.VERMILION
                title = guess(self.after, self.confidence_after, i)
                _draw.picture(panels[2, column], after[column], title, color=colour)
            labels = ("image", "change\n(stretched)", "adversarial")
            for axes, label in zip(panels[:, 0], labels, strict=True):
                axes.set_ylabel(label)
            shares = f"{percent(self.accuracy_before)} to {percent(self.accuracy_after)}"
            figure.suptitle(
                f"FGSM with epsilon {self.epsilon:g}: accuracy from {shares}"
                f" on {len(self.labels):,} images\n(above each: predicted class, confidence)"
            )
            return _draw.finish(figure, path)


@dataclass(frozen=True, eq=False, repr=False)
class AdversarialCurve(Report):
    """Accuracy under attacks of growing strength.

    Attributes
    ----------
    epsilons : ndarray, shape (E,)
    accuracy, loss : ndarray, shape (E,)
    attacks : tuple of Adversarial
        One per epsilon.
    """

    epsilons: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]
    attacks: tuple[Adversarial, ...]

    _large: ClassVar[tuple[str, ...]] = ("attacks",)

    def __repr__(self) -> str:
        ends = f"{percent(self.accuracy[0])} to {percent(self.accuracy[-1])}"
        return f"AdversarialCurve({len(self.epsilons)} epsilons, accuracy {ends})"

    def __str__(self) -> str:
        rows = [
            (f"{e:g}", percent(a), f"{loss:.4f}")
            for e, a, loss in zip(self.epsilons, self.accuracy, self.loss, strict=True)
        ]
        return table(("epsilon", "accuracy", "loss"), rows)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the accuracy over epsilon.

        Parameters
        ----------
        path : path, optional
            Where the picture goes; its ending says the kind.

        Returns
        -------
        matplotlib.figure.Figure
        """
        with _draw.style():
            figure = _draw.new_figure(6, 4)
            axes = figure.subplots()
            axes.plot(self.epsilons, self.accuracy, "o-", color=_draw.BLUE, lw=2, clip_on=False)
            axes.set(
                xlabel="epsilon (1 is the way from black to white)",
                ylabel="accuracy",
                ylim=(0, 1),
                title=f"FGSM on {len(self.attacks[0].labels):,} images",
            )
            axes.grid(alpha=0.3)
            return _draw.finish(figure, path)


def fgsm(
    model: Module,
    x: Samples,
    y: npt.ArrayLike,
    epsilon: float,
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    batch_size: int = BATCH_SIZE,
) -> Adversarial:
    """Change each pixel by at most `epsilon`, so that the loss rises.

    Parameters
    ----------
    model : Module
        A classifier: images to scores (N, K).
    x : ndarray, shape (N, C, H, W), float32, or data.Images
    y : array_like, shape (N,), integers
        The true classes.
    epsilon : float
        In pixels' units, where black is 0 and white is 1: ``8 / 255`` moves a byte by 8.
    mean, std : float or sequence of float
        What the images were standardised with, as `data.Dataset` says. Steps and limits are those
        of the pixels ``x * std + mean``.
    batch_size : int, default 64

    Returns
    -------
    Adversarial

    Raises
    ------
    ValueError
        When the pixels do not lie in [0, 1]: then `mean` and `std` are not those of the images.

    Notes
    -----
    With the loss J, cross entropy::

        adversarial = clip(pixels + epsilon * sign(dJ / dx), 0, 1)

    The gradient is that of the network in evaluation mode. Where a softmax is so sure that the
    gradient of the loss is 0 in float32, nothing changes.

    References
    ----------
    I. Goodfellow, J. Shlens and C. Szegedy, "Explaining and harnessing adversarial examples", ICLR
    2015. S. Jegelka (lecture): the panda that becomes a gibbon.

    Examples
    --------
    >>> from convcore import data, insight, models
    >>> test = data.load("digits", "test")
    >>> attack = insight.fgsm(models.lenet5(), test.x, test.y, 0.1, mean=test.mean, std=test.std)
    >>> bool(attack.loss_after.mean() > attack.loss_before.mean())
    True
    """
    return _attack("fgsm", model, x, y, [epsilon], mean, std, batch_size).attacks[0]


def adversarial_curve(
    model: Module,
    x: Samples,
    y: npt.ArrayLike,
    epsilons: Sequence[float],
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    batch_size: int = BATCH_SIZE,
) -> AdversarialCurve:
    """Attack with FGSM at several strengths.

    Parameters
    ----------
    model, x, y, mean, std, batch_size
        As for `fgsm`.
    epsilons : sequence of float

    Returns
    -------
    AdversarialCurve

    See Also
    --------
    fgsm : What is done, and where it comes from.

    Examples
    --------
    >>> from convcore import data, insight, models
    >>> test = data.load("digits", "test")
    >>> curve = insight.adversarial_curve(
    ...     models.lenet5(), test.x, test.y, [0, 0.1, 0.2], mean=test.mean, std=test.std)
    >>> curve.accuracy.shape
    (3,)
    """
    return _attack("adversarial_curve", model, x, y, epsilons, mean, std, batch_size)


def _attack(
    owner: str,
    model: Module,
    x: Samples,
    y: npt.ArrayLike,
    epsilons: Sequence[float],
    mean: float | Sequence[float],
    std: float | Sequence[float],
    batch_size: int,
) -> AdversarialCurve:
    x = check_images(owner, x, least=1)
    batch_size = to_count(owner, "batch_size", batch_size)
    strengths = [_to_epsilon(owner, epsilon) for epsilon in epsilons]
    if not strengths:
        raise ValueError(f"{owner}: epsilons is empty: expected at least one, got 0")
    shift, scale = (
        np.broadcast_to(np.asarray(v, np.float32), (x.shape[1],))[:, None, None]
        for v in (mean, std)
    )
    if not (np.isfinite(shift).all() and np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError(
            f"{owner}: std is out of range: expected finite and more than 0, got {std}"
        )
    labels: IntArray | None = None

    def output_gradient(scores: FloatArray, rows: slice) -> FloatArray:
        nonlocal labels
        classes = expect_scores(owner, scores).shape[1]
        if labels is None:
            labels = check_classes(owner, "y", np.atleast_1d(np.asarray(y)), len(x), classes)
        # The sum, so that the gradient of an image does not depend on its batch.
        _, dy = F.cross_entropy(scores, labels[rows], reduction="sum", return_gradient=True)
        return dy

    images, before = [], []
    attacked: list[list[FloatArray]] = [[] for _ in strengths]
    after: list[list[FloatArray]] = [[] for _ in strengths]
    for step in gradients(model, x, output_gradient, batch_size):
        image = np.ascontiguousarray(x[step.rows])
        pixels = image * scale + shift
        _expect_pixels(owner, pixels)
        sign = np.sign(step.dx)
        images.append(image)
        before.append(step.y)
        for i, epsilon in enumerate(strengths):
            moved = np.clip(pixels + np.float32(epsilon) * sign, 0, 1)
            changed = np.ascontiguousarray((moved - shift) / scale, np.float32)
            attacked[i].append(changed)
            with in_mode(model, training=False):
                after[i].append(model(changed))
    assert labels is not None
    means, stds = (tuple(map(float, v.ravel())) for v in (shift, scale))
    x_before, y_before = np.concatenate(images), np.concatenate(before)
    attacks = []
    for epsilon, changed_parts, score_parts in zip(strengths, attacked, after, strict=True):
        y_after = np.concatenate(score_parts)
        both = (y_before, y_after)
        before_after = [
            [scores.argmax(axis=1) for scores in both],
            [softmax(scores).max(axis=1).astype(np.float32) for scores in both],
            [F.cross_entropy(scores, labels, reduction="none") for scores in both],
        ]
        (classes, changed_classes), (sure, changed_sure), (loss, changed_loss) = before_after
        attacks.append(
            Adversarial(
                epsilon=epsilon,
                labels=labels,
                before=classes,
                after=changed_classes,
                confidence_before=sure,
                confidence_after=changed_sure,
                loss_before=loss,
                loss_after=changed_loss,
                images=x_before,
                adversarial=np.concatenate(changed_parts),
                mean=means,
                std=stds,
            )
        )
    return AdversarialCurve(
        np.asarray(strengths, np.float64),
        np.asarray([attack.accuracy_after for attack in attacks]),
        np.asarray([float(attack.loss_after.mean()) for attack in attacks]),
        tuple(attacks),
    )


def _to_epsilon(owner: str, epsilon: float) -> float:
    value = float(epsilon)
    if not 0 <= value <= 1:
        raise ValueError(
            f"{owner}: epsilon is out of range: expected 0 to 1 (8 / 255 moves a byte by 8), "
            f"got {value:g}"
        )
    return value


def _expect_pixels(owner: str, pixels: FloatArray) -> None:
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(
            f"{owner}: x has pixels out of range: expected x * std + mean in [0, 1], got "
            f"{low:.3g} to {high:.3g} (pass the mean and std of the data set)"
        )


def _share(right: npt.NDArray[np.bool_]) -> float:
    return int(right.sum()) / len(right) if len(right) else float("nan")

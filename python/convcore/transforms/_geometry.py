"""Crops, mirrors, turns, sizes and what is painted over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convcore.functional._arguments import is_sequence
from convcore.transforms import _checks as check
from convcore.transforms._base import Stage, Transform
from convcore.transforms._checks import IntOrPair, Range


@dataclass(frozen=True)
class RandomCrop(Transform):
    """A window of the image at a random place.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the window.
    padding : int, (int, int) or (int, int, int, int), optional
        Pixels around the image: on all sides; left and right, top and bottom; left, top, right,
        bottom.
    fill : float or sequence of float, default 0
        Their value, from 0 to 1 (also for uint8); one number or one per channel.
    """

    size: IntOrPair
    padding: IntOrPair | None = None
    fill: Range = 0

    def _stages(self) -> tuple[Stage, ...]:
        owner = "RandomCrop"
        size = check.size(owner, "size", self.size)
        fill = check.numbers(owner, "fill", self.fill)
        return (("crop", (*size, *check.padding(owner, self.padding), 1.0, *fill)),)


@dataclass(frozen=True)
class CenterCrop(Transform):
    """The middle of the image.

    Parameters
    ----------
    size : int or (int, int)
        Height and width, not larger than the image.
    """

    size: IntOrPair

    def _stages(self) -> tuple[Stage, ...]:
        return (
            ("crop", (*check.size("CenterCrop", "size", self.size), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
        )


@dataclass(frozen=True)
class Resize(Transform):
    """The whole image in another size: bilinear, with antialiasing (see `RandomResizedCrop`).

    Parameters
    ----------
    size : int or (int, int)
        An int is the new length of the shorter side; the other one keeps the proportions, rounded
        down.
    """

    size: IntOrPair

    def _stages(self) -> tuple[Stage, ...]:
        h, w = check.size("Resize", "size", self.size)
        return (("resize", (h, w if is_sequence(self.size) else 0.0)),)


@dataclass(frozen=True)
class RandomResizedCrop(Transform):
    """A random box of the image, resized.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the result.
    scale : (float, float), default (0.08, 1.0)
        The box's share of the image's area, drawn uniformly.
    ratio : (float, float), default (3/4, 4/3)
        The box's width to its height, drawn uniformly in its logarithm.

    Notes
    -----
    Ten boxes are tried; when none fits into the image, the middle is taken. The interpolation is
    bilinear; where the box shrinks, the triangle grows with the step and averages over the pixels
    that fall together (antialias). It is what Pillow calls BILINEAR.
    """

    size: IntOrPair
    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)

    def _stages(self) -> tuple[Stage, ...]:
        owner = "RandomResizedCrop"
        scale = check.pair(owner, "scale", self.scale, 0, above=True)
        ratio = check.pair(owner, "ratio", self.ratio, 0, above=True)
        return (("resized_crop", (*check.size(owner, "size", self.size), *scale, *ratio)),)


@dataclass(frozen=True)
class RandomHorizontalFlip(Transform):
    """Mirror the image from left to right with probability `p`."""

    p: float = 0.5

    def _stages(self) -> tuple[Stage, ...]:
        return (("flip", (1.0, check.probability("RandomHorizontalFlip", self.p))),)


@dataclass(frozen=True)
class RandomVerticalFlip(Transform):
    """Mirror the image from top to bottom with probability `p`."""

    p: float = 0.5

    def _stages(self) -> tuple[Stage, ...]:
        return (("flip", (0.0, check.probability("RandomVerticalFlip", self.p))),)


@dataclass(frozen=True)
class RandomRotation(Transform):
    """Turn the image around its centre.

    Parameters
    ----------
    degrees : float or (float, float)
        The range of the angle, counter-clockwise; a number d stands for (-d, d). ``(30, 30)`` turns
        by 30 degrees always.
    fill : float or sequence of float, default 0
        What lies outside of the image, from 0 to 1; one number or one per channel.

    Notes
    -----
    Bilinear: each pixel of the result is a mean of the four around the place it comes from, and of
    `fill` for those that are outside. This is ``scipy.ndimage.affine_transform`` with ``order=1``
    and ``mode='grid-constant'``. The size stays (torchvision's ``expand=False``).
    """

    degrees: Range
    fill: Range = 0

    def _stages(self) -> tuple[Stage, ...]:
        owner = "RandomRotation"
        low, high = check.around(owner, "degrees", self.degrees, 0, -math.inf)
        return (("rotation", (low, high, *check.numbers(owner, "fill", self.fill))),)


@dataclass(frozen=True)
class RandomRotation90(Transform):
    """Turn the image by a right angle, exactly.

    Parameters
    ----------
    degrees : sequence of int, default (0, 90, 180, 270)
        The angles to choose from, counter-clockwise, all equally likely. Images that are not
        square need angles that all keep, or all swap, height and width.
    """

    degrees: Sequence[int] = (0, 90, 180, 270)

    def _stages(self) -> tuple[Stage, ...]:
        owner = "RandomRotation90"
        angles = check.numbers(owner, "degrees", self.degrees)
        if not angles or any(angle % 90 for angle in angles):
            raise ValueError(
                f"{owner}: degrees are not right angles: expected some of 0, 90, 180 and 270, "
                f"got {self.degrees!r}"
            )
        return (("quarter_turns", tuple(angle // 90 % 4 for angle in angles)),)


@dataclass(frozen=True)
class RandomErasing(Transform):
    """Paint over a random box with probability `p`.

    Parameters
    ----------
    p : float, default 0.5
    scale : (float, float), default (0.02, 0.33)
        The box's share of the image's area, drawn uniformly.
    ratio : (float, float), default (0.3, 3.3)
        The box's width to its height, drawn uniformly in its logarithm.
    value : float or sequence of float, default 0
        What is painted, one number or one per channel.

    References
    ----------
    Z. Zhong, L. Zheng, G. Kang, S. Li and Y. Yang, "Random erasing data augmentation", AAAI 2020.
    """

    p: float = 0.5
    scale: Sequence[float] = (0.02, 0.33)
    ratio: Sequence[float] = (0.3, 3.3)
    value: Range = 0

    def _stages(self) -> tuple[Stage, ...]:
        owner = "RandomErasing"
        scale = check.pair(owner, "scale", self.scale, 0)
        ratio = check.pair(owner, "ratio", self.ratio, 0, above=True)
        value = check.numbers(owner, "value", self.value)
        return (("erasing", (check.probability(owner, self.p), *scale, *ratio, *value)),)


@dataclass(frozen=True)
class Cutout(Transform):
    """Paint over squares around random pixels; what lies beyond the border is cut off.

    Parameters
    ----------
    length : int, default 16
        Side of the squares.
    n_holes : int, default 1
    value : float or sequence of float, default 0
        What is painted, one number or one per channel.

    References
    ----------
    T. DeVries and G. W. Taylor, "Improved regularization of convolutional neural networks with
    cutout" (2017).
    """

    length: int = 16
    n_holes: int = 1
    value: Range = 0

    def _stages(self) -> tuple[Stage, ...]:
        holes = check.count("Cutout", "n_holes", self.n_holes, 1)
        length = check.count("Cutout", "length", self.length, 1)
        return (("cutout", (holes, length, *check.numbers("Cutout", "value", self.value))),)

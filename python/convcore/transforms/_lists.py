"""Transforms made of transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convcore.functional._arguments import is_sequence, wrong_type
from convcore.transforms import _checks as check
from convcore.transforms._base import MIRROR_HALF, Stage, Transform, cuts_off
from convcore.transforms._mixing import MixUp


@dataclass(frozen=True)
class Compose(Transform):
    """One transform after the other.

    Parameters
    ----------
    transforms : sequence of Transform
        `MixUp` only as the last one.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import transforms as T
    >>> augment = T.Compose([T.RandomCrop(32, padding=4), T.RandomHorizontalFlip()])
    >>> augment(np.zeros((5, 3, 32, 32), np.uint8)).shape
    (5, 3, 32, 32)
    """

    transforms: Sequence[Transform]

    def __post_init__(self) -> None:
        parts = as_transforms("Compose", self.transforms)
        object.__setattr__(self, "transforms", parts)
        if any(part.mixup is not None for part in parts[:-1]):
            raise ValueError("Compose: MixUp has the wrong place: expected it last, got it before")
        super().__post_init__()
        normalized = False
        for stage in self.stages:
            if normalized and cuts_off(stage):
                raise ValueError(
                    "Compose: Normalize has the wrong place: expected it after what cuts off at "
                    "0 and 1, got it before"
                )
            normalized |= stage[0] == "normalize"

    def _stages(self) -> tuple[Stage, ...]:
        return tuple(stage for part in self.transforms for stage in part.stages)

    def _mixup(self) -> MixUp | None:
        return self.transforms[-1].mixup if self.transforms else None


@dataclass(frozen=True)
class RandomApply(Transform):
    """All of the transforms with probability `p`, else none of them.

    Parameters
    ----------
    transforms : sequence of Transform
        Those that keep the shape of the images.
    p : float, default 0.5
    """

    transforms: Sequence[Transform]
    p: float = 0.5

    def __post_init__(self) -> None:
        parts = as_transforms("RandomApply", self.transforms)
        object.__setattr__(self, "transforms", parts)
        check.probability("RandomApply", self.p)
        if any(part.mixup is not None for part in parts):
            raise ValueError("RandomApply: MixUp cannot be left out: expected it last in a Compose")
        super().__post_init__()

    def _stages(self) -> tuple[Stage, ...]:
        inner = tuple(stage for part in self.transforms for stage in part.stages)
        return (("maybe", (float(len(inner)), float(self.p))), *inner) if inner else ()


@dataclass(frozen=True)
class Augment(Transform):
    """The usual augmentation of small photographs: move and mirror.

    Parameters
    ----------
    pad : int, default 0
        Move the image by -`pad` to `pad` pixels along each axis: ``RandomCrop(size, padding=pad)``.
    flip : bool, default False
        Mirror the image from left to right with probability 1/2: ``RandomHorizontalFlip()``.

    Notes
    -----
    What moves in from outside is 0 in the data as they are stored: black in `data.Images`, and the
    mean in float32 images that are standardised.

    Examples
    --------
    >>> from convcore import data
    >>> data.Augment(pad=4, flip=True)
    Augment(pad=4, flip=True)
    """

    pad: int = 0
    flip: bool = False

    def _stages(self) -> tuple[Stage, ...]:
        pad = check.count("Augment", "pad", self.pad, 0)
        crop: tuple[Stage, ...] = (("crop", (0.0, 0.0, pad, pad, pad, pad, 1.0, 0.0)),)
        return crop * (pad > 0) + (MIRROR_HALF,) * bool(self.flip)


def as_transforms(owner: str, parts: object) -> tuple[Transform, ...]:
    if not is_sequence(parts):
        raise wrong_type(owner, "transforms", "a list of transforms", parts)
    for part in parts:  # type: ignore[attr-defined]
        if not isinstance(part, Transform):
            raise TypeError(
                f"{owner}: transforms has an element of the wrong type: expected a "
                f"convcore.transforms.Transform, got {type(part).__name__}"
            )
    return tuple(parts)  # type: ignore[arg-type]

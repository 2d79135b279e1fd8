"""Colour and its scale."""

from __future__ import annotations

from dataclasses import dataclass

from convcore.transforms import _checks as check
from convcore.transforms._base import Stage, Transform
from convcore.transforms._checks import Range


@dataclass(frozen=True)
class Grayscale(Transform):
    """Colour images as grey ones: ``0.2989 red + 0.587 green + 0.114 blue``.

    Parameters
    ----------
    num_output_channels : {1, 3}
    """

    num_output_channels: int = 1

    def _stages(self) -> tuple[Stage, ...]:
        if self.num_output_channels not in (1, 3):
            raise ValueError(
                "Grayscale: num_output_channels is not known: expected 1 or 3, "
                f"got {self.num_output_channels!r}"
            )
        return (("grayscale", (1.0, float(self.num_output_channels))),)


@dataclass(frozen=True)
class RandomGrayscale(Transform):
    """Drop the colour with probability `p`: three equal channels."""

    p: float = 0.1

    def _stages(self) -> tuple[Stage, ...]:
        return (("grayscale", (check.probability("RandomGrayscale", self.p), 0.0)),)


@dataclass(frozen=True)
class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in a random order.

    Parameters
    ----------
    brightness, contrast, saturation : float or (float, float), default 0
        The range of the factor; a number b stands for (max(0, 1 - b), 1 + b). Factor 0 gives black,
        an even grey, a grey image; 1 changes nothing.
    hue : float or (float, float), default 0
        The range of the turn on the colour circle, between -0.5 and 0.5 of it; a number h stands
        for (-h, h).

    Notes
    -----
    torchvision's definitions: each blends the image with black, with its mean grey, with its grey
    version, or turns the hue in HSV; results are cut off at 0 and 1. Grey images (one channel)
    have neither saturation nor hue.
    """

    brightness: Range = 0
    contrast: Range = 0
    saturation: Range = 0
    hue: Range = 0

    def _stages(self) -> tuple[Stage, ...]:
        owner = "ColorJitter"
        ranges: list[float] = []
        for name in ("brightness", "contrast", "saturation"):
            ranges += check.around(owner, name, getattr(self, name), 1, 0)
        turn = check.around(owner, "hue", self.hue, 0, -0.5)
        if turn[1] > 0.5:
            raise ValueError(f"{owner}: hue is out of range: expected -0.5 to 0.5, got {self.hue}")
        return (("jitter", (*ranges, *turn)),)


@dataclass(frozen=True)
class Normalize(Transform):
    """``(x - mean) / std`` per channel, of values from 0 to 1; the result is float32.

    Not needed with `data.Images` in `Model.fit`, which normalise after all transforms.

    Parameters
    ----------
    mean, std : float or sequence of float
        One number or one per channel.
    """

    mean: Range
    std: Range

    def _stages(self) -> tuple[Stage, ...]:
        owner = "Normalize"
        mean, std = check.numbers(owner, "mean", self.mean), check.numbers(owner, "std", self.std)
        if len(mean) != len(std) and 1 not in (len(mean), len(std)):
            raise ValueError(
                f"{owner}: mean and std have different lengths: expected one number or one per "
                f"channel, got {len(mean)} and {len(std)}"
            )
        if min(std) <= 0:
            raise ValueError(f"{owner}: std is out of range: expected more than 0, got {self.std}")
        count = max(len(mean), len(std))
        mean, std = mean * (count // len(mean)), std * (count // len(std))
        shift = (-m / s for m, s in zip(mean, std, strict=True))
        return (("normalize", (*(1 / s for s in std), *shift)),)

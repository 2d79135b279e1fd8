"""Noise, blur and gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

from convcore.functional._arguments import is_sequence, to_float
from convcore.transforms import _checks as check
from convcore.transforms._base import Stage, Transform
from convcore.transforms._checks import IntOrPair, Range


@dataclass(frozen=True)
class GaussianNoise(Transform):
    """Add normally distributed numbers, one per value.

    Parameters
    ----------
    mean : float, default 0.0
    sigma : float, default 0.1
        Standard deviation, where 1 is the distance from black to white.
    clip : bool, default True
        Cut the results off at 0 and 1.
    """

    mean: float = 0.0
    sigma: float = 0.1
    clip: bool = True

    def _stages(self) -> tuple[Stage, ...]:
        owner = "GaussianNoise"
        mean, sigma = to_float(owner, "mean", self.mean), to_float(owner, "sigma", self.sigma)
        if not (math.isfinite(mean) and 0 <= sigma < math.inf):
            raise ValueError(
                f"{owner}: sigma is out of range: expected 0 or more and a finite mean, "
                f"got sigma {sigma} and mean {mean}"
            )
        return (("noise", (mean, sigma, float(self.clip))),)


@dataclass(frozen=True)
class GaussianBlur(Transform):
    """Blur with a bell curve of random width.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Rows and columns of the kernel, odd, less than twice the image.
    sigma : float or (float, float), default (0.1, 2.0)
        The range of the standard deviation, in pixels; a number stands for itself.

    Notes
    -----
    The image is mirrored at its border without a repetition of the outermost pixels, as in
    torchvision and in ``scipy.ndimage.gaussian_filter(mode='mirror')``.
    """

    kernel_size: IntOrPair
    sigma: Range = (0.1, 2.0)

    def _stages(self) -> tuple[Stage, ...]:
        owner = "GaussianBlur"
        size = check.size(owner, "kernel_size", self.kernel_size)
        if any(s % 2 == 0 for s in size):
            raise ValueError(
                f"{owner}: kernel_size is even: expected odd numbers, got {self.kernel_size}"
            )
        sigma = (self.sigma, self.sigma) if not is_sequence(self.sigma) else self.sigma
        return (("blur", (*size, *check.pair(owner, "sigma", sigma, 0, above=True))),)


@dataclass(frozen=True)
class Sobel(Transform):
    """Sobel's gradient in the place of the image: how steep each channel is, at most 1.

    ``sqrt(gx**2 + gy**2)`` with the kernels ``filters.KERNELS['sobel-x']`` and ``'sobel-y'``; the
    border is repeated outwards. The same as ``filters.apply(image, 'sobel')``.
    """

    def _stages(self) -> tuple[Stage, ...]:
        return (("sobel", ()),)

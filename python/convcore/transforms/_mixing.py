"""Mixing of images and labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from convcore.functional._arguments import FloatArray, to_float
from convcore.transforms import _checks as check
from convcore.transforms._base import AnyArray, Stage, Transform


@dataclass(frozen=True)
class MixUp(Transform):
    """Mix each image, and its label, with another one of the data set.

    Parameters
    ----------
    alpha : float, default 1.0
        The weight of the image is drawn from the distribution Beta(alpha, alpha): small numbers
        leave most images nearly alone.
    num_classes : int, optional
        How many classes the labels have; `Model.fit` knows it from the network.

    Notes
    -----
    The other image is any of those that the transform is called with, in `Model.fit` any of the
    training images, and went through the same transforms with its own random numbers. (torchvision
    mixes each image of a batch with its neighbour, all with one weight.) The labels become shares
    of the classes, which `functional.cross_entropy` takes; the accuracy counts the class with the
    largest share.

    References
    ----------
    H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: beyond empirical risk minimization",
    ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import transforms as T
    >>> images, labels = np.zeros((4, 1, 2, 2), np.float32), np.array([0, 1, 2, 1])
    >>> x, shares = T.MixUp(alpha=0.2, num_classes=3)(images, labels)
    >>> shares.shape, np.allclose(shares.sum(axis=1), 1)
    ((4, 3), True)
    """

    alpha: float = 1.0
    num_classes: int | None = None

    def _stages(self) -> tuple[Stage, ...]:
        alpha = to_float("MixUp", "alpha", self.alpha)
        if not 0 < alpha < math.inf:
            raise ValueError(f"MixUp: alpha is out of range: expected more than 0, got {alpha}")
        if self.num_classes is not None:
            check.count("MixUp", "num_classes", self.num_classes, 1)
        return ()

    def _mixup(self) -> MixUp | None:
        return self

    def mixed(
        self,
        labels: AnyArray,
        rows: AnyArray,
        partners: AnyArray,
        weights: FloatArray,
        classes: int | None = None,
    ) -> FloatArray:
        """Return the shares of the classes (N, classes) of the mixed images."""
        if labels.ndim == 2 and labels.dtype == np.float32:
            own, other = labels[rows], labels[partners]
        elif labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                "MixUp: labels do not fit: expected integers of shape (N,) or shares of float32 "
                f"of shape (N, classes), got {labels.dtype} of shape {labels.shape}"
            )
        else:
            count = classes or self.num_classes
            if count is None:
                raise ValueError(
                    "MixUp: num_classes is missing: expected the number of classes for integer "
                    "labels, got None"
                )
            if labels.size and not (labels.min() >= 0 and labels.max() < count):
                raise ValueError(
                    f"MixUp: labels are out of range: expected 0 to {count - 1}, "
                    f"got {labels.min()} to {labels.max()}"
                )
            own, other = (_one_hot(labels[r], count) for r in (rows, partners))
        w = weights[:, None]
        return w * own + (1 - w) * other


def _one_hot(labels: AnyArray, count: int) -> FloatArray:
    shares = np.zeros((len(labels), count), np.float32)
    shares[np.arange(len(labels)), labels] = 1
    return shares

"""What all transforms share: the call, and the way into a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from convcore import _core
from convcore.functional._arguments import FloatArray, expect_channels_first
from convcore.random import RandomKey, checked_key, next_key

if TYPE_CHECKING:
    from convcore.transforms._mixing import MixUp

AnyArray = np.ndarray[Any, Any]
#: A name and numbers, as csrc/ops/transforms reads them.
Stage = tuple[str, tuple[float, ...]]

#: Every second image from left to right.
MIRROR_HALF: Stage = ("flip", (1.0, 0.5))


def cuts_off(stage: Stage) -> bool:
    """Tell whether the values that come out are cut off at 0 and 1."""
    kind, values = stage
    return kind in ("jitter", "sobel") or (kind == "noise" and bool(values[2]))


class Transform:
    """The base class of the transforms.

    Call it with images, or pass it to `Model.fit` as ``augment=``.
    """

    #: What the C++ side does, step by step; step number s draws from stream s of an image.
    stages: tuple[Stage, ...]
    #: The mixing at the end, if there is one.
    mixup: MixUp | None

    def __post_init__(self) -> None:
        """Check the arguments: they are final."""
        object.__setattr__(self, "stages", self._stages())
        object.__setattr__(self, "mixup", self._mixup())

    def _stages(self) -> tuple[Stage, ...]:
        raise NotImplementedError(f"{type(self).__name__} has no stages")

    def _mixup(self) -> MixUp | None:
        return None

    @overload
    def __call__(
        self,
        images: AnyArray,
        labels: None = None,
        *,
        key: tuple[int, int] | None = None,
        indices: AnyArray | None = None,
    ) -> AnyArray: ...
    @overload
    def __call__(
        self,
        images: AnyArray,
        labels: AnyArray,
        *,
        key: tuple[int, int] | None = None,
        indices: AnyArray | None = None,
    ) -> tuple[AnyArray, AnyArray]: ...

    def __call__(
        self,
        images: AnyArray,
        labels: AnyArray | None = None,
        *,
        key: tuple[int, int] | None = None,
        indices: AnyArray | None = None,
    ) -> AnyArray | tuple[AnyArray, AnyArray]:
        """Return the changed images.

        Parameters
        ----------
        images : ndarray, shape (C, H, W) or (N, C, H, W), uint8 or float32
            uint8 from 0 to 255; float32 from 0 to 1 where a transform cuts off at 0 and 1.
        labels : ndarray, shape (N,), integers, or (N, classes), float32, optional
            Then the result is ``(images, labels)``. `MixUp` needs them.
        key : convcore.random.RandomKey, optional
            The stream of random numbers; by default the next one of `convcore.manual_seed`.
        indices : ndarray, shape (M,), integers, optional
            Only these of the images, each as it becomes among all.

        Returns
        -------
        ndarray, of the dtype of `images`
            float32 also for uint8 where there is a `Normalize`.
        """
        owner = type(self).__name__
        batch = _to_batch(owner, images)
        self.expect_values(owner, batch)
        rows = np.arange(len(batch)) if indices is None else np.asarray(indices)
        stream = next_key() if key is None else checked_key(owner, "key", key)
        to_bytes = batch.dtype == np.uint8 and all(kind != "normalize" for kind, _ in self.stages)
        scale = 1 / 255 if batch.dtype == np.uint8 else 1.0
        y, targets = self.run(batch, rows, stream, scale, labels=labels, to_bytes=to_bytes)
        if images.ndim == 3:
            y = y[0]
        return y if targets is None else (y, targets)

    def run(
        self,
        x: AnyArray,
        rows: AnyArray,
        key: RandomKey,
        scale: float,
        *,
        labels: AnyArray | None = None,
        classes: int | None = None,
        after: tuple[Stage, ...] = (),
        to_bytes: bool = False,
    ) -> tuple[AnyArray, AnyArray | None]:
        """Return the images ``scale * x[rows]``, changed and then sent through `after`."""
        if self.mixup is not None and labels is not None and len(labels) != len(x):
            raise ValueError(
                f"MixUp: labels do not fit: expected {len(x)}, one per image, got {len(labels)}"
            )
        partners = weights = None
        targets = None if labels is None else np.asarray(labels)[rows]
        stages = self.stages
        if self.mixup is not None:
            if labels is None:
                raise TypeError(
                    "MixUp: labels are missing: expected transform(images, labels), got images only"
                )
            partners, weights = _core.mixup_pairs(
                rows, len(x), self.mixup.alpha, *key, len(self.stages)
            )
            targets = self.mixup.mixed(np.asarray(labels), rows, partners, weights, classes)
        y = _core.transform_images(
            x, rows, [*stages, *after], *key, scale, partners, weights, to_bytes
        )
        return y, targets

    def expect_values(self, owner: str, x: AnyArray) -> None:
        """Raise when float images have values that a transform would cut off."""
        if x.dtype == np.uint8 or x.size == 0 or not any(map(cuts_off, self.stages)):
            return
        low, high = float(x.min()), float(x.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"{owner}: the images have values out of range: expected 0 to 1 for what changes "
                f"colour or cuts off, got {low:g} to {high:g} (data.load(..., dtype='uint8') keeps "
                "images that are normalised afterwards; where there are float images only, as of "
                "the digits, data.load(..., normalize=False) gives them from 0 to 1)"
            )

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what becomes of an image (C, H, W); raise when it does not fit."""
        nothing = np.empty((0, *shape), np.float32)
        rows = np.empty(0, np.int64)
        y = _core.transform_images(nothing, rows, self.stages, 0, 0, 1.0, None, None, False)
        return y.shape[1:]

    def as_gather(self, shape: tuple[int, ...]) -> tuple[int, bool] | None:
        """Return the `pad` and `flip` of `functional.gather_images` that do the same, or None.

        The engine gathers in the training step itself; its random numbers are those of a crop
        (when there is a pad) and then a flip.
        """
        if self.mixup is not None or len(self.stages) > 2:
            return None
        pad, flip, rest = 0, False, list(self.stages)
        if rest and rest[0][0] == "crop":
            h, w, left, top, right, bottom, random, *fill = rest.pop(0)[1]
            pad = int(left)
            whole = (h or shape[-2], w or shape[-1]) == tuple(shape[-2:])
            if not (whole and left == top == right == bottom > 0 and random) or any(fill):
                return None
        if rest and rest[0] == MIRROR_HALF:
            flip = True
            rest.pop(0)
        return None if rest else (pad, flip)


def _to_batch(owner: str, images: object) -> npt.NDArray[np.uint8] | FloatArray:
    if not isinstance(images, np.ndarray):
        raise TypeError(
            f"{owner}: images are not an array: expected a numpy.ndarray of uint8 or float32, "
            f"got {type(images).__name__}"
        )
    if images.dtype not in (np.uint8, np.float32):
        raise TypeError(
            f"{owner}: images have the wrong dtype: expected uint8 or float32, got {images.dtype}"
        )
    if images.ndim not in (3, 4):
        raise ValueError(
            f"{owner}: images have the wrong number of dimensions: expected 3 (C, H, W) or "
            f"4 (N, C, H, W), got {images.ndim} (shape {images.shape})"
        )
    expect_channels_first(owner, images)
    return np.ascontiguousarray(images if images.ndim == 4 else images[None])

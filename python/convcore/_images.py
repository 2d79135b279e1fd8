"""Images that stay uint8 in memory, and batches of them as a training takes them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import convcore.functional as F
from convcore._arrays import is_array, to_device, to_numpy
from convcore.functional._arguments import FloatArray
from convcore.random import RandomKey
from convcore.transforms import Stage, Transform

AnyArray = np.ndarray[Any, Any]


class Images:
    """Images of uint8 that become float32 batch by batch: ``(value / peak - mean) / std``.

    `Model.fit`, `evaluate` and `predict` take it in the place of a float32 array, of which it needs
    a quarter of the memory. Indexing gives float32 arrays.

    Parameters
    ----------
    array : ndarray, shape (N, C, H, W), uint8
        Is kept, not copied, when it is C-contiguous.
    mean, std : float or sequence of float, default 0 and 1
        For all channels, or one per channel, of values in [0, 1].
    peak : int, default 255
        The value that becomes 1.

    Attributes
    ----------
    array : ndarray, shape (N, C, H, W), uint8
    peak : int
    scale, shift : ndarray, shape (C,), float32
        ``value * scale + shift`` is the standardised value.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import data
    >>> images = data.Images(np.full((10, 3, 4, 4), 255, np.uint8), mean=0.5, std=0.25)
    >>> images.shape, images[:2].dtype, round(float(images[7].max()), 3)
    ((10, 3, 4, 4), dtype('float32'), 2.0)
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(
        self,
        array: npt.NDArray[np.uint8],
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        peak: int = 255,
    ) -> None:
        if not is_array(array) or array.dtype != np.uint8:
            raise TypeError(
                "Images: array has the wrong type: expected a numpy.ndarray of uint8, "
                f"got {getattr(array, 'dtype', type(array).__name__)}"
            )
        if array.ndim != 4:
            raise ValueError(
                "Images: array has the wrong number of dimensions: expected 4 (N, C, H, W), "
                f"got {array.ndim} (array has shape {array.shape})"
            )
        channels = array.shape[1]
        centre, spread = (_per_channel(n, v, channels) for n, v in (("mean", mean), ("std", std)))
        if not (spread > 0).all():
            raise ValueError(f"Images: std is out of range: expected more than 0, got {std}")
        self.array = np.ascontiguousarray(array) if isinstance(array, np.ndarray) else array
        self.peak = peak
        self.scale = (1 / (peak * spread)).astype(np.float32)
        self.shift = (-centre / spread).astype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self.array.shape

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> FloatArray:
        """Return one image (C, H, W), or those of a slice, of indices or of a mask, as float32."""
        if isinstance(index, slice):
            return self.gather(np.arange(*index.indices(len(self))))
        rows = np.arange(len(self))[index]
        values: FloatArray = self.gather(rows.reshape(-1)).reshape(*rows.shape, *self.shape[1:])
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        if copy is False:
            raise ValueError("Images: an array of float32 is made anew: copy=False is impossible")
        values = to_numpy(self[:])
        return values if dtype is None else values.astype(dtype)

    def __repr__(self) -> str:
        return f"Images({' x '.join(map(str, self.shape))}, uint8)"

    def gather(self, indices: AnyArray) -> FloatArray:
        """Return the images at `indices`, as float32."""
        return F.gather_images(self.array, indices, scale=self.scale, shift=self.shift)

    def to(self, device: str) -> Images:
        """Return the same images in the memory of a device: batches are made there."""
        moved = copy.copy(self)
        moved.array = to_device(self.array, device)
        return moved

    def normalization(self) -> Stage:
        """Return the last step after transforms, which work on values from 0 to 1."""
        return "normalize", (*map(float, self.scale * self.peak), *map(float, self.shift))


def gather(x: FloatArray | Images, indices: AnyArray) -> FloatArray:
    """Return the samples of `x` at `indices`."""
    if isinstance(x, Images):
        return x.gather(indices)
    rows = x.reshape(len(x), 1, 1, math.prod(x.shape[1:]))  # samples of any shape, as lines
    return F.gather_images(rows, indices).reshape(len(indices), *x.shape[1:])


def augmented(
    x: FloatArray | Images,
    y: AnyArray,
    indices: AnyArray,
    augment: Transform,
    key: RandomKey,
    classes: int | None = None,
) -> tuple[FloatArray, AnyArray]:
    """Return the images of `x` at `indices`, transformed and normalised, and their targets."""
    array: AnyArray = x.array if isinstance(x, Images) else x
    pad_and_flip = augment.as_gather(x.shape[1:])
    if pad_and_flip is not None:
        pad, flip = pad_and_flip
        scale, shift = (x.scale, x.shift) if isinstance(x, Images) else (None, None)
        images = F.gather_images(
            array, indices, pad=pad, flip=flip, key=key, scale=scale, shift=shift
        )
        return images, y[indices]
    images, targets = augment.run(
        array,
        indices,
        key,
        1 / x.peak if isinstance(x, Images) else 1.0,
        labels=None if augment.mixup is None else y,
        classes=classes,
        after=(x.normalization(),) if isinstance(x, Images) else (),
    )
    return images, y[indices] if targets is None else targets


def _per_channel(
    name: str, value: float | Sequence[float], channels: int
) -> npt.NDArray[np.float64]:
    values = np.asarray(value, np.float64)
    if values.shape not in ((), (channels,)):
        raise ValueError(
            f"Images: {name} has the wrong length: expected a number or {channels} (the channels), "
            f"got {value}"
        )
    return np.broadcast_to(values, channels)

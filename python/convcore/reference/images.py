"""Batches of images out of a data set, one pixel after another."""

from __future__ import annotations

import numpy as np

from convcore.reference._types import Array
from convcore.reference.dropout import philox, substream


def gather_images(
    x: Array,
    indices: Array,
    *,
    pad: int = 0,
    flip: bool = False,
    scale: Array | None = None,
    shift: Array | None = None,
    key: tuple[int, int] = (0, 0),
) -> Array:
    """Return the images, each cropped and mirrored by its own random numbers, and normalised."""
    _, c, h, w = x.shape
    y = np.zeros((len(indices), c, h, w))
    for n, index in enumerate(indices):
        numbers = philox(*substream(key, int(index), 0), 0)
        top, left = (number * (2 * pad + 1) // 2**32 for number in numbers[:2])
        side = philox(*substream(key, int(index), 1 if pad else 0), 0)[0]
        padded = np.pad(x[index].astype(np.float64), ((0, 0), (pad, pad), (pad, pad)))
        image = padded[:, top : top + h, left : left + w]
        y[n] = image[:, :, ::-1] if flip and side >= 2**31 else image
    if scale is not None and shift is not None:
        y = y * scale[:, None, None] + shift[:, None, None]
    return y

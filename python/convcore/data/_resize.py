"""Smooth resizing of images in plain NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

_CHUNK = 1 << 24  # elements per step: bounds the scratch memory


def resize(images: FloatArray, height: int, width: int) -> FloatArray:
    """Resize images with values in [0, 1] by cubic convolution.

    Parameters
    ----------
    images : ndarray, shape (..., H, W), float32
    height, width : int
        The new size.

    Returns
    -------
    ndarray, shape (..., height, width), float32
        Values in [0, 1]: the cubic overshoots a little at edges, which is cut off.

    Notes
    -----
    Keys' cubic (a = -1/2, "Catmull-Rom"): smooth, and sharper than linear interpolation. Pixels
    are squares with their centres at i + 1/2, so nothing shifts. When an image shrinks, the kernel
    grows with the step, which averages over the pixels that fall together instead of skipping some;
    at the border the weights of the pixels inside are scaled up to a sum of 1. This is what
    Pillow calls BICUBIC. Every output is a sum of products in a fixed order, so it has the same
    bits on every machine.

    References
    ----------
    R. Keys, "Cubic convolution interpolation for digital image processing", IEEE Transactions on
    Acoustics, Speech, and Signal Processing 29 (1981).
    """
    if images.shape[-2:] == (height, width):
        return images
    flat = images.reshape(-1, *images.shape[-2:])
    out = np.empty((len(flat), height, width), np.float32)
    step = max(1, _CHUNK // max(1, flat[0].size, height * width)) if len(flat) else 1
    for i in range(0, len(flat), step):
        rows = _resize_axis(flat[i : i + step], height, axis=1)
        np.clip(_resize_axis(rows, width, axis=2), 0, 1, out=out[i : i + step])
    return out.reshape(*images.shape[:-2], height, width)


def _resize_axis(x: FloatArray, size: int, axis: int) -> FloatArray:
    index, weight = _taps(x.shape[axis], size)
    column = (size, 1) if axis == 1 else (size,)
    y = np.zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]), np.float32)
    for i, w in zip(index, weight, strict=True):
        y += x.take(i, axis) * w.reshape(column)
    return y


def _taps(size_in: int, size_out: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return the input pixel and the weight of each tap, both (taps, size_out)."""
    step = size_in / size_out
    stretch = max(step, 1.0)
    centre = (np.arange(size_out) + 0.5) * step
    first = np.floor(centre - 2 * stretch).astype(np.int64)
    index = first + np.arange(int(np.ceil(4 * stretch)) + 1)[:, None]
    weight = _cubic((index + 0.5 - centre) / stretch)
    weight[(index < 0) | (index >= size_in)] = 0
    used = weight.any(axis=1)
    index, weight = index[used].clip(0, size_in - 1), weight[used]
    return index, (weight / weight.sum(axis=0)).astype(np.float32)


def _cubic(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    t = np.abs(t)
    inner = (1.5 * t - 2.5) * t * t + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t < 1, inner, np.where(t < 2, outer, 0.0))

"""Batches of images out of a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from convcore import _core
from convcore._arrays import beside
from convcore.functional._arguments import FloatArray, to_int
from convcore.random import RandomKey, checked_key, next_key


def gather_images(
    x: npt.NDArray[np.uint8] | FloatArray,
    indices: npt.NDArray[np.integer[Any]],
    *,
    pad: int = 0,
    flip: bool = False,
    scale: FloatArray | None = None,
    shift: FloatArray | None = None,
    key: tuple[int, int] | None = None,
    channels_last: bool = False,
) -> FloatArray:
    """Pick images from a data set; crop and mirror them at random, and normalise them, on the way.

    Parameters
    ----------
    x : ndarray, shape (M, C, H, W), uint8 or float32, C-contiguous
        The data set; it is read in place.
    indices : ndarray, shape (N,), integers
        Which images, 0 to M - 1; one may come several times.
    pad : int, default 0
        Each image is moved by -`pad` to `pad` pixels along each axis, at random: what cutting a
        random H x W window out of the image with `pad` zeros on all sides gives.
    flip : bool, default False
        Mirror each image from left to right with probability 1/2.
    scale, shift : ndarray, shape (C,), float32, optional
        The result is ``x * scale + shift`` per channel; by default the values stay as they are. The
        zeros around an image are scaled and shifted too.
    key : convcore.random.RandomKey, optional
        The stream of random numbers, ``(seed, stream)``. By default the next one of
        `convcore.manual_seed`; without `pad` and `flip` none is taken.
    channels_last : bool, default False
        Return the images with their memory in the order (N, H, W, C).

    Returns
    -------
    ndarray, shape (N, C, H, W), float32

    Raises
    ------
    TypeError
        When `x` is not an array of uint8 or float32, or another argument has the wrong type.
    ValueError
        When `x` is not C-contiguous or not of four dimensions, an index is out of range, or another
        argument does not fit.

    See Also
    --------
    convcore.transforms : The same, and more, in `convcore.Model.fit`.

    Notes
    -----
    What becomes of an image is a function of `key` and its index in the data set: not of its place
    in the batch, and not of the number of threads. There is no gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore.functional as F
    >>> x = np.arange(6, dtype=np.uint8).reshape(2, 1, 1, 3)
    >>> F.gather_images(x, np.array([1, 0, 1]))[:, 0, 0]
    array([[3., 4., 5.],
           [0., 1., 2.],
           [3., 4., 5.]], dtype=float32)
    """
    op = "gather_images"
    pad = to_int(op, "pad", pad)
    flip = bool(flip)
    if key is not None:
        key = checked_key(op, "key", key)
    elif pad or flip:
        key = next_key()
    else:
        key = RandomKey(0, 0)
    indices, scale, shift = beside(indices, x), beside(scale, x), beside(shift, x)
    return _core.gather_images(x, indices, pad, flip, *key, scale, shift, bool(channels_last))

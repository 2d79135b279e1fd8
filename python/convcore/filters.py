"""Image filters as convolutions: named kernels, and `apply`, which runs them on pictures.

The kernels are those of the lectures that the package accompanies, under the names of their tables.
A kernel is slid over each channel on its own (a depthwise `functional.conv2d`); as in all such
libraries, it is not turned around first.

One kernel of the lectures is wrong, and right here: a "sharpen" of rows (0, -1, 0), (-1, 5, -1),
(0, 1, 0). The +1 below the centre is a slip for -1. Its sum is 3, so that every even region would
become three times as bright. The right kernel (identity minus the Laplacian) has the sum 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

import convcore.functional as F
from convcore._names import did_you_mean
from convcore.functional._arguments import FloatArray, expect_channels_first, wrong_type

__all__ = ["BORDERS", "KERNELS", "NAMES", "apply", "describe"]

AnyArray = np.ndarray[Any, Any]

#: What lies outside of the picture, and the name that numpy.pad has for it.
BORDERS = MappingProxyType({"replicate": "edge", "reflect": "reflect", "zero": "constant"})


def _kernel(rows: Sequence[Sequence[float]], divisor: float = 1) -> FloatArray:
    kernel: FloatArray = np.array(rows, np.float32) / np.float32(divisor)
    kernel.flags.writeable = False
    return kernel


_BINOMIAL_5 = [[a * b for a in (1, 4, 6, 4, 1)] for b in (1, 4, 6, 4, 1)]

#: The kernels by name; read-only.
KERNELS: Mapping[str, FloatArray] = MappingProxyType(
    {
        "identity": _kernel([[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
        "diagonals": _kernel([[1, 0, 1], [0, 1, 0], [1, 0, 1]]),
        "edge-cross": _kernel([[1, 0, -1], [0, 0, 0], [-1, 0, 1]]),
        "edge-4": _kernel([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        "edge-8": _kernel([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
        "sharpen": _kernel([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        "box-blur": _kernel([[1, 1, 1], [1, 1, 1], [1, 1, 1]], 9),
        "gaussian-blur": _kernel([[1, 2, 1], [2, 4, 2], [1, 2, 1]], 16),
        "gaussian-blur-5": _kernel(_BINOMIAL_5, 256),
        "sobel-x": _kernel([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        "sobel-y": _kernel([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
        "left-prong": _kernel(
            [
                [0, 0, -1, 0, 0],
                [0, -1, -2, -1, 0],
                [-1, -2, 16, -2, -1],
                [0, -1, -2, -1, 0],
                [0, 0, -1, 0, 0],
            ]
        ),
    }
)

#: The name of the length of the gradient, which takes two kernels.
_SOBEL = "sobel"

_DESCRIPTIONS = {
    "identity": "the picture itself",
    "diagonals": "the sum of both diagonals, five times as bright (the lectures' worked example)",
    "edge-cross": "differences along the diagonals",
    "edge-4": "each pixel against its 4 neighbours (the Laplacian)",
    "edge-8": "each pixel against its 8 neighbours",
    "sharpen": "the picture minus its edge-4; not the lecture's version with a wrong sign",
    "box-blur": "the mean of 3 x 3 pixels",
    "gaussian-blur": "a bell curve of 3 x 3 pixels, 1 2 1",
    "gaussian-blur-5": "a bell curve of 5 x 5 pixels, 1 4 6 4 1",
    "sobel-x": "how fast it gets brighter to the right",
    "sobel-y": "how fast it gets brighter downwards: the lecture's strong edges",
    _SOBEL: "the length of (sobel-x, sobel-y): how steep, in any direction",
    "left-prong": "the lecture's detector of the left prongs of a 3; it finds points and edges",
}

#: All names that `apply` knows.
NAMES: tuple[str, ...] = tuple(_DESCRIPTIONS)


def describe(name: str) -> str:
    """Return in a few words what the filter of this name shows."""
    return _DESCRIPTIONS[_known(name)]


def apply(
    image: AnyArray,
    kernel: str | AnyArray,
    *,
    border: str = "replicate",
    clip: bool = True,
) -> npt.NDArray[np.uint8] | FloatArray:
    """Filter each channel of a picture, or of many.

    Parameters
    ----------
    image : ndarray, shape (H, W), (C, H, W) or (N, C, H, W), uint8 or float32
        uint8 from 0 to 255, or float32, meant to be from 0 to 1.
    kernel : str or ndarray, shape (KH, KW)
        A name of `NAMES`, or a kernel of odd height and width.
    border : {'replicate', 'reflect', 'zero'}, default 'replicate'
        What lies outside: the nearest pixel again, so that a border is no edge; the picture in a
        mirror; or black.
    clip : bool, default True
        Cut the result off at black and white, as a picture needs it. False gives the numbers
        themselves, also negative ones: float32, on the scale from 0 to 1.

    Returns
    -------
    ndarray, of the shape and dtype of `image`
        float32 for ``clip=False``.

    Raises
    ------
    ValueError
        When the name is not known or the shapes do not fit.
    TypeError
        When `image` or `kernel` is of another type.

    See Also
    --------
    convcore.functional.conv2d : What computes it.
    convcore.transforms : Filters of batches in training.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import filters
    >>> step = np.array([[0, 0, 100, 100]] * 3, np.uint8)
    >>> filters.apply(step, "sobel-x")[1]
    array([  0, 255, 255,   0], dtype=uint8)
    >>> filters.apply(step, "box-blur")[1]
    array([  0,  33,  67, 100], dtype=uint8)
    """
    x, is_bytes = _to_float(image)
    mode = _border(border)
    if isinstance(kernel, str) and _known(kernel) == _SOBEL:
        across, down = (_convolve(x, KERNELS[part], mode) for part in ("sobel-x", "sobel-y"))
        y: FloatArray = np.hypot(across, down)
    else:
        y = _convolve(x, KERNELS[kernel] if isinstance(kernel, str) else _checked(kernel), mode)
    y = y.reshape(image.shape)
    if not clip:
        return y
    cut: FloatArray = np.clip(y, 0, 1)
    return np.rint(cut * 255).astype(np.uint8) if is_bytes else cut


def _convolve(x: FloatArray, kernel: FloatArray, mode: str) -> FloatArray:
    """Return what the kernel gives at each pixel of the planes x (N, C, H, W)."""
    (kh, kw), channels = kernel.shape, x.shape[1]
    margins = ((0, 0), (0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2))
    pad: Callable[..., FloatArray] = np.pad
    filters = np.repeat(kernel[None, None], channels, axis=0)
    return F.conv2d(pad(x, margins, mode=mode), filters, groups=channels)


def _to_float(image: object) -> tuple[FloatArray, bool]:
    """Return planes (N, C, H, W) from 0 to 1, and whether they were bytes."""
    if not isinstance(image, np.ndarray):
        raise wrong_type("filters.apply", "image", "a numpy.ndarray", image)
    if image.dtype not in (np.uint8, np.float32):
        raise TypeError(
            f"filters.apply: image has the wrong dtype: expected uint8 or float32, "
            f"got {image.dtype}"
        )
    if image.ndim not in (2, 3, 4) or 0 in image.shape:
        raise ValueError(
            "filters.apply: image has the wrong shape: expected (H, W), (C, H, W) or "
            f"(N, C, H, W) with at least one pixel, got {image.shape}"
        )
    expect_channels_first("filters.apply", image)
    is_bytes = image.dtype == np.uint8
    values = image / np.float32(255) if is_bytes else image
    return values.reshape((1,) * (4 - image.ndim) + image.shape), is_bytes


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(
            f"filters.apply: kernel is not known: expected one of {', '.join(NAMES)}, "
            f"got {name!r}{did_you_mean(name, NAMES)}"
        )
    return name


def _border(border: object) -> str:
    if border not in BORDERS:
        hint = did_you_mean(str(border), BORDERS)
        raise ValueError(
            f"filters.apply: border is not known: expected one of {', '.join(BORDERS)}, "
            f"got {border!r}{hint}"
        )
    return BORDERS[str(border)]


def _checked(kernel: object) -> FloatArray:
    if not isinstance(kernel, np.ndarray) or kernel.dtype.kind not in "fiu":
        raise wrong_type("filters.apply", "kernel", "a name or a numpy.ndarray of numbers", kernel)
    if kernel.ndim != 2 or kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise ValueError(
            "filters.apply: kernel has the wrong shape: expected (KH, KW), both odd, "
            f"got {kernel.shape}"
        )
    if not np.isfinite(kernel).all():
        raise ValueError("filters.apply: kernel has values out of range: expected finite numbers")
    return kernel.astype(np.float32)

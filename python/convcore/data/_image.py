"""Reading one picture for a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from convcore.data._resize import resize

FloatArray = npt.NDArray[np.float32]
Invert: TypeAlias = "bool | Literal['auto']"


def read_image(
    path: str | os.PathLike[str],
    size: int | tuple[int, int],
    channels: int,
    *,
    invert: Invert = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> FloatArray:
    """Read a picture or an array from a file, as input for a network.

    Parameters
    ----------
    path : path
        A ``.npy`` file with an array (H, W), (C, H, W) or (H, W, C), C being 1 or 3: floats in
        [0, 1], unsigned bytes, 16-bit unsigned integers or booleans. Any other file is opened as a
        picture through Pillow.
    size : int or (int, int)
        Height and width of the result; one int for a square. The picture is stretched to it.
    channels : int
        1 (grey: colours are weighed as the eye does) or 3 (red, green, blue).
    invert : bool or 'auto', default False
        Swap black and white: networks trained on digits expect white ones on black. ``'auto'`` does
        so when the middle value of the picture's border is brighter than 1/2.
    mean, std : sequence of float, optional
        Per channel; when given, the result is ``(value - mean) / std``. Take them from the
        `Dataset` that the network was trained on.

    Returns
    -------
    ndarray, shape (channels, height, width), float32
        In [0, 1] unless `mean` and `std` are given.

    Raises
    ------
    ValueError
        When the file is not a picture, is truncated, or holds an array of another kind.
    ImportError
        When the file is a picture and Pillow is not installed.
    OSError
        When the file cannot be opened.

    Notes
    -----
    Transparent parts of a picture become white. A turned photograph is set upright (EXIF).

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import convcore.data
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "grey.npy")
    ...     np.save(path, np.full((8, 8), 255, np.uint8))
    ...     convcore.data.read_image(path, size=2, channels=1)
    array([[[1., 1.],
            [1., 1.]]], dtype=float32)
    """
    image, prepare = _open(path, size, channels, invert, mean, std, batch=False)
    return prepare(image)


def read_images(
    path: str | os.PathLike[str],
    size: int | tuple[int, int],
    channels: int,
    *,
    invert: Invert = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> FloatArray:
    """Read all images of a file: as `read_image`, also for a ``.npy`` file with a batch.

    Parameters
    ----------
    path : path
        As in `read_image`; or a ``.npy`` file with an array (N, C, H, W) or (N, H, W, C).
    size, channels, invert, mean, std
        As in `read_image`; ``invert='auto'`` decides for each image.

    Returns
    -------
    ndarray, shape (N, channels, height, width), float32
        N is 1 when the file holds one image.

    Raises
    ------
    ValueError, ImportError, OSError
        As `read_image`.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import convcore.data
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "batch.npy")
    ...     np.save(path, np.zeros((5, 1, 8, 8), np.uint8))
    ...     convcore.data.read_images(path, size=28, channels=1).shape
    (5, 1, 28, 28)
    """
    images, prepare = _open(path, size, channels, invert, mean, std, batch=True)
    if images.ndim == 3:
        return prepare(images)[None]
    result = np.empty((len(images), channels, *_check_size(size)), np.float32)
    for i, image in enumerate(images):
        result[i] = prepare(image)
    return result


def _open(
    path: str | os.PathLike[str],
    size: int | tuple[int, int],
    channels: int,
    invert: Invert,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    batch: bool,
) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
    """Return the image (C, H, W) or the batch (N, C, H, W) in a file, and what is to be done."""
    height, width = _check_size(size)
    if channels not in (1, 3):
        raise ValueError(f"read_image: channels is not known: expected 1 or 3, got {channels!r}")
    if (mean is None) != (std is None):
        raise ValueError("read_image: mean and std go together: expected both or none, got one")

    def prepare(image: FloatArray) -> FloatArray:
        image = resize(_to_channels(image, channels), height, width)
        if invert is True or (invert == "auto" and _has_bright_border(image)):
            image = 1 - image
        if mean is not None and std is not None:
            image = _standardise(image, mean, std)
        return np.ascontiguousarray(image)

    path = Path(path)
    if path.suffix.lower() == ".npy":
        return _read_array(path, batch), prepare
    return _read_picture(path), prepare


def _has_bright_border(image: FloatArray) -> bool:
    border = np.concatenate([image[:, (0, -1)].ravel(), image[:, :, (0, -1)].ravel()])
    return bool(np.median(border) > 0.5)


def _standardise(x: FloatArray, mean: Sequence[float], std: Sequence[float]) -> FloatArray:
    """Return ``(x - mean) / std`` with one mean and std per channel of x (..., C, H, W)."""
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != x.shape[-3]:
            raise ValueError(
                f"read_image: {name} has the wrong length: "
                f"expected {x.shape[-3]} (the channels), got {len(values)}"
            )
    shift, scale = (np.asarray(v, np.float32)[:, None, None] for v in (mean, std))
    return (x - shift) / scale


def _check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, (int, np.integer)) else size
    if height < 1 or width < 1:
        raise ValueError(f"read_image: size is not positive: expected 1 or more, got {size!r}")
    return height, width


def _to_channels(image: FloatArray, channels: int) -> FloatArray:
    if len(image) == channels:
        return image
    if channels == 1:
        red, green, blue = image
        # The weights of ITU-R 601, which Pillow uses too; rounding may lead above 1.
        grey: FloatArray = np.float32(0.299) * red + np.float32(0.587) * green
        grey += np.float32(0.114) * blue
        return np.minimum(grey, 1)[None]
    return np.repeat(image, 3, axis=0)


def read_picture(path: str | os.PathLike[str]) -> FloatArray:
    """Read a picture as it is: in its own size, grey or in colour.

    Parameters
    ----------
    path : path
        A picture, or a ``.npy`` file with an array, as for `read_image`.

    Returns
    -------
    ndarray, shape (1 or 3, H, W), float32
        In [0, 1]: one channel for a grey picture, red, green and blue for any other.

    Raises
    ------
    ValueError, ImportError, OSError
        As `read_image`.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return _read_array(path, batch=False)
    return _read_picture(path)


# ---- .npy ----------------------------------------------------------------------------------------


def _read_array(path: Path, batch: bool) -> FloatArray:
    """Return (C, H, W), or (N, C, H, W) when there may be a `batch`; in [0, 1]."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"read_image: {path} cannot be read: expected a .npy file of numbers, got: {error}"
        ) from error
    if array.ndim == 2:
        array = array[None]
    ranks = (3, 4) if batch else (3,)
    if array.ndim in ranks and array.shape[-3] not in (1, 3) and array.shape[-1] in (1, 3):
        array = np.moveaxis(array, -1, -3)
    if array.ndim not in ranks or array.shape[-3] not in (1, 3) or 0 in array.shape[-3:]:
        also = ", or a batch (N, C, H, W) or (N, H, W, C)" if batch else ""
        raise ValueError(
            f"read_image: {path} has the wrong shape: expected (H, W), (C, H, W) or (H, W, C) "
            f"with C 1 or 3{also}, got {array.shape}"
        )
    return _to_unit(path, array)


def _to_unit(path: Path, array: npt.NDArray[Any]) -> FloatArray:
    """Scale by the dtype's range; floats must lie in [0, 1] already."""
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        unit: FloatArray = array.astype(np.float32)
        unit /= np.float32(np.iinfo(array.dtype).max)
        return unit
    if array.dtype == np.bool_:
        return array.astype(np.float32)
    if array.dtype.kind != "f":
        raise ValueError(
            f"read_image: {path} has the wrong dtype: expected a float, uint8, uint16 or bool, "
            f"got {array.dtype}"
        )
    if array.size and not (array.min() >= 0 and array.max() <= 1):  # NaN fails too
        raise ValueError(
            f"read_image: {path} has values out of range: expected floats in [0, 1], "
            f"got {array.min()} to {array.max()} (divide by 255, or undo the normalisation of "
            "data.load: x * std + mean)"
        )
    return array.astype(np.float32)


# ---- pictures ------------------------------------------------------------------------------------


def _read_picture(path: Path) -> FloatArray:
    """Return (3 or 1, H, W) in [0, 1] of what Pillow reads."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ImportError(
            "read_image: reading a picture needs Pillow, which is not installed. "
            "Install it with: pip install 'convcore[image]' (.npy files need nothing)"
        ) from error
    with path.open("rb") as file:
        try:
            with Image.open(file) as opened:
                picture = ImageOps.exif_transpose(opened)
        except MemoryError:
            raise
        except UnidentifiedImageError as error:
            raise ValueError(
                f"read_image: {path} is not a picture: expected a format that Pillow reads "
                f"(PNG, JPEG, …) or a .npy file, got an unknown one"
            ) from error
        except Exception as error:  # a decoder fails on broken data in ways of its own
            raise ValueError(
                f"read_image: {path} cannot be read: expected a complete picture, got: {error}"
            ) from error
    return _decode(path, picture)


def _decode(path: Path, picture: Any) -> FloatArray:
    if picture.mode.startswith("I") or picture.mode == "F":
        # More than 8 bits: Pillow's own conversion would cut the values off, not scale them.
        values = np.asarray(picture)
        if picture.mode == "I" and values.min() >= 0 and values.max() < 1 << 16:
            values = values.astype(np.uint16)
        return _to_unit(path, values)[None]
    if picture.mode in ("1", "L"):
        return _to_unit(path, np.asarray(picture.convert("L")))[None]
    from PIL import Image

    layers = picture.convert("RGBA")
    white = Image.new("RGBA", layers.size, "white")
    colours = np.asarray(Image.alpha_composite(white, layers).convert("RGB"))
    return _to_unit(path, colours.transpose(2, 0, 1))

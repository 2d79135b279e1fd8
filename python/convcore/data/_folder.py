"""Pictures in one folder per class, as torchvision's ``ImageFolder`` and Keras read them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
#: What counts as a picture, by the ending of its name.
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp")


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in `folder`, sorted."""
    return tuple(sorted(e.name for e in os.scandir(folder) if e.is_dir() and e.name[0] != "."))


def read(
    folder: Path, classes: Sequence[str], channels: int, size: tuple[int, int] | None
) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Return all pictures, by class and name: images (N, C, H, W) and the indices of classes (N,).

    Without `size` all must have the size of the first; otherwise they are resized.
    """
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in ENDINGS)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise ValueError(
            f"load: {folder} holds no pictures: expected them in one folder per class, with names "
            f"that end in {', '.join(ENDINGS)}"
        )
    first = _read(paths[0], channels, size)
    images = np.empty((len(paths), *first.shape), np.uint8)
    for image, path in zip(images, paths, strict=True):
        values = _read(path, channels, size)
        if values.shape != first.shape:
            raise ValueError(
                f"load: {path} has another size than {paths[0]}: expected "
                f"{first.shape[1]} x {first.shape[2]} pixels, got "
                f"{values.shape[1]} x {values.shape[2]} (pass size to resize them)"
            )
        image[...] = values
    return images, np.array(labels, np.int64)


def _read(path: Path, channels: int, size: tuple[int, int] | None) -> Bytes:
    """Return (C, H, W)."""
    image_module = _pillow()
    try:
        with image_module.open(path) as opened:
            picture = opened.convert("RGB" if channels == 3 else "L")
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(
            f"load: {path} cannot be read: expected a complete picture, got: {error}"
        ) from error
    if size is not None and picture.size != size[::-1]:
        picture = picture.resize(size[::-1], image_module.Resampling.BICUBIC)
    values: Bytes = np.asarray(picture)
    return values[None] if channels == 1 else values.transpose(2, 0, 1)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "load: reading pictures needs Pillow, which is not installed. "
            "Install it with: pip install 'convcore[image]'"
        ) from error
    return Image

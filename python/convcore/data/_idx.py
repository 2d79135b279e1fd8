"""The IDX format of MNIST and Fashion-MNIST, plain or gzip.

A file is a big-endian header, then the values row by row. The header is a magic number (two zero
bytes, the type: 8 for unsigned bytes, the number of dimensions) and one 32-bit size per dimension.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convcore.data._catalogue import CATALOGUE, Entry
from convcore.data._labels import check_labels

Bytes = npt.NDArray[np.uint8]

_GZIP = b"\x1f\x8b"


def locate(entry: Entry, folder: Path, split: str) -> tuple[list[Path], list[str]]:
    """Return the files of a split in `folder` (images, labels), and the names of those missing."""
    found, missing = [], []
    for name in entry.files[split]:
        plain = name.removesuffix(".gz")
        path = next((folder / n for n in (name, plain) if (folder / n).is_file()), None)
        if path is None:
            missing.append(f"{plain}[.gz]")
        else:
            found.append(path)
    return found, missing


def read(entry: Entry, files: list[Path]) -> tuple[Bytes, Bytes]:
    """Return the images (N, 1, H, W) and labels (N,) of a split, checked."""
    images_path, labels_path = files
    images = read_idx(images_path, dims=3)
    labels = read_idx(labels_path, dims=1)
    if images.shape[1:] != entry.image_shape[1:]:
        raise ValueError(
            f"load: {images_path} holds images of another size: "
            f"expected {entry.image_shape[1:]}, got {images.shape[1:]}"
        )
    if len(labels) != len(images):
        raise ValueError(
            f"load: {labels_path} does not fit {images_path.name}: "
            f"expected {len(images)} labels, got {len(labels)}"
        )
    if len(images) == 0:
        raise ValueError(f"load: {images_path} holds no images: expected at least 1, got 0")
    check_labels(labels_path, labels, len(entry.classes))
    _check_not_of_another(entry, labels_path, labels)
    return images[:, None], labels


def read_idx(path: Path, dims: int) -> Bytes:
    """Read an IDX file of unsigned bytes with `dims` dimensions."""
    data = _read_unpacked(path)
    header = 4 + 4 * dims
    magic = bytes([0, 0, 8, dims])
    if data[:4] != magic:
        raise ValueError(
            f"load: {path} is not an IDX file of {dims}-dimensional unsigned bytes: "
            f"expected the first bytes {magic.hex()}, got {data[:4].hex() or 'an empty file'}"
        )
    if len(data) < header:
        raise ValueError(
            f"load: {path} is truncated: expected a header of {header} bytes, got {len(data)} bytes"
        )
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", dims, offset=4))
    expected = header + math.prod(shape)
    if len(data) != expected:
        what = "is truncated" if len(data) < expected else "has extra bytes at the end"
        raise ValueError(
            f"load: {path} {what}: expected {expected} bytes for the shape {shape} "
            f"in its header, got {len(data)}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _read_unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.startswith(_GZIP):
        return data
    import gzip
    import zlib

    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"load: {path} is truncated or corrupt: expected a complete gzip stream, got: {error}"
        ) from error


def _check_not_of_another(entry: Entry, path: Path, labels: Bytes) -> None:
    """Catch the files of another data set: the file names are the same."""
    digest = hashlib.sha256(labels.tobytes()).hexdigest()
    for other in CATALOGUE.values():
        if other is not entry and digest in other.labels_sha256:
            raise ValueError(
                f"load: {path} belongs to another data set: "
                f"expected the labels of {entry.name}, got those of {other.name}"
            )

"""CIFAR-10 in the forms that people have: binary or Python batches, or pictures in folders.

A binary batch is 10,000 records of 3,073 bytes: the label, then 1,024 red, 1,024 green and 1,024
blue values, row by row. A Python batch, which torchvision and Keras download, is a pickled dict of
the same. Both are read unpacked or straight from the published archive. Copies as pictures (fast.ai
publishes one) have them in ``train/<class>/`` and ``test/<class>/``.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convcore.data import _folder
from convcore.data._catalogue import CIFAR10_ARCHIVE, Entry
from convcore.data._labels import check_labels

Bytes = npt.NDArray[np.uint8]

FOLDER = "cifar-10-batches-bin"
BATCHES = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}
PYTHON_FOLDER = "cifar-10-batches-py"
PYTHON_ARCHIVE = "cifar-10-python.tar.gz"
RECORDS = 10_000  # in a batch
_RECORD = 1 + 3 * 32 * 32  # bytes


class _Form(NamedTuple):
    """How the batches lie on the disk."""

    folder: str
    archive: str
    ending: str
    records: Callable[[Path, bytes], Bytes]  # of a batch: (RECORDS, _RECORD)

    def names(self, split: str) -> tuple[str, ...]:
        return tuple(name.removesuffix(".bin") + self.ending for name in BATCHES[split])


def locate(entry: Entry, folder: Path, split: str) -> tuple[list[Path], list[str]]:
    """Return the batches of a split in `folder`, the archive or the folder of pictures.

    When none of them is there, return nothing and the names of what is missing.
    """
    fewest = [*BATCHES[split], f"or {CIFAR10_ARCHIVE}"]
    for form in _FORMS:
        names = form.names(split)
        for place in (folder / form.folder, folder):
            found = [place / name for name in names if (place / name).is_file()]
            if len(found) == len(names):
                return found, []
            if found:
                missing = [place / name for name in names if place / name not in found]
                fewest = [str(path.relative_to(folder)) for path in missing]
    if all((folder / split / name).is_dir() for name in entry.classes):
        return [folder / split], []
    for form in _FORMS:
        if (folder / form.archive).is_file():
            return [folder / form.archive], []
    return [], fewest


def read(entry: Entry, files: list[Path], split: str) -> tuple[Bytes, Bytes]:
    """Return the images (N, 3, 32, 32) and labels (N,) of a split, checked."""
    if files[0].is_dir():
        channels, *size = entry.image_shape
        images, labels = _folder.read(files[0], entry.classes, channels, (size[0], size[1]))
        return images, labels.astype(np.uint8)
    form = _form_of(files[0])
    if files[0].name == form.archive:
        batches = _read_archive(files[0], form, split)
    else:
        batches = {path: path.read_bytes() for path in files}
    records = np.concatenate([form.records(path, data) for path, data in batches.items()])
    for i, path in enumerate(batches):
        check_labels(path, records[i * RECORDS : (i + 1) * RECORDS, 0], len(entry.classes))
    return records[:, 1:].reshape(-1, *entry.image_shape), records[:, 0]


def _form_of(file: Path) -> _Form:
    binary, python = _FORMS
    return binary if file.suffix == ".bin" or file.name == binary.archive else python


def _records(path: Path, data: bytes) -> Bytes:
    if len(data) != RECORDS * _RECORD:
        what = "is truncated" if len(data) < RECORDS * _RECORD else "has extra bytes at the end"
        raise ValueError(
            f"load: {path} {what}: expected {RECORDS * _RECORD} bytes "
            f"({RECORDS} images), got {len(data)}"
        )
    return np.frombuffer(data, np.uint8).reshape(RECORDS, _RECORD)


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays and plain data, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[str, Any] = {
            "_reconstruct": np.empty(0).__reduce__()[0],  # wherever this NumPy keeps it
            "ndarray": np.ndarray,
            "dtype": np.dtype,
        }
        if module.partition(".")[0] == "numpy" and name in known:
            return known[name]
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, encoding: text.encode("latin-1")
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def _pickled_records(path: Path, data: bytes) -> Bytes:
    try:
        batch = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
        pixels, labels = batch[b"data"], np.array(batch[b"labels"])
        fits = pixels.dtype == np.uint8 and pixels.shape == (RECORDS, _RECORD - 1)
        fits = fits and labels.shape == (RECORDS,) and labels.dtype.kind == "i"
    except Exception as error:  # broken data fails in many ways
        raise ValueError(
            f"load: {path} is truncated or corrupt: expected a batch of CIFAR-10 for Python, "
            f"got: {error}"
        ) from error
    if not fits:
        raise ValueError(
            f"load: {path} is another file: expected {RECORDS} images of {_RECORD - 1} bytes and "
            f"their labels, got data of shape {pixels.shape} and labels of shape {labels.shape}"
        )
    return np.concatenate([labels.clip(-1, 255).astype(np.uint8)[:, None], pixels], axis=1)


_FORMS = (
    _Form(FOLDER, CIFAR10_ARCHIVE, ".bin", _records),
    _Form(PYTHON_FOLDER, PYTHON_ARCHIVE, "", _pickled_records),
)


def _read_archive(archive: Path, form: _Form, split: str) -> dict[Path, bytes]:
    """Read the batches straight from the archive, in one pass; nothing is unpacked to disk."""
    import tarfile
    import zlib

    wanted = {f"{form.folder}/{name}" for name in form.names(split)}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                file = tar.extractfile(member) if name in wanted else None
                if file is not None:
                    found[name] = file.read()
                if len(found) == len(wanted):
                    break
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's own: no permission, read error, …
        raise ValueError(
            f"load: {archive} is truncated or corrupt: "
            f"expected a complete tar.gz archive, got: {error}"
        ) from error
    missing = sorted(wanted - set(found))
    if missing:
        raise ValueError(
            f"load: {archive} is truncated or another archive: expected it to hold "
            f"{', '.join(sorted(wanted))}, got none of the name {', '.join(missing)}"
        )
    return {archive / name: found[name] for name in sorted(found)}

"""CIFAR-10's binary batches, unpacked or in the published archive; or pictures in folders.

A batch is 10,000 records of 3,073 bytes: the label, then 1,024 red, 1,024 green and 1,024 blue
values, row by row. Copies as pictures (fast.ai publishes one) have them in ``train/<class>/`` and
``test/<class>/``.
"""

from __future__ import annotations

from pathlib import Path

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
RECORDS = 10_000  # in a batch
_RECORD = 1 + 3 * 32 * 32  # bytes


def locate(entry: Entry, folder: Path, split: str) -> tuple[list[Path], list[str]]:
    """Return the batches of a split in `folder`, the archive or the folder of pictures.

    When none of them is there, return nothing and the names of what is missing.
    """
    fewest = [*BATCHES[split], f"or {CIFAR10_ARCHIVE}"]
    for place in (folder / FOLDER, folder):
        found = [place / name for name in BATCHES[split] if (place / name).is_file()]
        if len(found) == len(BATCHES[split]):
            return found, []
        if found:
            missing = [place / name for name in BATCHES[split] if place / name not in found]
            fewest = [str(path.relative_to(folder)) for path in missing]
    if all((folder / split / name).is_dir() for name in entry.classes):
        return [folder / split], []
    archive = folder / CIFAR10_ARCHIVE
    return ([archive], []) if archive.is_file() else ([], fewest)


def read(entry: Entry, files: list[Path], split: str) -> tuple[Bytes, Bytes]:
    """Return the images (N, 3, 32, 32) and labels (N,) of a split, checked."""
    if files[0].is_dir():
        channels, *size = entry.image_shape
        images, labels = _folder.read(files[0], entry.classes, channels, (size[0], size[1]))
        return images, labels.astype(np.uint8)
    if files[0].name == CIFAR10_ARCHIVE:
        batches = _read_archive(files[0], split)
    else:
        batches = {path: path.read_bytes() for path in files}
    records = np.concatenate([_records(path, data) for path, data in batches.items()])
    for i, path in enumerate(batches):
        check_labels(path, records[i * RECORDS : (i + 1) * RECORDS, 0], len(entry.classes))
    return records[:, 1:].reshape(-1, *entry.image_shape), records[:, 0]


def _records(path: Path, data: bytes) -> Bytes:
    if len(data) != RECORDS * _RECORD:
        what = "is truncated" if len(data) < RECORDS * _RECORD else "has extra bytes at the end"
        raise ValueError(
            f"load: {path} {what}: expected {RECORDS * _RECORD} bytes "
            f"({RECORDS} images), got {len(data)}"
        )
    return np.frombuffer(data, np.uint8).reshape(RECORDS, _RECORD)


def _read_archive(archive: Path, split: str) -> dict[Path, bytes]:
    """Read the batches straight from the archive, in one pass; nothing is unpacked to disk."""
    import tarfile
    import zlib

    wanted = {f"{FOLDER}/{name}" for name in BATCHES[split]}
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

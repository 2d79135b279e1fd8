"""Make ``digits.npz``, the embedded data set: ``python -m convcore.data.make_digits``.

Needs scikit-learn, which ships the test part of UCI's "Optical Recognition of Handwritten Digits".
The result holds ``images`` (1797, 8, 8) and ``labels`` (1797,), both uint8, in UCI's order. Its
content is held against `CONTENT_SHA256`, and the file has no time stamps: the same zlib gives the
same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

#: Of the bytes of ``images`` followed by the bytes of ``labels``.
CONTENT_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"

Bytes = npt.NDArray[np.uint8]


def content_sha256(images: Bytes, labels: Bytes) -> str:
    """Return the check sum of the data, whatever file it came in."""
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


def from_scikit_learn() -> tuple[Bytes, Bytes]:
    """Return the images (values 0 to 16) and labels that scikit-learn ships."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)


def write(path: Path, images: Bytes, labels: Bytes) -> None:
    """Write the .npz file; refuse any data but the expected."""
    got = content_sha256(images, labels)
    if got != CONTENT_SHA256:
        raise ValueError(
            f"make_digits: the data differ from UCI's: expected SHA-256 {CONTENT_SHA256}, got {got}"
        )
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in (("images", images), ("labels", labels)):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # the same bytes on every system
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w") as file:
                np.lib.format.write_array(file, array, version=(1, 0))


def main() -> None:
    """Write the file into the package, or where the argument says."""
    parser = argparse.ArgumentParser(description="Make the embedded data set.")
    parser.add_argument(
        "path", nargs="?", type=Path, default=Path(__file__).with_name("digits.npz")
    )
    path = parser.parse_args().path
    write(path, *from_scikit_learn())
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""Small files in the standard formats, for the tests of the readers and the downloads."""

from __future__ import annotations

import gzip

import numpy as np


def idx(array) -> bytes:
    """Return the content of an IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def mnist_files(count=7, seed=0):
    """Return the four files of an MNIST of few images (name -> gzip content), and the arrays."""
    rng = np.random.default_rng(seed)
    files, arrays = {}, {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count, np.uint8)
        arrays[split] = images, labels
        files[f"{stem}-images-idx3-ubyte.gz"] = gzip.compress(idx(images), mtime=0)
        files[f"{stem}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels), mtime=0)
    return files, arrays


def write(folder, files):
    """Write `files` (name -> content) into `folder`, which is made."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder

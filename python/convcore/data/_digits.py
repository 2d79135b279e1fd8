"""The embedded data set and its fixed split."""

from __future__ import annotations

from importlib import resources

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

TEST_EVERY = 5  # every fifth image of a class is a test image


def read(split: str) -> tuple[Bytes, Bytes]:
    """Return the images (N, 1, 8, 8), values 0 to 16, and the labels (N,) of a split."""
    with (resources.files(__package__) / "digits.npz").open("rb") as file, np.load(file) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    wanted = is_test(labels) == (split == "test")
    return images[wanted][:, None], labels[wanted]


def is_test(labels: Bytes) -> npt.NDArray[np.bool_]:
    """Mark the test images: the 5th, the 10th, … of each class, in the order of the file."""
    mark = np.zeros(len(labels), np.bool_)
    for label in range(10):
        mark[np.flatnonzero(labels == label)[TEST_EVERY - 1 :: TEST_EVERY]] = True
    return mark

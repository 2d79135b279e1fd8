"""The check that the labels in a file are classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt


def check_labels(path: Path, labels: npt.NDArray[np.uint8], classes: int) -> None:
    """Raise a ValueError that names the first label that is no class."""
    bad = np.flatnonzero(labels >= classes)
    if len(bad):
        raise ValueError(
            f"load: {path} holds a label out of range: expected 0 to {classes - 1}, "
            f"got {labels[bad[0]]} at index {bad[0]}"
        )

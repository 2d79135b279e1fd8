"""What the verbs check of their output files before the work."""

from __future__ import annotations

import tempfile
from pathlib import Path


def expect_writable(name: str | Path) -> None:
    """Raise when a file of this name could not be written at the end."""
    path = Path(name)
    if not str(name):
        raise FileNotFoundError("the name of the output file is empty: expected one")
    if path.is_dir():
        raise IsADirectoryError(f"{name} cannot be written: it is a folder")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{name} cannot be written: it is no regular file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{name} cannot be written: there is no folder {path.parent}")
    try_to_write(str(name), path.parent)


def try_to_write(name: str, folder: Path) -> None:
    """Make a file that is gone at once: permission bits do not tell about read-only disks."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{name} cannot be written: {folder}: {error.strerror}") from error

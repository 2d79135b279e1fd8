"""Where the files of a data set may lie."""

from __future__ import annotations

import os
from pathlib import Path

from convcore.data import _cifar10, _idx
from convcore.data._catalogue import CIFAR10, Entry


def cache_dir() -> Path:
    """Return the folder for downloads: ``$XDG_CACHE_HOME/convcore``, else ``~/.cache/convcore``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "convcore"


def folders(entry: Entry, data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Return the folders to look into, in order: two in each root."""
    roots = [data_dir, os.environ.get("CONVCORE_DATA"), cache_dir()]
    return [folder for root in roots if root for folder in (Path(root, entry.name), Path(root))]


def locate(
    entry: Entry, split: str, data_dir: str | os.PathLike[str] | None
) -> tuple[list[Path], str]:
    """Return the files of a split from the first folder that has all of them, or none and why."""
    report = []
    for folder in folders(entry, data_dir):
        if not folder.is_dir():
            report.append(f"  {folder}: no such folder")
            continue
        find = _cifar10.locate if entry.name == CIFAR10 else _idx.locate
        found, missing = find(entry, folder, split)
        if not missing:
            return found, ""
        report.append(f"  {folder}: missing {', '.join(missing)}")
    return [], "\n".join(report)

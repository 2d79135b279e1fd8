"""What the results share: numbers, a table, a form for JSON, and a picture."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, ClassVar

import numpy as np


class Report:
    """The base class of the results: ``str(result)`` is a table, `plot` draws it."""

    #: The fields that `to_dict` leaves out: whole images.
    _large: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers in forms that JSON knows, without whole images."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]  # the subclasses are
        return {f.name: plain(getattr(self, f.name)) for f in fields if f.name not in self._large}

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw it, and save the picture when there is a path (its ending says the kind).

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            When matplotlib is not installed.
        """
        raise NotImplementedError(f"{type(self).__name__} has no picture")


def plain(value: Any) -> Any:
    """Return `value` in forms that JSON knows."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if hasattr(value, "_asdict"):  # a NamedTuple
        return plain(value._asdict())
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: plain(getattr(value, f.name)) for f in fields}
    return value


def by(sizes: tuple[int, ...]) -> str:
    """Return sizes as ``16 x 10 x 10``."""
    return " x ".join(map(str, sizes))


def percent(share: float) -> str:
    """Return a share as ``12.3%``; a dash when there is none."""
    return "-" if np.isnan(share) else f"{share:.1%}"


def called(layer: str) -> str:
    """Return a layer's name for a title: ``layer 4``, and not ``layer layer1.0``."""
    return layer if layer.startswith("layer") else f"layer {layer}"

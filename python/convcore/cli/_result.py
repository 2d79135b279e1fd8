"""What a verb gives back, and how it is printed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

Document = dict[str, Any]


class Result(NamedTuple):
    """The same facts twice: for ``--json`` and for people."""

    document: Document
    text: str
    code: int = 0  # the exit code


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with something to say about it."""

    def __init__(self, message: str, document: Document) -> None:
        super().__init__(message)
        self.document = document


def to_json(document: Document) -> str:
    """Return strict JSON: NaN and infinities, which JSON does not know, become null."""
    return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def one_line(error: Exception) -> str:
    """Return what went wrong, without line breaks."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, (LookupError, AssertionError)) or not str(error):
        text = f"{type(error).__name__} {error}".strip()  # says nothing by itself
    else:
        text = str(error)
    return re.sub(r"\s*\n\s*", " ", text)


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return lines of a name and a value."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table: the first column to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]

    def line(cells: tuple[str, ...]) -> str:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(head), rule, *map(line, lines[1:])])

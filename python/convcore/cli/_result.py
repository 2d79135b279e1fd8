"""What a verb gives back, and how it is printed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from convcore._table import table as table

Document = dict[str, Any]


class Result(NamedTuple):
    """The same facts twice: for ``--json`` and for people."""

    document: Document
    text: str  # empty: nothing to print
    errors: tuple[Exception, ...] = ()  # what did not work, beside what did
    code: int = 0  # the exit code when there are no errors


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


#: The functions of the package that put their name before a message: no news on a command line.
_OWNER = re.compile(
    r"(load|load_extra|load_checkpoint|read_image|save|fit|predict|summary|explain|check|activations|"
    r"activation_statistics|adversarial_curve|concepts|confusion_matrix|dissect|error_table|"
    r"feature_maps|fgsm|filters|filters.apply|grad_cam|learning_curves|receptive_field|saliency|"
    r"top_patches): "
)


def describe(error: Exception | Warning) -> str:
    """Return what went wrong, in words for the command line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (LookupError, AssertionError)) or not str(error):
        return f"{type(error).__name__} {error}".strip()  # says nothing by itself
    text = str(error)
    owner = _OWNER.match(text)
    return text[owner.end() :] if owner else text


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return lines of a name and a value."""
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

"""The file of measured algorithms: written by ``convcore tune``, read by ``import convcore``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from convcore import _core
from convcore._names import did_you_mean

VARIABLE = "CONVCORE_ALGORITHMS"
FORMAT = "convcore algorithms"
VERSION = 1


class Pass(NamedTuple):
    """One pass of a convolution: what tells it apart from others."""

    which: str  # "forward", "backward_input", "backward_weight"
    x: tuple[int, ...]
    w: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]  # top, bottom, left, right
    dilation: tuple[int, ...]
    groups: int


_SIZES = {"x": 4, "w": 4, "stride": 2, "padding": 4, "dilation": 2}  # how many numbers each has


def to_json(choices: Iterable[tuple[Pass, str, dict[str, float]]], facts: dict[str, Any]) -> str:
    """Return the text of a file: a line for each pass, its algorithm, and the seconds of all.

    Parameters
    ----------
    choices : iterable of (Pass, str, dict)
    facts : dict
        Where the figures come from; nobody reads that but people.
    """
    lines = []
    for key, algorithm, seconds in choices:
        fields = key._asdict()
        entry = {"pass": fields.pop("which"), **fields, "algorithm": algorithm, "seconds": seconds}
        lines.append(json.dumps(entry))
    head = json.dumps({"format": FORMAT, "version": VERSION, **facts}, indent=2)
    return head[: -len("\n}")] + ',\n  "choices": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"


def use(path: str) -> None:
    """Take the algorithms in a file for their convolutions, from now on.

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When it is no such file, or names an algorithm that is not known or that cannot compute its
        convolution.
    """
    content = _content(path)
    choices = [_choice(f"{path}: choice {i}", entry) for i, entry in enumerate(content)]
    _core.set_conv2d_choices([(*key, algorithm) for key, algorithm in choices])


def _content(path: str) -> list[Any]:
    wrong = f"{path} is no file of convcore tune"
    try:
        document = json.loads(Path(path).read_text("utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise ValueError(f"{wrong}: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{wrong}: expected an object with 'format': '{FORMAT}'")
    if document.get("version") != VERSION:
        raise ValueError(
            f"{path} was written by another version of convcore: expected version {VERSION} of the "
            f"format, got {document.get('version')!r}"
        )
    choices = document.get("choices")
    if not isinstance(choices, list):
        raise ValueError(f"{wrong}: expected a list 'choices', got {choices!r}")
    return choices


def _choice(where: str, entry: Any) -> tuple[Pass, str]:
    """Return what an entry says, if it can be done."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected an object, got {entry!r}")
    x, w, stride, padding, dilation = (
        _integers(where, name, entry.get(name), count) for name, count in _SIZES.items()
    )
    (groups,) = _integers(where, "groups", [entry.get("groups")], 1)
    key = Pass(str(entry.get("pass")), x, w, stride, padding, dilation, groups)
    algorithm = entry.get("algorithm")
    try:
        possible = _core.conv2d_algorithms(*key)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if algorithm not in possible:
        raise ValueError(
            f"{where}: algorithm is not known or cannot compute this convolution: expected one of "
            f"{', '.join(possible)}, got {algorithm!r}{did_you_mean(str(algorithm), possible)}"
        )
    return key, str(algorithm)


def _integers(where: str, name: str, numbers: Any, count: int) -> tuple[int, ...]:
    wrong = not isinstance(numbers, list) or len(numbers) != count
    if wrong or not all(type(n) is int and abs(n) < 2**63 for n in numbers):
        raise ValueError(
            f"{where}: {name}: expected {count} integer{'s' * (count > 1)}, got {numbers!r}"
        )
    return tuple(numbers)

"""Two runs of the benchmarks, row by row: what became slower."""

from __future__ import annotations

import json
import os
import statistics
from typing import Any, NamedTuple

from convcore.bench.report import Ratio, key
from convcore.bench.run import OURS

Document = dict[str, Any]

#: With fewer rounds there is no spread to be beyond.
FEWEST_ROUNDS = 3
_SETTINGS = ("threads", "busy")
_MACHINE = ("cpu", "instruction_set", "compiler")


class Comparison(NamedTuple):
    """One row of two runs: how many times faster the new one is."""

    case: str
    which: str
    setting: str  # the state of the caches, or the batch size
    ratio: Ratio
    slower: bool


def read(path: str | os.PathLike[str]) -> Document:
    """Return what ``convcore bench --json FILE`` wrote.

    Raises
    ------
    ValueError
        When it is something else.
    """
    with open(path, encoding="utf-8") as file:
        try:
            document = json.load(file)
            usable = all(row["seconds"][OURS] and key(row) for row in document["rows"])
        except (ValueError, KeyError, TypeError):
            usable = False
    if not usable:
        raise ValueError(f"{os.fspath(path)} is no result of convcore bench --json FILE")
    return document  # type: ignore[no-any-return]


def compare(old: Document, new: Document) -> list[Comparison]:
    """Compare the rows that both runs have.

    A row is slower when the slowest round of the old run is faster than the fastest round of the
    new one: noise alone does that once in 3432 rows at 7 rounds each.

    Raises
    ------
    ValueError
        When the runs have no row in common.
    """
    before = {key(row): row["seconds"][OURS] for row in old["rows"]}
    comparisons = []
    for row in new["rows"]:
        if key(row) not in before:
            continue
        then, now = before[key(row)], row["seconds"][OURS]
        found = Ratio(
            statistics.median(then) / statistics.median(now),
            min(then) / max(now),
            max(then) / min(now),
        )
        enough = min(len(then), len(now)) >= FEWEST_ROUNDS
        comparisons.append(Comparison(*key(row), found, enough and found.high < 1))
    if not comparisons:
        raise ValueError(
            "the two runs have no row in common: expected the same cases, passes and caches"
        )
    return comparisons


def differences(old: Document, new: Document) -> list[str]:
    """Return in which respects the runs cannot be compared."""
    pairs = [(name, old.get(name), new.get(name)) for name in _SETTINGS if name in new]
    then, now = old.get("machine", {}), new.get("machine", {})
    pairs += [(name, then.get(name), now.get(name)) for name in _MACHINE]
    return [f"{name.replace('_', ' ')}: {a} then, {b} now" for name, a, b in pairs if a != b]

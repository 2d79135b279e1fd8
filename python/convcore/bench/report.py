"""What the measured seconds of layers say: rates, shares of the ceilings, ratios with their spread.

`network_report` does it for whole networks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from convcore.bench.run import OURS

Row = dict[str, Any]
Document = dict[str, Any]
_BANDWIDTH_BOUND = ("pool", "norm")

#: Above this load something else runs. OpenMP's waiting threads then cost whoever lets them spin.
BUSY = 0.5


class Ratio(NamedTuple):
    """How many times faster, and between what the single rounds lie."""

    median: float
    low: float
    high: float


def key(row: Row) -> tuple[str, str, str]:
    """Return what makes a row the same in two runs: what is measured, and in which setting."""
    setting = row["caches"] if "caches" in row else f"batch {row['batch']}"
    return row["case"], row["pass"], setting


def median(row: Row, side: str = OURS) -> float:
    """Return the median of the seconds of a side's rounds."""
    seconds: list[float] = row["seconds"][side]
    return statistics.median(seconds)


def best_peer(row: Row) -> str | None:
    """Return the fastest side that is not ours."""
    peers = [side for side in row["seconds"] if side != OURS]
    return min(peers, key=lambda side: median(row, side), default=None)


def ratio(row: Row) -> Ratio | None:
    """Return the peer's best seconds over ours, round by round; None without a peer."""
    peer = best_peer(row)
    if peer is None:
        return None
    ratios = [a / b for a, b in zip(row["seconds"][peer], row["seconds"][OURS], strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def is_bandwidth_bound(row: Row) -> bool:
    """Return whether the row's ceiling is the memory's bandwidth, and not the arithmetic."""
    return row["op"] in _BANDWIDTH_BOUND


def rate(row: Row) -> float:
    """Return FLOP/s, or bytes/s of what is bound by bandwidth."""
    amount: int = row["bytes"] if is_bandwidth_bound(row) else row["flops"]
    return amount / median(row)


def share(row: Row, peaks: dict[str, float]) -> float:
    """Return the rate over its ceiling, both from the same run."""
    return rate(row) / peaks["memory_copy" if is_bandwidth_bound(row) else "fma"]


def geometric_mean(values: Iterable[float]) -> float:
    """Return it."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def summary(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return, for each op and state of the caches, the geometric mean of the ratios."""
    groups: dict[tuple[str, str], list[tuple[float, Row]]] = {}
    for row in rows:
        found = ratio(row)
        if found is not None:
            groups.setdefault((row["op"], row["caches"]), []).append((found.median, row))
    return [
        {
            "op": op,
            "caches": caches,
            "cells": len(ratios),
            "geometric_mean": geometric_mean(value for value, _ in ratios),
            "lowest": min(value for value, _ in ratios),
            "lowest_at": " ".join(key(min(ratios, key=lambda pair: pair[0])[1])[:2]),
        }
        for (op, caches), ratios in groups.items()
    ]


def complete(document: Document) -> Document:
    """Return the document of `run.measure` with what follows from it, for who reads the JSON."""
    peaks = document["peaks"]
    rows = []
    for row in document["rows"]:
        found = ratio(row)
        rows.append(
            row
            | {
                "median_seconds": {side: median(row, side) for side in row["seconds"]},
                "rate": rate(row),
                "rate_unit": "B/s" if is_bandwidth_bound(row) else "FLOP/s",
                "peak_share": share(row, peaks),
                "best_peer": best_peer(row),
                "ratio": found._asdict() if found else None,
            }
        )
    return document | {"rows": rows, "summary": summary(document["rows"])}


# ---- for people ----------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Return a time with three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale or unit == "us":
            value = seconds / scale
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    raise AssertionError


def head(document: Document) -> tuple[str, ...]:
    """Return the head of the table."""
    peers = _peers(document)
    return (
        "case",
        "pass",
        "caches",
        "algorithm",
        OURS,
        "rate",
        "share",
        *peers,
        *(("ratio", "spread") if peers else ()),
    )


def lines(document: Document) -> list[tuple[str, ...]]:
    """Return the table's lines."""
    peers = _peers(document)
    return [_line(row, document["peaks"], peers) for row in document["rows"]]


def _peers(document: Document) -> list[str]:
    return list(dict.fromkeys(s for row in document["rows"] for s in row["seconds"] if s != OURS))


def _line(row: Row, peaks: dict[str, float], peers: list[str]) -> tuple[str, ...]:
    unit = "GB/s" if is_bandwidth_bound(row) else "GFLOP/s"
    cells = [
        *key(row),
        row["algorithm"] or "-",
        duration(median(row)),
        f"{rate(row) * 1e-9:.1f} {unit}",
        f"{share(row, peaks):.0%}",
        *(duration(median(row, peer)) if peer in row["seconds"] else "-" for peer in peers),
    ]
    found = ratio(row)
    if found is not None:
        cells += [f"{found.median:.2f}", f"{found.low:.2f} .. {found.high:.2f}"]
    return tuple(cells)


def closing(document: Document) -> list[str]:
    """Return what stands below the table."""
    machine, peaks = document["machine"], document["peaks"]
    lines = [
        where(document),
        f"ceilings: {peaks['fma'] * 1e-9:.0f} GFLOP/s ({peaks['fma_broadcast'] * 1e-9:.0f} with an "
        f"operand from L1), copy {peaks['l2_copy'] * 1e-9:.0f} GB/s in L2, "
        f"{peaks['memory_copy'] * 1e-9:.1f} GB/s in memory",
    ]
    for group in summary(document["rows"]):
        lines.append(
            f"{group['op']}, {group['caches']} caches: {group['geometric_mean']:.2f} times torch "
            f"{machine['torch']} (geometric mean of {group['cells']}; lowest "
            f"{group['lowest']:.2f}, {group['lowest_at']})"
        )
    if machine["torch"] is None:
        lines.append("torch was not measured")
    return lines + load(document)


def where(document: Document) -> str:
    """Return the line that names the machine and the build."""
    machine = document["machine"]
    return (
        f"{machine['cpu']}, {machine['instruction_set']}, threads: {document['threads']}, rounds: "
        f"{document['rounds']}; {machine['compiler']}; commit {machine['commit'] or 'unknown'}"
    )


def load(document: Document) -> list[str]:
    """Return the line about a machine that did something else, if it did."""
    machine = document["machine"]
    if machine["load"] <= BUSY:
        return []
    return [
        f"the machine was busy when the run began (load {machine['load']:.1f} on "
        f"{machine['cpus']} CPUs): the ratios say little"
    ]

"""What the measured seconds of networks say: images per second, ratios, how the cost grows."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from convcore.bench.report import (
    Document,
    Row,
    best_peer,
    geometric_mean,
    load,
    median,
    ratio,
    where,
)
from convcore.bench.run import OURS


def images_per_second(row: Row, side: str = OURS) -> tuple[float, float, float]:
    """Return the median of a side's rounds, the slowest and the fastest."""
    batch, seconds = row["batch"], row["seconds"][side]
    return batch / median(row, side), batch / max(seconds), batch / min(seconds)


def best_memory(row: Row) -> str | None:
    """Return the side that is not ours and takes the least."""
    peers = [side for side in row["bytes"] if side != OURS]
    return min(peers, key=lambda side: median_bytes(row, side), default=None)


def median_bytes(row: Row, side: str = OURS) -> float:
    """Return the median of what a side took."""
    sizes: list[int] = row["bytes"][side]
    return statistics.median(sizes)


def complete(document: Document) -> Document:
    """Return the document of a run with what follows from it, for who reads the JSON."""
    rows = []
    for row in document["rows"]:
        found = ratio(row)
        rates = {side: images_per_second(row, side) for side in row["seconds"]}
        rows.append(
            row
            | {
                "images_per_second": {
                    side: {"median": middle, "low": low, "high": high}
                    for side, (middle, low, high) in rates.items()
                },
                "best_peer": best_peer(row),
                "ratio": found._asdict() if found else None,
            }
        )
    completed = document | {"rows": rows}
    if "memory" in document:
        completed["memory"] = [
            row | {"best_peer": best_memory(row), "ratio": memory_ratio(row)}
            for row in document["memory"]
        ]
    if "scaling" in document:
        completed["scaling"] = {
            name: {"rows": places, "deviation": deviations(document, name).tolist()}
            for name, places in document["scaling"].items()
        }
    return completed


def memory_ratio(row: Row) -> float | None:
    """Return our bytes over the least of the others."""
    peer = best_memory(row)
    return median_bytes(row) / median_bytes(row, peer) if peer else None


# ---- how the cost grows --------------------------------------------------------------------------

#: An image costs the same in any batch: a constant. A network costs its ends and so much per block:
#: a straight line in the depth.
_DEGREES = {"batch": 0, "depth": 1}


def scaling_rows(document: Document, name: str) -> list[Row]:
    """Return the rows of the scaling over "batch" or "depth"."""
    places = document["scaling"][name]
    if isinstance(places, dict):  # of a completed document
        places = places["rows"]
    return [document["rows"][place] for place in places]


def size(row: Row, name: str) -> int:
    """Return the batch or the depth of a row."""
    return int(row["batch"] if name == "batch" else row["case"].removeprefix("resnet"))


def image_cost(row: Row) -> float:
    """Return the seconds of an image."""
    batch: int = row["batch"]
    return median(row) / batch


def linear(document: Document, name: str) -> Any:
    """Return what the cost of an image would be at the rows' sizes, if it grew as it should.

    That is the line with the smallest sum of squares of the relative deviations.
    """
    rows = scaling_rows(document, name)
    sizes = np.array([size(row, name) for row in rows], np.float64)
    costs = np.array([image_cost(row) for row in rows])
    powers = np.vander(sizes / sizes.max(), min(_DEGREES[name] + 1, len(rows)))
    line, *_ = np.linalg.lstsq(powers / costs[:, None], np.ones(len(rows)), rcond=None)
    return powers @ line


def deviations(document: Document, name: str) -> Any:
    """Return the rows' relative deviations from `linear`."""
    costs = np.array([image_cost(row) for row in scaling_rows(document, name)])
    return costs / linear(document, name) - 1


# ---- for people ----------------------------------------------------------------------------------


def head(document: Document) -> tuple[str, ...]:
    """Return the head of the table."""
    peers = ("torch's best", "min .. max", "mode", "ratio", "spread") if _peers(document) else ()
    return ("network", "task", "batch", "images/s", "min .. max", *peers)


def lines(document: Document) -> list[tuple[str, ...]]:
    """Return the table's lines."""
    return [_line(row) for row in document["rows"]]


def _peers(document: Document) -> bool:
    return any(best_peer(row) for row in document["rows"])


def _line(row: Row) -> tuple[str, ...]:
    cells = [row["case"], row["pass"], str(row["batch"]), *_speed(row, OURS)]
    peer, found = best_peer(row), ratio(row)
    if peer is not None and found is not None:
        cells += [*_speed(row, peer), peer.removeprefix("torch ")]
        cells += [f"{found.median:.2f}", f"{found.low:.2f} .. {found.high:.2f}"]
    return tuple(cells)


def _speed(row: Row, side: str) -> tuple[str, str]:
    middle, low, high = images_per_second(row, side)
    return f"{middle:,.0f}", f"{low:,.0f} .. {high:,.0f}"


def scaling_head() -> tuple[str, ...]:
    """Return the head of the table of a scaling."""
    return ("network", "batch", "us per image", "images/s", "min .. max", "linear", "deviation")


def scaling_lines(document: Document, name: str) -> list[tuple[str, ...]]:
    """Return the table's lines."""
    rows = scaling_rows(document, name)
    columns = (rows, linear(document, name), deviations(document, name))
    return [
        (
            row["case"],
            str(row["batch"]),
            f"{image_cost(row) * 1e6:.1f}",
            *_speed(row, OURS),
            f"{line * 1e6:.1f}",
            f"{deviation:+.1%}",
        )
        for row, line, deviation in zip(*columns, strict=True)
    ]


def worst(document: Document, name: str) -> str:
    """Return the line that says how far from linear the cost is."""
    found = deviations(document, name)
    place = int(np.argmax(np.abs(found)))
    at = size(scaling_rows(document, name)[place], name)
    return f"largest deviation from linear over the {name}: {found[place]:+.1%}, at {name} {at}"


def closing(document: Document) -> list[str]:
    """Return what stands below the table."""
    lines = []
    for row in document.get("memory", ()):
        peer, share = best_memory(row), memory_ratio(row)
        line = f"{row['case']} train, batch {row['batch']}: memory grows by {_size(row, OURS)}"
        if peer is not None and share is not None:
            line += f", {peer}'s by {_size(row, peer)}: {share:.2f} of it"
        lines.append(line)
    lines.append(where(document))
    groups: dict[str, list[float]] = {}
    for row in document["rows"]:
        found = ratio(row)
        if found is not None:
            groups.setdefault(row["pass"], []).append(found.median)
    version = document["machine"]["torch"]
    lines += [
        f"{task}: {geometric_mean(ratios):.2f} times torch {version} (geometric mean of "
        f"{len(ratios)}; lowest {min(ratios):.2f})"
        for task, ratios in groups.items()
    ]
    if version is None and "scaling" not in document:
        lines.append("torch was not measured")
    if document["busy"]:
        lines.append(f"beside {document['busy']} busy processes")
    return lines + load(document)


def _size(row: Row, side: str) -> str:
    return f"{median_bytes(row, side) / 2**20:.1f} MiB"

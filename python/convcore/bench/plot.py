"""The roofline: what each layer reaches, below what the machine can do."""

from __future__ import annotations

import os
from typing import Any

from convcore.bench.report import median

_MARKERS = {"forward": "o", "backward": "s", "backward_input": "<", "backward_weight": "^"}


def roofline(document: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw a measured document.

    Each pass of each layer is a point: across, its operations per byte that has to move; up, what
    it reaches. The lines are the ceilings of the same run. A point may lie above: Winograd's
    algorithm does with fewer operations than are counted, and data in a cache moves faster.

    Parameters
    ----------
    document : dict
        As from `run.measure`.
    path : path
        Of the picture; its ending says the kind.

    Raises
    ------
    ImportError
        When matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "the plot needs matplotlib: install it with `pip install 'convcore[plot]'`"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows, peaks = document["rows"], document["peaks"]
    states = {row["caches"] for row in rows}
    state = "warm" if "warm" in states else "cold"
    rows = [row for row in rows if row["caches"] == state]
    networks = list(dict.fromkeys(row["case"].partition("_")[0] for row in rows))
    colours = dict(zip(networks, plt.get_cmap("tab10").colors, strict=False))

    figure, axes = plt.subplots(figsize=(13, 9))
    intensities = [row["flops"] / row["bytes"] for row in rows]
    ends = (min([0.5, *intensities]) / 2, max([100.0, *intensities]) * 2)
    for bandwidth, style in (("memory_copy", "-"), ("l2_copy", "--")):
        roof = [min(x * peaks[bandwidth], peaks["fma"]) for x in _steps(*ends)]
        label = f"{bandwidth.replace('_', ' ')}, {peaks[bandwidth] * 1e-9:.0f} GB/s"
        axes.plot(_steps(*ends), [y * 1e-9 for y in roof], style, color="black", label=label)
    axes.text(
        ends[1], peaks["fma"] * 1e-9, f"FMA peak, {peaks['fma'] * 1e-9:.0f} GFLOP/s ",
        ha="right", va="bottom",
    )  # fmt: skip
    for row, intensity in zip(rows, intensities, strict=True):
        network, _, layer = row["case"].partition("_")
        reached = row["flops"] / median(row) * 1e-9
        axes.plot(
            intensity, reached, _MARKERS[row["pass"]], color=colours.get(network, "grey"), alpha=0.8
        )
        axes.annotate(
            layer, (intensity, reached), xytext=(4, 2), textcoords="offset points", fontsize=6
        )
    for network, colour in colours.items():
        axes.plot([], [], "o", color=colour, label=network)
    for which in dict.fromkeys(row["pass"] for row in rows):
        axes.plot([], [], _MARKERS[which], color="grey", label=which.replace("_", " "))
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="FLOPs per byte of the arrays",
        ylabel="GFLOP/s",
        title=f"{document['machine']['cpu']}, threads: {document['threads']}, {state} caches",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _steps(low: float, high: float, count: int = 200) -> list[float]:
    """Return points at equal distances on a logarithmic axis."""
    growth = (high / low) ** (1 / (count - 1))
    return [low * growth**i for i in range(count)]

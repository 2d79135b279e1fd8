"""Pictures: the roofline of layers; the speed of networks, and how their cost grows."""

from __future__ import annotations

import os
from typing import Any

from convcore.bench import network_report as report
from convcore.bench.report import Row, best_peer, median, ratio
from convcore.bench.run import OURS

_COLOURS = {"train": "tab:blue", "predict": "tab:orange"}
_TASKS = {"train": "training", "predict": "inference"}
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
    plt = _pyplot()
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


def networks(document: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw images per second over the batch size: a panel per network, a colour per task.

    Our line is solid, that of torch's best mode dashed; bars go from the slowest round to the
    fastest.

    Parameters
    ----------
    document : dict
        As from `network_run.measure`.
    path : path
        Of the picture; its ending says the kind.

    Raises
    ------
    ImportError
        When matplotlib is not installed.
    """
    plt = _pyplot()
    rows = sorted(document["rows"], key=lambda row: row["batch"])
    names = list(dict.fromkeys(row["case"] for row in document["rows"]))
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure, panels = plt.subplots(
        lines, columns, figsize=(max(8, 4.6 * columns), 3.6 * lines + 1), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    for panel, name in zip(panels.flat, names, strict=False):
        own = [row for row in rows if row["case"] == name]
        for task, colour in _COLOURS.items():
            _speeds(panel, [row for row in own if row["pass"] == task], colour)
        _batches(panel, sorted({row["batch"] for row in own}))
        panel.set(title=name, ylabel="images/s")
        _rates(panel)
        low, high = panel.get_ylim()
        panel.set_ylim(low / 1.3, high * 1.6)  # room for the ratios
    _legend(figure, document)
    torch = document["machine"]["torch"]
    what = f"{OURS} beside torch {torch}; the numbers: times torch" if torch else OURS
    figure.suptitle(f"{what}\n{_where(document)}", fontsize=10)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def scaling(document: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the cost of an image over the batch size and over the depth, beside what is linear.

    Parameters
    ----------
    document : dict
        As from `network_run.measure_scaling`.
    path : path
        Of the picture; its ending says the kind.

    Raises
    ------
    ImportError
        When matplotlib is not installed.
    """
    plt = _pyplot()
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for panel, name in zip(panels, ("batch", "depth"), strict=True):
        rows = report.scaling_rows(document, name)
        sizes = [report.size(row, name) for row in rows]
        line = report.linear(document, name) * 1e6
        panel.plot(sizes, line, color="grey", label="linear")
        panel.fill_between(
            sizes, 0.9 * line, 1.1 * line, color="grey", alpha=0.2, lw=0, label="within 10 %"
        )
        costs = [[1e6 / rate for rate in report.images_per_second(row)] for row in rows]
        _points(panel, sizes, costs, fmt="o", color=_COLOURS["train"], label=OURS)
        if name == "batch":
            _batches(panel, sizes)
        else:
            panel.set(xticks=sizes, xlabel="layers")
            panel.grid(alpha=0.3)
        what = "ResNet-20" if name == "batch" else f"ResNets, batch {rows[0]['batch']}"
        panel.set(ylabel="us per image", ylim=(0, 1.2 * max(max(cost) for cost in costs)))
        panel.set_title(f"{what}\n{report.worst(document, name)}", fontsize=9)
        panel.legend(fontsize=8, loc="lower right")
    figure.suptitle(f"Training, cost of an image\n{_where(document)}", fontsize=10)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _speeds(panel: Any, rows: list[Row], colour: str) -> None:
    """Draw one task of a network: our line, with the ratios above it, and torch's."""
    from matplotlib.patheffects import withStroke

    batches = [row["batch"] for row in rows]
    style = {"color": colour, "ms": 5, "lw": 1.4}
    ours = [report.images_per_second(row) for row in rows]
    _points(panel, batches, ours, fmt="o-", **style)
    pairs = [(row, peer) for row in rows if (peer := best_peer(row)) is not None]
    theirs = [report.images_per_second(row, peer) for row, peer in pairs]
    _points(panel, [row["batch"] for row, _ in pairs], theirs, fmt="s--", mfc="white", **style)
    for row, (rate, _, high) in zip(rows, ours, strict=True):
        found = ratio(row)
        if found is not None:
            panel.annotate(
                f"{found.median:.1f}", (row["batch"], max(rate, high)), xytext=(0, 4),
                textcoords="offset points", ha="center", fontsize=8, color=colour, zorder=5,
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )  # fmt: skip


def _points(panel: Any, x: list[int], values: list[Any], **style: Any) -> None:
    """Draw medians with bars between the extremes of the rounds, each (median, one, other)."""
    if not x:
        return
    middles = [middle for middle, *_ in values]
    below = [middle - min(ends) for middle, *ends in values]
    above = [max(ends) - middle for middle, *ends in values]
    panel.errorbar(x, middles, yerr=[below, above], capsize=2, **style)


def _batches(panel: Any, sizes: list[int]) -> None:
    """Make the axis across that of batch sizes."""
    panel.set_xscale("log", base=2)
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.set_xticks([], minor=True)
    panel.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    panel.set_xlabel("batch")
    panel.grid(alpha=0.3, which="both")


def _rates(panel: Any) -> None:
    """Make the axis up that of images per second: 20k, 50k, 100k."""
    from matplotlib import ticker

    panel.set_yscale("log")
    panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    panel.yaxis.set_minor_formatter(ticker.NullFormatter())


def _legend(figure: Any, document: dict[str, Any]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for task, colour in _COLOURS.items():
        if any(row["pass"] == task for row in document["rows"]):
            handles.append(Line2D([], [], ls="-", marker="o", color=colour))
            handles[-1].set_label(f"{_TASKS[task]}, {OURS}")
            if document["machine"]["torch"] is not None:
                handles.append(Line2D([], [], ls="--", marker="s", color=colour, mfc="white"))
                handles[-1].set_label(f"{_TASKS[task]}, torch's best mode")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def _where(document: dict[str, Any]) -> str:
    machine = document["machine"]
    busy = f", beside {document['busy']} busy processes" if document["busy"] else ""
    return (
        f"{machine['cpu']}, {machine['instruction_set']}, threads: {document['threads']}{busy}; "
        f"{machine['date'][:10]}, commit {machine['commit'] or 'unknown'}"
    )


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "the plot needs matplotlib: install it with `pip install 'convcore[plot]'`"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _steps(low: float, high: float, count: int = 200) -> list[float]:
    """Return points at equal distances on a logarithmic axis."""
    growth = (high / low) ** (1 / (count - 1))
    return [low * growth**i for i in range(count)]

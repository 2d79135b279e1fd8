"""Drawing for the reports, through matplotlib, which is imported here only.

The colours are those of Okabe and Ito, which colour-blind people can tell apart; lines differ in
their markers, too.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convcore.insight import _draw

COLOURS = (*_draw.COLOURS, "#000000", "#999999")
MARKERS = "osD^vP*X"
_DPI = 110


class NoMatplotlib(Exception):
    """Says what to install."""


def render(draw: Callable[[Any], None], width: float = 7.0, height: float = 4.0) -> bytes:
    """Return what `draw` draws as PNG; sizes in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NoMatplotlib(
            "the pictures are missing: they need matplotlib (pip install 'convcore[plot]')"
        ) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
    return file.getvalue()


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    percent: bool = True,
    **axis: Any,
) -> Callable[[Any], None]:
    """Return what draws curves (x, y) with their names; `axis` goes to ``Axes.set``."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for index, (name, (x, y)) in enumerate(curves.items()):
            values = np.asarray(y) * (100 if percent else 1)
            style = MARKERS[index % len(MARKERS)] + "-"
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(x, values, style, color=colour, label=name, markersize=5)
        axes.set(xlabel=xlabel, ylabel=ylabel, **axis)
        if all(isinstance(value, int) for x, _ in curves.values() for value in x):
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()

    return draw


def bars(
    groups: Mapping[str, Sequence[float]],
    names: Sequence[str],
    *,
    xlabel: str,
    percent: bool = True,
    **axis: Any,
) -> Callable[[Any], None]:
    """Return what draws horizontal bars: `names` down the side, one colour per group."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        thickness = 0.8 / len(groups)
        for index, (group, values) in enumerate(groups.items()):
            places = np.arange(len(names)) + (index - (len(groups) - 1) / 2) * thickness
            shown = np.asarray(values) * (100 if percent else 1)
            drawn = axes.barh(places, shown, thickness, color=COLOURS[index], label=group)
            axes.bar_label(drawn, fmt="%.1f" if percent else "%.3g", padding=2, fontsize=8)
        axes.set_yticks(np.arange(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlabel=xlabel, **axis)
        axes.grid(alpha=0.3, axis="x")
        axes.margins(x=0.12)
        if len(groups) > 1:
            figure.legend(loc="outside lower center", ncols=len(groups))

    return draw


def confusion(
    matrices: Mapping[str, np.ndarray[Any, Any]], classes: Sequence[str]
) -> Callable[[Any], None]:
    """Return what draws confusion matrices, shares of the true classes, side by side."""

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(matrices), squeeze=False)[0]
        for panel, (name, matrix) in zip(panels, matrices.items(), strict=True):
            panel.imshow(matrix, cmap="cividis", vmin=0, vmax=1)
            for row, line in enumerate(matrix):
                for column, value in enumerate(line):
                    if value >= 0.005:
                        colour = "black" if value > 0.5 else "white"
                        text = f"{100 * value:.0f}"
                        panel.text(
                            column, row, text, ha="center", va="center", color=colour, fontsize=7
                        )
            ticks = range(len(classes))
            panel.set_xticks(ticks, classes, rotation=60, ha="right", fontsize=8)
            panel.set_yticks(ticks, classes, fontsize=8)
            panel.set(title=f"{name} (% of the true class)", xlabel="answer", ylabel="true class")

    return draw


def gallery(
    images: Sequence[np.ndarray[Any, Any]],
    titles: Sequence[str],
    columns: int,
    *,
    diverging: bool = False,
    rows: Sequence[str] = (),
) -> Callable[[Any], None]:
    """Return what draws images (H, W) or (3, H, W) in a grid.

    `diverging` centres the colours at 0, for weights; `rows` are names beside the lines.
    """

    def draw(figure: Any) -> None:
        count = -(-len(images) // columns)
        panels = figure.subplots(count, columns, squeeze=False)
        for panel in panels.flat:
            panel.set(xticks=[], yticks=[])
            for side in panel.spines.values():
                side.set_visible(False)
        for panel, image, title in zip(panels.flat, images, titles, strict=False):
            picture = np.moveaxis(image, 0, -1) if image.ndim == 3 else image
            if diverging:
                reach = float(np.abs(image).max()) or 1.0
                panel.imshow(picture, cmap="PuOr", vmin=-reach, vmax=reach)
            else:
                panel.imshow(picture, cmap="gray", vmin=0, vmax=1)
            panel.set_title(title, fontsize=8)
        for line, name in zip(panels, rows, strict=False):
            line[0].set_ylabel(name, fontsize=9)

    return draw

"""What the pictures share: matplotlib, colours, images, mosaics."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# The colours of Okabe and Ito, which people with any kind of colour vision can tell apart.
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#56B4E9",
    "#CC79A7",
)
GREY = "#666666"
PAPER = "#C6DBEF"  # where there is no image

SIGNED = "RdBu_r"  # 0 is white
SEQUENTIAL = "viridis"
HEAT = "inferno"

_STYLE = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.titlesize": 13,
    "legend.frameon": False,
    "image.interpolation": "nearest",
}
_DPI = 150


@contextmanager
def style() -> Iterator[None]:
    """Within the block, what is drawn has the look of these pictures."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "the picture needs matplotlib: install it with `pip install 'convcore[plot]'`"
        ) from error
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, in inches; it belongs to no window and to no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def finish(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    """Save the figure when there is a path, and return it."""
    if path is not None:
        figure.savefig(path, dpi=_DPI)
    return figure


def bare(axes: Any, title: str = "", **how: Any) -> None:
    """Take ticks and frame away, for images."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, **how)


def to_pixels(
    images: Array, mean: float | Sequence[float] | None, std: float | Sequence[float] | None
) -> Array:
    """Return images (N, C, H, W) as pictures (N, H, W) or (N, H, W, 3), from 0 to 1.

    Without `mean` and `std` each image is stretched from its smallest to its largest value.
    """
    x = images.astype(np.float64)
    if mean is None or std is None:
        low, high = (f(x, axis=(1, 2, 3), keepdims=True) for f in (np.nanmin, np.nanmax))
        x = (x - low) / np.where(high > low, high - low, 1)
    else:
        shift, scale = (np.reshape(v, (-1, 1, 1)) for v in (mean, std))
        x = np.clip(x * scale + shift, 0, 1)
    return np.moveaxis(x, 1, -1) if x.shape[1] == 3 else x.mean(axis=1)


def picture(axes: Any, pixels: Array, title: str = "", **how: Any) -> None:
    """Draw a picture from `to_pixels`; NaN, which is no image, becomes blue paper."""
    axes.imshow(on_paper(pixels), cmap="gray", vmin=0, vmax=1)
    bare(axes, title, **how)


def on_paper(pixels: Array) -> Array:
    """Return a picture in colours, with blue paper in the place of NaN."""
    colours = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
    paper = [int(PAPER[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return np.where(np.isnan(colours), paper, colours)


def tiles(
    axes: Any,
    pictures: Sequence[Sequence[Array]],
    row_labels: Sequence[str] = (),
    titles: Sequence[Sequence[str]] = (),
    **how: Any,
) -> Any:
    """Draw rows of pictures of one size into one pair of axes, each with a frame.

    Grey and coloured pictures from `to_pixels`; with a ``cmap`` in `how`, fields of numbers.
    Returns what the last one became, for a bar of colours.
    """
    from matplotlib.patches import Rectangle

    height, width = pictures[0][0].shape[:2]
    tall = height / width
    step_x, step_y = 1.08, tall + (0.3 if titles else 0.08)
    field = None
    for i, row in enumerate(pictures):
        top = i * step_y
        for j, one in enumerate(row):
            left = j * step_x
            shown = one if "cmap" in how else on_paper(one)
            field = axes.imshow(shown, extent=(left, left + 1, top + tall, top), **how)
            frame = Rectangle((left, top), 1, tall, fill=False, ec=GREY, lw=0.6)
            axes.add_patch(frame)
            if titles:
                axes.text(
                    left + 0.5, top - 0.04, titles[i][j], ha="center", va="bottom", fontsize=9
                )
        if row_labels:
            axes.text(-0.1, top + tall / 2, row_labels[i], ha="right", va="center", fontsize=10)
    columns = max(map(len, pictures))
    axes.set_xlim(-0.02, columns * step_x - 0.06)
    axes.set_ylim(len(pictures) * step_y - step_y + tall + 0.02, -0.25 if titles else -0.02)
    axes.set_aspect("equal")
    bare(axes)
    return field


def mosaic(maps: Array, columns: int, gap: int = 1) -> Array:
    """Return maps (N, H, W) or (N, H, W, 3) as one array, in rows, with NaN between them."""
    count, height, width = maps.shape[:3]
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *maps.shape[3:])
    whole = np.full(shape, np.nan)
    for index, one in enumerate(maps):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        whole[top : top + height, left : left + width] = one
    return whole


def symmetric(values: Array) -> dict[str, Any]:
    """Return the colours for signed values: blue below 0, red above, both to the same extent."""
    finite = np.abs(values[np.isfinite(values)])
    extent = float(finite.max()) if finite.size else 1.0
    return {"cmap": SIGNED, "vmin": -extent or -1.0, "vmax": extent or 1.0}

"""Concepts that can be computed: edges, strokes, holes, colours, places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from convcore.insight._network import check_images

Mask = npt.NDArray[np.bool_]
_Float = npt.NDArray[np.float64]

#: Brightness of what counts as ink, and the change over two pixels that counts as an edge.
_INK, _EDGE = 0.5, 0.25
#: How much longer than wide a stroke is at least, as the coherence of its structure tensor.
_COHERENCE = 0.3
#: How far the largest of red, green and blue is above the others, in a coloured pixel.
_COLOUR = 0.15


def concepts(images: npt.ArrayLike) -> dict[str, Mask]:
    """Return masks of simple concepts, computed from the images themselves.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W)
        In [0, 1], bright on dark as digits are; C is 1 or 3.

    Returns
    -------
    dict of str to ndarray, shape (N, H, W), bool
        Edges by the side on which the ink (or the bright) lies above, below, left or right of the
        dark; strokes by direction; holes, which are dark and enclosed; the quarters of the image
        with ink in them; of colour images also red, green, blue.

    Notes
    -----
    Edges come from the Sobel operator: magnitude above 0.25, direction to the nearest of four.
    Directions of strokes come from the structure tensor J, the gradients' products averaged over
    5 x 5 pixels: a stroke runs across the direction of its gradients, and is one when
    ``sqrt((Jxx - Jyy)^2 + 4 Jxy^2) / (Jxx + Jyy)`` is above 0.3.

    Examples
    --------
    >>> from convcore import data, insight
    >>> masks = insight.concepts(data.load("digits", "test", normalize=False).x[:5])
    >>> list(masks)[:4]
    ['ink', 'top edge', 'bottom edge', 'left edge']
    >>> masks["ink"].shape, bool(masks["hole"][0].any()), bool(masks["hole"][1].any())  # a 5, a 0
    ((5, 28, 28), False, True)
    """
    x = check_images("concepts", np.asarray(images, np.float32))
    pixels = np.asarray(x, np.float64)
    if pixels.shape[1] not in (1, 3):
        raise ValueError(
            f"concepts: images have the wrong number of channels: expected 1 or 3, got {x.shape[1]}"
        )
    if pixels.min() < -1e-3 or pixels.max() > 1 + 1e-3:
        raise ValueError(
            f"concepts: images are out of range: expected [0, 1], got {pixels.min():.3g} to "
            f"{pixels.max():.3g} (undo the standardisation: x * std + mean)"
        )
    grey = pixels.mean(axis=1)
    ink = grey > _INK
    found = {"ink": ink, **_edges(grey), **_strokes(grey, ink), "hole": _holes(ink)}
    height, width = grey.shape[1:]
    rows = np.arange(height)[:, None] < height / 2
    columns = np.arange(width)[None] < width / 2
    for vertical, upper in (("upper", rows), ("lower", ~rows)):
        for side, part in (("left", columns), ("right", ~columns)):
            found[f"{vertical} {side}"] = ink & upper & part
    if pixels.shape[1] == 3:
        for channel, name in enumerate(("red", "green", "blue")):
            others = np.delete(pixels, channel, axis=1).max(axis=1)
            found[name] = pixels[:, channel] > others + _COLOUR
    return found


def _gradients(grey: _Float) -> tuple[_Float, _Float]:
    """Return the change to the right and downwards: Sobel's operator, over 8 for unit steps."""
    wide = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = wide[:, :, 2:] - wide[:, :, :-2]
    right = (across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]) / 4
    along = wide[:, 2:] - wide[:, :-2]
    down = (along[:, :, :-2] + 2 * along[:, :, 1:-1] + along[:, :, 2:]) / 4
    return right, down


def _edges(grey: _Float) -> dict[str, Mask]:
    right, down = _gradients(grey)
    strong = np.hypot(right, down) > _EDGE
    upright = np.abs(down) > np.abs(right)
    return {
        "top edge": strong & upright & (down > 0),
        "bottom edge": strong & upright & (down < 0),
        "left edge": strong & ~upright & (right > 0),
        "right edge": strong & ~upright & (right < 0),
    }


def _strokes(grey: _Float, ink: Mask) -> dict[str, Mask]:
    right, down = _gradients(grey)
    xx, xy, yy = (_blurred(a * b) for a, b in ((right, right), (right, down), (down, down)))
    coherence = np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, 1e-12)
    # Of the gradients; the stroke runs across it. Rows grow downwards.
    angle = np.degrees(np.arctan2(2 * xy, xx - yy)) / 2 + 90
    sector = np.round(angle / 45).astype(np.int64) % 4
    clear = ink & (coherence > _COHERENCE)
    names = ("horizontal stroke", "falling stroke", "vertical stroke", "rising stroke")
    return {name: clear & (sector == index) for index, name in enumerate(names)}


def _blurred(values: _Float) -> _Float:
    """Return the means of 5 x 5 pixels."""
    wide = np.pad(values, ((0, 0), (2, 2), (2, 2)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(wide, (5, 5), axis=(1, 2))
    means: _Float = windows.mean(axis=(3, 4))
    return means


def _holes(ink: Mask) -> Mask:
    """Return what is dark and not connected to the border, by its four neighbours."""
    outside = np.zeros_like(ink)
    outside[:, (0, -1)] = outside[:, :, (0, -1)] = True
    outside &= ~ink
    shifts: tuple[Callable[[Mask], Mask], ...] = (
        lambda m: m[:, 1:],
        lambda m: m[:, :-1],
        lambda m: m[:, :, 1:],
        lambda m: m[:, :, :-1],
    )
    opposite = (shifts[1], shifts[0], shifts[3], shifts[2])
    while True:
        grown = outside.copy()
        for here, there in zip(shifts, opposite, strict=True):
            here(grown)[...] |= there(outside)
        grown &= ~ink
        if np.array_equal(grown, outside):
            return ~ink & ~outside
        outside = grown

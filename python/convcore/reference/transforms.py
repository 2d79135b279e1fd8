"""The image transforms, one after the other, with their random numbers written out.

A stage is ``(kind, values)``, as `convcore.transforms` makes them. Images are (C, H, W), meant to
be from 0 to 1.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence

import numpy as np

from convcore.reference._types import Array, IntArray
from convcore.reference.dropout import philox, substream

Stage = tuple[str, Sequence[float]]
Box = tuple[int, int, int, int]  # top, left, height, width

GREY = np.array([0.2989, 0.587, 0.114])


class Numbers:
    """The random numbers of one transform for one image."""

    def __init__(self, key: tuple[int, int]) -> None:
        self.key = key

    def bits(self, i: int) -> int:
        """Return number i of the stream, 32 bits."""
        return philox(*self.key, i // 4)[i % 4]

    def uniform(self, i: int) -> float:
        """Return number i in [0, 1)."""
        return self.bits(i) / 2**32

    def between(self, i: int, low: float, high: float) -> float:
        """Return number i in [low, high)."""
        return low + (high - low) * self.uniform(i)

    def below(self, i: int, count: int) -> int:
        """Return number i as one of 0 to count - 1."""
        return self.bits(i) * count // 2**32

    def chance(self, i: int, p: float) -> bool:
        """Tell whether an event of probability p happens."""
        return self.uniform(i) >= 1 - p


def transform_images(
    x: Array,
    indices: IntArray,
    stages: Sequence[Stage],
    key: tuple[int, int],
    scale: float = 1.0,
    partners: IntArray | None = None,
    weights: Array | None = None,
) -> Array:
    """Return what becomes of ``scale * x[indices]``; with partners, mixed with those."""
    images = [_run(x[i] * scale, int(i), stages, key) for i in indices]
    if partners is not None and weights is not None:
        others = [_run(x[i] * scale, int(i), stages, key) for i in partners]
        pairs = zip(weights, images, others, strict=True)
        images = [weight * image + (1 - weight) * other for weight, image, other in pairs]
    return np.array(images)


def _run(image: Array, index: int, stages: Sequence[Stage], key: tuple[int, int]) -> Array:
    skipped = 0
    for number, (kind, values) in enumerate(stages):
        numbers = Numbers(substream(key, index, number))
        if skipped:
            skipped -= 1
        elif kind == "maybe":
            skipped = 0 if numbers.chance(0, values[1]) else int(values[0])
        else:
            image = _KINDS[kind](image, numbers, *values)
    return image


def mixup_pairs(
    indices: IntArray, count: int, alpha: float, key: tuple[int, int], use: int
) -> tuple[IntArray, Array]:
    """Return a partner and a weight, Beta(alpha, alpha), for each image."""
    partners, weights = [], []
    for index in indices:
        numbers = Numbers(substream(key, int(index), use))
        partners.append(numbers.below(0, count))
        a, following = _log_gamma(numbers, 1, alpha)
        b, _ = _log_gamma(numbers, following, alpha)
        weights.append(1 / (1 + math.exp(b - a)))
    return np.array(partners), np.array(weights)


def _log_gamma(numbers: Numbers, i: int, alpha: float) -> tuple[float, int]:
    """Return the logarithm of a gamma variate, and the next number to use (Marsaglia, Tsang)."""

    def uniform(i: int) -> float:
        return (numbers.bits(i) + 0.5) / 2**32

    d = alpha + 1 - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        z = math.sqrt(-2 * math.log(uniform(i))) * math.cos(2 * math.pi * uniform(i + 1))
        u, v = uniform(i + 2), (1 + c * z) ** 3
        i += 3
        if v > 0 and math.log(u) < 0.5 * z * z + d - d * v + d * math.log(v):
            return math.log(d * v) + math.log(uniform(i)) / alpha, i + 1


# ---- geometry ------------------------------------------------------------------------------------


def _per_channel(values: Sequence[float], image: Array) -> Array:
    return np.broadcast_to(np.array(values, float), len(image))[:, None, None]


def crop(image: Array, numbers: Numbers, h: float, w: float, *rest: float) -> Array:
    """Cut the window h x w (0: as large as the image) out of the padded image."""
    left, top, right, bottom, random, *fill = rest
    h, w = int(h) or image.shape[1], int(w) or image.shape[2]
    size = (len(image), image.shape[1] + int(top + bottom), image.shape[2] + int(left + right))
    padded = np.array(np.broadcast_to(_per_channel(fill, image), size))
    inner = (slice(int(top), size[1] - int(bottom)), slice(int(left), size[2] - int(right)))
    padded[:, inner[0], inner[1]] = image
    down, across = size[1] - h, size[2] - w
    if random:
        i, j = numbers.below(0, down + 1), numbers.below(1, across + 1)
    else:
        i, j = round(down / 2), round(across / 2)
    return padded[:, i : i + h, j : j + w]


def flip(image: Array, numbers: Numbers, horizontal: float, p: float) -> Array:
    """Mirror the image."""
    if not numbers.chance(0, p):
        return image
    return image[:, :, ::-1] if horizontal else image[:, ::-1]


def rotation(image: Array, numbers: Numbers, low: float, high: float, *fill: float) -> Array:
    """Turn the image around its centre; a mean of the four pixels around where each comes from."""
    angle = math.radians(numbers.between(0, low, high))
    c, h, w = image.shape
    padded = np.array(np.broadcast_to(_per_channel(fill, image), (c, h + 4, w + 4)))
    padded[:, 2:-2, 2:-2] = image
    i, j = np.mgrid[:h, :w]
    di, dj = i - (h - 1) / 2, j - (w - 1) / 2
    row = math.sin(angle) * dj + math.cos(angle) * di + (h - 1) / 2
    column = math.cos(angle) * dj - math.sin(angle) * di + (w - 1) / 2
    # What is farther outside than a pixel is `fill` like the pixel there.
    row, column = np.clip(row, -2, h + 0.999) + 2, np.clip(column, -2, w + 0.999) + 2
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    down, right = row - top, column - left
    upper = (1 - right) * padded[:, top, left] + right * padded[:, top, left + 1]
    lower = (1 - right) * padded[:, top + 1, left] + right * padded[:, top + 1, left + 1]
    turned: Array = (1 - down) * upper + down * lower
    return turned


def quarter_turns(image: Array, numbers: Numbers, *turns: float) -> Array:
    """Turn the image counter-clockwise by one of the multiples of 90 degrees."""
    return np.rot90(image, int(turns[numbers.below(0, len(turns))]), axes=(1, 2))


def linear_weights(length: int, size: int) -> Array:
    """Return the matrix (size, length) that resizes a line: triangles, wider when it shrinks."""
    step = length / size
    centre = (np.arange(size)[:, None] + 0.5) * step
    weights = np.maximum(0, 1 - abs(np.arange(length) + 0.5 - centre) / max(step, 1))
    normalised: Array = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def _resized(image: Array, h: int, w: int) -> Array:
    rows, columns = linear_weights(image.shape[1], h), linear_weights(image.shape[2], w)
    result: Array = rows @ image @ columns.T
    return result


def resize(image: Array, numbers: Numbers, h: float, w: float) -> Array:
    """Resize the image; w 0: h is that of the shorter side."""
    rows, columns = image.shape[1:]
    if not w:
        short = min(rows, columns)
        h, w = (int(h) * side // short for side in (rows, columns))
    return _resized(image, int(h), int(w))


def _draw_box(
    numbers: Numbers,
    first: int,
    size: tuple[int, int],
    rule: Sequence[float],
    spare: int,
) -> Box | None:
    """Draw the share of the area and the logarithm of the ratio until the box fits."""
    h, w = size
    for attempt in range(10):
        area = h * w * numbers.between(first + 2 * attempt, *rule[:2])
        ratio = math.exp(numbers.between(first + 2 * attempt + 1, *map(math.log, rule[2:])))
        box_h, box_w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 1 <= box_h <= h - spare and 1 <= box_w <= w - spare:
            top = numbers.below(first + 20, h - box_h + 1)
            return top, numbers.below(first + 21, w - box_w + 1), box_h, box_w
    return None


def resized_crop(image: Array, numbers: Numbers, h: float, w: float, *rule: float) -> Array:
    """Resize a random box; the middle when none fits."""
    rows, columns = image.shape[1:]
    box = _draw_box(numbers, 0, (rows, columns), rule, 0)
    if box is None:
        box_h, box_w = rows, columns
        if columns / rows < rule[2]:
            box_h = min(max(round(columns / rule[2]), 1), rows)
        elif columns / rows > rule[3]:
            box_w = min(max(round(rows * rule[3]), 1), columns)
        box = (rows - box_h) // 2, (columns - box_w) // 2, box_h, box_w
    top, left, box_h, box_w = box
    return _resized(image[:, top : top + box_h, left : left + box_w], int(h), int(w))


def erasing(image: Array, numbers: Numbers, p: float, *rest: float) -> Array:
    """Paint over a random box."""
    box = _draw_box(numbers, 1, image.shape[1:], rest[:4], 1) if numbers.chance(0, p) else None
    if box is None:
        return image
    top, left, h, w = box
    painted: Array = image.copy()
    painted[:, top : top + h, left : left + w] = _per_channel(rest[4:], image)
    return painted


def cutout(image: Array, numbers: Numbers, holes: float, length: float, *value: float) -> Array:
    """Paint over squares around random pixels."""
    _, h, w = image.shape
    painted: Array = image.copy()
    for hole in range(int(holes)):
        top = numbers.below(2 * hole, h) - int(length) // 2
        left = numbers.below(2 * hole + 1, w) - int(length) // 2
        rows = slice(max(top, 0), max(top + int(length), 0))
        columns = slice(max(left, 0), max(left + int(length), 0))
        painted[:, rows, columns] = _per_channel(value, image)
    return painted


# ---- colour --------------------------------------------------------------------------------------


def _grey(image: Array) -> Array:
    grey: Array = (GREY[:, None, None] * image).sum(axis=0) if len(image) == 3 else image[0]
    return grey


def grayscale(image: Array, numbers: Numbers, p: float, channels: float) -> Array:
    """Drop the colour."""
    if not numbers.chance(0, p):
        return image
    return np.repeat(_grey(image)[None], int(channels) or len(image), axis=0)


def jitter(image: Array, numbers: Numbers, *ranges: float) -> Array:
    """Change brightness, contrast, saturation and hue, in a random order."""
    changes: list[Callable[[Array, float], Array]] = [
        lambda x, factor: factor * x,
        lambda x, factor: factor * x + (1 - factor) * _grey(x).mean(),
        lambda x, factor: factor * x + (1 - factor) * _grey(x),
        turn_hue,
    ]
    factors = [numbers.between(i, *ranges[2 * i : 2 * i + 2]) for i in range(4)]
    order, left = numbers.below(4, 24), list(range(4))
    while left:
        order, at = divmod(order, len(left))
        what = left.pop(at)
        if ranges[2 * what : 2 * what + 2] != ((0, 0) if what == 3 else (1, 1)):
            image = np.clip(changes[what](image, factors[what]), 0, 1)
    return image


def turn_hue(image: Array, turn: float) -> Array:
    """Turn the hue of each pixel, by Python's own conversion to HSV and back."""
    turned = np.empty_like(image)
    for i, j in np.ndindex(image.shape[1:]):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[:, i, j])
        turned[:, i, j] = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
    return turned


def normalize(image: Array, numbers: Numbers, *values: float) -> Array:
    """Multiply and add, per channel."""
    scale, shift = values[: len(values) // 2], values[len(values) // 2 :]
    return image * _per_channel(scale, image) + _per_channel(shift, image)


# ---- filters -------------------------------------------------------------------------------------


def noise(image: Array, numbers: Numbers, mean: float, sigma: float, clip: float) -> Array:
    """Add normal numbers, by the transform of Box and Muller, in pairs."""
    count = image.size + image.size % 2
    uniform = np.array([(numbers.bits(i) >> 8) / 2**24 for i in range(count)])
    radius, angle = np.sqrt(-2 * np.log(1 - uniform[::2])), 2 * np.pi * uniform[1::2]
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
    noisy: Array = image + mean + sigma * normal[: image.size].reshape(image.shape)
    return np.clip(noisy, 0, 1) if clip else noisy


def _bell(size: int, sigma: float) -> Array:
    bell = np.exp(-(((np.arange(size) - size // 2) / sigma) ** 2) / 2)
    normalised: Array = bell / bell.sum()
    return normalised


def blur(image: Array, numbers: Numbers, rows: float, columns: float, *sigma: float) -> Array:
    """Weight with a bell curve; the image is mirrored at its border."""
    deviation = numbers.between(0, *sigma)
    kernel = np.outer(_bell(int(rows), deviation), _bell(int(columns), deviation))
    top, left = int(rows) // 2, int(columns) // 2
    padded = np.pad(image, ((0, 0), (top, top), (left, left)), mode="reflect")
    return _correlate(padded, kernel)


def sobel(image: Array, numbers: Numbers) -> Array:
    """Return the length of Sobel's gradient, at most 1; the border is repeated outwards."""
    kernel = np.outer([1, 2, 1], [-1, 0, 1])
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    length = np.hypot(_correlate(padded, kernel), _correlate(padded, kernel.T))
    return np.minimum(length, 1)


def _correlate(padded: Array, kernel: Array) -> Array:
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape, axis=(1, 2))
    result: Array = (windows * kernel).sum(axis=(-2, -1))
    return result


_KINDS: dict[str, Callable[..., Array]] = {
    "crop": crop,
    "flip": flip,
    "rotation": rotation,
    "quarter_turns": quarter_turns,
    "resize": resize,
    "resized_crop": resized_crop,
    "erasing": erasing,
    "cutout": cutout,
    "grayscale": grayscale,
    "jitter": jitter,
    "normalize": normalize,
    "noise": noise,
    "blur": blur,
    "sobel": sobel,
}

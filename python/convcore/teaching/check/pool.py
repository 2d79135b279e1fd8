"""Max pooling as an exercise, and what goes wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convcore import reference
from convcore.teaching.check.bugs import COMMON, GRADIENT, Array, Bug, Inputs, changed, only
from convcore.teaching.check.exercise import Case, Exercise

# x, window, stride
_SHAPES = (
    ((2, 2, 4, 5), (2, 2), 2),  # small: this one goes through finite differences
    ((2, 3, 4, 4), (2, 2), 2),  # the usual one
    ((1, 1, 2, 2), (2, 2), 1),
    ((2, 2, 5, 6), (3, 2), 1),  # windows that overlap, and are not square
    ((1, 3, 7, 7), (3, 3), 2),
    ((1, 1, 7, 8), (2, 2), 3),
    ((2, 2, 3, 6), (3, 3), 3),
    ((2, 2, 4, 4), (1, 1), 1),
)


def _cases(rng: np.random.Generator) -> list[Case]:
    cases = [_case(rng, *shape) for shape in _SHAPES]
    below = _case(rng, *_SHAPES[1])
    x = -1 - np.abs(below.inputs["x"])
    tags = below.tags | {"numbers below 0"}
    cases.append(Case({**below.inputs, "x": x}, below.label + ", all numbers below 0", tags))
    return cases


def _case(
    rng: np.random.Generator, shape: tuple[int, ...], window: tuple[int, int], stride: int
) -> Case:
    inputs: Inputs = {"x": rng.standard_normal(shape), "window": window, "stride": stride}
    inputs["dy"] = rng.standard_normal(_out(inputs).shape)
    rest = [(size - k) % stride for size, k in zip(shape[2:], window, strict=True)]
    tags = {
        "several images": shape[0] > 1,
        "several channels": shape[1] > 1,
        "images that are not square": shape[2] != shape[3],
        "windows that are not square": window[0] != window[1],
        "a stride above 1": stride > 1,
        "a last row or column that no window reaches": any(rest),
        "windows that overlap": stride < max(window),
        "a stride beyond the window": stride > min(window),
    }
    label = f"x {'x'.join(map(str, shape))}, window {window[0]}x{window[1]}, stride {stride}"
    return Case(inputs, label, frozenset(name for name, has in tags.items() if has))


def _out(i: Inputs) -> Array:
    out: Array = reference.max_pool2d(i["x"], i["window"], i["stride"])
    return out


def _dx(i: Inputs) -> Array:
    return reference.max_pool2d_backward(i["dy"], i["x"], i["window"], i["stride"])


def _mean(i: Inputs) -> Array:
    return reference.avg_pool2d(i["x"], i["window"], i["stride"])


def _windows_side_by_side(i: Inputs) -> Array:
    rows, columns = _out(i).shape[2:]
    result: Array = reference.max_pool2d(i["x"], i["window"], 1)[:, :, :rows, :columns]
    return result


def _of_windows(fill: Callable[[Array, Any, Array], None]) -> Callable[[Inputs], Array]:
    """Return the function that makes dx by filling each window in turn."""

    def compute(i: Inputs) -> Array:
        x, dy, (kh, kw), stride = i["x"], i["dy"], i["window"], i["stride"]
        dx: Array = np.zeros_like(x)
        for n, c, row, column in np.ndindex(dy.shape):
            top, left = row * stride, column * stride
            place = (n, c, slice(top, top + kh), slice(left, left + kw))
            fill(dx[place], dy[n, c, row, column], x[place])
        return dx

    return compute


def _overwrite_mask(part: Array, dy: Any, x: Array) -> None:
    part[...] = dy * (x == x.max())


def _overwrite_place(part: Array, dy: Any, x: Array) -> None:
    part[np.unravel_index(x.argmax(), x.shape)] = dy


def _everywhere(part: Array, dy: Any, x: Array) -> None:
    part += dy


_FORWARD = (
    changed(
        "stride ignored", "the window moves by 1, not by pool_param['stride']", stride=lambda i: 1
    ),
    Bug(
        "stride missing in the index",
        "the output has the right size, but its windows begin at i, not at i * stride",
        instead=_windows_side_by_side,
    ),
    changed(
        "stride off by one", "the window moves by stride + 1", stride=lambda i: i["stride"] + 1
    ),
    changed(
        "window for the stride",
        "the window moves by its own size, not by pool_param['stride']",
        stride=lambda i: i["window"],
    ),
    changed(
        "height used for both axes",
        "the window is as wide as it is high: pool_height and pool_width can differ",
        window=lambda i: (i["window"][0],) * 2,
    ),
    changed(
        "width used for both axes",
        "the window is as high as it is wide: pool_height and pool_width can differ",
        window=lambda i: (i["window"][1],) * 2,
    ),
    changed(
        "axes swapped", "pool_height and pool_width are swapped", window=lambda i: i["window"][::-1]
    ),
    changed(
        "window too small by one",
        "the window lacks its last row and column: a slice ends before its second number",
        window=lambda i: tuple(max(size - 1, 1) for size in i["window"]),
    ),
    Bug("mean for the maximum", "the mean of each window is returned", instead=_mean),
    Bug(
        "minimum for the maximum",
        "the minimum of each window is returned",
        instead=lambda i: -_out({**i, "x": -i["x"]}),
    ),
    Bug(
        "maximum begins at 0",
        "windows of numbers below 0 give 0: begin with -inf, or with the first number",
        after=lambda result, _: np.maximum(result, 0),
    ),
    Bug(
        "maximum over the channels",
        "the maximum is taken over all channels: pooling takes each channel by itself",
        instead=lambda i: np.broadcast_to(_out(i).max(axis=1, keepdims=True), _out(i).shape),
    ),
    Bug(
        "output too small by one",
        "the last row and column are missing: the size is (H - pool_height) // stride + 1",
        after=lambda result, _: result[:, :, :-1, :-1],
    ),
    *COMMON,
)

_DX = (
    Bug(
        "gradient overwritten",
        "where windows overlap the last one wins: a pixel can be the maximum of several windows "
        "(dx[...] += ...)",
        instead=_of_windows(_overwrite_mask),
    ),
    Bug(
        "gradient overwritten",
        "a pixel that is the maximum of several windows keeps the last gradient only "
        "(dx[...] += ...)",
        instead=_of_windows(_overwrite_place),
    ),
    Bug(
        "gradient to the whole window",
        "every pixel of the window gets the gradient: only the maximum does",
        instead=_of_windows(_everywhere),
    ),
    Bug(
        "gradient of the mean",
        "the gradient is spread over the window: only the maximum gets it",
        instead=lambda i: reference.avg_pool2d_backward(i["dy"], i["x"], i["window"], i["stride"]),
    ),
    changed(
        "dout not used",
        "the gradient is 1 at each maximum: multiply by dout",
        dy=lambda i: np.ones_like(i["dy"]),
    ),
    changed(
        "last image only", "only the last image of the batch has a gradient", dy=only("dy", -1)
    ),
    changed(
        "first image only", "only the first image of the batch has a gradient", dy=only("dy", 0)
    ),
    *GRADIENT,
)


def _arguments(i: Inputs) -> Mapping[tuple[str, ...], Any]:
    kh, kw = i["window"]
    return {
        ("kernel_size", "kernel", "pool_size", "size", "window", "k"): kh if kh == kw else (kh, kw),
        ("pool_height", "height"): kh,
        ("pool_width", "width"): kw,
        ("stride", "strides", "s"): i["stride"],
    }


MAX_POOL = Exercise(
    name="max_pool",
    functions=("max_pool_forward", "maxpool_forward", "max_pool2d_forward", "pool_forward"),
    signature="max_pool_forward_naive(x, pool_param) -> out, cache",
    arrays=("x",),
    outputs={"out": _out},
    gradients={"dx": _dx},
    cases=_cases,
    bugs={"out": _FORWARD, "dx": _DX},
    settings=lambda i: {
        "pool_height": i["window"][0],
        "pool_width": i["window"][1],
        "stride": i["stride"],
    },
    differentiated=("x",),
    classes=("maxpool", "maxpool2d", "maxpooling", "maxpooling2d", "pool", "maxpoollayer"),
    arguments=_arguments,
)

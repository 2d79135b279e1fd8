"""The convolution as an exercise, and what goes wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convcore import reference
from convcore.teaching.check.bugs import COMMON, GRADIENT, Array, Bug, Inputs, changed, only, scaled
from convcore.teaching.check.exercise import Case, Exercise

# x, w, stride, pad: what a layer that is right for "nice" numbers gets wrong.
_SHAPES = (
    ((2, 2, 3, 4), (2, 2, 3, 2), 1, 1),  # small: this one goes through finite differences
    ((1, 1, 3, 3), (1, 1, 2, 2), 1, 0),  # the smallest
    ((2, 3, 5, 5), (4, 3, 3, 3), 1, 1),  # the usual one
    ((2, 2, 6, 5), (3, 2, 2, 3), 1, 0),
    ((2, 2, 7, 7), (2, 2, 3, 3), 2, 1),
    ((1, 2, 7, 9), (2, 2, 3, 3), 2, 0),
    ((2, 1, 6, 8), (2, 1, 3, 3), 2, 0),  # a last row and column that no window reaches
    ((1, 2, 4, 4), (3, 2, 4, 4), 1, 0),  # a filter as large as the image
    ((3, 2, 4, 3), (2, 2, 1, 1), 1, 0),
    ((1, 1, 8, 8), (1, 1, 2, 2), 3, 0),  # pixels between the windows
    ((2, 3, 5, 4), (2, 3, 3, 3), 3, 2),
)
_RANDOM_CASES = 4


def _cases(rng: np.random.Generator) -> list[Case]:
    shapes = list(_SHAPES)
    while len(shapes) < len(_SHAPES) + _RANDOM_CASES:
        n, c, k, kh, kw, stride = rng.integers(1, 4, 6)
        h, w, pad = int(rng.integers(kh, 8)), int(rng.integers(kw, 8)), int(rng.integers(0, 3))
        shapes.append(
            ((int(n), int(c), h, w), (int(k), int(c), int(kh), int(kw)), int(stride), pad)
        )
    return [_case(rng, *shape) for shape in shapes]


def _case(
    rng: np.random.Generator, x: tuple[int, ...], w: tuple[int, ...], stride: int, pad: int
) -> Case:
    inputs: Inputs = {
        "x": rng.standard_normal(x),
        "w": rng.standard_normal(w),
        "b": rng.standard_normal(w[0]),
        "stride": stride,
        "pad": pad,
    }
    inputs["dy"] = rng.standard_normal(_out(inputs).shape)
    rest = [(size + 2 * pad - k) % stride for size, k in zip(x[2:], w[2:], strict=True)]
    tags = {
        "several images": x[0] > 1,
        "several channels": x[1] > 1,
        "several filters": w[0] > 1,
        "images that are not square": x[2] != x[3],
        "filters that are not square": w[2] != w[3],
        "a stride above 1": stride > 1,
        "padding": pad > 0,
        "no padding": pad == 0,
        "a last row or column that no window reaches": any(rest),
        "windows that overlap": stride < max(w[2:]),
        "a stride beyond the filter": stride > min(w[2:]),
    }
    label = f"x {_by(x)}, w {_by(w)}, stride {stride}, pad {pad}"
    return Case(inputs, label, frozenset(name for name, has in tags.items() if has))


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


# ---- the right answers ---------------------------------------------------------------------------


def _out(i: Inputs) -> Array:
    return reference.conv2d(i["x"], i["w"], i["b"], i["stride"], i["pad"])


def _gradient(which: int) -> Callable[[Inputs], Array]:
    def compute(i: Inputs) -> Array:
        arrays = i["dy"], i["x"], i["w"], i["b"]
        gradient = reference.conv2d_backward(*arrays, i["stride"], i["pad"])[which]
        assert gradient is not None
        return gradient

    return compute


_dx, _dw, _db = (_gradient(which) for which in range(3))

# ---- wrong answers of forward --------------------------------------------------------------------


def _windows_side_by_side(i: Inputs) -> Array:
    """Return an output of the right size whose windows move by 1."""
    _, _, rows, columns = _out(i).shape
    return reference.conv2d(i["x"], i["w"], i["b"], 1, i["pad"])[:, :, :rows, :columns]


def _square(axis: int) -> Callable[[Inputs], Array]:
    def compute(i: Inputs) -> Array:
        """Return the output of one that takes one size for both axes."""
        size = _out(i).shape[2 + axis]
        full = np.zeros((*_out(i).shape[:2], size, size))
        true = _out(i)
        rows, columns = min(size, true.shape[2]), min(size, true.shape[3])
        if (rows, columns) != (size, size):
            raise IndexError("its loops leave the image")
        full[:, :, :rows, :columns] = true[:, :, :rows, :columns]
        return full

    return compute


def _last_step_missing(result: Array, _: Inputs) -> Array:
    left: Array = result.copy()
    left[:, :, -1], left[..., -1] = 0, 0
    return left


def _padded(i: Inputs, **how: Any) -> Inputs:
    pad = i["pad"]
    x = np.pad(i["x"], ((0, 0), (0, 0), (pad, pad), (pad, pad)), **how)
    return {**i, "x": x, "pad": 0}


def _one_sided(before: bool) -> Callable[[Inputs], Inputs]:
    def change(i: Inputs) -> Inputs:
        pair = (2 * i["pad"], 0) if before else (0, 2 * i["pad"])
        return {**i, "x": np.pad(i["x"], ((0, 0), (0, 0), pair, pair)), "pad": 0}

    return change


def _one_axis(axis: int) -> Callable[[Inputs], Inputs]:
    def change(i: Inputs) -> Inputs:
        pads = [(0, 0)] * 4
        pads[axis] = (i["pad"], i["pad"])
        return {**i, "x": np.pad(i["x"], pads), "pad": 0}

    return change


def _channel(index: int) -> Callable[[Inputs], Array]:
    def keep(i: Inputs) -> Array:
        w: Array = np.zeros_like(i["w"])
        w[:, index] = i["w"][:, index]
        return w

    return keep


_FLIPPED = changed(
    "kernel flipped",
    "the filter is turned by 180 degrees: deep learning computes the cross-correlation, so use w "
    "as it is",
    w=lambda i: i["w"][:, :, ::-1, ::-1],
)

_FORWARD = (
    _FLIPPED,
    changed(
        "kernel transposed",
        "rows and columns of the filter are swapped",
        w=lambda i: i["w"].transpose(0, 1, 3, 2),
    ),
    changed("padding ignored", "the image is not padded with conv_param['pad']", pad=lambda i: 0),
    changed(
        "padding too small by one",
        "the padding is one pixel smaller than conv_param['pad'] says",
        pad=lambda i: max(i["pad"] - 1, 0),
    ),
    changed(
        "padding too large by one",
        "the padding is one pixel larger than conv_param['pad'] says",
        pad=lambda i: i["pad"] + 1,
    ),
    Bug(
        "padding on one side",
        "all padding is before the image: put `pad` pixels on each of the four sides",
        before=_one_sided(True),
    ),
    Bug(
        "padding on one side",
        "all padding is after the image: put `pad` pixels on each of the four sides",
        before=_one_sided(False),
    ),
    Bug("padding of one axis", "only the height is padded: pad the width too", _one_axis(2)),
    Bug("padding of one axis", "only the width is padded: pad the height too", _one_axis(3)),
    Bug(
        "padding not zero",
        "the padding repeats the edge: np.pad needs mode='constant'",
        before=lambda i: _padded(i, mode="edge"),
    ),
    Bug(
        "padding not zero",
        "the padding is filled with ones: it has to be zeros",
        before=lambda i: _padded(i, constant_values=1),
    ),
    changed(
        "stride ignored", "the window moves by 1, not by conv_param['stride']", stride=lambda i: 1
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
        "stride off by one",
        "the window moves by stride - 1",
        stride=lambda i: max(i["stride"] - 1, 1),
    ),
    Bug(
        "output too small by one",
        "the last row and column are missing: the size is (H + 2*pad - HH) // stride + 1",
        after=lambda result, _: result[:, :, :-1, :-1],
    ),
    Bug(
        "last window missing",
        "the last row and column stay 0: do the loops end one step too early?",
        after=_last_step_missing,
    ),
    Bug(
        "height used for both axes",
        "the output is as wide as it is high: compute both sizes",
        instead=_square(0),
    ),
    Bug(
        "width used for both axes",
        "the output is as high as it is wide: compute both sizes",
        instead=_square(1),
    ),
    changed("bias missing", "b is not added", b=lambda i: np.zeros_like(i["b"])),
    changed("bias added twice", "b is added twice", b=lambda i: 2 * i["b"]),
    changed(
        "bias added per channel",
        "b is added once for each input channel: add it once, after the sum",
        b=lambda i: i["x"].shape[1] * i["b"],
    ),
    changed("bias subtracted", "b is subtracted", b=lambda i: -i["b"]),
    changed(
        "one bias for all filters",
        "b[0] is used for all filters",
        b=lambda i: i["b"][:1] + 0 * i["b"],
    ),
    changed(
        "first channel only",
        "only the first channel is looked at: sum over all of them",
        w=_channel(0),
    ),
    changed(
        "last channel only",
        "only the last channel counts: is the sum over the channels overwritten (= for +=)?",
        w=_channel(-1),
    ),
    changed(
        "first filter only",
        "all output channels are computed with the first filter",
        w=lambda i: i["w"][:1] + 0 * i["w"],
    ),
    changed(
        "first image only",
        "only the first image of the batch is used, for all",
        x=lambda i: i["x"][:1] + 0 * i["x"],
    ),
    Bug(
        "first image only",
        "only the first image of the batch has a result",
        after=lambda result, _: result * (np.arange(len(result)) == 0)[:, None, None, None],
    ),
    changed(
        "mean for the sum",
        "the products are averaged: a convolution sums them up",
        w=lambda i: i["w"] / i["w"][0].size,
    ),
    changed(
        "channels averaged",
        "the channels are averaged: a convolution sums them up",
        w=lambda i: i["w"] / i["w"].shape[1],
    ),
    Bug(
        "axes swapped",
        "rows and columns of the output are swapped",
        after=lambda result, _: result.transpose(0, 1, 3, 2),
    ),
    Bug(
        "axes swapped",
        "images and filters are swapped in the output: its shape is (N, F, H', W')",
        after=lambda result, _: result.transpose(1, 0, 2, 3),
    ),
    Bug(
        "ReLU in the layer",
        "negative results are 0: a convolution has no ReLU in it",
        after=lambda result, _: np.maximum(result, 0),
    ),
    *COMMON,
)

# ---- wrong gradients -----------------------------------------------------------------------------


def _each_window(i: Inputs) -> Any:
    """Yield (row, column) of the output and the slices of its window in the padded image."""
    (kh, kw), stride = i["w"].shape[2:], i["stride"]
    for row, column in np.ndindex(i["dy"].shape[2:]):
        top, left = row * stride, column * stride
        yield row, column, slice(top, top + kh), slice(left, left + kw)


def _pad_x(i: Inputs) -> Array:
    pad = i["pad"]
    return np.pad(i["x"], ((0, 0), (0, 0), (pad, pad), (pad, pad)))


def _uncropped(i: Inputs) -> Array:
    """Return the gradient of the padded image."""
    return _dx({**i, "x": _pad_x(i), "pad": 0})


def _crop(padded: Array, i: Inputs) -> Array:
    pad, (h, w) = i["pad"], i["x"].shape[2:]
    return padded[:, :, pad : pad + h, pad : pad + w]


def _dx_overwritten(by_filter: bool) -> Callable[[Inputs], Array]:
    def compute(i: Inputs) -> Array:
        """Return dx when windows overwrite each other, and with `by_filter` filters too."""
        dx = np.zeros_like(_pad_x(i))
        filters = [[k] for k in range(len(i["w"]))] if by_filter else [list(range(len(i["w"])))]
        for k in filters:
            for row, column, rows, columns in _each_window(i):
                part = np.einsum("nk,kcrs->ncrs", i["dy"][:, k, row, column], i["w"][k])
                dx[:, :, rows, columns] = part
        return _crop(dx, i)

    return compute


def _only_last_filter(i: Inputs) -> Array:
    """Return dy that is 0 but for the last filter."""
    dy: Array = np.zeros_like(i["dy"])
    dy[:, -1] = i["dy"][:, -1]
    return dy


def _minus_pad_slice(i: Inputs) -> Array:
    pad = i["pad"]
    return _uncropped(i)[:, :, pad:-pad, pad:-pad]


def _last_place(i: Inputs) -> Array:
    dy: Array = np.zeros_like(i["dy"])
    dy[:, :, -1, -1] = i["dy"][:, :, -1, -1]
    return dy


def _stride_ignored(i: Inputs, which: int) -> Array:
    """Return a gradient whose windows begin at i and not at i * stride."""
    x, (rows, columns) = _pad_x(i), i["dy"].shape[2:]
    kh, kw = i["w"].shape[2:]
    part = x[:, :, : rows + kh - 1, : columns + kw - 1]
    gradient = reference.conv2d_backward(i["dy"], part, i["w"], i["b"], 1, 0)[which]
    assert gradient is not None
    if which:
        return gradient
    dx = np.zeros_like(x)
    dx[:, :, : part.shape[2], : part.shape[3]] = gradient
    return _crop(dx, i)


_DX = (
    Bug(
        "gradient overwritten",
        "where windows overlap the last one wins: a pixel's gradient is the sum over all windows "
        "it is in (dx[...] += ...)",
        instead=_dx_overwritten(False),
    ),
    Bug(
        "gradient overwritten",
        "the last window and the last filter win: a pixel's gradient is the sum over all windows "
        "and all filters (dx[...] += ...)",
        instead=_dx_overwritten(True),
    ),
    Bug(
        "last filter only",
        "only the last filter counts: a pixel's gradient is the sum over all filters (+=)",
        before=lambda i: {**i, "dy": _only_last_filter(i)},
    ),
    Bug(
        "dx[pad:-pad] without padding",
        "for pad = 0 the slice [pad:-pad] is empty: write [pad : pad + H]",
        instead=_minus_pad_slice,
    ),
    Bug(
        "padding not removed",
        "dx still has the padding: it has the shape of x, cut it out with [pad : pad + H]",
        instead=_uncropped,
    ),
    Bug(
        "padding removed on the wrong side",
        "dx is cut at the wrong place: cut it out with [pad : pad + H], not with [:H]",
        instead=lambda i: _uncropped(i)[:, :, : i["x"].shape[2], : i["x"].shape[3]],
    ),
    changed(
        "kernel flipped",
        "the filter is turned by 180 degrees: as forward reads x[i*S + r] with w[r], backward adds "
        "to dx[i*S + r] with w[r]",
        w=lambda i: i["w"][:, :, ::-1, ::-1],
    ),
    changed(
        "kernel transposed",
        "rows and columns of the filter are swapped",
        w=lambda i: i["w"].transpose(0, 1, 3, 2),
    ),
    Bug(
        "padding ignored",
        "dx is computed as if there were no padding",
        instead=lambda i: _dx_at(i, 0),
    ),
    Bug(
        "stride missing in the index",
        "the gradient goes to the windows at i, not at i * stride",
        instead=lambda i: _stride_ignored(i, 0),
    ),
    changed(
        "last image only", "only the last image of the batch has a gradient", dy=only("dy", -1)
    ),
    changed(
        "first image only", "only the first image of the batch has a gradient", dy=only("dy", 0)
    ),
    *GRADIENT,
)


def _dx_at(i: Inputs, pad: int) -> Array:
    """Return dx of windows that begin at i * stride of the unpadded image."""
    dx = _uncropped(i)
    return dx[:, :, pad : pad + i["x"].shape[2], pad : pad + i["x"].shape[3]]


_DW = (
    changed(
        "gradient overwritten",
        "only the last window of the last image counts: dw is the sum over all images and windows "
        "(dw[...] += ...)",
        dy=lambda i: only("dy", -1)({**i, "dy": _last_place(i)}),
    ),
    changed(
        "gradient overwritten",
        "only the last window of each image counts: dw is the sum over all windows "
        "(dw[...] += ...)",
        dy=_last_place,
    ),
    changed(
        "last image only",
        "only the last image counts: dw is the sum over the batch (dw += ...)",
        dy=only("dy", -1),
    ),
    changed(
        "first image only",
        "only the first image counts: dw is the sum over the batch",
        dy=only("dy", 0),
    ),
    Bug(
        "kernel flipped",
        "dw is turned by 180 degrees",
        after=lambda result, _: result[:, :, ::-1, ::-1],
    ),
    Bug(
        "kernel transposed",
        "rows and columns of dw are swapped",
        after=lambda result, _: result.transpose(0, 1, 3, 2),
    ),
    Bug(
        "padding ignored",
        "dw is computed from the image without its padding: forward has to keep, or backward to "
        "make again, the padded one",
        instead=lambda i: _dw({**i, "x": _shifted(i), "pad": 0}),
    ),
    Bug(
        "stride missing in the index",
        "the windows begin at i, not at i * stride",
        instead=lambda i: _stride_ignored(i, 1),
    ),
    changed(
        "dout not used",
        "dw does not depend on dout: multiply each window by dout[n, f, i, j]",
        dy=lambda i: np.ones_like(i["dy"]),
    ),
    Bug(
        "axes swapped",
        "filters and channels of dw are swapped",
        after=lambda result, _: result.transpose(1, 0, 2, 3),
    ),
    scaled(
        "averaged over the windows",
        "dw is the sum over the windows, not their mean",
        lambda i: 1 / (i["dy"].shape[2] * i["dy"].shape[3]),
    ),
    *GRADIENT,
)


def _shifted(i: Inputs) -> Array:
    """Return the image in the upper left corner of its padded form."""
    x = np.zeros_like(_pad_x(i))
    x[:, :, : i["x"].shape[2], : i["x"].shape[3]] = i["x"]
    return x


_NOT_SUMMED = "db has one value per filter: dout.sum(axis=(0, 2, 3))"

_DB = (
    Bug(
        "bias gradient not summed over N, H, W",
        f"summed over N only. {_NOT_SUMMED}",
        instead=lambda i: i["dy"].sum(axis=0),
    ),
    Bug(
        "bias gradient not summed over N, H, W",
        f"summed over H and W only. {_NOT_SUMMED}",
        instead=lambda i: i["dy"].sum(axis=(2, 3)),
    ),
    Bug(
        "bias gradient not summed over N, H, W",
        f"not summed at all. {_NOT_SUMMED}",
        instead=lambda i: i["dy"],
    ),
    Bug(
        "bias gradient not summed over N, H, W",
        f"summed over N and one of H and W only. {_NOT_SUMMED}",
        instead=lambda i: i["dy"].sum(axis=(0, 2)),
    ),
    Bug(
        "bias gradient not summed over N, H, W",
        f"summed over N and one of H and W only. {_NOT_SUMMED}",
        instead=lambda i: i["dy"].sum(axis=(0, 3)),
    ),
    Bug(
        "bias gradient summed over everything",
        f"the filters are summed up too. {_NOT_SUMMED}",
        instead=lambda i: i["dy"].sum(),
    ),
    Bug(
        "bias gradient of the wrong axis",
        f"summed over the filters. {_NOT_SUMMED}",
        instead=lambda i: i["dy"].sum(axis=(1, 2, 3)),
    ),
    changed(
        "last image only",
        f"only the last image counts (= for +=?). {_NOT_SUMMED}",
        dy=only("dy", -1),
    ),
    changed("first image only", f"only the first image counts. {_NOT_SUMMED}", dy=only("dy", 0)),
    changed(
        "gradient overwritten",
        f"only the last window of the last image counts (= for +=?). {_NOT_SUMMED}",
        dy=lambda i: only("dy", -1)({**i, "dy": _last_place(i)}),
    ),
    changed(
        "gradient overwritten",
        f"only the last window of each image counts. {_NOT_SUMMED}",
        dy=_last_place,
    ),
    scaled(
        "averaged over N, H, W",
        f"the mean is taken for the sum. {_NOT_SUMMED}",
        lambda i: i["dy"].shape[1] / i["dy"].size,
    ),
    scaled(
        "averaged over the windows",
        f"the mean over H and W is taken for the sum. {_NOT_SUMMED}",
        lambda i: 1 / (i["dy"].shape[2] * i["dy"].shape[3]),
    ),
    Bug(
        "another shape",
        f"the numbers are right, the shape is not. {_NOT_SUMMED}",
        after=lambda result, _: result.reshape(-1, 1),
    ),
    Bug(
        "another shape",
        f"the numbers are right, the shape is not. {_NOT_SUMMED}",
        after=lambda result, _: result.reshape(1, -1),
    ),
    Bug(
        "another shape",
        f"the numbers are right, the shape is not. {_NOT_SUMMED}",
        after=lambda result, _: result.reshape(1, -1, 1, 1),
    ),
    *GRADIENT,
)


def _arguments(i: Inputs) -> Mapping[tuple[str, ...], Any]:
    filters, channels, kh, kw = i["w"].shape
    size = kh if kh == kw else (kh, kw)
    return {
        (
            "in_channels",
            "c_in",
            "channels",
            "n_channels",
            "input_channels",
            "num_channels",
        ): channels,
        (
            "out_channels",
            "c_out",
            "filters",
            "num_filters",
            "n_filters",
            "output_channels",
        ): filters,
        ("kernel_size", "kernel", "filter_size", "size", "k", "f"): size,
        ("stride", "s"): i["stride"],
        ("padding", "pad", "p"): i["pad"],
    }


CONV = Exercise(
    name="conv",
    functions=("conv_forward", "conv2d_forward", "convolution_forward"),
    signature="conv_forward_naive(x, w, b, conv_param) -> out, cache",
    arrays=("x", "w", "b"),
    outputs={"out": _out},
    gradients={"dx": _dx, "dw": _dw, "db": _db},
    cases=_cases,
    bugs={"out": _FORWARD, "dx": _DX, "dw": _DW, "db": _DB},
    settings=lambda i: {"stride": i["stride"], "pad": i["pad"]},
    differentiated=("x", "w", "b"),
    classes=("conv", "conv2d", "convolution", "convolution2d", "convlayer", "conv2dlayer"),
    arguments=_arguments,
)

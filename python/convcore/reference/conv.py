"""Convolution, written as its definition.

Both passes walk over the taps (r, s) of the filter: tap (r, s) pairs each output pixel (i, j) with
the pixel (i * stride + r * dilation, j * stride + s * dilation) of the padded image. The forward
pass gathers along these pairs, the backward pass sends gradients back along the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from convcore.reference._types import Array

Pads = Sequence[Sequence[int]]  # ((top, bottom), (left, right))


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the padding that makes ``out = ceil(size / stride)``; the odd pixel goes after."""
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - size)
    return total // 2, total - total // 2


def output_size(size: int, pad: Sequence[int], kernel: int, stride: int, dilation: int = 1) -> int:
    """Return the number of windows along one axis."""
    return (size + pad[0] + pad[1] - dilation * (kernel - 1) - 1) // stride + 1


def _pairs(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _pads(
    padding: int | str | Sequence[int] | Pads,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> list[tuple[int, int]]:
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if padding == "same":
        return [same_padding(*axis) for axis in zip(size, kernel, stride, dilation, strict=True)]
    if isinstance(padding, int):
        return [(padding, padding)] * 2
    assert not isinstance(padding, str)
    return [(p, p) if isinstance(p, int) else (p[0], p[1]) for p in padding]


def _taps(
    w: Array, out: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Iterator[tuple[int, int, slice, slice]]:
    """Yield r, s and the rows and columns of the padded image that tap (r, s) reads."""
    for r in range(w.shape[2]):
        for s in range(w.shape[3]):
            h0, v0 = r * dilation[0], s * dilation[1]
            yield (
                r,
                s,
                slice(h0, h0 + (out[0] - 1) * stride[0] + 1, stride[0]),
                slice(v0, v0 + (out[1] - 1) * stride[1] + 1, stride[1]),
            )


def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] | Pads = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Array:
    """Return ``y[n,k,i,j] = b[k] + sum_{c,r,s} w[k,c,r,s] * padded_x[n,c,i*sh+r*dh,j*sw+s*dw]``."""
    strides, dilations = _pairs(stride), _pairs(dilation)
    pads = _pads(padding, x.shape[2:], w.shape[2:], strides, dilations)
    out = [
        output_size(*axis)
        for axis in zip(x.shape[2:], pads, w.shape[2:], strides, dilations, strict=True)
    ]
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    y = np.zeros((x.shape[0], w.shape[0], *out))
    k_group, c_group = w.shape[0] // groups, w.shape[1]
    for g in range(groups):
        k, c = slice(g * k_group, (g + 1) * k_group), slice(g * c_group, (g + 1) * c_group)
        for r, s, rows, columns in _taps(w, out, strides, dilations):
            y[:, k] += np.einsum("nchw,kc->nkhw", padded[:, c, rows, columns], w[k, :, r, s])
    return y if b is None else y + b[:, None, None]


def conv2d_backward(
    dy: Array,
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] | Pads = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array | None]:
    """Return ``dx, dw, db``."""
    strides, dilations = _pairs(stride), _pairs(dilation)
    pads = _pads(padding, x.shape[2:], w.shape[2:], strides, dilations)
    padded = np.pad(x, ((0, 0), (0, 0), *pads))
    d_padded, dw = np.zeros_like(padded), np.zeros_like(w)
    k_group, c_group = w.shape[0] // groups, w.shape[1]
    for g in range(groups):
        k, c = slice(g * k_group, (g + 1) * k_group), slice(g * c_group, (g + 1) * c_group)
        for r, s, rows, columns in _taps(w, dy.shape[2:], strides, dilations):
            d_padded[:, c, rows, columns] += np.einsum("nkhw,kc->nchw", dy[:, k], w[k, :, r, s])
            dw[k, :, r, s] = np.einsum("nkhw,nchw->kc", dy[:, k], padded[:, c, rows, columns])
    (top, _), (left, _) = pads
    dx = d_padded[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    return dx, dw, None if b is None else dy.sum(axis=(0, 2, 3))


def _as_2d(padding: int | str | Sequence[int] | Pads) -> str | list[Sequence[int]]:
    if isinstance(padding, str):
        return padding
    if isinstance(padding, int):
        return [(0, 0), (padding, padding)]
    return [(0, 0), (padding[0], padding[0]) if isinstance(padding[0], int) else padding[0]]


def _last(value: int | Sequence[int]) -> tuple[int, int]:
    return (1, value if isinstance(value, int) else value[0])


def conv1d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] | Pads = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Array:
    """Return `conv2d` of images that are one pixel high."""
    rest = (_last(stride), _as_2d(padding), _last(dilation), groups)
    return conv2d(x[:, :, None], w[:, :, None], b, *rest)[:, :, 0]


def conv1d_backward(
    dy: Array,
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] | Pads = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array | None]:
    """Return ``dx, dw, db``."""
    rest = (_last(stride), _as_2d(padding), _last(dilation), groups)
    dx, dw, db = conv2d_backward(dy[:, :, None], x[:, :, None], w[:, :, None], b, *rest)
    return dx[:, :, 0], dw[:, :, 0], db

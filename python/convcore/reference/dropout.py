"""Dropout, with its random numbers written out."""

from __future__ import annotations

import numpy as np

from convcore.reference._types import Array


def philox(seed: int, stream: int, block: int) -> tuple[int, int, int, int]:
    """Return the four 32-bit numbers of Philox4x32-10 at position `block` of the stream.

    References
    ----------
    J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
    """
    word = 2**32
    c0, c1, c2, c3 = block % word, block // word, stream % word, stream // word
    k0, k1 = seed % word, seed // word
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b // word) ^ c1 ^ k0, b % word, (a // word) ^ c3 ^ k1, a % word
        k0, k1 = (k0 + 0x9E3779B9) % word, (k1 + 0xBB67AE85) % word
    return c0, c1, c2, c3


def substream(key: tuple[int, int], item: int, use: int) -> tuple[int, int]:
    """Return the stream for the `use`-th use of random numbers for one of many items."""
    a, b, c, d = philox(*key, item + use * 2**48)
    return a + b * 2**32, c + d * 2**32


def keep_mask(count: int, p: float, key: tuple[int, int]) -> Array:
    """Return 0 where element i is dropped (its number in [0, 1) is less than `p`), else 1."""
    seed, stream = key
    numbers = [philox(seed, stream, i // 4)[i % 4] // 2**8 / 2**24 for i in range(count)]
    return np.array([float(u >= p) for u in numbers])


def dropout(
    x: Array, p: float = 0.5, training: bool = True, *, key: tuple[int, int] = (0, 0)
) -> Array:
    """Return ``x * mask / (1 - p)``."""
    if not training:
        return x
    mask = keep_mask(x.size, p, key).reshape(x.shape)
    return x * mask if p == 1 else x * mask / (1 - p)


def dropout_backward(
    dy: Array, x: Array, p: float = 0.5, training: bool = True, *, key: tuple[int, int] = (0, 0)
) -> Array:
    """Return ``dy * mask / (1 - p)``."""
    return dropout(dy, p, training, key=key)


def dropout2d(
    x: Array, p: float = 0.5, training: bool = True, *, key: tuple[int, int] = (0, 0)
) -> Array:
    """Return `dropout` with one number of the mask per image and channel."""
    ones = np.ones(x.shape[:2])
    return x * dropout(ones, p, training, key=key).reshape(*ones.shape, *(1,) * (x.ndim - 2))


def dropout2d_backward(
    dy: Array, x: Array, p: float = 0.5, training: bool = True, *, key: tuple[int, int] = (0, 0)
) -> Array:
    """Return ``dy * mask / (1 - p)``."""
    return dropout2d(dy, p, training, key=key)

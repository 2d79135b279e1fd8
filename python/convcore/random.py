"""One seed, and streams of counter-based random numbers.

Every draw (an initialisation, a shuffle, a dropout mask) takes the next *stream* of the seed. A
number is a pure function of (seed, stream, position), so the same program gives the same bits at
any number of threads, and a checkpoint needs to keep two integers only.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convcore import _core
from convcore.functional._arguments import FloatArray, to_unsigned


class RandomKey(NamedTuple):
    """Names one stream of random numbers."""

    seed: int
    stream: int


_lock = threading.Lock()
_state = RandomKey(seed=0, stream=0)


def manual_seed(seed: int) -> None:
    """Start the random numbers over from `seed`, an int from 0 to 2**64 - 1.

    Examples
    --------
    >>> import convcore
    >>> convcore.manual_seed(1)
    """
    set_rng_state((to_unsigned("manual_seed", "seed", seed), 0))


def get_rng_state() -> RandomKey:
    """Return the seed and the number of streams drawn from it so far."""
    return _state


def set_rng_state(state: tuple[int, int]) -> None:
    """Go on from a state that `get_rng_state` returned."""
    global _state
    checked = checked_key("set_rng_state", "state", state)
    with _lock:
        _state = checked


def checked_key(owner: str, name: str, key: Any) -> RandomKey:
    """Return `key` when it is (seed, stream); raise a ValueError that names `owner` otherwise."""
    try:
        seed, stream = key
        return RandomKey(to_unsigned(owner, name, seed), to_unsigned(owner, name, stream))
    except (TypeError, ValueError):
        raise ValueError(
            f"{owner}: {name} is not a random key: expected (seed, stream), each from 0 to "
            f"2**64 - 1, got {key!r}"
        ) from None


def next_key() -> RandomKey:
    """Take the next stream of the current seed."""
    global _state
    with _lock:
        key = _state
        _state = RandomKey(key.seed, key.stream + 1)
    return key


def uniform(shape: tuple[int, ...], low: float, high: float) -> FloatArray:
    """Draw float32 numbers uniform in [low, high)."""
    key = next_key()
    return _core.random_uniform(key.seed, key.stream, shape, low, high)


def normal(shape: tuple[int, ...], mean: float, std: float) -> FloatArray:
    """Draw normally distributed float32 numbers, by the transform of Box and Muller."""
    key = next_key()
    radius, angle = _core.random_uniform(key.seed, key.stream, (2, *shape), 0.0, 1.0)
    # In float64; 1 - radius lies in (0, 1], so the logarithm is finite.
    length = np.sqrt(-2 * np.log1p(-radius.astype(np.float64)))
    numbers = length * np.cos(2 * np.pi * angle.astype(np.float64))
    return np.asarray(mean + std * numbers, np.float32)


def permutation(count: int) -> npt.NDArray[np.int64]:
    """Draw the numbers 0 to `count` - 1 in random order."""
    key = next_key()
    return _core.random_permutation(key.seed, key.stream, count)

"""One seed, and streams of counter-based random numbers.

Every draw (an initialisation, a shuffle, a dropout mask) takes the next *stream* of the seed. A
number is a pure function of (seed, stream, position), so the same program gives the same bits at
any number of threads, and a checkpoint needs to keep two integers only.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convcore import _core
from convcore.functional._arguments import FloatArray


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
    if not 0 <= seed < 2**64:
        raise ValueError(f"manual_seed: seed is out of range: expected 0 to 2**64 - 1, got {seed}")
    set_rng_state(RandomKey(int(seed), 0))


def get_rng_state() -> RandomKey:
    """Return the seed and the number of streams drawn from it so far."""
    return _state


def set_rng_state(state: tuple[int, int]) -> None:
    """Go on from a state that `get_rng_state` returned."""
    global _state
    with _lock:
        _state = RandomKey(*state)


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


def permutation(count: int) -> npt.NDArray[np.int64]:
    """Draw the numbers 0 to `count` - 1 in random order."""
    key = next_key()
    return _core.random_permutation(key.seed, key.stream, count)

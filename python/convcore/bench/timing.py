"""What both sides do alike: the same numbers, the same clock."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

WARM_UP_CALLS = 2
FEWEST_CALLS = 3
SMALLEST_FLUSH = 64 << 20
LARGEST_FLUSH = 256 << 20


def numbers(seed: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return numbers in [-1, 1)."""
    return np.random.default_rng(seed).random(shape, np.float32) * 2 - 1


def time_calls(
    call: Callable[[], object], seconds: float, flush: Callable[[], object] | None = None
) -> dict[str, Any]:
    """Time calls for some seconds, at least three, after two that do not count.

    Parameters
    ----------
    call : callable
    seconds : float
    flush : callable, optional
        Called before each call, outside of its time.

    Returns
    -------
    dict
        The median of the seconds of a call, and the number of calls.
    """
    for _ in range(WARM_UP_CALLS):
        call()
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < FEWEST_CALLS or time.perf_counter() < stop:
        if flush is not None:
            flush()
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {"seconds": statistics.median(times), "calls": len(times)}


def sample(result: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return what tells two results apart: some elements, and the root of the mean square."""
    flat = np.ascontiguousarray(result).reshape(-1)
    if not np.isfinite(flat).all():
        raise ValueError("the result is not finite")
    if not flat.any():
        raise ValueError("the result is zero")
    places = np.linspace(0, flat.size - 1, 16).astype(np.int64)
    rms = float(np.sqrt(np.mean(np.square(flat, dtype=np.float64))))
    return {"elements": flat[places].tolist(), "rms": rms}


def flush_elements() -> int:
    """Return how many floats push everything else out of the caches."""
    sizes = [SMALLEST_FLUSH // 2]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        if text.endswith("K") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) << 10)
    return min(2 * max(sizes), LARGEST_FLUSH) // 4


def rate(work: Callable[[], object], images: int, seconds: float) -> float:
    """Do work on so many images again and again for some seconds; return images per second."""
    done = 0
    start = now = time.perf_counter()
    while now < start + seconds:
        work()
        done += images
        now = time.perf_counter()
    return done / (now - start)


def peak_memory() -> int:
    """Return the largest resident memory that this process had, in bytes.

    On Linux ``ru_maxrss`` would not do: it begins with the peak of the process that started it.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_growth(work: Callable[[], object]) -> int:
    """Return by how many bytes the peak of the resident memory lies above what was there before.

    Where the peak cannot be reset (only Linux can), an earlier higher one hides part of it.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    work()
    return peak_memory() - before

"""CUDA: whether it can be used here, why not, and what it runs on (docs/cuda.md)."""

from __future__ import annotations

from typing import NamedTuple

from convcore import _core

__all__ = [
    "DeviceProperties",
    "architectures",
    "empty_cache",
    "get_device_name",
    "get_device_properties",
    "is_available",
    "memory_stats",
    "reason",
    "synchronize",
]


class DeviceProperties(NamedTuple):
    """A GPU, as its driver describes it."""

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    l2_bytes: int
    shared_bytes_per_block: int


def is_available() -> bool:
    """Return whether convcore can compute on a GPU here.

    Examples
    --------
    >>> import convcore
    >>> convcore.cuda.is_available() == (convcore.cuda.reason() == "")
    True
    """
    return not reason()


def reason() -> str:
    """Return why convcore cannot compute on a GPU here; the empty string when it can.

    The first call opens the plug-in and asks the driver; nothing of CUDA is touched before.
    """
    return _core.cuda_reason()


def architectures() -> list[str]:
    """Return what the plug-in was compiled for.

    Returns
    -------
    list of str
        ``"90-real"`` is code for GPUs of compute capability 9.0, ``"80-virtual"`` is compiled by
        the driver for any GPU from 8.0 on. Empty where this build has no plug-in.
    """
    return _core.cuda_architectures()


def get_device_properties() -> DeviceProperties:
    """Return what the GPU is.

    Raises
    ------
    RuntimeError
        If CUDA is not available; the message tells why.
    """
    return DeviceProperties(**_core.cuda_device_info())


def get_device_name() -> str:
    """Return the name of the GPU.

    Raises
    ------
    RuntimeError
        If CUDA is not available; the message tells why.
    """
    return get_device_properties().name


def memory_stats() -> dict[str, int]:
    """Return how much of the GPU's memory convcore holds.

    Returns
    -------
    dict of str to int
        ``live_bytes`` of arrays, ``cached_bytes`` of freed blocks that are kept for later ones, and
        how many ``device_requests`` for new memory there were.
    """
    return _core.cuda_memory_stats()


def empty_cache() -> None:
    """Give the memory of freed arrays back to the GPU, for other programs."""
    _core.cuda_empty_cache()


def synchronize() -> None:
    """Wait until the GPU has done everything it was asked for.

    Raises
    ------
    RuntimeError
        If CUDA is not available, or something went wrong on the GPU since the last call.
    """
    _core.cuda_synchronize()

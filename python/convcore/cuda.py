"""CUDA: whether it can be used here, why not, and what it runs on (docs/cuda.md)."""

from __future__ import annotations

from typing import NamedTuple

from convcore import _core

__all__ = ["DeviceProperties", "architectures", "device_properties", "is_available", "reason"]


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


def device_properties() -> DeviceProperties:
    """Return what the GPU is.

    Raises
    ------
    RuntimeError
        If CUDA is not available; the message tells why.
    """
    return DeviceProperties(**_core.cuda_device_info())

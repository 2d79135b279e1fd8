"""``pytest --device cuda``: the tests of the ops, with their arrays in the memory of the GPU.

The functions of `convcore.functional` (and the optimizers' steps in `_core`) are wrapped: arrays of
NumPy move to the device, the results come back. So the same tests run on both devices, with the same
bounds. What a test cannot ask of another device says ``@pytest.mark.cpu_only(reason)``.

Where there is no GPU, ``libconvcore_cuda_host.so`` emulates one (tests/cuda_host); calls that are too
large for it skip their test.
"""

from __future__ import annotations

import functools
import inspect
import os
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

DTYPES = (np.float32, np.int32, np.int64, np.uint8)
STEPS = ("sgd_step", "adam_step", "rmsprop_step", "adagrad_step", "limit_norms")
MOST_ELEMENTS = 300_000  # of all arrays of a call, on the emulated device
MOST_PRODUCTS = 20_000_000  # multiplications of a convolution or dense layer


def use_emulation() -> None:
    """Name the emulated device to convcore, where it was built and there is no GPU."""
    spec = find_spec("convcore._core")
    assert spec is not None
    assert spec.origin is not None
    library = Path(spec.origin).with_name("libconvcore_cuda_host.so")
    if library.exists() and not Path("/dev/nvidiactl").exists():
        os.environ.setdefault("CONVCORE_CUDA_LIBRARY", str(library))


def wrap_ops() -> None:
    """Make the ops of convcore run on the GPU, for arrays of NumPy too."""
    import convcore.functional as F
    from convcore import _core, cuda

    if not cuda.is_available():
        raise pytest.UsageError(f"--device cuda: CUDA is not available: {cuda.reason()}")
    limited = "emulation" in cuda.get_device_name()
    for name in F.__all__:
        _wrap(F, name, limited)
    for name in STEPS:
        _wrap(_core, name, limited)


def _wrap(module: ModuleType, name: str, limited: bool) -> None:
    function = getattr(module, name)

    @functools.wraps(function)
    def on_device(*args: Any, **kwargs: Any) -> Any:
        if limited:
            _expect_bearable(name, args, kwargs)
        names = _names(function, len(args))
        call = _Call(name)
        moved = [call.move(value, key) for value, key in zip(args, names, strict=True)]
        moved_by_name = {key: call.move(value, key) for key, value in kwargs.items()}
        result = function(*moved, **moved_by_name)
        call.copy_back()
        return _to_numpy(result)

    setattr(module, name, on_device)


def _names(function: Any, count: int) -> list[str]:
    try:
        names = list(inspect.signature(function).parameters)
    except ValueError:  # of _core
        names = []
    return (names + [""] * count)[:count]


class _Call:
    """One call of an op: what was moved, so that what the op wrote in place can come back."""

    def __init__(self, op: str) -> None:
        self.op = op
        self.moved: list[tuple[np.ndarray, Any]] = []

    def move(self, value: Any, name: str) -> Any:
        import convcore

        if isinstance(value, tuple) and any(isinstance(v, np.ndarray) for v in value):
            return tuple(self.move(v, name) for v in value)
        if not isinstance(value, np.ndarray):
            return value
        value_as = self._labels(value, name)
        if value_as.dtype not in DTYPES:
            return value  # the op says what is wrong with it
        there = convcore.to_device(value_as, "cuda")
        if value_as is value:
            self.moved.append((value, there))
        return there

    def _labels(self, value: np.ndarray, name: str) -> np.ndarray:
        """Return integers in the type that the op reads on a device."""
        if value.dtype.kind not in "iu" or name not in ("target", "indices"):
            return value
        places = name == "indices" and self.op != "gather_images"
        wanted = np.int32 if places else np.int64
        return value if value.dtype == wanted else value.astype(wanted)

    def copy_back(self) -> None:
        for host, there in self.moved:
            now = there.numpy()
            if now.tobytes() != np.ascontiguousarray(host).tobytes():
                host[...] = now


def _to_numpy(value: Any) -> Any:
    from convcore import DeviceArray

    if isinstance(value, tuple):
        return tuple(_to_numpy(v) for v in value)
    if isinstance(value, DeviceArray):
        return value.numpy()[()]
    return value


def _expect_bearable(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    arrays = [a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]
    elements = sum(a.size for a in arrays)
    products = 0
    if name.startswith(("conv", "linear")) and len(arrays) >= 2:
        x, w = arrays[-2:] if "backward" in name else arrays[:2]
        products = x.size * w.size // max(1, w.shape[1] if w.ndim > 1 else 1)
    if elements > MOST_ELEMENTS or products > MOST_PRODUCTS:
        pytest.skip(f"{name} is called with more than the emulated device can bear")

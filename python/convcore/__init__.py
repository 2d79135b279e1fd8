"""convcore: small, fast, readable convolutional networks."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# A waiting thread of GCC's OpenMP spins for up to 15 ms before it sleeps. On a busy machine it
# takes that time from the very thread it waits for, so let it sleep after some 50 microseconds. The
# runtime reads the variable once, while it is loaded; nobody else gets to see it.
_spin = {"GOMP_SPINCOUNT": "1000"}
if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    _spin = {}  # the user has decided
os.environ.update(_spin)
try:
    from convcore import _core
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "convcore's compiled module could not be imported. Build it with `pip install .`; when you "
        "work in the source tree, see CONTRIBUTING.md."
    ) from error
finally:
    for _name in _spin:
        del os.environ[_name]

from convcore import functional
from convcore._arrays import DeviceArray, from_dlpack, to_device
from convcore._threads import num_threads, set_num_threads
from convcore.random import get_rng_state, manual_seed, set_rng_state

if TYPE_CHECKING:
    from convcore import callbacks as callbacks
    from convcore import cuda as cuda
    from convcore import data as data
    from convcore import engine as engine
    from convcore import filters as filters
    from convcore import init as init
    from convcore import insight as insight
    from convcore import models as models
    from convcore import nn as nn
    from convcore import optim as optim
    from convcore import reference as reference
    from convcore import serialization as serialization
    from convcore import transforms as transforms
    from convcore.engine import Model as Model
    from convcore.history import History as History
    from convcore.serialization import load as load
    from convcore.teaching.check import check as check
    from convcore.teaching.explain import explain as explain

# Measured choices of algorithms, for those who ask for them.
if os.environ.get("CONVCORE_ALGORITHMS"):
    from convcore import _algorithms

    try:
        _algorithms.use(os.environ["CONVCORE_ALGORITHMS"])
    except OSError as error:
        raise OSError(
            f"CONVCORE_ALGORITHMS names a file that cannot be read: expected one of `convcore "
            f"tune`, got {os.environ['CONVCORE_ALGORITHMS']!r} ({error.strerror})"
        ) from error

__version__: str = _core.build_info()["version"]

# Imported on first use, so that `import convcore` stays fast: submodules, and names in submodules.
_LAZY_MODULES = (
    "callbacks",
    "cuda",
    "data",
    "engine",
    "filters",
    "init",
    "insight",
    "models",
    "nn",
    "optim",
    "reference",
    "serialization",
    "transforms",
)
_LAZY_NAMES = {
    "History": "history",
    "Model": "engine",
    "check": "teaching.check",
    "explain": "teaching.explain",
    "load": "serialization",
}

__all__ = [
    "DeviceArray",
    "History",
    "Model",
    "callbacks",
    "check",
    "cuda",
    "data",
    "engine",
    "explain",
    "filters",
    "from_dlpack",
    "functional",
    "get_rng_state",
    "init",
    "insight",
    "load",
    "manual_seed",
    "models",
    "nn",
    "num_threads",
    "optim",
    "reference",
    "serialization",
    "set_num_threads",
    "set_rng_state",
    "to_device",
    "transforms",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"convcore.{name}")
    if name in _LAZY_NAMES:
        return getattr(importlib.import_module(f"convcore.{_LAZY_NAMES[name]}"), name)
    raise AttributeError(f"module 'convcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

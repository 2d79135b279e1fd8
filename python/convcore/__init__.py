"""convcore: small, fast, readable convolutional networks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

try:
    from convcore import _core
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "convcore's compiled module could not be imported. Build it with `pip install .`; when you "
        "work in the source tree, see CONTRIBUTING.md."
    ) from error

from convcore import functional
from convcore._core import num_threads, set_num_threads
from convcore.random import get_rng_state, manual_seed, set_rng_state

if TYPE_CHECKING:
    from convcore import callbacks as callbacks
    from convcore import data as data
    from convcore import engine as engine
    from convcore import init as init
    from convcore import models as models
    from convcore import nn as nn
    from convcore import optim as optim
    from convcore import reference as reference
    from convcore import serialization as serialization
    from convcore.engine import Model as Model
    from convcore.history import History as History
    from convcore.serialization import load as load

__version__: str = _core.build_info()["version"]

# Imported on first use, so that `import convcore` stays fast: submodules, and names in submodules.
_LAZY_MODULES = (
    "callbacks",
    "data",
    "engine",
    "init",
    "models",
    "nn",
    "optim",
    "reference",
    "serialization",
)
_LAZY_NAMES = {"History": "history", "Model": "engine", "load": "serialization"}

__all__ = [
    "History",
    "Model",
    "callbacks",
    "data",
    "engine",
    "functional",
    "get_rng_state",
    "init",
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
]


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"convcore.{name}")
    if name in _LAZY_NAMES:
        return getattr(importlib.import_module(f"convcore.{_LAZY_NAMES[name]}"), name)
    raise AttributeError(f"module 'convcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""convcore: small, fast, readable convolutional networks."""

from __future__ import annotations

from typing import Any

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

__version__: str = _core.build_info()["version"]

__all__ = [
    "functional",
    "get_rng_state",
    "manual_seed",
    "num_threads",
    "reference",
    "set_num_threads",
    "set_rng_state",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: `import convcore` stays fast.
    if name == "reference":
        import importlib

        return importlib.import_module(f"convcore.{name}")
    raise AttributeError(f"module 'convcore' has no attribute {name!r}")

"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convcore._training import lookup
from convcore.models.lenet import lenet5
from convcore.models.resnet import resnet20, resnet32, resnet44, resnet56, resnet110
from convcore.nn.containers import Sequential

_MODELS: dict[str, Callable[..., Sequential]] = {
    "lenet5": lenet5,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "resnet110": resnet110,
}

__all__ = [
    "create",
    "lenet5",
    "names",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
]


def names() -> list[str]:
    """Return the names that `create` knows.

    Examples
    --------
    >>> from convcore import models
    >>> models.names()
    ['lenet5', 'resnet20', 'resnet32', 'resnet44', 'resnet56', 'resnet110']
    """
    return list(_MODELS)


def create(name: str, **arguments: Any) -> Sequential:
    """Return the network of that name; `arguments` go to its function.

    Raises
    ------
    ValueError
        When the name is not known; names the nearest one.
    """
    return lookup("create", "name", name, _MODELS)(**arguments)

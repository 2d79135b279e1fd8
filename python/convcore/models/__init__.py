"""Networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from convcore._training import lookup
from convcore.models.alexnet import alexnet
from convcore.models.fashion import fashion_cnn
from convcore.models.lenet import lenet5, lenet5_small
from convcore.models.lenet1998 import lenet5_1998
from convcore.models.mlp import mlp
from convcore.models.resnet import resnet20, resnet32, resnet44, resnet56, resnet110
from convcore.models.resnet_imagenet import resnet18, resnet34, resnet50
from convcore.models.vgg import vgg16, vgg19
from convcore.nn.containers import Sequential


class _Entry(NamedTuple):
    make: Callable[..., Sequential]
    input_shape: tuple[int, int, int]  # (C, H, W) of the images that it was made for


_MNIST, _CIFAR, _IMAGENET = (1, 28, 28), (3, 32, 32), (3, 224, 224)

_MODELS: dict[str, _Entry] = {
    "mlp": _Entry(mlp, _MNIST),
    "lenet5": _Entry(lenet5, _MNIST),
    "lenet5_1998": _Entry(lenet5_1998, (1, 32, 32)),
    "lenet5_small": _Entry(lenet5_small, _MNIST),
    "fashion_cnn": _Entry(fashion_cnn, _MNIST),
    "resnet20": _Entry(resnet20, _CIFAR),
    "resnet32": _Entry(resnet32, _CIFAR),
    "resnet44": _Entry(resnet44, _CIFAR),
    "resnet56": _Entry(resnet56, _CIFAR),
    "resnet110": _Entry(resnet110, _CIFAR),
    "alexnet": _Entry(alexnet, _IMAGENET),
    "vgg16": _Entry(vgg16, _IMAGENET),
    "vgg19": _Entry(vgg19, _IMAGENET),
    "resnet18": _Entry(resnet18, _IMAGENET),
    "resnet34": _Entry(resnet34, _IMAGENET),
    "resnet50": _Entry(resnet50, _IMAGENET),
}

__all__ = [
    "alexnet",
    "arguments",
    "create",
    "fashion_cnn",
    "input_shape",
    "lenet5",
    "lenet5_1998",
    "lenet5_small",
    "mlp",
    "names",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet110",
    "vgg16",
    "vgg19",
]


def names() -> list[str]:
    """Return the names that `create` knows.

    Examples
    --------
    >>> from convcore import models
    >>> models.names()[:4]
    ['mlp', 'lenet5', 'lenet5_1998', 'lenet5_small']
    """
    return list(_MODELS)


def input_shape(name: str) -> tuple[int, int, int]:
    """Return (C, H, W) of the images that the network of that name was made for.

    Examples
    --------
    >>> from convcore import models
    >>> models.input_shape("resnet50")
    (3, 224, 224)
    """
    return lookup("input_shape", "name", name, _MODELS).input_shape


def arguments(name: str) -> dict[str, Any]:
    """Return the arguments of the network's function and their defaults.

    Examples
    --------
    >>> from convcore import models
    >>> models.arguments("resnet50")
    {'num_classes': 1000, 'in_channels': 3}
    """
    make = lookup("arguments", "name", name, _MODELS).make
    return {p.name: p.default for p in inspect.signature(make).parameters.values()}


def create(name: str, **arguments: Any) -> Sequential:
    """Return the network of that name; `arguments` go to its function.

    Raises
    ------
    ValueError
        When the name is not known; names the nearest one.
    """
    return lookup("create", "name", name, _MODELS).make(**arguments)

"""The whole networks that are measured, each defined once for both sides.

A builder takes the layers, ``convcore.nn`` or what `torch_side.layers` returns: their names and
arguments are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from convcore.bench.timing import numbers
from convcore.functional._arguments import FloatArray

TASKS = ("train", "predict", "memory")
CLASSES = 10
MEMORY_STEPS = 4  # the later ones find the blocks of the first
MOST_STEPS = 256  # of an epoch: one of batch 1 shall not take longer than a turn

# So small that thousands of steps on random labels end neither in NaN nor in denormals.
LEARNING_RATE = 1e-3
MOMENTUM = 0.9

Layers = Any
Builder = Callable[[Layers], Any]


class Network(NamedTuple):
    """A builder, the images that it takes, and what is measured when nothing else is said.

    ``images`` is the size of the resident data set. ``batches`` are those of each task; none: the
    task is not measured.
    """

    build: Builder
    input_shape: tuple[int, ...]
    images: int
    batches: dict[str, tuple[int, ...]]


# ---- builders ------------------------------------------------------------------------------------


def lenet5(nn: Layers) -> Any:
    """Return LeNet-5, as `convcore.models.lenet5`."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, CLASSES),
    )


def _conv_norm(nn: Layers, c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> list[Any]:
    conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(c_out)]


def resnet(nn: Layers, depth: int) -> Any:
    """Return a ResNet for CIFAR with shortcuts of option B, as `convcore.models.resnet20`."""
    layers = [*_conv_norm(nn, 3, 16), nn.ReLU()]
    channels = 16
    for width in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            stride = 1 if channels == width else 2
            body = nn.Sequential(
                *_conv_norm(nn, channels, width, stride=stride),
                nn.ReLU(),
                *_conv_norm(nn, width, width),
            )
            shortcut = None
            if stride != 1:
                shortcut = nn.Sequential(*_conv_norm(nn, channels, width, kernel=1, stride=stride))
            layers.append(nn.Residual(body, shortcut, nn.ReLU()))
            channels = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
    return nn.Sequential(*layers)


def vgg(nn: Layers) -> Any:
    """Return a small VGG with batch norm: three stages of two 3x3 convolutions."""
    layers = []
    channels = 3
    for width in (32, 64, 128):
        for c_in in (channels, width):
            layers += [*_conv_norm(nn, c_in, width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = width
    layers += [nn.Flatten(), nn.Linear(128 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, CLASSES)]
    return nn.Sequential(*layers)


def odd(nn: Layers) -> Any:
    """Return a network of 7x7 and 5x5 kernels and channel counts that fill no vector."""
    return nn.Sequential(
        nn.Conv2d(3, 20, 7, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 37, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(37, 53, 5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(53 * 4 * 4, CLASSES),
    )


def fashion(nn: Layers) -> Any:
    """Return a small network for Fashion-MNIST: two convolutions of 16 filters, 128 features."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, CLASSES),
    )


# ---- the table -----------------------------------------------------------------------------------

_GREY, _RGB = (1, 28, 28), (3, 32, 32)


def _resnet(depth: int, *memory: int) -> Network:
    batches = {"train": (32, 128), "predict": (1, 128), "memory": memory}
    return Network(partial(resnet, depth=depth), _RGB, 512, batches)


def _small(build: Builder, input_shape: tuple[int, ...], images: int) -> Network:
    return Network(build, input_shape, images, {"train": (64,), "predict": (1, 256), "memory": ()})


NETWORKS: dict[str, Network] = {
    "lenet5": Network(
        lenet5, _GREY, 4096, {"train": (1, 32, 64, 256), "predict": (1, 256), "memory": ()}
    ),
    "resnet20": _resnet(20, 128),
    "vgg": _small(vgg, _RGB, 512),
    "odd": _small(odd, _RGB, 512),
    "fashion": _small(fashion, _GREY, 2048),
    "resnet32": _resnet(32),
    "resnet44": _resnet(44),
    "resnet56": _resnet(56),
    "resnet110": _resnet(110),
}

#: What is measured beside torch when nothing else is said.
USUAL = ("lenet5", "resnet20", "vgg", "odd", "fashion")

#: What shows how the cost grows: with the batch, and with the depth.
SCALING_BATCHES = (32, 64, 128, 256, 512)
SCALING_DEPTHS = (20, 32, 44, 56, 110)


# ---- the same numbers on both sides --------------------------------------------------------------


_FIRST_SEED = 100  # of the weights; smaller ones are those of the data


def weight(index: int, name: str, shape: tuple[int, ...]) -> FloatArray:
    """Return the value with which a parameter begins.

    Parameters
    ----------
    index : int
        Its place among the network's parameters.
    name : str
        As in the ``state_dict``.
    shape : tuple of int
    """
    if len(shape) == 1:  # a bias, or the weight of a batch norm
        return np.full(shape, 0.0 if name.endswith("bias") else 1.0, np.float32)
    bound = np.float32(math.sqrt(6 / math.prod(shape[1:])))  # keeps the variance through ReLUs
    values: FloatArray = numbers(_FIRST_SEED + index, shape) * bound
    return values


def data(network: Network, batch: int) -> tuple[FloatArray, Any]:
    """Return images and labels: whole batches, at least one."""
    steps = max(1, min(network.images // batch, MOST_STEPS))
    count = steps * batch
    labels = np.random.default_rng(0).integers(0, CLASSES, count)
    return numbers(1, (count, *network.input_shape)), labels

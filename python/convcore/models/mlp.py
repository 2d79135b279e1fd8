"""A fully connected network: what the convolutional ones are compared with."""

from __future__ import annotations

from collections.abc import Sequence

from convcore.nn import _checks as check
from convcore.nn.activation import ReLU
from convcore.nn.containers import Sequential
from convcore.nn.flatten import Flatten
from convcore.nn.linear import Linear
from convcore.nn.module import Module


def mlp(
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: int = 28,
    hidden: Sequence[int] = (512, 512),
) -> Sequential:
    """Return a multi-layer perceptron with ReLU, 784-512-512-10 with the default arguments.

    Parameters
    ----------
    num_classes : int, default 10
    in_channels : int, default 1
    image_size : int, default 28
        Rows and columns of the images, in pixels.
    hidden : sequence of int, default (512, 512)
        Units of the hidden layers.

    Returns
    -------
    Sequential
        669,706 parameters with the default arguments:
        ``(784 + 1) * 512 + (512 + 1) * 512 + (512 + 1) * 10``.

    References
    ----------
    Two hidden layers of 512 units are the network of Keras' example for MNIST (mnist_mlp.py), whose
    summary shows the 669,706 parameters. The lectures use such a network as the baseline that knows
    nothing of images: it sees the pixels in any order.

    Examples
    --------
    >>> from convcore import models
    >>> sum(p.data.size for p in models.mlp().parameters())
    669706
    >>> sum(p.data.size for p in models.mlp(hidden=(128, 128)).parameters())
    118282
    """
    num_classes = check.integer("mlp", "num_classes", num_classes)
    in_channels = check.integer("mlp", "in_channels", in_channels)
    image_size = check.integer("mlp", "image_size", image_size)
    units = in_channels * image_size**2
    layers: list[Module] = [Flatten()]
    for width in hidden:
        layers += [Linear(units, check.integer("mlp", "hidden", width)), ReLU()]
        units = width
    return Sequential(*layers, Linear(units, num_classes))

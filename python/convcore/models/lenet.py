"""LeNet-5 and its relatives."""

from __future__ import annotations

from convcore.nn import _checks as check
from convcore.nn.activation import ReLU
from convcore.nn.containers import Sequential
from convcore.nn.conv import Conv2d
from convcore.nn.flatten import Flatten
from convcore.nn.linear import Linear
from convcore.nn.pooling import MaxPool2d


def lenet5(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> Sequential:
    """Return LeNet-5 with ReLU and max pooling.

    Parameters
    ----------
    num_classes : int, default 10
    in_channels : int, default 1
    image_size : int, default 28
        Rows and columns of the images, in pixels; at least 12.

    Returns
    -------
    Sequential
        61,706 parameters with the default arguments.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE, 1998.

    Examples
    --------
    >>> from convcore import models
    >>> model = models.lenet5()
    >>> sum(p.numel() for p in model.parameters())
    61706
    """
    num_classes = check.integer("lenet5", "num_classes", num_classes)
    in_channels = check.integer("lenet5", "in_channels", in_channels)
    image_size = check.integer("lenet5", "image_size", image_size, low=12)
    side = (image_size // 2 - 4) // 2  # after pool, convolution without padding, pool
    return Sequential(
        Conv2d(in_channels, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(16 * side * side, 120),
        ReLU(),
        Linear(120, 84),
        ReLU(),
        Linear(84, num_classes),
    )


def lenet5_small(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> Sequential:
    """Return the small LeNet of the statistics lecture ("LeNet5Small"): one convolution.

    Parameters
    ----------
    num_classes : int, default 10
    in_channels : int, default 1
    image_size : int, default 28
        Rows and columns of the images, in pixels; at least 2.

    Returns
    -------
    Sequential
        99,874 parameters with the default arguments: 156 in the convolution, 98,868 and 850 in the
        dense layers.

    Notes
    -----
    The lecture gives six filters of 5x5 with ReLU, max pooling, and "one or two" dense layers
    before the output. The padding of 2, the pooling of 2x2 and the one dense layer of 84 units are
    those of LeNet-5, of which this is the first stage and the end.

    Examples
    --------
    >>> from convcore import models
    >>> sum(p.data.size for p in models.lenet5_small().parameters())
    99874
    """
    num_classes = check.integer("lenet5_small", "num_classes", num_classes)
    in_channels = check.integer("lenet5_small", "in_channels", in_channels)
    side = check.integer("lenet5_small", "image_size", image_size, low=2) // 2
    return Sequential(
        Conv2d(in_channels, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(6 * side * side, 84),
        ReLU(),
        Linear(84, num_classes),
    )

"""AlexNet."""

from __future__ import annotations

from convcore.nn import _checks as check
from convcore.nn.activation import ReLU
from convcore.nn.containers import Sequential
from convcore.nn.conv import Conv2d
from convcore.nn.dropout import Dropout
from convcore.nn.flatten import Flatten
from convcore.nn.linear import Linear
from convcore.nn.pooling import AdaptiveAvgPool2d, MaxPool2d


def alexnet(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> Sequential:
    """Return AlexNet in the form and with the keys of torchvision.

    Parameters
    ----------
    num_classes : int, default 1000
    in_channels : int, default 3
    dropout : float, default 0.5
        Probability of a zero before each of the two hidden dense layers.

    Returns
    -------
    Sequential
        61,100,840 parameters with the default arguments. Images of at least 63 x 63 pixels; those
        of ImageNet are 224 x 224.

    Notes
    -----
    The state_dict of ``torchvision.models.alexnet`` loads as it is. This is the "one weird trick"
    form, for one device: 64, 192, 384, 256 and 256 filters and no local response normalisation,
    where the network of 2012 has 96, 256, 384, 384 and 256 filters in two halves on two devices and
    60 million parameters.

    References
    ----------
    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
    networks", NIPS 2012; Krizhevsky, "One weird trick for parallelizing convolutional neural
    networks", 2014.

    Examples
    --------
    >>> from convcore import models
    >>> list(models.alexnet(num_classes=10).state_dict())[:2]
    ['features.0.weight', 'features.0.bias']
    """
    num_classes = check.integer("alexnet", "num_classes", num_classes)
    in_channels = check.integer("alexnet", "in_channels", in_channels)
    features = Sequential(
        Conv2d(in_channels, 64, 11, stride=4, padding=2),
        ReLU(),
        MaxPool2d(3, stride=2),
        Conv2d(64, 192, 5, padding=2),
        ReLU(),
        MaxPool2d(3, stride=2),
        Conv2d(192, 384, 3, padding=1),
        ReLU(),
        Conv2d(384, 256, 3, padding=1),
        ReLU(),
        Conv2d(256, 256, 3, padding=1),
        ReLU(),
        MaxPool2d(3, stride=2),
    )
    classifier = Sequential(
        Dropout(dropout),
        Linear(256 * 6 * 6, 4096),
        ReLU(),
        Dropout(dropout),
        Linear(4096, 4096),
        ReLU(),
        Linear(4096, num_classes),
    )
    return Sequential(
        {
            "features": features,
            "avgpool": AdaptiveAvgPool2d((6, 6)),
            "flatten": Flatten(),
            "classifier": classifier,
        }
    )

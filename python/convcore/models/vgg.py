"""VGG-16 and VGG-19."""

from __future__ import annotations

from convcore import init
from convcore.nn import _checks as check
from convcore.nn.activation import ReLU
from convcore.nn.containers import Sequential
from convcore.nn.conv import Conv2d
from convcore.nn.dropout import Dropout
from convcore.nn.flatten import Flatten
from convcore.nn.linear import Linear
from convcore.nn.module import Module
from convcore.nn.pooling import AdaptiveAvgPool2d, MaxPool2d

#: Filters in the five stages; each ends with a pooling.
_CHANNELS = (64, 128, 256, 512, 512)


def vgg16(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> Sequential:
    """Return VGG-16, the paper's configuration D, with the keys of torchvision.

    Parameters
    ----------
    num_classes : int, default 1000
    in_channels : int, default 3
    dropout : float, default 0.5
        Probability of a zero behind each of the two hidden dense layers.

    Returns
    -------
    Sequential
        138,357,544 parameters with the default arguments (553 MB); "138 million" in the paper's
        table 2. Images of at least 32 x 32 pixels; those of ImageNet are 224 x 224.

    See Also
    --------
    vgg19 : Three more convolutions.

    Notes
    -----
    Five stages of 2, 2, 3, 3 and 3 convolutions of 3x3 with ReLU, each followed by 2x2 max pooling;
    two dense layers of 4096 and one of the classes. The state_dict of ``torchvision.models.vgg16``
    loads as it is. Weights begin as there: `convcore.init.kaiming_normal_` of the outputs in the
    convolutions, normally distributed with a standard deviation of 0.01 in the dense layers.

    References
    ----------
    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition",
    ICLR 2015.
    """
    return _vgg("vgg16", (2, 2, 3, 3, 3), num_classes, in_channels, dropout)


def vgg19(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> Sequential:
    """Return VGG-19, configuration E, 143,667,240 parameters ("144 million"); as `vgg16`.

    The stages have 2, 2, 4, 4 and 4 convolutions.
    """
    return _vgg("vgg19", (2, 2, 4, 4, 4), num_classes, in_channels, dropout)


def _vgg(
    name: str, convolutions: tuple[int, ...], num_classes: int, in_channels: int, dropout: float
) -> Sequential:
    num_classes = check.integer(name, "num_classes", num_classes)
    channels = check.integer(name, "in_channels", in_channels)
    layers: list[Module] = []
    for count, width in zip(convolutions, _CHANNELS, strict=True):
        for _ in range(count):
            conv = Conv2d(channels, width, 3, padding=1)
            init.kaiming_normal_(conv.weight, mode="fan_out")
            _zero_bias(conv)
            layers += [conv, ReLU()]
            channels = width
        layers.append(MaxPool2d(2))
    classifier = Sequential(
        _linear(channels * 7 * 7, 4096),
        ReLU(),
        Dropout(dropout),
        _linear(4096, 4096),
        ReLU(),
        Dropout(dropout),
        _linear(4096, num_classes),
    )
    return Sequential(
        {
            "features": Sequential(*layers),
            "avgpool": AdaptiveAvgPool2d((7, 7)),
            "flatten": Flatten(),
            "classifier": classifier,
        }
    )


def _linear(in_features: int, out_features: int) -> Linear:
    layer = Linear(in_features, out_features)
    init.normal_(layer.weight, std=0.01)
    _zero_bias(layer)
    return layer


def _zero_bias(layer: Conv2d | Linear) -> None:
    assert layer.bias is not None
    init.zeros_(layer.bias)

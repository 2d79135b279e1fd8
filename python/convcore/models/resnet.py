"""The residual networks for CIFAR."""

from __future__ import annotations

from convcore import init
from convcore.nn import _checks as check
from convcore.nn.activation import ReLU
from convcore.nn.containers import Residual, Sequential
from convcore.nn.conv import Conv2d
from convcore.nn.flatten import Flatten
from convcore.nn.linear import Linear
from convcore.nn.module import Module
from convcore.nn.normalization import BatchNorm2d
from convcore.nn.padding import PadChannels
from convcore.nn.pooling import AdaptiveAvgPool2d

#: Channels of the three stages; the second and third begin with a stride of 2.
_CHANNELS = (16, 32, 64)


def resnet20(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> Sequential:
    r"""Return ResNet-20 for small images: three stages of three residual blocks.

    Parameters
    ----------
    num_classes : int, default 10
    in_channels : int, default 3
    shortcut : {'A', 'B'}
        What goes around the first block of the second and third stage, where the number of channels
        doubles and the size halves. 'A', as in the paper's networks for CIFAR: every second pixel,
        with channels of zeros before and after, and no parameters. 'B': a 1x1 convolution with
        stride 2 and batch norm. Around all other blocks goes the identity.

    Returns
    -------
    Sequential
        269,722 parameters with the default arguments. Images of any size; the paper's are 32 x 32.

    See Also
    --------
    resnet32, resnet44, resnet56, resnet110 : The same with 5, 7, 9 and 18 blocks per stage.

    Notes
    -----
    A block is 3x3 convolution, batch norm, ReLU, 3x3 convolution, batch norm; the sum with the
    shortcut goes through a ReLU. Before the stages come a 3x3 convolution, batch norm and ReLU,
    after them the mean of all pixels and a dense layer. Convolutions have no bias; their weights
    begin normally distributed with variance ``2 / fan_out`` (`convcore.init.kaiming_normal_`).

    The keys of the ``state_dict`` are those of the PyTorch implementation of these networks that is
    used most (github.com/akamaster/pytorch_resnet_cifar10), with ``body.`` between the block and
    the layer: ``layer1.0.body.conv1.weight`` is ``layer1.0.conv1.weight`` there. Weights of
    that implementation load after::

        import re
        blocks = re.compile(r"^(layer\d\.\d+)\.(conv|bn)")
        state = {blocks.sub(r"\1.body.\2", key): value for key, value in state.items()}

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2.

    Examples
    --------
    >>> from convcore import models
    >>> model = models.resnet20()
    >>> sum(p.numel() for p in model.parameters())
    269722
    >>> [key for key in model.state_dict() if key.startswith("layer3.2") and "weight" in key][:2]
    ['layer3.2.body.conv1.weight', 'layer3.2.body.bn1.weight']
    """
    return _resnet("resnet20", 3, num_classes, in_channels, shortcut)


def resnet32(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> Sequential:
    """Return ResNet-32, 464,154 parameters; as `resnet20`, with five blocks per stage."""
    return _resnet("resnet32", 5, num_classes, in_channels, shortcut)


def resnet44(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> Sequential:
    """Return ResNet-44, 658,586 parameters; as `resnet20`, with seven blocks per stage."""
    return _resnet("resnet44", 7, num_classes, in_channels, shortcut)


def resnet56(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> Sequential:
    """Return ResNet-56, 853,018 parameters; as `resnet20`, with nine blocks per stage."""
    return _resnet("resnet56", 9, num_classes, in_channels, shortcut)


def resnet110(num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> Sequential:
    """Return ResNet-110, 1,727,962 parameters; as `resnet20`, with 18 blocks per stage."""
    return _resnet("resnet110", 18, num_classes, in_channels, shortcut)


def _resnet(
    name: str, blocks: int, num_classes: int, in_channels: int, shortcut: str
) -> Sequential:
    num_classes = check.integer(name, "num_classes", num_classes)
    channels = check.integer(name, "in_channels", in_channels)
    shortcut = check.choice(name, "shortcut", shortcut, ("A", "B"))
    layers: dict[str, Module] = {
        "conv1": _conv3x3(channels, _CHANNELS[0]),
        "bn1": BatchNorm2d(_CHANNELS[0]),
        "relu": ReLU(),
    }
    channels = _CHANNELS[0]
    for stage, width in enumerate(_CHANNELS, start=1):
        first = _block(channels, width, shortcut)
        others = (_block(width, width, shortcut) for _ in range(1, blocks))
        layers[f"layer{stage}"] = Sequential(first, *others)
        channels = width
    layers["pool"] = AdaptiveAvgPool2d(1)
    layers["flatten"] = Flatten()
    layers["linear"] = Linear(channels, num_classes)
    return Sequential(layers)


def _block(channels: int, width: int, shortcut: str) -> Residual:
    """Return a block from `channels` to `width`; with a stride of 2 when they differ."""
    stride = 1 if channels == width else 2
    body = Sequential(
        {
            "conv1": _conv3x3(channels, width, stride),
            "bn1": BatchNorm2d(width),
            "relu": ReLU(),
            "conv2": _conv3x3(width, width),
            "bn2": BatchNorm2d(width),
        }
    )
    around: Module | None = None
    if stride != 1 and shortcut == "A":
        around = PadChannels((width - channels) // 2, stride)
    elif stride != 1:
        around = Sequential(conv_without_bias(channels, width, 1, stride), BatchNorm2d(width))
    return Residual(body, around, ReLU())


def _conv3x3(channels: int, width: int, stride: int = 1) -> Conv2d:
    return conv_without_bias(channels, width, 3, stride)


def conv_without_bias(channels: int, width: int, size: int, stride: int) -> Conv2d:
    """Return a convolution as the residual networks have them, with their first weights."""
    conv = Conv2d(channels, width, size, stride, padding=size // 2, bias=False)
    init.kaiming_normal_(conv.weight, mode="fan_out")
    return conv

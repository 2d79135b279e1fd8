"""The residual networks for ImageNet."""

from __future__ import annotations

from convcore.models.resnet import conv_without_bias
from convcore.nn import _checks as check
from convcore.nn.activation import ReLU
from convcore.nn.containers import ResidualBlock, Sequential
from convcore.nn.flatten import Flatten
from convcore.nn.linear import Linear
from convcore.nn.module import Module
from convcore.nn.normalization import BatchNorm2d
from convcore.nn.pooling import AdaptiveAvgPool2d, MaxPool2d

#: Channels of the 3x3 convolutions in the four stages; all but the first begin with a stride of 2.
_CHANNELS = (64, 128, 256, 512)

#: What the last convolution of a bottleneck multiplies them by.
_EXPANSION = 4


def resnet18(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """Return ResNet-18 for images as those of ImageNet, with the keys of torchvision.

    Parameters
    ----------
    num_classes : int, default 1000
    in_channels : int, default 3

    Returns
    -------
    Sequential
        11,689,512 parameters with the default arguments. Images of any size; the paper's are
        224 x 224.

    See Also
    --------
    resnet34, resnet50 : Deeper ones.
    resnet20 : The paper's networks for CIFAR, with 32 x 32 pixels.

    Notes
    -----
    A 7x7 convolution with stride 2, batch norm, ReLU, 3x3 max pooling with stride 2; four stages of
    2, 2, 2 and 2 blocks; the mean of all pixels and a dense layer. A block is 3x3 convolution,
    batch norm, ReLU, 3x3 convolution, batch norm; the sum with the shortcut goes through a ReLU.
    Where shapes change, the shortcut is a 1x1 convolution and batch norm (the paper's option B).

    The state_dict of ``torchvision.models.resnet18`` loads as it is. Weights begin as there
    (`convcore.init.kaiming_normal_` of the outputs).

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, table 1. The
    counts are those that torchvision documents for its weights.

    Examples
    --------
    >>> from convcore import models
    >>> model = models.resnet18()
    >>> sum(p.data.size for p in model.parameters())
    11689512
    >>> [key for key in model.state_dict() if key.startswith("layer2.0.downsample")][:2]
    ['layer2.0.downsample.0.weight', 'layer2.0.downsample.1.weight']
    """
    return _resnet("resnet18", (2, 2, 2, 2), False, num_classes, in_channels)


def resnet34(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """Return ResNet-34, 21,797,672 parameters; as `resnet18`, with 3, 4, 6 and 3 blocks."""
    return _resnet("resnet34", (3, 4, 6, 3), False, num_classes, in_channels)


def resnet50(num_classes: int = 1000, in_channels: int = 3) -> Sequential:
    """Return ResNet-50, 25,557,032 parameters; as `resnet34`, with bottlenecks.

    A bottleneck is three convolutions with batch norm: 1x1 down to the channels of the stage, 3x3,
    and 1x1 up to four times as many. Its stride is that of the 3x3 convolution, as in torchvision
    (the paper has it in the first 1x1).
    """
    return _resnet("resnet50", (3, 4, 6, 3), True, num_classes, in_channels)


def _resnet(
    name: str, blocks: tuple[int, ...], bottleneck: bool, num_classes: int, in_channels: int
) -> Sequential:
    num_classes = check.integer(name, "num_classes", num_classes)
    in_channels = check.integer(name, "in_channels", in_channels)
    channels = _CHANNELS[0]
    layers: dict[str, Module] = {
        "conv1": conv_without_bias(in_channels, channels, 7, 2),
        "bn1": BatchNorm2d(channels),
        "relu": ReLU(),
        "maxpool": MaxPool2d(3, stride=2, padding=1),
    }
    for stage, (count, width) in enumerate(zip(blocks, _CHANNELS, strict=True), start=1):
        made = []
        for i in range(count):
            stride = 2 if stage > 1 and i == 0 else 1
            made.append(_block(channels, width, stride, bottleneck))
            channels = width * _EXPANSION if bottleneck else width
        layers[f"layer{stage}"] = Sequential(*made)
    layers["avgpool"] = AdaptiveAvgPool2d(1)
    layers["flatten"] = Flatten()
    layers["fc"] = Linear(channels, num_classes)
    return Sequential(layers)


def _block(channels: int, width: int, stride: int, bottleneck: bool) -> ResidualBlock:
    """Return a block of a stage of `width`, from `channels`."""
    sizes = (1, 3, 1) if bottleneck else (3, 3)
    strides = (1, stride, 1) if bottleneck else (stride, 1)
    widths = (width, width, width * _EXPANSION) if bottleneck else (width, width)
    layers: dict[str, Module] = {}
    c_in = channels
    for i, (c_out, size, s) in enumerate(zip(widths, sizes, strides, strict=True), start=1):
        if i > 1:
            layers[f"relu{i - 1}"] = ReLU()
        layers[f"conv{i}"] = conv_without_bias(c_in, c_out, size, s)
        layers[f"bn{i}"] = BatchNorm2d(c_out)
        c_in = c_out
    downsample = None
    if stride != 1 or channels != c_in:
        downsample = Sequential(conv_without_bias(channels, c_in, 1, stride), BatchNorm2d(c_in))
    return ResidualBlock(layers, downsample, ReLU())

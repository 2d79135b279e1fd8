"""Named layer shapes, shared by the benchmarks and the tests."""

from __future__ import annotations

from typing import NamedTuple


class ConvCase(NamedTuple):
    """One convolution of a known network: input channels and size, filters, stride, padding."""

    c_in: int
    size: int
    c_out: int
    kernel: int
    stride: int
    padding: int


CONVOLUTIONS = {
    "lenet5_conv1": ConvCase(1, 28, 6, 5, 1, 2),
    "lenet5_conv2": ConvCase(6, 14, 16, 5, 1, 0),
    "resnet20_stem": ConvCase(3, 32, 16, 3, 1, 1),
    "resnet20_stage1": ConvCase(16, 32, 16, 3, 1, 1),
    "resnet20_down2": ConvCase(16, 32, 32, 3, 2, 1),
    "resnet20_stage2": ConvCase(32, 16, 32, 3, 1, 1),
    "resnet20_down3": ConvCase(32, 16, 64, 3, 2, 1),
    "resnet20_stage3": ConvCase(64, 8, 64, 3, 1, 1),
}

"""LeNet-5 as it was in 1998."""

from __future__ import annotations

import numpy as np

from convcore import init
from convcore.nn import _checks as check
from convcore.nn import connections
from convcore.nn.activation import ScaledTanh
from convcore.nn.containers import Sequential
from convcore.nn.conv import Conv2d
from convcore.nn.flatten import Flatten
from convcore.nn.linear import Linear
from convcore.nn.module import Module
from convcore.nn.pooling import Subsampling2d
from convcore.nn.rbf import EuclideanRBF

#: Pictures of the digits of 7 x 12 pixels, in the manner of the paper's figure 3: the codes that
#: the 84 units of F6 shall take.
_PICTURES = """
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
..###.. ...##.. .#####. .#####. .#..... ####### ..####. ####### .#####. .#####.
.#...#. ..###.. ##...## ##...## .#..#.. ##..... .##.... ##...## ##...## ##...##
##...## .####.. .....## .....## .#..#.. ##..... ##..... .....#. ##...## ##...##
##...## ...##.. .....## .....## ##..#.. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ..####. ##..#.. ######. ######. ....#.. .#####. ##...##
##...## ...##.. ...##.. .....## ##..#.. .....## ##...## ...##.. ##...## .######
##...## ...##.. ..##... .....## ####### .....## ##...## ...#... ##...## .....##
##...## ...##.. .##.... .....## ....#.. .....## ##...## ..##... ##...## .....##
.#...#. ...##.. ##..... ##...## ....#.. ##...## ##...## ..##... ##...## ....##.
..###.. .#####. ####### .#####. ....#.. .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""


def digit_codes() -> list[list[float]]:
    """Return for each digit the 84 values of its picture: 1 for ink, -1 for paper.

    Examples
    --------
    >>> from convcore.models.lenet1998 import digit_codes
    >>> len(digit_codes()), len(digit_codes()[0])
    (10, 84)
    """
    rows = [line.split() for line in _PICTURES.split("\n") if line]
    return [
        [1.0 if pixel == "#" else -1.0 for row in rows for pixel in row[digit]]
        for digit in range(len(rows[0]))
    ]


def lenet5_1998(num_classes: int = 10, in_channels: int = 1, image_size: int = 32) -> Sequential:
    """Return LeNet-5 as the paper of 1998 describes it.

    Parameters
    ----------
    num_classes : int, default 10
        At most 10: the codes of the output are pictures of the digits.
    in_channels : int, default 1
    image_size : {32, 28}
        Rows and columns. The paper puts the 28 x 28 pixels of a digit in the middle of 32 x 32;
        with 28 the first convolution pads with zeros instead.

    Returns
    -------
    Sequential
        60,000 parameters with the default arguments, as in the paper: C1 156, S2 12, C3 1,516, S4
        32, C5 48,120, F6 10,164.

    See Also
    --------
    lenet5 : The modern form, with ReLU, max pooling and a dense output.

    Notes
    -----
    Convolutions C1, C3 and C5 of 5x5; trainable subsampling S2 and S4 of 2x2 (the sum of a window
    times a coefficient plus a bias, per channel); the table of connections of C3; 84 units F6; ten
    Euclidean radial basis functions. All layers before the last go through
    ``1.7159 tanh(2/3 a)``. The 340,908 connections of the paper count the 840 of the output, whose
    weights are fixed codes of 1 and -1 and no parameters.

    What differs: the output is minus the squared distance, up to a term that all classes share
    (`convcore.nn.EuclideanRBF`), so that cross-entropy is the paper's criterion (9) without the
    constant for rubbish; the pictures of the digits are drawn anew; and the optimizer is up to you,
    where the paper has a diagonal Levenberg-Marquardt method. Weights begin as in its appendix A,
    between -2.4 and 2.4 divided by the number of inputs of a unit. Images should have about the
    paper's scale, with a mean of 0 and a variance of 1.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE, 1998, section II.B.

    Examples
    --------
    >>> from convcore import models
    >>> model = models.lenet5_1998()
    >>> sum(p.numel() for p in model.parameters())
    60000
    """
    codes = digit_codes()
    num_classes = check.integer("lenet5_1998", "num_classes", num_classes)
    if num_classes > len(codes):
        raise ValueError(
            "lenet5_1998: num_classes is out of range: expected at most 10 (the codes are pictures "
            f"of the digits), got {num_classes}"
        )
    in_channels = check.integer("lenet5_1998", "in_channels", in_channels)
    if image_size not in (28, 32):
        raise ValueError(
            f"lenet5_1998: image_size is not known: expected 32 or 28, got {image_size!r}"
        )
    layers: dict[str, Module] = {
        "c1": Conv2d(in_channels, 6, 5, padding=(32 - image_size) // 2),
        "c1_squash": ScaledTanh(),
        "s2": Subsampling2d(6),
        "s2_squash": ScaledTanh(),
        "c3": Conv2d(6, 16, 5, connections=connections.LENET5_C3),
        "c3_squash": ScaledTanh(),
        "s4": Subsampling2d(16),
        "s4_squash": ScaledTanh(),
        "c5": Conv2d(16, 120, 5),
        "c5_squash": ScaledTanh(),
        "flatten": Flatten(),
        "f6": Linear(120, 84),
        "f6_squash": ScaledTanh(),
        "output": EuclideanRBF(codes[:num_classes]),
    }
    for layer in layers.values():
        if isinstance(layer, (Conv2d, Linear)):
            _draw(layer)
    return Sequential(layers)


def _draw(layer: Conv2d | Linear) -> None:
    """Begin between -2.4 / F and 2.4 / F, where F is the number of inputs of a unit."""
    weight = layer.weight
    init.uniform_(weight, -1, 1)
    weight.keep_mask()
    inputs = np.count_nonzero(weight.data.reshape(len(weight.data), -1), axis=1).astype(np.float32)
    weight.data *= (2.4 / inputs).reshape(-1, *(1,) * (weight.data.ndim - 1))
    if layer.bias is not None:
        init.zeros_(layer.bias)

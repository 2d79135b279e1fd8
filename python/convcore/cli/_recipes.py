"""How ``convcore train`` trains when the command line does not say otherwise."""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """The defaults for a data set."""

    epochs: int
    batch_size: int
    lr: float  # of adam and adamw, in the first epoch
    lr_decay: float  # the learning rate's factor from one epoch to the next
    label_smoothing: float


SGD_LR = 0.02
SGD_MOMENTUM = 0.9

# Measured with LeNet-5 and adam, test accuracy: digits 98.6 % to 99.4 % (ten seeds), mnist 99.1 %
# to 99.2 % (three seeds), fashion-mnist 90.6 %, cifar10 66.0 %.
# fmt: off
RECIPES: dict[str, Recipe] = {
    # name             epochs batch lr decay label_smoothing
    "digits":        Recipe(15, 32, 3e-3, 0.85, 0.1),
    "mnist":         Recipe( 5, 64, 2e-3, 0.50, 0.05),
    "fashion-mnist": Recipe(10, 64, 2e-3, 0.70, 0.0),
    "cifar10":       Recipe(10, 64, 2e-3, 0.70, 0.1),
}
# fmt: on

"""How ``convcore train`` trains when the command line does not say otherwise."""

from __future__ import annotations

import math
from typing import NamedTuple


class Recipe(NamedTuple):
    """The defaults for a kind of network and a data set."""

    epochs: int
    batch_size: int
    lr: float  # of adam and adamw, in the first epoch
    lr_decay: float  # of the exponential schedule: the rate's factor from one epoch to the next
    label_smoothing: float
    augment: bool = False


class Family(NamedTuple):
    """The defaults for a kind of network."""

    optimizer: str
    sgd_lr: float
    sgd_weight_decay: float
    schedule: str
    recipes: dict[str, Recipe]  # by data set


SGD_MOMENTUM = 0.9
ADAMW_WEIGHT_DECAY = 0.01
AUGMENT_PAD = 4  # pixels

# Test accuracies measured with LeNet-5 and adam: digits 98.6 % to 99.4 % (ten seeds), mnist 99.1 %
# to 99.2 % (three seeds), fashion-mnist 90.6 %, cifar10 66.0 %.
# fmt: off
_LENET = Family("adam", 0.02, 0.0, "exponential", {
    # name             epochs batch lr decay label_smoothing
    "digits":        Recipe(15, 32, 3e-3, 0.85, 0.1),
    "mnist":         Recipe( 5, 64, 2e-3, 0.50, 0.05),
    "fashion-mnist": Recipe(10, 64, 2e-3, 0.70, 0.0),
    "cifar10":       Recipe(10, 64, 2e-3, 0.70, 0.1),
})
# Optimizer, rate, weight decay, batch and augmentation of the paper, in fewer epochs.
_RESNET = Family("sgd", 0.1, 1e-4, "cosine", {
    "digits":        Recipe(10,  32, 1e-3, 0.70, 0.0),
    "mnist":         Recipe( 5, 128, 1e-3, 0.50, 0.0),
    "fashion-mnist": Recipe(10, 128, 1e-3, 0.70, 0.0),
    "cifar10":       Recipe(10, 128, 1e-3, 0.70, 0.0, augment=True),
})
# The lecture's case study: Adam, 10 epochs, batches of 128.
_FASHION = _LENET._replace(
    recipes={**_LENET.recipes, "fashion-mnist": Recipe(10, 128, 1e-3, 1.0, 0.0)}
)
# Optimizer, rate, weight decay of the papers of AlexNet and VGG, in fewer epochs.
_VGG = _RESNET._replace(sgd_lr=0.01, sgd_weight_decay=5e-4)
# fmt: on

#: The names of the data sets.
DATA = tuple(_LENET.recipes)


def family(model: str) -> Family:
    """Return what goes for the network of that name."""
    if model in ("alexnet", "vgg16", "vgg19"):
        return _VGG
    if model == "fashion_cnn":
        return _FASHION
    return _RESNET if model.startswith("resnet") else _LENET


#: The names of the networks, as `convcore.models.names` gives them.
MODELS = (
    "mlp",
    "lenet5",
    "lenet5_1998",
    "lenet5_small",
    "fashion_cnn",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "alexnet",
    "vgg16",
    "vgg19",
    "resnet18",
    "resnet34",
    "resnet50",
)

#: What ``--schedule`` knows.
SCHEDULES = ("exponential", "cosine", "steps")


def rate_factor(schedule: str, lr_decay: float | None, epoch: int, epochs: int) -> float:
    """Return the share of the first learning rate that `epoch`, counted from 0, has."""
    if schedule == "exponential":
        return (1.0 if lr_decay is None else lr_decay) ** epoch
    if schedule == "cosine":
        return (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2
    # The paper of the residual networks: a tenth after half of the steps, and after three quarters.
    return 0.1 ** ((2 * epoch >= epochs) + (4 * epoch >= 3 * epochs))

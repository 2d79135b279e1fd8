"""Networks for the command line: made by name, or read from a file."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from convcore.cli._parser import Args, UsageError, nearest, one_of
from convcore.cli._recipes import DATA
from convcore.cli._settings import WEIGHTS_SUFFIX

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from convcore.data import Dataset
    from convcore.engine import Model
    from convcore.nn import Sequential

_INPUT = (1, 28, 28)
_INPUT_RESNET = (3, 32, 32)
_CLASSES = 10


@dataclass(frozen=True)
class Card:
    """What the file of a trained network says beside its weights: all that a picture needs."""

    model: str
    data: str
    input_shape: tuple[int, ...]  # (C, H, W)
    classes: tuple[str, ...]
    mean: tuple[float, ...]  # images are standardised with these, per channel
    std: tuple[float, ...]
    data_dir: str | None = None  # where the files of the data set lay, when a person said it

    @classmethod
    def of(cls, model: str, train: Dataset, data_dir: str | None) -> Card:
        """Return the card of a network trained on `train`."""
        shape = train.x.shape[1:]
        folder = None if data_dir is None else os.path.abspath(data_dir)
        return cls(model, train.name, shape, train.classes, train.mean, train.std, folder)

    @classmethod
    def of_data(cls, name: str) -> Card:
        """Return the card of a network for a data set as `data.load` gives it; reads no images."""
        from convcore.data._catalogue import find_entry

        entry = find_entry(name)
        return cls("", name, entry.input_shape, entry.classes, entry.mean, entry.std)

    def to_dict(self) -> dict[str, Any]:
        """Return it in forms that JSON knows."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Card | None:
        """Return what `to_dict` gave; None when something is missing (no file of train)."""
        data_dir = content.get("data_dir")
        try:
            return cls(
                model=str(content["model"]),
                data=str(content["data"]),
                input_shape=tuple(map(int, content["input_shape"])),
                classes=tuple(map(str, content["classes"])),
                mean=tuple(map(float, content["mean"])),
                std=tuple(map(float, content["std"])),
                data_dir=None if data_dir is None else str(data_dir),
            )
        except (KeyError, TypeError, ValueError):
            return None


def create(name: str, input_shape: tuple[int, ...], classes: int) -> Sequential:
    """Return a new network for images of `input_shape`."""
    from convcore import models

    expect_model(name)
    channels, height, _ = input_shape
    arguments = {"num_classes": classes, "in_channels": channels}
    if not name.startswith("resnet"):  # those take images of any size
        arguments["image_size"] = height
    return models.create(name, **arguments)


def expect_model(name: str) -> None:
    """Raise when no network has that name."""
    from convcore import models

    if name not in models.names():
        raise UsageError(f"{name!r} is no network: {nearest(name, models.names())}")


def read(path: str) -> tuple[Model, Card | None]:
    """Return the network in a file, in evaluation mode, and its card if it has one."""
    from convcore import serialization

    if not os.path.exists(path) and os.path.exists(path + WEIGHTS_SUFFIX):
        raise FileNotFoundError(
            f"there is no file {path!r} (did you mean {path + WEIGHTS_SUFFIX!r}?)"
        )
    model = serialization.load(path)
    return model, Card.from_dict(serialization.load_extra(path))


def create_or_read(
    network: str, input_shape: tuple[int, ...] | None
) -> tuple[Model, tuple[int, ...]]:
    """Return the network in the file, or else the new one, of that name, and its input's shape."""
    if os.path.exists(network):
        model, card = read(network)
        return model, input_shape or (card.input_shape if card else _INPUT)
    expect_model(network)
    input_shape = input_shape or (_INPUT_RESNET if network.startswith("resnet") else _INPUT)
    if len(input_shape) != 3 or input_shape[1] != input_shape[2]:
        raise UsageError(
            f"--input does not fit {network}: expected a square picture, as in 1x28x28, "
            f"got {'x'.join(map(str, input_shape))}"
        )
    return create(network, input_shape, _CLASSES), input_shape


def load_data(name: str, split: str, data_dir: str | None) -> Dataset:
    """Load a split; images that need no resizing stay uint8 in memory."""
    from convcore import data
    from convcore.data._catalogue import find_entry

    dtype = "float32" if find_entry(name).enlarged else "uint8"
    return data.load(name, split, data_dir=data_dir, dtype=dtype)


class Score(NamedTuple):
    """How a network does on a data set."""

    loss: float  # plain cross entropy, whatever the training minimised
    right: npt.NDArray[np.bool_]  # for each image

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return int(self.right.sum()) / len(self.right)


def logits_of(model: Model, data: Dataset) -> npt.NDArray[np.float32]:
    """Send all images through the network; return a score per class."""
    logits = model.predict(data.x)
    if logits.ndim != 2 or logits.shape[1] != len(data.classes):
        raise ValueError(
            f"the network does not fit {data.name}: expected {len(data.classes)} values per image, "
            f"got an output of shape {logits.shape[1:]}"
        )
    return logits


def score(model: Model, data: Dataset) -> Score:
    """Send all images through the network, and compare with the labels."""
    from convcore import functional as F

    logits = logits_of(model, data)
    return Score(float(F.cross_entropy(logits, data.y)), logits.argmax(axis=1) == data.y)


# ---- pictures ------------------------------------------------------------------------------------


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how pictures become input: --data and --invert."""
    parser.add_argument(
        "--data",
        type=one_of(DATA),
        metavar="NAME",
        help="the data set of the network, for a file that does not say it: " + ", ".join(DATA),
    )
    add_invert_option(parser)


def add_invert_option(parser: argparse.ArgumentParser) -> None:
    """Add --invert; `inversion` reads it."""
    parser.add_argument(
        "--invert",
        choices=("auto", "yes", "no"),
        help="swap black and white; auto: when the border is bright, since networks for digits "
        "expect white on black (default: auto for grey networks, no for coloured ones)",
    )


def described(args: Args, card: Card | None) -> Card:
    """Return what is known about the network: its own card, else that of --data."""
    if card is None and args.data is None:
        raise UsageError(
            f"{args.file} does not say what its input and its classes are: expected --data NAME, "
            "the data set that it was trained on"
        )
    if card is None:
        return Card.of_data(args.data)
    if args.data not in (None, card.data):
        raise UsageError(
            f"--data does not fit {args.file}: expected {card.data}, on which it was trained "
            f"(leave it out), got {args.data}"
        )
    return card


def inversion(choice: str | None, channels: int) -> bool | Literal["auto"]:
    """Photographs have bright borders of their own, so coloured pictures stay as they are."""
    if choice is None:
        choice = "auto" if channels == 1 else "no"
    return "auto" if choice == "auto" else choice == "yes"

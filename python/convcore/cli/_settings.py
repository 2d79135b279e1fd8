"""What a training depends on: from the command line, the checkpoint to go on from, the recipe."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from convcore.cli._parser import Args, UsageError
from convcore.cli._recipes import (
    ADAMW_WEIGHT_DECAY,
    AUGMENT_PAD,
    SGD_MOMENTUM,
    family,
    rate_factor,
)

if TYPE_CHECKING:
    from convcore.data import Augment
    from convcore.nn.loss import Loss
    from convcore.optim import Optimizer

WEIGHTS_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Settings:
    """All that decides about the result of a training, and where that goes.

    A checkpoint keeps them, so that ``--resume`` needs nothing else.
    """

    model: str
    data: str
    data_dir: str | None
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    schedule: str
    lr_decay: float | None  # exponential schedule only
    label_smoothing: float
    momentum: float | None  # sgd only
    weight_decay: float
    augment: bool
    seed: int
    patience: int | None
    output: str
    checkpoint: str | None  # the folder, when the command line named one
    device: str = "cpu"
    precision: str = "fp32"  # of the products on a GPU

    @property
    def stem(self) -> str:
        """The output's name without its ending."""
        return self.output.removesuffix(WEIGHTS_SUFFIX)

    @property
    def history_file(self) -> str:
        """Where the history goes."""
        return self.stem + ".history.json"

    def to_dict(self) -> dict[str, Any]:
        """Return them in forms that JSON knows."""
        return asdict(self)

    def make_optimizer(self, parameters: Any) -> Optimizer:
        """Return the optimizer of `parameters`."""
        from convcore import optim

        if self.optimizer == "sgd":
            return optim.SGD(
                parameters, self.lr, self.momentum or 0, weight_decay=self.weight_decay
            )
        adam = optim.AdamW if self.optimizer == "adamw" else optim.Adam
        return adam(parameters, self.lr, weight_decay=self.weight_decay)

    def make_loss(self) -> Loss:
        """Return what the training minimises."""
        from convcore import nn

        return nn.CrossEntropyLoss(label_smoothing=self.label_smoothing)

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return self.lr * rate_factor(self.schedule, self.lr_decay, epoch, self.epochs)

    def make_augment(self) -> Augment | None:
        """Return what is done to the training images at random."""
        from convcore.data import Augment

        return Augment(AUGMENT_PAD, flip=True) if self.augment else None


#: What a resumed training may change: how far it goes and where things lie.
_FREE = {"data_dir", "epochs", "patience", "output", "checkpoint", "device", "precision"}
_NEW = {"device", "precision"}  # which older checkpoints lack
#: As `compile` takes them.
PRECISIONS = ("fp32", "tf32", "tf32x3", "bf16")
_OPTIMIZERS = ("adam", "adamw", "sgd")


def from_command_line(args: Args) -> Settings:
    """Return the settings of a new training."""
    data = args.data or "digits"
    kind = family(args.model)
    recipe = kind.recipes[data]
    optimizer = args.optimizer or kind.optimizer
    sgd = optimizer == "sgd"
    if args.momentum is not None and not sgd:
        raise UsageError(f"--momentum does not fit {optimizer}: expected --optimizer sgd")
    schedule = args.schedule or kind.schedule
    exponential = schedule == "exponential"
    if args.lr_decay is not None and not exponential:
        raise UsageError(
            f"--lr-decay does not fit the {schedule} schedule: expected --schedule exponential"
        )
    weight_decay = {"adamw": ADAMW_WEIGHT_DECAY, "sgd": kind.sgd_weight_decay}
    defaults: dict[str, Any] = {
        "model": args.model,
        "data": data,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "optimizer": optimizer,
        "lr": kind.sgd_lr if sgd else recipe.lr,
        "schedule": schedule,
        "lr_decay": recipe.lr_decay if exponential else None,
        "label_smoothing": recipe.label_smoothing,
        "momentum": SGD_MOMENTUM if sgd else None,
        "weight_decay": weight_decay.get(optimizer, 0.0),
        "augment": recipe.augment,
        "seed": 0,
        "output": args.model + WEIGHTS_SUFFIX,
        "device": "cpu",
        "precision": "fp32",
    }
    given = _given(args)
    values: dict[str, Any] = {
        f.name: given.get(f.name, defaults.get(f.name)) for f in fields(Settings)
    }
    return Settings(**values)


def from_checkpoint(args: Args) -> Settings:
    """Return the settings of the training that ``--resume`` goes on with."""
    from convcore import serialization

    kept = serialization.load_extra(args.resume).get("settings")
    names = {f.name for f in fields(Settings)}
    if not isinstance(kept, dict) or not names - _NEW <= kept.keys() <= names:
        raise ValueError(f"{args.resume} is no checkpoint of convcore train")
    given = _given(args)
    for name in sorted(given.keys() - _FREE):
        if given[name] != kept[name]:
            what = name if name == "model" else "--" + name.replace("_", "-")
            raise UsageError(
                f"{what} does not fit the training in {args.resume}: expected {kept[name]} (leave "
                f"it out), got {given[name]}"
            )
    return Settings(**{**kept, **given})


def _given(args: Args) -> dict[str, Any]:
    values = {f.name: getattr(args, f.name) for f in fields(Settings)}
    return {name: value for name, value in values.items() if value is not None}

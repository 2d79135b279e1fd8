"""A small training set, and what each regulariser does about it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from convcore import callbacks, data, nn, optim
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, Lab, Range, first


@dataclass
class _Way:
    """What is changed against the plain training."""

    network: dict[str, bool] = field(default_factory=dict)
    penalty: dict[str, Any] = field(default_factory=dict)
    fit: Callable[[], dict[str, Any]] = dict


_WAYS = {
    "none": _Way(),
    "weight decay (L2)": _Way(penalty={"weight_decay": 3e-3}),
    "L1": _Way(penalty={"l1": 3e-4}),
    "max-norm": _Way(penalty={"max_norm": 1.0}),
    "dropout": _Way(network={"dropout": True}),
    "batch norm": _Way(network={"batch_norm": True}),
    "early stopping": _Way(fit=lambda: {"callbacks": callbacks.EarlyStopping(patience=5)}),
    "augmentation": _Way(fit=lambda: {"augment": data.Augment(pad=2)}),
}

LAB = Lab(
    title="Overfitting, and what helps",
    claim=(
        "Lectures 1 and 4: more powerful models overfit; squared norm or L1 norm, early stopping, "
        "data augmentation, dropout and batch normalization are the remedies."
    ),
    how=(
        "A CNN is trained on 1,000 images only (quick: 200), until it knows them by heart; then "
        "with one remedy at a time. Early stopping looks at the loss on 1,000 (200) further "
        "training images."
    ),
    data="fashion-mnist",
    epochs=40,
    quick_epochs=30,
    bands={
        "train": Band(
            "training accuracy, no remedy",
            Range(0.995, 1.0, (1.0, 1.0, 1.0)),
            Range(0.97, 1.0, (1.0, 1.0, 1.0, 1.0)),
        ),
        "test": Band(
            "test accuracy, no remedy",
            Range(0.815, 0.845, (0.8359, 0.8282, 0.8333)),
            Range(0.82, 0.92, (0.862, 0.8789, 0.8761, 0.8563)),
        ),
        "l2": Band(
            "gain by weight decay",
            Range(-0.04, 0.02, (-0.0016, -0.0093, -0.0187)),
            Range(-0.08, 0.07, (0.0085, -0.0225, -0.0169, 0.0141)),
        ),
        "l1": Band(
            "gain by L1",
            Range(-0.055, 0.02, (-0.0069, -0.0051, -0.0276)),
            Range(-0.08, 0.06, (0.0085, -0.0254, -0.0197, 0.0056)),
        ),
        "max-norm": Band(
            "gain by max-norm",
            Range(-0.015, 0.015, (-0.0017, 0.0033, -0.0042)),
            Range(-0.06, 0.07, (0.0, -0.0113, -0.0028, 0.0197)),
        ),
        "dropout": Band(
            "gain by dropout",
            Range(-0.015, 0.005, (-0.0045, -0.008, -0.0028)),
            Range(-0.09, 0.07, (-0.0085, -0.0282, -0.0169, 0.0085)),
        ),
        "batch norm": Band(
            "gain by batch norm",
            Range(-0.025, 0.03, (-0.0047, 0.0122, 0.0044)),
            Range(-0.07, 0.08, (0.0028, -0.0113, 0.0, 0.0225)),
        ),
        "early stopping": Band(
            "gain by early stopping",
            Range(-0.045, 0.015, (-0.0061, -0.0181, -0.0242)),
            Range(-0.11, 0.1, (0.0169, 0.0028, -0.0338, 0.0)),
        ),
        "augmentation": Band(
            "gain by augmentation",
            Range(-0.02, 0.025, (-0.0021, 0.0096, -0.0027)),
            Range(-0.11, 0.08, (-0.0028, -0.0423, 0.0028, -0.0282)),
        ),
    },
    lesson=(
        "The plain network knows the training images by heart and is some 17 points worse on new "
        "ones. In this setting no remedy gains more than about a point, which is the chance "
        "between seeds: what they do is to lower the training accuracy. The slides' promise needs "
        "larger networks, longer trainings or stronger doses to show; what helps for certain is "
        "more data."
    ),
    otherwise=(
        "The gains are of the size of the chance between seeds: try some more before you believe "
        "in one."
    ),
)

_KEYS = ("l2", "l1", "max-norm", "dropout", "batch norm", "early stopping", "augmentation")


def run(desk: Desk) -> None:
    """Train with nothing, then with one remedy at a time."""
    size = 200 if desk.quick else 1000
    both, test = desk.load(limit=2 * size)
    train, held_back = first(both, size), replace(both, x=both.x[size:], y=both.y[size:])
    accuracies: dict[str, list[float]] = {"training": [], "test": []}
    for name, way in _WAYS.items():
        model = _network(**way.network)
        model.compile(optimizer=functools.partial(optim.Adam, lr=2e-3, **way.penalty))
        watched = held_back if name == "early stopping" else None
        desk.train(model, train, watched, title=name, batch_size=32, **way.fit())
        accuracies["training"].append(model.evaluate(train.x, train.y)["accuracy"])
        accuracies["test"].append(model.evaluate(test.x, test.y)["accuracy"])
    plain = accuracies["test"][0]
    desk.number("train", accuracies["training"][0])
    desk.number("test", plain)
    for key, value in zip(_KEYS, accuracies["test"][1:], strict=True):
        desk.number(key, value - plain)
    rows = [
        (name, f"{100 * a:.1f} %", f"{100 * b:.1f} %", f"{100 * (a - b):.1f}")
        for name, a, b in zip(_WAYS, accuracies["training"], accuracies["test"], strict=True)
    ]
    desk.table("The remedies", ("remedy", "training", "test", "gap (points)"), rows)
    desk.detail(remedies=list(_WAYS), accuracies=accuracies)
    desk.picture(
        "Accuracy on the training images and on new ones",
        f"{len(train)} training images.",
        draw.bars(accuracies, list(_WAYS), xlabel="accuracy (%)"),
        height=6,
    )


def _network(dropout: bool = False, batch_norm: bool = False) -> nn.Sequential:
    def block(channels: int, width: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(width)] if batch_norm else []
        return [nn.Conv2d(channels, width, 3, padding=1), *norm, nn.ReLU(), nn.MaxPool2d(2)]

    drop = [nn.Dropout(0.5)] if dropout else []
    head = [nn.Flatten(), *drop, nn.Linear(32 * 7 * 7, 128), nn.ReLU(), *drop, nn.Linear(128, 10)]
    return nn.Sequential(*block(1, 16), *block(16, 32), *head)

"""Four ways to make feature maps smaller."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convcore import nn
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, Lab, Range

LAB = Lab(
    title="Pooling: max, average, stochastic, or a stride",
    claim=(
        "Lectures 2 and 5: there are max, average and stochastic pooling; max pooling is the most "
        "popular. A strided convolution is faster and costs a little accuracy."
    ),
    how=(
        "The same CNN with each of the four, twice halving the maps. Stochastic pooling draws a "
        "value of the window in proportion to its size in training, and takes the mean so "
        "weighted in the test (Zeiler and Fergus, 2013). With strides, the convolutions compute a "
        "quarter of the values."
    ),
    data="fashion-mnist",
    epochs=5,
    quick_epochs=8,
    bands={
        "max": Band(
            "test accuracy, max",
            Range(0.89, 0.91, (0.8993, 0.8968, 0.902)),
            Range(0.93, 1.0, (0.9634, 0.9634, 0.9746, 0.9718)),
        ),
        "average": Band(
            "test accuracy, average",
            Range(0.86, 0.91, (0.8948, 0.8929, 0.8796)),
            Range(0.92, 1.0, (0.9634, 0.9577, 0.9775, 0.9746)),
        ),
        "stochastic": Band(
            "test accuracy, stochastic",
            Range(0.885, 0.905, (0.8934, 0.8964, 0.8935)),
            Range(0.93, 1.0, (0.969, 0.9775, 0.969, 0.9803)),
        ),
        "stride": Band(
            "test accuracy, stride 2",
            Range(0.88, 0.905, (0.8956, 0.8902, 0.8933)),
            Range(0.93, 1.0, (0.9746, 0.9775, 0.969, 0.9718)),
        ),
        "max - stride": Band(
            "max - stride 2",
            Range(0.0, 0.015, (0.0037, 0.0066, 0.0087)),
            Range(-0.05, 0.04, (-0.0113, -0.0141, 0.0056, 0.0)),
        ),
        "overfit max": Band(
            "training - test accuracy, max", Range(0.01, 0.025, (0.018, 0.0172, 0.0177)), None
        ),
        "overfit stochastic": Band(
            "training - test accuracy, stochastic",
            Range(0.005, 0.02, (0.015, 0.0133, 0.0132)),
            None,
        ),
    },
    lesson=(
        "The four differ by a percent or so: that there is pooling matters more than which. "
        "Stochastic pooling fits the training images a little less: it regularises. Strides save "
        "time and lose a little."
    ),
    otherwise=(
        "The differences are of the size of the chance between two seeds; more epochs make them "
        "clearer."
    ),
)


def run(desk: Desk) -> None:
    """Train the four networks."""
    train, test = desk.load()
    kinds: dict[str, Callable[[], nn.Module] | None] = {
        "max": lambda: nn.MaxPool2d(2),
        "average": lambda: nn.AvgPool2d(2),
        "stochastic": lambda: nn.StochasticPool2d(2),
        "stride": None,
    }
    rows, curves, found, gaps = [], {}, {}, {}
    for kind, pool in kinds.items():
        layers: list[nn.Module] = []
        for channels, width in ((1, 16), (16, 32)):
            stride = 2 if pool is None else 1
            layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.ReLU()]
            layers += [] if pool is None else [pool()]
        model = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10)
        )
        history = desk.train(model, train, test, title=kind).history
        found[kind] = history["val_accuracy"][-1]
        gaps[kind] = model.evaluate(train.x, train.y)["accuracy"] - found[kind]
        curves[kind] = (list(range(1, desk.epochs + 1)), history["val_accuracy"])
        rows.append(
            (kind, f"{100 * found[kind]:.1f} %", f"{100 * gaps[kind]:+.1f}",
             f"{np.median(history['seconds']):.2f}")
        )  # fmt: skip
        desk.number(kind, found[kind])
    desk.number("max - stride", found["max"] - found["stride"])
    desk.number("overfit max", gaps["max"])
    desk.number("overfit stochastic", gaps["stochastic"])
    desk.table(
        "The four", ("pooling", "test accuracy", "training - test (points)", "seconds per epoch"),
        rows,
    )  # fmt: skip
    desk.detail(curves=curves, overfit=gaps)
    desk.picture(
        "Test accuracy",
        "After each epoch.",
        draw.lines(curves, xlabel="epoch", ylabel="test accuracy (%)"),
    )

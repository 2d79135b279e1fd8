"""Batch normalisation lets a network train at larger learning rates."""

from __future__ import annotations

import functools
import warnings

from convcore import nn, optim
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, Lab, Range, accuracy

_RATES = (0.001, 0.01, 0.1, 0.5, 1.0, 3.0)

LAB = Lab(
    title="Batch normalisation and the learning rate",
    claim=(
        "Lecture 4: batch normalization normalises the inputs of each layer (listed among the "
        "remedies against overfitting)."
    ),
    how=(
        "The same CNN with and without batch norm is trained by plain SGD at six learning rates "
        "on 20,000 images, in batches of 128 (quick: 32)."
    ),
    data="fashion-mnist",
    epochs=3,
    quick_epochs=4,
    bands={
        "small": Band(
            "rate 0.01: with - without",
            Range(0.08, 0.225, (0.13, 0.1753, 0.1739)),
            Range(0.0, 0.45, (0.2563, 0.2563, 0.138, 0.1324)),
        ),
        "large": Band(
            "rate 1: with - without",
            Range(0.685, 0.76, (0.7096, 0.7194, 0.734)),
            Range(0.59, 1.0, (0.8789, 0.8901, 0.7718, 0.862)),
        ),
        "best with": Band(
            "best accuracy with",
            Range(0.81, 0.91, (0.874, 0.8694, 0.8424)),
            Range(0.95, 1.0, (0.9915, 0.9915, 0.9915, 0.9887)),
        ),
        "best without": Band(
            "best accuracy without",
            Range(0.69, 0.905, (0.7628, 0.7695, 0.832)),
            Range(0.92, 1.0, (0.9634, 0.9718, 0.9549, 0.9775)),
        ),
        "usable with": Band(
            "rates within 5 points of the best, with",
            Range(3.0, 6.0, (4.0, 4.0, 5.0)),
            Range(3.0, 6.0, (4.0, 5.0, 4.0, 4.0)),
            "",
        ),
        "usable without": Band(
            "rates within 5 points of the best, without",
            Range(1.0, 2.0, (1.0, 1.0, 1.0)),
            Range(1.0, 2.0, (1.0, 1.0, 1.0, 1.0)),
            "",
        ),
    },
    lesson=(
        "With batch norm the scale of the weights no longer matters, so small rates learn faster "
        "and large ones do not diverge: the network is far less sensitive to the rate. That it "
        "also acts against overfitting is a side effect (see convcore lab overfit)."
    ),
    otherwise=(
        "Without batch norm, large rates stop learning at 10 % (dead units, infinite losses). If "
        "both networks do that at rate 1, the batch is too small for its statistics."
    ),
)


def run(desk: Desk) -> None:
    """Train at each rate, with and without."""
    # Whole batches: the statistics of a last batch of two images would upset the network.
    train, test = desk.load(limit=1440 if desk.quick else 20_000)
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for name in ("with", "without"):
        found = []
        for rate in _RATES:
            model = _network(batch_norm=name == "with")
            with warnings.catch_warnings():  # a loss that is not finite is a result here
                warnings.simplefilter("ignore", RuntimeWarning)
                desk.train(
                    model,
                    train,
                    title=f"{name} batch norm, rate {rate:g}",
                    optimizer=functools.partial(optim.SGD, lr=rate),
                )
            found.append(accuracy(model, test.x, test.y))
        curves[f"{name} batch norm"] = (list(_RATES), found)
        desk.number(f"best {name}", max(found))
        desk.number(f"usable {name}", sum(a > max(found) - 0.05 for a in found))
    with_, without = (values for _, values in curves.values())
    desk.number("small", with_[1] - without[1])
    desk.number("large", with_[4] - without[4])
    desk.detail(curves=curves)
    desk.picture(
        "Test accuracy over the learning rate",
        f"After {desk.epochs} epochs of plain SGD.",
        draw.lines(
            curves, xlabel="learning rate (logarithmic)", ylabel="test accuracy (%)",
            xscale="log", ylim=(0, 101),
        ),
    )  # fmt: skip


def _network(batch_norm: bool) -> nn.Sequential:
    def block(channels: int, width: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(width)] if batch_norm else []
        return [nn.Conv2d(channels, width, 5, padding=2), *norm, nn.ReLU(), nn.MaxPool2d(2)]

    norm = [nn.BatchNorm1d(64)] if batch_norm else []
    head = [nn.Flatten(), nn.Linear(16 * 7 * 7, 64), *norm, nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*block(1, 8), *block(8, 16), *head)

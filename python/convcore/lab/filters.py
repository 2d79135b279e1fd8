"""What the first layer learns."""

from __future__ import annotations

import numpy as np

from convcore import nn, optim
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, FloatArray, Lab, Range

LAB = Lab(
    title="What the first layer learns",
    claim=("Lectures 4 and 5: the filters of the first layer become oriented edges and outlines."),
    how=(
        "A CNN whose first layer has 12 filters of 5x5 is trained. For each filter, the share of "
        "its energy (without its mean) that a light-to-dark slope and a curvature explain is "
        "measured: 5 of 24 dimensions, so 21 % for noise."
    ),
    data="mnist",
    epochs=5,
    quick_epochs=8,
    bands={
        "before": Band(
            "smooth share, initial weights",
            Range(0.09, 0.285, (0.1995, 0.2195, 0.1562)),
            Range(0.03, 0.37, (0.1995, 0.2195, 0.1562, 0.2395)),
        ),
        "after": Band(
            "smooth share, learned weights",
            Range(0.445, 0.51, (0.48, 0.4854, 0.4734)),
            Range(0.35, 0.64, (0.4612, 0.5061, 0.4673, 0.5314)),
        ),
        "gain": Band(
            "learned - initial",
            Range(0.21, 0.37, (0.2805, 0.2659, 0.3172)),
            Range(0.18, 0.39, (0.2617, 0.2866, 0.3111, 0.2919)),
        ),
    },
    lesson=(
        "From noise, gradient descent makes edge and line detectors: nobody has told the network "
        "what an edge is."
    ),
    otherwise=(
        "After few steps the filters are still those of the initialisation: train longer, or look "
        "whether the loss falls at all."
    ),
)


def run(desk: Desk) -> None:
    """Compare the filters before and after the training."""
    train, test = desk.load()
    first = nn.Conv2d(1, 12, 5, padding=2)
    model = nn.Sequential(
        first, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12 * 14 * 14, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip
    model.compile(optimizer=lambda p: optim.AdamW(p, lr=3e-3, weight_decay=0.1))
    before = first.weight.data.copy()
    history = desk.train(model, train, test).history
    after = first.weight.data.copy()
    shares = {"before": _smooth_share(before), "after": _smooth_share(after)}
    for key, share in shares.items():
        desk.number(key, float(share.mean()))
    desk.number("gain", float(shares["after"].mean() - shares["before"].mean()))
    desk.detail(**shares, accuracy=history["val_accuracy"])

    desk.picture(
        "The filters",
        "Above before, below after the training; the share that slope and curvature explain.",
        draw.gallery(
            [*before[:, 0], *after[:, 0]],
            [f"{100 * share:.0f} %" for key in ("before", "after") for share in shares[key]],
            len(before),
            diverging=True,
            rows=("before", "after"),
        ),
        width=12,
        height=2.6,
    )
    image = test.x[:1]
    maps = model[1](first(image))[0]
    desk.picture(
        "A test image and its feature maps",
        "What each filter, followed by ReLU, makes of it.",
        draw.gallery(
            [_stretched(image[0, 0]), *map(_stretched, maps)],
            ["image", *(f"filter {i}" for i in range(1, len(maps) + 1))],
            len(maps) + 1,
        ),
        width=10,
        height=1.9,
    )


def _smooth_share(weight: FloatArray) -> FloatArray:
    """Return the share of each filter's energy, without its mean, that is slope and curvature."""
    size = weight.shape[-1]
    y, x = np.mgrid[:size, :size].reshape(2, -1) - (size - 1) / 2
    basis = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1))[0]
    filters = weight.reshape(-1, size * size)
    filters = filters - filters.mean(axis=1, keepdims=True)
    inside = filters @ basis[:, 1:]
    shares = (inside**2).sum(axis=1) / (filters**2).sum(axis=1)
    return np.asarray(shares, np.float32)


def _stretched(image: FloatArray) -> FloatArray:
    low, high = image.min(), image.max()
    return np.asarray((image - low) / max(high - low, 1e-12), np.float32)

"""Moving the image: equivariance of convolutions, invariance of pooling, and what accuracy says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convcore import functional as F
from convcore import models
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, FloatArray, Lab, Range, accuracy, shifted

#: Pixels by which the images are moved; the digits keep a margin of 4.
_STEPS = (0, 1, 2, 3, 4, 5, 6)
_MARGIN = 4  # pixels at the border of the maps that a comparison leaves out

LAB = Lab(
    title="A shifted image: what stays the same?",
    claim=(
        "Lectures 1 to 5: convolutions are translation equivariant (some slides say invariant), "
        "pooling brings invariance to small shifts, and dense weights have neither."
    ),
    how=(
        "Random 5x5 filters are applied to test images and to the same images moved to the right, "
        "and the results are compared: for equivariance against the moved feature maps, for "
        "invariance against the feature maps themselves. Then a CNN and a dense network, trained "
        "on images that are not moved, are tested on moved ones."
    ),
    data="mnist",
    epochs=2,
    quick_epochs=8,
    bands={
        "conv": Band(
            "equivariance error of a convolution, stride 1",
            Range(0.0, 1e-05, (0.0, 0.0, 0.0)),
            Range(0.0, 1e-05, (0.0, 0.0, 0.0, 0.0)),
            "",
        ),
        "stride 1px": Band(
            "the same, stride 2, moved by 1 pixel",
            Range(0.28, 1.1, (0.549, 0.818, 0.728)),
            Range(0.0, 0.62, (0.247, 0.411, 0.315, 0.2)),
            "",
        ),
        "stride 2px": Band(
            "the same, stride 2, moved by 2 pixels",
            Range(0.0, 1e-05, (0.0, 0.0, 0.0)),
            Range(0.0, 1e-05, (0.0, 0.0, 0.0, 0.0)),
            "",
        ),
        "change conv": Band(
            "change of the feature maps, moved by 1 pixel",
            Range(0.28, 1.1, (0.55, 0.818, 0.713)),
            Range(0.03, 0.62, (0.261, 0.424, 0.326, 0.227)),
            "",
        ),
        "change pool": Band(
            "after max pooling 4x4",
            Range(0.19, 0.5, (0.294, 0.397, 0.355)),
            Range(0.083, 0.34, (0.19, 0.254, 0.221, 0.169)),
            "",
        ),
        "change global": Band(
            "after global max pooling",
            Range(0.0, 1e-05, (0.0, 0.0, 0.0)),
            Range(0.0, 1e-05, (0.0, 0.0, 0.0, 0.0)),
            "",
        ),
        "cnn": Band(
            "accuracy lost by 3 pixels, CNN",
            Range(0.03, 0.245, (0.104, 0.1732, 0.1733)),
            Range(0.0, 0.33, (0.2028, 0.1183, 0.2028, 0.1324)),
        ),
        "dense": Band(
            "accuracy lost by 3 pixels, dense",
            Range(0.45, 0.51, (0.479, 0.4833, 0.4854)),
            Range(0.23, 0.51, (0.4056, 0.3408, 0.4056, 0.338)),
        ),
    },
    lesson=(
        "A convolution with stride 1 is equivariant to the last bits; with stride 2 only for even "
        "shifts. Pooling forgets the place within its window, and all of it when it is global. A "
        "CNN with dense layers at its end is therefore more robust than a dense network, but by "
        "no means invariant."
    ),
    otherwise=(
        "An equivariance error points to the border: what comes in from outside must be left out "
        "of the comparison."
    ),
)


def run(desk: Desk) -> None:
    """Measure the layers, then train and move the test images."""
    train, test = desk.load(normalize=False)
    x = test.x[:200]
    weight = desk.rng.normal(0, 0.2, (8, 1, 5, 5)).astype(np.float32)

    def features(images: FloatArray, stride: int = 1) -> FloatArray:
        return F.relu(F.conv2d(images, weight, None, stride=stride, padding=2))

    maps = features(x)
    desk.number("conv", _change(features(shifted(x, 0, 1)), shifted(maps, 0, 1), _MARGIN))
    strided = features(x, 2)
    # By one pixel there is no shift of the smaller map that fits; half a pixel is rounded up.
    desk.number(
        "stride 1px", _change(features(shifted(x, 0, 1), 2), shifted(strided, 0, 1), _MARGIN)
    )
    desk.number(
        "stride 2px", _change(features(shifted(x, 0, 2), 2), shifted(strided, 0, 1), _MARGIN)
    )

    curves: dict[str, tuple[list[int], list[float]]] = {}
    stages: dict[str, Callable[[FloatArray], FloatArray]] = {
        "convolution": lambda y: y,
        "max pooling 2x2": lambda y: F.max_pool2d(y, 2),
        "max pooling 4x4": lambda y: F.max_pool2d(y, 4),
        "global max pooling": lambda y: y.max(axis=(2, 3), keepdims=True),
    }
    for name, stage in stages.items():
        changes = [_change(stage(features(_inside(x, step))), stage(features(_inside(x, 0))))
                   for step in _STEPS[:5]]  # fmt: skip
        curves[name] = (list(_STEPS[:5]), changes)
    desk.number("change conv", curves["convolution"][1][1])
    desk.number("change pool", curves["max pooling 4x4"][1][1])
    desk.number("change global", curves["global max pooling"][1][1])

    accuracies: dict[str, tuple[list[int], list[float]]] = {}
    for kind in ("CNN", "dense"):
        model = models.lenet5() if kind == "CNN" else models.mlp(hidden=(128,))
        desk.train(model, train, title=kind)
        found = [accuracy(model, shifted(test.x[:], 0, step), test.y) for step in _STEPS]
        accuracies[kind] = (list(_STEPS), found)
        desk.number(kind.lower(), found[0] - found[3])
    desk.detail(changes=curves, accuracies=accuracies)
    desk.picture(
        "How much the features change",
        "Distance of the features of the moved image from those of the image, relative to their "
        "norm. Pooling makes it smaller; global pooling makes it 0.",
        draw.lines(
            curves, xlabel="shift (pixels)", ylabel="relative change", percent=False
        ),
    )  # fmt: skip
    desk.picture(
        "Accuracy on moved images",
        "Trained on images that are not moved.",
        draw.lines(
            accuracies, xlabel="shift to the right (pixels)", ylabel="test accuracy (%)",
            ylim=(0, 101),
        ),
    )  # fmt: skip


def _inside(x: FloatArray, step: int) -> FloatArray:
    """Return images on a larger black ground, moved: nothing leaves the picture."""
    return shifted(np.pad(x, ((0, 0), (0, 0), (8, 8), (8, 8))), 0, step)


def _change(moved: FloatArray, expected: FloatArray, margin: int = 0) -> float:
    """Return the distance of two arrays of feature maps, relative to the norm, without a margin."""
    inner = slice(margin, moved.shape[2] - margin)
    moved, expected = moved[:, :, inner, inner], expected[:, :, inner, inner]
    return float(np.linalg.norm(moved - expected) / np.linalg.norm(expected))

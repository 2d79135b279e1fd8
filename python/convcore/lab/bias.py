"""Shortcut features: a good accuracy that hides a bad group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convcore import insight, models
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, FloatArray, Lab, Labels, Range, accuracy, changed

_CLASSES = ("0 to 4", "5 to 9")
_SHARE = 0.99  # of the images of a class that carry the mark of that class

LAB = Lab(
    title="Shortcuts: the error by group",
    claim=(
        "Lecture 4: networks find shortcut solutions that are good within the distribution and "
        "bad under a shift of it, and errors can be very different between groups (gaps of 20.8 "
        "to 34.4 points between gender classifiers' groups)."
    ),
    how=(
        "Two classes of digits, 0 to 4 and 5 to 9. A bright square in a corner stands in 99 % of "
        "the training images of the second class and in 1 % of those of the first, as the "
        "hospital's mark on an x-ray. LeNet-5 is tested on four groups: each class with and "
        "without the mark. Then it is trained again with the mark on half of the images of each "
        "class."
    ),
    data="mnist",
    epochs=2,
    quick_epochs=6,
    bands={
        "within": Band(
            "accuracy, same distribution",
            Range(0.99, 1.0, (0.9943, 0.9942, 0.9965)),
            Range(0.95, 1.0, (0.9944, 0.9915, 0.9944, 0.9887)),
        ),
        "shifted": Band(
            "accuracy, mark at random",
            Range(0.8, 0.855, (0.8175, 0.8312, 0.8345)),
            Range(0.32, 0.96, (0.7183, 0.5789, 0.6, 0.5592)),
        ),
        "worst": Band(
            "accuracy of the worst group",
            Range(0.525, 0.645, (0.567, 0.5737, 0.6042)),
            Range(0.0, 0.86, (0.3596, 0.1404, 0.1742, 0.0282)),
        ),
        "gap": Band(
            "largest gap between groups",
            Range(0.355, 0.47, (0.4315, 0.4251, 0.3954)),
            Range(0.14, 1.0, (0.6404, 0.8596, 0.8258, 0.9718)),
        ),
        "balanced gap": Band(
            "the gap after balanced training",
            Range(0.0, 0.02, (0.0064, 0.0081, 0.0009)),
            Range(0.0, 0.16, (0.0114, 0.0114, 0.0678, 0.0452)),
        ),
    },
    lesson=(
        "The accuracy on images like those of the training says nothing about the groups that are "
        "rare there: it is even flattered by the shortcut. Look at the error by group. Data in "
        "which the mark says nothing make the network look at the digit."
    ),
    otherwise=(
        "The rarer the counter-examples, the larger the gap; with enough of them the network "
        "learns the digit as well."
    ),
)


def run(desk: Desk) -> None:
    """Train with the shortcut and without; test by group."""
    train, test = desk.load(normalize=False)
    wanted, truth = ((part.y >= 5).astype(np.int64) for part in (train, test))
    # Each test image twice, without and with the mark: four groups of one class and one mark.
    twice = np.concatenate([_marked(test.x[:], np.full(len(test), mark)) for mark in (0, 1)])
    names = [f"{_CLASSES[k]}, {mark}" for mark in ("no mark", "mark") for k in truth]
    groups: dict[str, dict[str, float]] = {}
    for name, share in (("shortcut", _SHARE), ("balanced", 0.5)):
        marked = changed(train, _marked(train.x[:], _marks(desk, wanted, share)))
        model = models.lenet5(num_classes=2)
        desk.train(model, replace(marked, y=wanted), title=name)
        errors = insight.error_table(np.tile(truth, 2), model.predict(twice), groups=names)
        groups[name] = {row.name: row.accuracy for row in errors.groups}
        if name == "shortcut":
            within = _marked(test.x[:], _marks(desk, truth, share))
            desk.number("within", accuracy(model, within, truth))
            desk.number("shifted", errors.accuracy)
            desk.number("worst", min(groups[name].values()))
            desk.number("gap", errors.largest_gap)
            examples = marked.x[:8]
        else:
            desk.number("balanced gap", errors.largest_gap)
    desk.detail(groups=groups)
    rows = [
        (group, *(f"{100 * groups[name][group]:.1f} %" for name in groups))
        for group in groups["shortcut"]
    ]
    desk.table("Accuracy by group", ("group", "trained with the shortcut", "balanced"), rows)
    desk.picture(
        "Training images",
        "The square in the corner says 5 to 9, nearly always.",
        draw.gallery(list(examples[:, 0]), [str(y) for y in train.y[:8]], 8),
        width=9,
        height=1.6,
    )
    desk.picture(
        "Accuracy by group",
        "The groups that are rare in the training with the shortcut are the bad ones.",
        draw.bars(
            {name: list(values.values()) for name, values in groups.items()},
            list(groups["shortcut"]),
            xlabel="accuracy (%)",
        ),
    )


def _marks(desk: Desk, labels: Labels, share: float) -> Labels:
    """Return 1 where an image carries the mark: `share` of class 1, 1 - `share` of class 0."""
    agrees = desk.rng.random(len(labels)) < share
    return np.where(agrees, labels, 1 - labels)


def _marked(x: FloatArray, marks: Labels) -> FloatArray:
    y: FloatArray = x.copy()
    y[marks == 1, :, 1:4, 1:4] = 1
    return y

"""Accuracy on rotated images, without and with rotations in the training."""

from __future__ import annotations

from convcore import models
from convcore import transforms as T
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, Lab, Range, accuracy

_ANGLES = tuple(range(0, 181, 15))  # degrees
_REACH = 60  # degrees, of the rotations in the training

LAB = Lab(
    title="Rotated images",
    claim=(
        "Lecture 4: CNNs can fail when the input is rotated; data augmentation (rotation, ...) is "
        "one of the remedies."
    ),
    how=(
        "LeNet-5 is trained on upright digits, and again on digits turned by up to 60 degrees to "
        "either side, anew in each epoch. Both are tested on digits turned by 0 to 180 degrees."
    ),
    data="mnist",
    epochs=4,
    quick_epochs=12,
    bands={
        "upright": Band(
            "upright, plain training",
            Range(0.98, 0.995, (0.9858, 0.9854, 0.9873)),
            Range(0.94, 1.0, (0.9775, 0.9775, 0.9718)),
        ),
        "45": Band(
            "turned by 45 degrees, plain training",
            Range(0.465, 0.595, (0.5495, 0.5084, 0.5424)),
            Range(0.2, 0.48, (0.3127, 0.3042, 0.3718)),
        ),
        "90": Band(
            "turned by 90 degrees, plain training",
            Range(0.14, 0.2, (0.1652, 0.17, 0.1686)),
            Range(0.03, 0.2, (0.1042, 0.1042, 0.1014)),
        ),
        "augmented upright": Band(
            "upright, with rotations",
            Range(0.96, 0.975, (0.967, 0.9695, 0.9652)),
            Range(0.9, 0.99, (0.938, 0.9437, 0.9521)),
        ),
        "augmented 45": Band(
            "turned by 45 degrees, with rotations",
            Range(0.95, 0.975, (0.9585, 0.9658, 0.9594)),
            Range(0.85, 1.0, (0.9521, 0.938, 0.9127)),
        ),
        "augmented 90": Band(
            "turned by 90 degrees, with rotations",
            Range(0.53, 0.6, (0.556, 0.5773, 0.5635)),
            Range(0.14, 0.66, (0.462, 0.3662, 0.3352)),
        ),
    },
    lesson=(
        "Convolution knows shifts, not rotations: a turned digit is another picture. Augmentation "
        "teaches the rotations that it shows, at a small price upright, and little beyond them. "
        "(A 6 turned by 180 degrees is a 9: no training can be right about both.)"
    ),
    otherwise=(
        "If the augmented network is no better at 45 degrees, the training images were not "
        "turned: look at some."
    ),
)


def run(desk: Desk) -> None:
    """Train on upright and on turned digits; test at each angle."""
    train, test = desk.load(normalize=False)
    turned = {angle: T.RandomRotation((angle, angle))(test.x[:]) for angle in _ANGLES}
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for name, augment in (("upright", None), ("turned", T.RandomRotation(_REACH))):
        model = models.lenet5()
        desk.train(model, train, title=f"trained on {name} digits", augment=augment)
        found = [accuracy(model, turned[angle], test.y) for angle in _ANGLES]
        curves[f"trained on {name} digits"] = (list(_ANGLES), found)
    for prefix, (_, found) in zip(("", "augmented "), curves.values(), strict=True):
        for angle, key in ((0, "upright"), (45, "45"), (90, "90")):
            desk.number(prefix + key, found[_ANGLES.index(angle)])
    desk.detail(curves=curves)
    desk.picture(
        "Accuracy over the angle",
        f"The training with rotations reaches up to {_REACH} degrees.",
        draw.lines(
            curves, xlabel="angle (degrees)", ylabel="test accuracy (%)", ylim=(0, 101),
        ),
    )  # fmt: skip
    shown = _ANGLES[::2]
    desk.picture(
        "The same digit",
        "Turned counter-clockwise.",
        draw.gallery(
            [turned[angle][0, 0] for angle in shown], [f"{a} degrees" for a in shown], len(shown)
        ),
        width=9,
        height=1.8,
    )

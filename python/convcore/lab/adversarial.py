"""Adversarial examples by the fast gradient sign method."""

from __future__ import annotations

import numpy as np

from convcore import insight, models
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, Lab, Range, accuracy

_STRENGTHS = (0.0, 0.007, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # of white

LAB = Lab(
    title="Adversarial examples",
    claim=(
        "Lecture 4, after Goodfellow and others (2014): x + epsilon sign(grad) with epsilon = "
        ".007 turns a panda (57.7 %) into a gibbon (99.3 %)."
    ),
    how=(
        "LeNet-5 is trained, then each test image is changed by epsilon in each pixel, in the "
        "direction that raises the loss; for comparison, in a random direction. Pixels stay "
        "between black (0) and white (1)."
    ),
    data="mnist",
    epochs=3,
    quick_epochs=8,
    bands={
        "clean": Band(
            "test accuracy, unchanged",
            Range(0.97, 0.985, (0.9785, 0.9775, 0.977)),
            Range(0.92, 1.0, (0.9662, 0.9746, 0.9746, 0.9549)),
        ),
        "tiny": Band(
            "epsilon 0.007",
            Range(0.955, 0.985, (0.9735, 0.9725, 0.966)),
            Range(0.9, 1.0, (0.9521, 0.9634, 0.9746, 0.9465)),
        ),
        "fgsm": Band(
            "epsilon 0.1",
            Range(0.51, 0.715, (0.6455, 0.6245, 0.5785)),
            Range(0.35, 0.56, (0.4789, 0.4282, 0.4535, 0.4423)),
        ),
        "strong": Band(
            "epsilon 0.3",
            Range(0.0, 0.025, (0.0035, 0.0045, 0.013)),
            Range(0.0, 0.04, (0.0, 0.0, 0.0, 0.0028)),
        ),
        "noise": Band(
            "random signs, 0.1",
            Range(0.96, 0.99, (0.978, 0.9765, 0.9705)),
            Range(0.91, 1.0, (0.9634, 0.9718, 0.9746, 0.9493)),
        ),
    },
    lesson=(
        "A small change in the worst direction does what a much larger random one does not: in "
        "784 dimensions many tiny pushes add up. The panda's .007 is not enough here: the "
        "lecture's image has 150,000 values, ours 784, and digits are far from each other."
    ),
    otherwise=(
        "If random signs do as much harm as the gradient's, the gradient is wrong; check its sign "
        "and that the network is in the mode it is tested in."
    ),
)


def run(desk: Desk) -> None:
    """Train, attack, compare with noise."""
    train, test = desk.load(normalize=False)
    x, labels = test.x[:2000], test.y[:2000]
    model = models.lenet5()
    desk.train(model, train)
    attack = insight.adversarial_curve(model, x, labels, _STRENGTHS)
    noise = desk.rng.choice(np.asarray([-1, 1], np.float32), x.shape)
    noisy = [np.clip(x + np.float32(epsilon) * noise, 0, 1) for epsilon in _STRENGTHS]
    curves = {
        "gradient's sign": attack.accuracy.tolist(),
        "random signs": [accuracy(model, images, labels) for images in noisy],
    }
    for key, curve, epsilon in (
        ("clean", "gradient's sign", 0.0),
        ("tiny", "gradient's sign", 0.007),
        ("fgsm", "gradient's sign", 0.1),
        ("strong", "gradient's sign", 0.3),
        ("noise", "random signs", 0.1),
    ):
        desk.number(key, curves[curve][_STRENGTHS.index(epsilon)])
    desk.detail(epsilon=_STRENGTHS, accuracies=curves)
    desk.picture(
        "Accuracy over epsilon",
        "The same size of change in each pixel; only the direction differs.",
        draw.lines(
            {name: (list(_STRENGTHS), values) for name, values in curves.items()},
            xlabel="epsilon (share of white)", ylabel="test accuracy (%)", ylim=(0, 101),
        ),
    )  # fmt: skip

    shown = attack.attacks[_STRENGTHS.index(0.15)]
    fooled = np.flatnonzero((shown.before == labels) & (shown.after != labels))[:6]
    images, titles = [], []
    for pixels, answers, confidence in (
        (shown.images, shown.before, shown.confidence_before),
        (shown.adversarial, shown.after, shown.confidence_after),
    ):
        images += [pixels[i, 0] for i in fooled]
        titles += [f"{answers[i]} ({100 * confidence[i]:.0f} %)" for i in fooled]
    if len(fooled):
        desk.picture(
            "Fooled at epsilon = 0.15",
            "Above the images, below the changed ones: the network's answer and its confidence.",
            draw.gallery(images, titles, len(fooled), rows=("image", "changed")),
            width=9,
            height=3.6,
        )

"""All images with their pixels in another order: an MLP does not notice, a CNN does."""

from __future__ import annotations

from convcore import models
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, Lab, Range, accuracy, changed

LAB = Lab(
    title="Permuted pixels: who notices?",
    claim=(
        "Lecture 2: a fixed permutation of the pixels of all MNIST images does not in any way "
        "affect the accuracy of an MLP, though no human can read such images."
    ),
    how=(
        "An MLP 784-512-512-10 and LeNet-5 are trained on the images as they are, and on the same "
        "images with their pixels in another order, the same for all images (quick: 500 of the "
        "digits)."
    ),
    data="mnist",
    epochs=3,
    quick_epochs=12,
    bands={
        "mlp": Band(
            "test accuracy, MLP",
            Range(0.965, 0.98, (0.9759, 0.9736, 0.9735)),
            Range(0.87, 0.99, (0.944, 0.924, 0.918)),
        ),
        "mlp change": Band(
            "change by the permutation, MLP",
            Range(-0.006, 0.006, (0.0025, 0.0006, 0.0021)),
            Range(-0.06, 0.06, (-0.028, 0.011, 0.023)),
        ),
        "cnn": Band(
            "test accuracy, CNN",
            Range(0.975, 0.99, (0.9829, 0.9802, 0.9835)),
            Range(0.88, 0.96, (0.91, 0.927, 0.913)),
        ),
        "cnn change": Band(
            "change by the permutation, CNN",
            Range(-0.075, -0.035, (-0.0609, -0.0489, -0.0531)),
            Range(-0.13, 0.0, (-0.068, -0.048, -0.039)),
        ),
    },
    lesson=(
        "A dense layer has no idea of neighbourhood: its sum is the same in any order, so only "
        "chance (other initial weights per pixel) makes a difference. A convolution relies on "
        "neighbours having to do with each other; without that it is a worse network."
    ),
    otherwise=(
        "If the MLP changes by more than chance, the test images were permuted in another order "
        "than the training images. If the CNN does not change, look at the permuted pictures."
    ),
)


def run(desk: Desk) -> None:
    """Train both networks on both kinds of images."""
    train, test = desk.load(500 if desk.quick else None, normalize=False)
    order = desk.rng.permutation(train.x[0].size)
    sets = {
        "as they are": (train, test),
        "permuted": tuple(
            changed(part, part.x[:].reshape(len(part), -1)[:, order].reshape(part.x.shape))
            for part in (train, test)
        ),
    }
    found: dict[str, list[float]] = {"MLP": [], "CNN": []}
    for name, (training, testing) in sets.items():
        for kind in found:
            model = models.lenet5() if kind == "CNN" else models.mlp()
            desk.train(model, training, title=f"{kind}, pixels {name}")
            found[kind].append(accuracy(model, testing.x, testing.y))
    for kind, (plain, permuted) in found.items():
        desk.number(kind.lower(), plain)
        desk.number(f"{kind.lower()} change", permuted - plain)
    desk.detail(accuracies=found)

    examples = [part[1].x[i, 0] for part in sets.values() for i in range(8)]
    desk.picture(
        "What the networks see",
        "Above the digits, below the same digits with their pixels permuted.",
        draw.gallery(
            examples, [str(test.classes[y]) for y in test.y[:8]] + [""] * 8, 8, rows=list(sets)
        ),
        width=9,
        height=2.8,
    )
    desk.picture(
        "Test accuracy",
        "The MLP does as well on permuted images; the CNN loses.",
        draw.bars(
            {name: [found[kind][i] for kind in found] for i, name in enumerate(sets)},
            list(found), xlabel="test accuracy (%)",
        ),
        height=3,
    )  # fmt: skip

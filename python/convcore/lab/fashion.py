"""A CNN against a dense network on Fashion-MNIST."""

from __future__ import annotations

import numpy as np

from convcore import insight, models
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, Lab, Range

LAB = Lab(
    title="Fashion-MNIST: a convolutional network against a dense one",
    claim=(
        "Lecture 4: two convolutions of 16 3x3 filters, trained with Adam for 10 epochs in "
        "batches of 128, reach an accuracy of 0.91, a fully connected network 0.87; their "
        "confusion matrices."
    ),
    how="Both networks are trained alike. The dense one is 784-128-128-10.",
    data="fashion-mnist",
    epochs=10,
    quick_epochs=8,
    bands={
        "cnn": Band(
            "test accuracy, CNN",
            Range(0.9, 0.915, (0.9096, 0.9083, 0.9105)),
            Range(0.94, 1.0, (0.9803, 0.9775, 0.9718, 0.9803)),
        ),
        "dense": Band(
            "test accuracy, dense",
            Range(0.875, 0.895, (0.884, 0.8889, 0.8834)),
            Range(0.93, 1.0, (0.9746, 0.9803, 0.969, 0.9662)),
        ),
        "gain": Band(
            "CNN - dense",
            Range(0.01, 0.035, (0.0256, 0.0194, 0.0271)),
            Range(-0.04, 0.05, (0.0056, -0.0028, 0.0028, 0.0141)),
        ),
    },
    lesson=(
        "The same images, the same training: what helps is a structure that fits images. The "
        "errors that remain are those between shirts, T-shirts, coats and pullovers."
    ),
    otherwise=(
        "Fewer epochs or another rate cost both networks some tenths of a percent; a CNN that is "
        "no better than the dense one points to a mistake in the data or the network."
    ),
)


def run(desk: Desk) -> None:
    """Train both and compare."""
    train, test = desk.load()
    networks = {"CNN": models.fashion_cnn(), "dense": models.mlp(hidden=(128, 128))}
    curves, matrices, rows = {}, {}, []
    for name, model in networks.items():
        history = desk.train(model, train, test, title=name).history
        curves[f"{name}, test"] = history["val_accuracy"]
        curves[f"{name}, training"] = history["accuracy"]
        matrices[name] = insight.confusion_matrix(test.y, model.predict(test.x), test.classes)
        desk.number(name.lower(), matrices[name].accuracy)
        parameters = sum(p.data.size for p in model.parameters())
        rows.append((name, f"{parameters:,}", f"{np.mean(history['seconds']):.2f}"))
    desk.number("gain", matrices["CNN"].accuracy - matrices["dense"].accuracy)
    desk.table("Networks", ("network", "parameters", "seconds per epoch"), rows)
    desk.detail(curves=curves, confusion={k: m.counts for k, m in matrices.items()})

    epochs = range(1, desk.epochs + 1)
    desk.picture(
        "Learning curves",
        "A training accuracy that runs away from the test accuracy is overfitting.",
        draw.lines(
            {name: (list(epochs), values) for name, values in curves.items()},
            xlabel="epoch", ylabel="accuracy (%)",
        ),
    )  # fmt: skip
    desk.picture(
        "Confusion matrices",
        "Rows: the true class, columns: the answer, in percent of the true class.",
        draw.confusion({k: m.normalized() for k, m in matrices.items()}, test.classes),
        width=13,
        height=6.5,
    )

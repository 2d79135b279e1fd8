"""LeNet-5 on 20,000 images, where the lecture's training takes 20 seconds."""

from __future__ import annotations

import numpy as np

from convcore import models
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, Lab, Range

LAB = Lab(
    title="LeNet-5 on 20,000 images",
    claim=(
        "Lecture 5: LeNet-5 on a subsample of 20,000 28x28 images takes around 20 seconds to "
        "train; faster than the worse dense network, with faster convergence and better "
        "validation accuracy."
    ),
    how=(
        "LeNet-5 and a dense network 784-512-512-10 on the first 20,000 images of MNIST, Adam, "
        "batches of 64. The times are those of this machine and its threads."
    ),
    data="mnist",
    epochs=3,
    quick_epochs=6,
    bands={
        "accuracy": Band(
            "test accuracy, LeNet-5",
            Range(0.95, 0.99, (0.9661, 0.9775, 0.9722)),
            Range(0.89, 1.0, (0.9775, 0.9465, 0.9577, 0.9718)),
        ),
        "dense": Band(
            "test accuracy, dense",
            Range(0.94, 0.975, (0.9531, 0.9626, 0.9619)),
            Range(0.92, 1.0, (0.9746, 0.9606, 0.9831, 0.9634)),
        ),
        "first": Band(
            "after the first epoch: LeNet-5 - dense",
            Range(0.0, 0.025, (0.0131, 0.0099, 0.0026)),
            Range(-0.37, 0.1, (-0.0789, -0.1521, -0.1944, -0.1408)),
        ),
        "seconds": Band(
            "seconds per epoch, LeNet-5", Range(0.0, 1.0, (0.232, 0.222, 0.249)), None, "s"
        ),
        "total": Band(
            "seconds for the training, LeNet-5", Range(0.0, 20.0, (0.706, 0.66, 0.902)), None, "s"
        ),
        "ratio": Band("dense / LeNet-5, seconds", Range(1.0, 8.0, (3.07, 3.08, 4.0)), None, ""),
    },
    lesson=(
        "Three epochs take a second or two on two cores, and the smaller network (61,706 weights "
        "against 669,706) is also the faster and the better one."
    ),
    otherwise="Times depend on the machine and what else runs on it; accuracies do not.",
)


def run(desk: Desk) -> None:
    """Train both, with a clock."""
    train, test = desk.load(limit=20_000)
    networks = {"LeNet-5": models.lenet5(), "dense": models.mlp()}
    histories = {
        name: desk.train(model, train, test, title=name, batch_size=64).history
        for name, model in networks.items()
    }
    accuracies = {name: history["val_accuracy"] for name, history in histories.items()}
    seconds = {name: float(np.median(history["seconds"])) for name, history in histories.items()}
    desk.number("accuracy", accuracies["LeNet-5"][-1])
    desk.number("dense", accuracies["dense"][-1])
    desk.number("first", accuracies["LeNet-5"][0] - accuracies["dense"][0])
    desk.number("seconds", seconds["LeNet-5"])
    desk.number("total", sum(histories["LeNet-5"]["seconds"]))
    desk.number("ratio", seconds["dense"] / seconds["LeNet-5"])
    desk.detail(accuracies=accuracies, seconds=seconds)
    desk.picture(
        "Test accuracy",
        "After each epoch.",
        draw.lines(
            {name: (list(range(1, desk.epochs + 1)), a) for name, a in accuracies.items()},
            xlabel="epoch", ylabel="test accuracy (%)",
        ),
    )  # fmt: skip

"""Deeper networks: plain ones become worse, residual ones do not."""

from __future__ import annotations

from convcore import models, nn, optim
from convcore.lab import _pictures as draw
from convcore.lab._frame import Band, Desk, Lab, Range

LAB = Lab(
    title="Depth: plain against residual networks",
    claim=(
        "Lectures 1, 3 and 4: skip connections improve the training of very deep networks, as "
        "gradients pass through the identity (He and others, 2016: a plain network of 56 layers "
        "has a higher training error than one of 20)."
    ),
    how=(
        "ResNet-20 and ResNet-56, and the same layers without the shortcuts, with SGD (rate 0.1, "
        "momentum 0.9). The paper trains 64,000 steps on CIFAR-10 at 32x32; to fit into minutes "
        "this is a shortened schedule, 4 epochs (316 steps) on 10,000 of its images at 16x16. The "
        "quick run takes 720 digits at 8x8, and a rate of 0.03."
    ),
    data="cifar10",
    epochs=4,
    quick_epochs=5,
    bands={
        "plain 20": Band(
            "training error, plain, 20 layers",
            Range(0.565, 0.63, (0.587, 0.6026, 0.608)),
            Range(0.0, 0.3, (0.0806, 0.0694, 0.0833)),
        ),
        "plain 56": Band(
            "training error, plain, 56 layers",
            Range(0.705, 0.995, (0.8038, 0.8983, 0.897)),
            Range(0.6, 0.95, (0.8694, 0.8681, 0.8875)),
        ),
        "residual 20": Band(
            "training error, residual, 20 layers",
            Range(0.41, 0.575, (0.4829, 0.5212, 0.4677)),
            Range(0.0, 0.15, (0.0208, 0.0056, 0.0042)),
        ),
        "residual 56": Band(
            "training error, residual, 56 layers",
            Range(0.625, 0.82, (0.691, 0.7012, 0.7539)),
            Range(0.0, 0.3, (0.0542, 0.0444, 0.0514)),
        ),
        "plain worse": Band(
            "plain: 56 - 20 layers",
            Range(0.135, 0.375, (0.2168, 0.2957, 0.289)),
            Range(0.4, 0.95, (0.7889, 0.7986, 0.8042)),
        ),
        "residual worse": Band(
            "residual: 56 - 20 layers",
            Range(0.07, 0.395, (0.2081, 0.18, 0.2862)),
            Range(-0.05, 0.25, (0.0333, 0.0389, 0.0472)),
        ),
    },
    lesson=(
        "The deeper plain network could do what the shallower one does, with identities in "
        "between; SGD does not find that. This is no overfitting: it is the error on the training "
        "data. With the shortcuts 56 layers do learn. After so few steps they are still behind 20 "
        "layers, however: that depth becomes an advantage takes the paper's long training."
    ),
    otherwise=("In the first epochs the order may still change: train longer before you conclude."),
)


def run(desk: Desk) -> None:
    """Train the four networks."""
    train, _ = desk.load(720 if desk.quick else 10_000, image_size=8 if desk.quick else 16)
    channels = train.x.shape[1]
    rate = 0.03 if desk.quick else 0.1
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for kind in ("plain", "residual"):
        for depth in (20, 56):
            make = models.resnet20 if depth == 20 else models.resnet56
            model = make(in_channels=channels)
            if kind == "plain":
                model = _without_shortcuts(model)
            history = desk.train(
                model,
                train,
                title=f"{kind}, {depth} layers",
                batch_size=32 if desk.quick else 128,
                optimizer=lambda p: optim.SGD(p, lr=rate, momentum=0.9, weight_decay=1e-4),
            ).history
            errors = [1 - value for value in history["accuracy"]]
            curves[f"{kind}, {depth} layers"] = (list(range(1, desk.epochs + 1)), errors)
            desk.number(f"{kind} {depth}", errors[-1])
    for kind in ("plain", "residual"):
        shallow, deep = (curves[f"{kind}, {depth} layers"][1][-1] for depth in (20, 56))
        desk.number(f"{kind} worse", deep - shallow)
    desk.detail(training_error=curves)
    desk.picture(
        "Training error",
        "Average over each epoch. The deeper plain network is worse than the shallower one.",
        draw.lines(curves, xlabel="epoch", ylabel="training error (%)"),
    )


def _without_shortcuts(model: nn.Module) -> nn.Sequential:
    """Return the network with each residual block replaced by its body and activation."""
    layers: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if isinstance(child, nn.Residual):
            child = nn.Sequential(child.body, nn.ReLU())
        elif isinstance(child, nn.Sequential):
            child = _without_shortcuts(child)
        layers[name] = child
    return nn.Sequential(layers)

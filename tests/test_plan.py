"""The planned engine against the layers one by one: gradients, updates, statistics, predictions."""

from __future__ import annotations

import contextlib
import copy
import pickle
import signal
import threading

import numpy as np
import pytest

import convcore
from convcore import _core, nn, optim, serialization
from convcore._plan import planning
from convcore.callbacks import Callback
from convcore.data import Augment, Images
from convcore.models import lenet5, resnet20
from helpers import assert_same_bits_at_any_thread_count, floats

# Both engines sum the same float32 products in another order; Winograd's algorithm and batch norm
# over few values amplify the rounding of what they read.
CLOSE = 2e-5
WINOGRAD = 1e-4


@contextlib.contextmanager
def planning_as(enabled=True, without_rules=()):
    """Plan, or not, within the block."""
    before = planning.enabled, planning.without_rules
    planning.enabled, planning.without_rules = enabled, tuple(without_rules)
    try:
        yield
    finally:
        planning.enabled, planning.without_rules = before


def still(parameters):
    """An optimizer that moves nothing."""
    return optim.SGD(parameters, lr=0.0)


def is_planned(model, x, batch_size):
    return model._plan_for("fit", x.shape, min(batch_size, len(x))) is not None


def trained(make, x, y, optimizer=still, loss="cross_entropy", planned=True, **arguments):
    """Make a network from the same seed and fit it."""
    without = arguments.pop("without_rules", ())
    clip = arguments.pop("clip_grad_norm", None)
    with planning_as(planned, without):
        convcore.manual_seed(1)
        model = make()
        model.compile(optimizer=optimizer, loss=loss, clip_grad_norm=clip)
        model.fit(x, y, verbose=0, **{"batch_size": len(x), "shuffle": False, **arguments})
        assert is_planned(model, x, arguments.get("batch_size", len(x))) == planned
    return model


def rms_of(array):
    return np.sqrt(np.mean(np.square(array, dtype=np.float64))) if array.size else 0.0


def assert_near(got, want, bound, what="", noise=1e-7):
    """Hold `got` against `want`, within `bound` times the root mean square of `want`."""
    assert (got is None) == (want is None), what
    if got is None:
        return
    got, want = np.asarray(got), np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype), what
    rms = rms_of(want)
    worst = np.abs(got.astype(np.float64) - want).max(initial=0)
    assert worst <= bound * rms + noise, f"{what}: differs by {worst:.3g}, rms {rms:.3g}"


def assert_near_gradients(got, want, bound=CLOSE):
    # A gradient may be zero but for rounding, as that of a bias before batch norm.
    known = [p.grad for p in want.parameters() if p.grad is not None]
    noise = 1e-7 + bound / 50 * max((rms_of(grad) for grad in known), default=0)
    for (name, p), q in zip(got.named_parameters(), want.parameters(), strict=True):
        assert_near(p.grad, q.grad, bound, f"gradient of {name}", noise)


def assert_near_states(got, want, bound=CLOSE):
    for (name, a), b in zip(got.state_dict().items(), want.state_dict().values(), strict=True):
        assert_near(a, b, bound, name)


def assert_equal_states(got, want):
    for (name, a), b in zip(got.state_dict().items(), want.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def labels(count, classes):
    return np.random.default_rng(7).integers(0, classes, count)


def data(count, shape, classes=4, seed=3):
    return floats(np.random.default_rng(seed), count, *shape), labels(count, classes)


# ---- networks ------------------------------------------------------------------------------------


def conv_bn(c_in, c_out, kernel=3, **arguments):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, **{"padding": kernel // 2, "bias": False, **arguments}),
        nn.BatchNorm2d(c_out),
    )


def ending(features, classes=4):
    return nn.Flatten(), nn.Linear(features, classes)


NETWORKS = {
    "linear": ((9,), lambda: nn.Sequential(nn.Linear(9, 4))),
    "linear without bias": ((9,), lambda: nn.Sequential(nn.Linear(9, 4, bias=False))),
    "mlp": (
        (17,),
        lambda: nn.Sequential(nn.Linear(17, 33), nn.Tanh(), nn.Linear(33, 5), nn.Sigmoid(), nn.Linear(5, 4)),
    ),
    "mlp with batch norm": (
        (12,),
        lambda: nn.Sequential(
            nn.Linear(12, 31, bias=False), nn.BatchNorm1d(31), nn.LeakyReLU(0.1), nn.Linear(31, 4)
        ),
    ),
    "mlp with the other activations": (
        (12,),
        lambda: nn.Sequential(
            nn.Linear(12, 31),
            nn.ELU(0.5),
            nn.Linear(31, 20),
            nn.GELU(),
            nn.Linear(20, 21),
            nn.GELU("tanh"),
            nn.Linear(21, 9),
            nn.SiLU(),
            nn.Linear(9, 4),
            nn.ScaledTanh(),
        ),
    ),
    "lenet of 1998": (
        (1, 16, 16),
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 5),
            nn.Subsampling2d(6),
            nn.ScaledTanh(),
            nn.Conv2d(6, 16, 3, connections=nn.connections.LENET5_C3),
            nn.Subsampling2d(16, bias=False),
            nn.ScaledTanh(),
            *ending(64),
        ),
    ),
    "subsampling of many channels": (
        (3, 9, 9),
        lambda: nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.Subsampling2d(32, 3, 2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.Subsampling2d(32, 2),
            *ending(128),
        ),
    ),
    "padding of all modes": (
        (2, 9, 8),
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=2, padding_mode="reflect"),
            nn.Conv2d(5, 32, 3, stride=2, padding="same", padding_mode="circular"),
            nn.ReLU(),
            nn.Conv2d(32, 4, 3, padding=((0, 2), (1, 0)), padding_mode="replicate"),
            *ending(96),
        ),
    ),
    "group and layer norm": (
        (3, 6, 7),
        lambda: nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.Conv2d(32, 4, 3),
            nn.LayerNorm((4, 4, 5), bias=False),
            nn.Flatten(),
            nn.LayerNorm(80),
            nn.GroupNorm(5, 80, affine=False),
            nn.Linear(80, 4),
        ),
    ),
    "flat images": ((2, 3, 3), lambda: nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(18, 4))),
    "conv and flatten": (
        (3, 5, 5),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten()),
    ),
    "lenet-like": (
        (1, 14, 14),
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 3), nn.ReLU(), nn.MaxPool2d(2), *ending(64),
        ),
    ),
    "conv_pool with same padding": (
        (2, 8, 10),
        lambda: nn.Sequential(
            nn.Conv2d(2, 7, (2, 5), padding="same"), nn.ReLU(), nn.MaxPool2d(2), *ending(7 * 4 * 5)
        ),
    ),
    "conv_pool with a remainder": (
        (3, 9, 11),
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 5, bias=False), nn.ReLU(), nn.MaxPool2d(2), *ending(8 * 2 * 3)
        ),
    ),
    "vgg-like": (
        (3, 12, 12),
        lambda: nn.Sequential(
            conv_bn(3, 20), nn.ReLU(), conv_bn(20, 16), nn.ReLU(), nn.MaxPool2d(2),
            conv_bn(16, 24), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1),
            nn.AdaptiveAvgPool2d(1), *ending(24),
        ),
    ),
    "large kernels": (
        (3, 11, 9),
        lambda: nn.Sequential(
            nn.Conv2d(3, 7, 7, padding=3), nn.Tanh(), nn.Conv2d(7, 20, 5, stride=2, padding=2),
            nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True), *ending(20 * 3 * 3),
        ),
    ),
    "strides and dilation": (
        (7, 13, 10),
        lambda: nn.Sequential(
            nn.Conv2d(7, 9, 3, stride=(2, 1), padding=(0, 2), bias=False), nn.LeakyReLU(),
            nn.Conv2d(9, 5, (3, 2), dilation=(1, 3)), nn.Sigmoid(), *ending(5 * 4 * 9),
        ),
    ),
    "groups and depthwise": (
        (4, 8, 8),
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 20, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((2, None)), *ending(20 * 2 * 8),
        ),
    ),
    "same padding of even kernels": (
        (2, 7, 6),
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, (4, 2), padding="same"), nn.Tanh(),
            nn.Conv2d(5, 3, 3, padding="same", dilation=2), *ending(3 * 7 * 6),
        ),
    ),
    "pooling": (
        (3, 13, 11),
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), nn.Conv2d(16, 16, 1),
            nn.AvgPool2d((3, 2), (2, 1), padding=(1, 0), count_include_pad=False), nn.Identity(),
            nn.MaxPool2d(2, 1, dilation=(1, 2)), nn.AvgPool2d(2, 1, divisor_override=3),
            nn.AdaptiveAvgPool2d((1, 2)), *ending(32),
        ),
    ),
    "nested": (
        (3, 8, 8),
        lambda: nn.Sequential(
            nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3)), nn.Identity(), nn.ReLU()),
            nn.Sequential(nn.Sequential(nn.Flatten()), nn.Linear(8 * 36, 4)),
        ),
    ),
    "residual in residual": (
        (16, 6, 6),
        lambda: nn.Sequential(
            nn.Residual(
                nn.Sequential(
                    conv_bn(16, 16), nn.ReLU(), nn.Residual(conv_bn(16, 16), activation=nn.ReLU())
                ),
                activation=nn.ReLU(),
            ),
            nn.AdaptiveAvgPool2d(1), *ending(16),
        ),
    ),
    "residual with two convolutions": (
        (3, 7, 7),
        lambda: nn.Sequential(
            nn.Conv2d(3, 12, 3),
            nn.Residual(nn.Conv2d(12, 14, 3, padding=1), nn.Conv2d(12, 14, 1), nn.Tanh()),
            nn.Residual(nn.Conv2d(14, 14, 3, padding=1), nn.Conv2d(14, 14, 3, padding=1)),
            *ending(14 * 25),
        ),
    ),
    "residual with batch norm on both sides": (
        (6, 6, 6),
        lambda: nn.Sequential(
            nn.Residual(conv_bn(6, 20), conv_bn(6, 20, 1), nn.ReLU()),
            nn.Residual(conv_bn(20, 20), nn.PadChannels((0, 0)), nn.ReLU()),
            nn.Residual(conv_bn(20, 24, stride=2), nn.PadChannels((2, 2), 2), nn.ReLU()),
            nn.AdaptiveAvgPool2d(1), *ending(24),
        ),
    ),
    "residual blocks with torchvision's names": (
        (6, 6, 6),
        lambda: nn.Sequential(
            nn.ResidualBlock(dict(conv_bn(6, 6).named_children()), activation=nn.ReLU()),
            nn.ResidualBlock(
                dict(conv_bn(6, 20, stride=2).named_children()), conv_bn(6, 20, 1, stride=2)
            ),
            nn.AdaptiveAvgPool2d(1), *ending(20),
        ),
    ),
    "distances to codes": (
        (9,),
        lambda: nn.Sequential(
            nn.Linear(9, 6), nn.Tanh(),
            nn.EuclideanRBF([[1, -1, 1, -1, 1, 1], [1, 1, 1, -1, -1, -1], [0, 2, 1, 1, 1, 1], [-1, -1, 1, 1, 0.5, -2]]),
        ),
    ),
    "relu read twice": (
        (5, 6, 6),
        lambda: nn.Sequential(
            nn.Conv2d(5, 6, 3, padding=1), nn.ReLU(),
            nn.Residual(nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())),
            nn.Residual(nn.ReLU()), nn.Residual(nn.Identity()), *ending(6 * 36),
        ),
    ),
    "batch norm read twice": (
        (5, 6, 6),
        lambda: nn.Sequential(
            conv_bn(5, 8), nn.Residual(nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))),
            nn.BatchNorm2d(8), nn.LeakyReLU(0.2),
            nn.Residual(nn.Sequential(nn.BatchNorm2d(8), nn.Tanh()), nn.BatchNorm2d(8)),
            *ending(8 * 36),
        ),
    ),
    "residual of linear layers": (
        (10,),
        lambda: nn.Sequential(
            nn.Linear(10, 12), nn.Residual(nn.Sequential(nn.ReLU(), nn.Linear(12, 12)), nn.Tanh()),
            nn.Residual(nn.Linear(12, 12), nn.Sequential(nn.Linear(12, 12), nn.ReLU()), nn.ReLU()),
            nn.Linear(12, 4),
        ),
    ),
    "batch norm first, not affine": (
        (3, 6, 6),
        lambda: nn.Sequential(
            nn.BatchNorm2d(3, affine=False), nn.ReLU(), nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8, affine=False, eps=1e-3, momentum=0.3), nn.Flatten(), nn.BatchNorm1d(128),
            nn.Linear(128, 4),
        ),
    ),
    "activation first": (
        (3, 6, 6),
        lambda: nn.Sequential(nn.LeakyReLU(0.3), nn.Conv2d(3, 4, 3), nn.LeakyReLU(-0.1), *ending(64)),
    ),
    "batch norm after batch norm": (
        (3, 6, 6),
        lambda: nn.Sequential(
            conv_bn(3, 8), nn.BatchNorm2d(8), conv_bn(8, 8), nn.ReLU(), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Residual(nn.Sequential(conv_bn(8, 8), nn.BatchNorm2d(8))), *ending(8 * 36),
        ),
    ),
    "one channel": (
        (1, 6, 6),
        lambda: nn.Sequential(
            nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 16, 4), nn.ReLU(), *ending(16)
        ),
    ),
    "dropout": (
        (3, 7, 7),
        lambda: nn.Sequential(
            nn.Dropout(0.1), nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Dropout(0.3),
            nn.Residual(
                nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.Dropout(0.2)), nn.Dropout(0.6),
                nn.Dropout(0.0),
            ),
            nn.Flatten(), nn.Dropout(), nn.Linear(16 * 49, 4),
        ),
    ),
    "random numbers in pooling and for channels": (
        (3, 9, 9),
        lambda: nn.Sequential(
            nn.Dropout2d(0.2), nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.StochasticPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.Dropout2d(0.4), nn.ReLU(), nn.StochasticPool2d(3, 1),
            nn.Flatten(), nn.Dropout(), nn.Linear(128, 4),
        ),
    ),
    "lenet5": ((1, 28, 28), lenet5),
    "resnet20": ((3, 8, 8), resnet20),
    "resnet20 with convolutions as shortcuts": ((3, 8, 8), lambda: resnet20(shortcut="B")),
}  # fmt: skip


def has_norm(model):
    return any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in model.modules())


def bound_of(model, count):
    """Return how far gradients may be apart.

    Batch norm divides by the deviation of its batch, which is small for few values, and each layer
    hands the rounding of the one after it on.
    """
    norms = sum(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in model.modules())
    bound = CLOSE if not norms else WINOGRAD
    return bound * (1 + norms / 4) * (8 if norms and count < 8 else 1)


@pytest.mark.parametrize("count", [1, 2, 33])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_the_layers(name, count):
    shape, make = NETWORKS[name]
    x, y = data(count, shape)
    if count == 1 and has_norm(make()):
        pytest.skip("batch norm over one value is an error")
    got = trained(make, x, y)
    want = trained(make, x, y, planned=False)
    assert_near_gradients(got, want, bound_of(got, count))
    assert_near_states(got, want, bound_of(got, count))
    loss, other = got.history.history, want.history.history
    assert loss["loss"] == pytest.approx(other["loss"], rel=1e-4)
    if count > 2:
        assert loss["accuracy"] == pytest.approx(other["accuracy"], abs=1.01 / count)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_last_batch_may_be_smaller(optimizer):
    x, y = data(21, (3, 12, 12))
    make = NETWORKS["vgg-like"][1]
    rate = {"sgd": lambda p: optim.SGD(p, lr=0.01, momentum=0.5), "adam": optim.Adam}[optimizer]
    for batch_size in (8, 9, 20, 40):
        if batch_size == 20:
            continue  # leaves one image
        got, want = (
            trained(
                make, x, y, rate, batch_size=batch_size, epochs=2, shuffle=True, planned=planned
            )
            for planned in (True, False)
        )
        assert_near_states(got, want, 2e-3)
        assert got.history.history["loss"] == pytest.approx(want.history.history["loss"], rel=1e-3)


# ---- the loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(reduction="sum"),
        nn.CrossEntropyLoss(ignore_index=2),
        nn.CrossEntropyLoss(ignore_index=-1, label_smoothing=0.3, reduction="sum"),
    ],
    ids=["smoothing", "sum", "ignored class", "all of it"],
)
def test_losses(loss):
    x, y = data(21, (1, 14, 14))
    y[::5] = loss.ignore_index if loss.ignore_index >= 0 else y[::5]
    y[1] = loss.ignore_index if loss.ignore_index == -1 else y[1]
    make = NETWORKS["lenet-like"][1]
    got, want = (
        trained(make, x, y, loss=loss, batch_size=8, planned=planned) for planned in (True, False)
    )
    assert_near_gradients(got, want)
    for name in ("loss", "accuracy"):
        assert got.history.history[name] == pytest.approx(want.history.history[name], rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(3,), (16, 4, 4)])
def test_squared_errors(shape, reduction):
    x = floats(np.random.default_rng(0), 21, 3, 6, 6)
    y = floats(np.random.default_rng(1), 21, *shape)

    def make():
        model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Tanh())
        if len(shape) == 1:
            model.append(nn.Flatten())
            model.append(nn.Linear(256, 3))
        return model

    got, want = (
        trained(
            make,
            x,
            y,
            lambda p: optim.SGD(p, lr=1e-3),
            nn.MSELoss(reduction),
            planned,
            batch_size=8,
            epochs=2,
            shuffle=True,
        )
        for planned in (True, False)
    )
    assert_near_gradients(got, want, 1e-4)
    assert_near_states(got, want)
    assert got.history.history["loss"] == pytest.approx(want.history.history["loss"], rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_batch_in_which_all_labels_are_ignored(reduction):
    x, y = data(12, (9,))
    y[4:8] = -100
    loss = nn.CrossEntropyLoss(reduction=reduction)
    make = NETWORKS["linear"][1]
    for batch_size in (4, 8, 12):
        got, want = (
            trained(
                make, x, y, lambda p: optim.SGD(p, lr=0.1), loss, planned, batch_size=batch_size
            )
            for planned in (True, False)
        )
        assert_near_states(got, want)
        assert_near_gradients(got, want)
        assert got.history.history["loss"] == pytest.approx(want.history.history["loss"], rel=1e-5)
    got, want = (
        trained(make, x, np.full(12, -100), loss=loss, planned=planned) for planned in (True, False)
    )
    assert np.isnan(got.history.history["loss"]) == np.isnan(want.history.history["loss"])
    assert_near_gradients(got, want)


def test_a_loss_that_is_no_number_warns_once():
    x, y = data(12, (9,))
    x[5] = np.nan
    for planned in (True, False):
        with pytest.warns(RuntimeWarning, match="epoch 1, batch 2") as record:
            trained(NETWORKS["linear"][1], x, y, planned=planned, batch_size=4, epochs=2)
        assert len(record) == 1
        assert record[0].filename == __file__


# ---- parameters and optimizers -------------------------------------------------------------------


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "momentum": lambda p: optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=1e-2),
    "dampening": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.5),
    "nesterov": lambda p: optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=1e-2),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, betas=(0.8, 0.99), weight_decay=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.005, weight_decay=1e-2, alpha=0.9),
    "centered": lambda p: optim.RMSprop(p, lr=0.001, centered=True, momentum=0.5),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.01, lr_decay=0.1, initial_accumulator_value=0.1),
    "l1": lambda p: optim.SGD(p, lr=0.05, l1=1e-3),
    "max_norm": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, max_norm=0.5),
    "adam_max_norm": lambda p: optim.Adam(p, lr=0.01, max_norm=0.5, l1=1e-3),
}


def assert_near_optimizers(got, want, bound=CLOSE):
    a, b = got.optimizer.state_dict(), want.optimizer.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert a["state"].keys() == b["state"].keys()
    for i, state in a["state"].items():
        assert state.keys() == b["state"][i].keys()
        for name, value in state.items():
            assert type(value) is type(b["state"][i][name])
            assert_near(value, b["state"][i][name], bound, f"{name} of {i}")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps_of(name):
    x, y = data(40, (1, 14, 14))
    make = NETWORKS["lenet-like"][1]
    got, want = (
        trained(make, x, y, OPTIMIZERS[name], batch_size=8, epochs=2, shuffle=True, planned=planned)
        for planned in (True, False)
    )
    # Adam divides by the root of the mean square, which magnifies the rounding of small gradients.
    bound = 1e-4 if name in ("sgd", "momentum", "dampening", "nesterov", "l1", "max_norm") else 2e-2
    assert_near_states(got, want, bound)
    assert_near_optimizers(got, want, bound)


def test_groups_with_rates_of_their_own():
    x, y = data(24, (1, 14, 14))

    def make_optimizer(parameters):
        return optim.SGD(
            [
                {"params": parameters[:1], "lr": 0.1, "weight_decay": 0.1},
                {"params": parameters[3:], "momentum": 0.9},
            ],
            lr=0.01,
        )

    make = NETWORKS["lenet-like"][1]
    got, want = (
        trained(make, x, y, make_optimizer, batch_size=8, epochs=2, planned=planned)
        for planned in (True, False)
    )
    assert_near_states(got, want, 1e-4)
    assert_near_gradients(got, want, 1e-4)
    assert_near_optimizers(got, want, 1e-4)
    start = trained(make, x, y)
    for i in (1, 2):  # not handed to the optimizer: has a gradient and stays
        p, q = list(got.parameters())[i], list(start.parameters())[i]
        assert p.grad.any()
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize("name", ["lenet-like", "residual with batch norm on both sides", "mlp"])
@pytest.mark.parametrize("frozen", ["first", "last", "weights", "biases", "all"])
def test_parameters_that_are_not_trained(name, frozen):
    shape, make = NETWORKS[name]
    x, y = data(24, shape)

    def is_frozen(i, key, count):
        return {
            "first": i < 2,
            "last": i >= count - 2,
            "weights": key.endswith("weight"),
            "biases": key.endswith("bias"),
            "all": True,
        }[frozen]

    def freeze():
        model = make()
        named = list(model.named_parameters())
        for i, (key, p) in enumerate(named):
            p.requires_grad = not is_frozen(i, key, len(named))
            p.grad = np.ones(p.shape, np.float32)  # of some time before
        return model

    for optimizer in ("momentum", "adam"):
        got, want = (
            trained(freeze, x, y, OPTIMIZERS[optimizer], batch_size=8, planned=planned)
            for planned in (True, False)
        )
        start = trained(freeze, x, y)
        for (key, p), q in zip(got.named_parameters(), start.parameters(), strict=True):
            if not p.requires_grad:
                assert p.grad is None, key
                np.testing.assert_array_equal(p.data, q.data)
        assert_near_gradients(got, want, 2e-3)
        assert_near_states(got, want, 2e-3)
        assert_near_optimizers(got, want, 2e-3)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_layer_that_is_trained_later(optimizer):
    x, y = data(24, (1, 14, 14))
    make = NETWORKS["lenet-like"][1]
    models = []
    for planned in (True, False):
        with planning_as(planned):
            convcore.manual_seed(1)
            model = make()
            first = next(model.parameters())
            first.requires_grad = False
            model.compile(OPTIMIZERS[optimizer])
            model.fit(x, y, batch_size=8, verbose=0)
            first.requires_grad = True
            model.fit(x, y, batch_size=8, verbose=0)
            models.append(model)
    assert_near_states(*models, 2e-2)
    assert_near_optimizers(*models, 2e-2)


def test_an_optimizer_with_parameters_of_another_network():
    x, y = data(16, (9,))
    other = nn.Linear(3, 3)
    for optimizer in (optim.Adam, lambda p: optim.SGD(p, lr=0.1, momentum=0.9)):
        models = []
        for planned in (True, False):
            with planning_as(planned):
                convcore.manual_seed(1)
                model = NETWORKS["linear"][1]()
                model.compile(lambda p, make=optimizer: make([*p, *other.parameters()]))
                model.fit(x, y, batch_size=8, verbose=0)
                models.append(model)
        assert_near_states(*models, 1e-3)
        assert_near_optimizers(*models, 1e-3)


def test_two_parameters_in_the_same_memory():
    x, y = data(16, (4,))

    def make():
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        model[2].weight.data = model[0].weight.data
        return model

    with planning_as():
        models = []
        for planned in (True, False):
            planning.enabled = planned
            convcore.manual_seed(1)
            model = make()
            model.compile(OPTIMIZERS["momentum"])
            model.fit(x, y, batch_size=8, epochs=2, verbose=0)
            models.append(model)
    assert_near_states(*models)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_norms_are_limited_after_each_step(clip):
    x, y = data(24, (1, 14, 14))
    make = NETWORKS["lenet-like"][1]
    model = trained(make, x, y, OPTIMIZERS["max_norm"], batch_size=8, epochs=3, clip_grad_norm=clip)
    norms = [
        np.linalg.norm(p.data.reshape(len(p.data), -1), axis=1)
        for p in model.parameters()
        if p.data.ndim > 1
    ]
    assert all((norm <= 0.50001).all() for norm in norms)
    assert any((norm > 0.49999).any() for norm in norms)
    model.optimizer.param_groups[0]["max_norm"] = None  # a callback may do that
    model.fit(x, y, epochs=3, verbose=0)
    assert max(np.linalg.norm(p.data[0]) for p in model.parameters() if p.data.ndim > 1) > 0.5


@pytest.mark.parametrize("norm", [1e-3, 0.5, 1e6])
def test_clipped_gradients(norm):
    x, y = data(24, (1, 14, 14))
    make = NETWORKS["lenet-like"][1]
    got, want = (
        trained(make, x, y, OPTIMIZERS["sgd"], batch_size=8, clip_grad_norm=norm, planned=planned)
        for planned in (True, False)
    )
    assert_near_gradients(got, want, 1e-4)
    assert_near_states(got, want, 1e-4)


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adamw", "centered", "adagrad"])
def test_a_checkpoint_goes_on_with_the_same_bits(tmp_path, optimizer):
    x, y = data(21, (3, 8, 8))
    make = NETWORKS["residual with batch norm on both sides"][1]
    x = floats(np.random.default_rng(0), 21, 6, 6, 6)
    arguments = {"batch_size": 8, "verbose": 0}

    def compiled():
        convcore.manual_seed(5)
        model = make()
        model.compile(OPTIMIZERS[optimizer])
        return model

    whole = compiled()
    whole.fit(x, y, epochs=4, **arguments)
    first = compiled()
    history = first.fit(x, y, epochs=2, **arguments)
    serialization.save_checkpoint(tmp_path, first, first.optimizer, 2, history)
    convcore.manual_seed(99)
    second = compiled()
    second.fit(x, y, epochs=1, **arguments)  # planned already, with other weights
    checkpoint = serialization.load_checkpoint(tmp_path, second, second.optimizer)
    second.fit(x, y, epochs=4, initial_epoch=checkpoint.epoch, **arguments)
    assert is_planned(whole, x, 8)
    assert is_planned(second, x, 8)
    assert_equal_states(second, whole)


def test_the_gradient_of_the_last_step_is_there_and_may_be_any_array():
    x, y = data(12, (9,))
    want = trained(NETWORKS["linear"][1], x, y)
    readable = np.ones((4, 9), np.float32)
    readable.flags.writeable = False
    for grad in (None, readable, np.ones((4, 9)), np.ones((9, 4), np.float32).T, np.ones(3)):

        def make(grad=grad):
            model = NETWORKS["linear"][1]()
            model[0].weight.grad = grad
            return model

        assert_near_gradients(trained(make, x, y), want, 0)
    assert readable.all()


def test_dropout_drops_what_the_layers_drop_and_draws_as_many_keys():
    x, y = np.ones((30, 50), np.float32), labels(30, 50)

    def make():
        model = nn.Sequential(nn.Dropout(0.4), nn.Linear(50, 50), nn.Dropout(0.5))
        model[1].weight.data = np.eye(50, dtype=np.float32)
        return model

    models = []
    for planned in (True, False):
        models.append(
            trained(
                make, x, y, OPTIMIZERS["sgd"], batch_size=7, epochs=3, shuffle=True, planned=planned
            )
        )
        models[-1].next = convcore.random.next_key()
    assert_near_states(*models)
    assert_near_gradients(*models)
    zeros = [model[1].bias.grad == 0 for model in models]
    assert zeros[0].any()
    np.testing.assert_array_equal(*zeros)
    assert models[0].next == models[1].next


# ---- batch norm ----------------------------------------------------------------------------------


def test_running_statistics_and_their_count():
    x, y = data(21, (3, 8, 8))
    x = x * 3 + 5

    def make():
        return nn.Sequential(
            nn.BatchNorm2d(3, momentum=0.5), conv_bn(3, 6), nn.ReLU(), nn.Flatten(),
            nn.BatchNorm1d(6 * 64, eps=1e-2), nn.Linear(6 * 64, 4),
        )  # fmt: skip

    got, want = (
        trained(make, x, y, OPTIMIZERS["sgd"], batch_size=8, epochs=3, planned=planned)
        for planned in (True, False)
    )
    for model in (got, want):
        for norm in model.modules():
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                assert norm.num_batches_tracked == 9
                assert norm.num_batches_tracked.dtype == np.int64
                assert norm.num_batches_tracked.shape == ()
    assert_near_states(got, want, 1e-3)


def test_batch_norm_over_one_value_is_the_same_error():
    x, y = data(9, (9,))
    make = NETWORKS["mlp with batch norm"][1]
    x = floats(np.random.default_rng(0), 9, 12)
    models, messages = [], []
    for planned in (True, False):
        with planning_as(planned):
            convcore.manual_seed(1)
            model = make()
            model.compile(optim.Adam)
            with pytest.raises(ValueError, match="too few values per channel") as error:
                model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
            messages.append(str(error.value))
            steps = {state["step"] for state in model.optimizer.state.values()}
            counts = model[1].num_batches_tracked
            assert steps <= {int(counts)}  # what is counted fits what was done
            model.fit(x, y, batch_size=3, verbose=0)  # and the network can be used
            models.append(model)
    assert messages[0] == messages[1]


# ---- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["lenet-like", "vgg-like", "resnet20", "groups and depthwise", "dropout"]
)
def test_the_same_bits_at_any_thread_count(name):
    shape, make = NETWORKS[name]
    _, y = data(45, shape)
    pixels = np.random.default_rng(0).integers(0, 256, (45, *shape), np.uint8)
    x = Images(pixels, mean=[100.0] * shape[0], std=[50.0] * shape[0])

    def train():
        model = trained(
            make,
            x,
            y,
            OPTIMIZERS["momentum"],
            batch_size=16,
            epochs=2,
            shuffle=True,
            augment=Augment(pad=2, flip=True),
            clip_grad_norm=1.0,
        )
        return (*model.state_dict().values(), model.predict(x, batch_size=7))

    assert_same_bits_at_any_thread_count(train)


def test_augmented_bytes_are_those_of_the_layers():
    pixels = np.random.default_rng(0).integers(0, 256, (21, 3, 12, 12), np.uint8)
    x, y = Images(pixels, mean=[100, 110, 120], std=[50, 60, 70]), labels(21, 4)
    got, want = (
        trained(
            NETWORKS["vgg-like"][1],
            x,
            y,
            batch_size=8,
            epochs=2,
            shuffle=True,
            augment=Augment(pad=3, flip=True),
            planned=planned,
        )
        for planned in (True, False)
    )
    assert_near_gradients(got, want, 1e-3)
    assert_near_states(got, want, 1e-4)
    assert got.history.history["loss"] == pytest.approx(want.history.history["loss"], rel=1e-5)


# ---- rules ---------------------------------------------------------------------------------------

RULES = {
    "conv + relu + max_pool": "lenet-like",
    "batch_norm + add": "residual with batch norm on both sides",
    "batch_norm + relu": "vgg-like",
    "conv + batch_norm": "residual with batch norm on both sides",
    "conv + relu": "nested",
    "batch_norm sums in conv backward": "resnet20",
}


def test_every_rule_is_tested():
    assert sorted(RULES) == sorted(_core.Plan.rules())


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_changes_the_program_and_nothing_else(rule):
    shape, make = NETWORKS[RULES[rule]]
    x, y = data(24, shape)
    got = trained(make, x, y, OPTIMIZERS["sgd"])
    want = trained(make, x, y, OPTIMIZERS["sgd"], without_rules=[rule])
    assert_near_gradients(got, want, bound_of(got, 24))
    want.load_state_dict(got.state_dict())
    texts, outputs = [], []
    for model, without in ((got, ()), (want, (rule,))):
        with planning_as(without_rules=without):
            texts.append(model.plan(shape, 24) + model.plan(shape, 24, training=False))
            outputs.append(model.predict(x))
    assert texts[0] != texts[1]
    assert_near(*outputs, WINOGRAD)


@pytest.mark.parametrize("name", ["vgg-like", "resnet20", "batch norm read twice", "lenet5"])
def test_without_any_rule(name):
    shape, make = NETWORKS[name]
    x, y = data(12, shape)
    got = trained(make, x, y, without_rules=_core.Plan.rules())
    want = trained(make, x, y, planned=False)
    assert_near_gradients(got, want, bound_of(got, 12))
    with planning_as(without_rules=_core.Plan.rules()):
        output = got.predict(x)
    with planning_as(False):
        assert_near(output, want.predict(x), 1e-3)


# ---- predict and evaluate ------------------------------------------------------------------------


def layer_by_layer(model, x, **arguments):
    with planning_as(False):
        return model.predict(x, **arguments)


def scrambled(model, seed=0):
    """Give the network other weights and running statistics, in place."""
    rng = np.random.default_rng(seed)
    for name, array in model.state_dict().items():
        if array.dtype == np.float32:
            spread = rng.standard_normal(array.shape).astype(np.float32)
            array[...] = np.abs(spread) + 0.5 if "var" in name else array + 0.1 * spread
    state = model.state_dict()
    model.load_state_dict({k: v.copy() for k, v in state.items()})
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_predict_is_the_layers_in_evaluation_mode(name):
    shape, make = NETWORKS[name]
    x, y = data(64, shape)
    convcore.manual_seed(2)
    model = scrambled(make())
    for count in (1, 5, 64):
        assert_near(model.predict(x[:count]), layer_by_layer(model, x[:count]), 1e-4, name)
    assert model._planned is not None
    whole = model.predict(x, batch_size=64)
    for batch_size in (1, 5, 63):
        assert_near(model.predict(x, batch_size=batch_size), whole, 1e-4)
    assert model.predict(x[:0]).shape == (0, 4) or model.predict(x[:0]).shape[0] == 0
    model.compile()
    values = model.evaluate(x, y, batch_size=25)
    with planning_as(False):
        assert values == pytest.approx(model.evaluate(x, y, batch_size=25), rel=1e-4)


def test_predict_sees_new_weights():
    shape, make = NETWORKS["residual with batch norm on both sides"]
    x, _ = data(9, shape)
    model = make()
    before = model.predict(x)

    def has_changed():
        nonlocal before
        now = model.predict(x)
        assert_near(now, layer_by_layer(model, x), 1e-4)
        assert not np.array_equal(now, before)
        before = now

    for p in model.parameters():
        p.data[...] += 0.1
    has_changed()
    model.load_state_dict(scrambled(make()).state_dict())
    has_changed()
    for p in model.parameters():
        p.data = (p.data * 1.5).astype(np.float32)
    has_changed()
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    norm.running_var = np.repeat(norm.running_var + 1, 2)[::2]  # strided
    norm.running_mean = norm.running_mean + 1
    norm.running_mean.flags.writeable = False
    has_changed()


def test_predict_sees_new_layers():
    x, _ = data(9, (3, 12, 12))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten())
    assert model.predict(x).shape == (9, 800)
    model.append(nn.Linear(800, 3))
    assert_near(model.predict(x), layer_by_layer(model, x), 1e-4)
    model[1] = nn.Tanh()
    assert_near(model.predict(x), layer_by_layer(model, x), 1e-4)
    model[3] = nn.Linear(800, 5, bias=False)
    assert_near(model.predict(x), layer_by_layer(model, x), 1e-4)
    model[0].padding = (1, 0)
    model[3] = nn.Linear(960, 2)
    assert_near(model.predict(x), layer_by_layer(model, x), 1e-4)
    model[1] = nn.LeakyReLU(0.5)
    model[1].negative_slope = 0.25
    assert_near(model.predict(x), layer_by_layer(model, x), 1e-4)
    x = floats(np.random.default_rng(0), 4, 3, 12, 12)[:, :, ::2]  # strided
    model[3] = nn.Linear(8 * 6 * 10, 2)
    assert_near(model.predict(x), layer_by_layer(model, x), 1e-4)


def test_fit_after_another_compile():
    x, y = data(24, (1, 14, 14))
    make = NETWORKS["lenet-like"][1]
    models = []
    for planned in (True, False):
        with planning_as(planned):
            convcore.manual_seed(1)
            model = make()
            for name in ("momentum", "adam", "sgd", "adamw"):
                model.compile(OPTIMIZERS[name])
                model.fit(x, y, batch_size=8, verbose=0)
                model.predict(x)
            model.compile(OPTIMIZERS["sgd"], loss=nn.CrossEntropyLoss(label_smoothing=0.5))
            model.fit(x, y, batch_size=8, verbose=0)
            models.append(model)
    assert_near_states(*models, 5e-2)


class OtherLoss(nn.MSELoss):
    pass


def test_predict_runs_as_planned_when_only_the_training_is_not():
    model = NETWORKS["mlp with batch norm"][1]()
    x = floats(np.random.default_rng(0), 9, 12)
    model.compile(loss=OtherLoss())
    assert model._plan_for("predict", x.shape, 9) is not None
    assert model._plan_for("fit", x.shape, 9) is None
    assert_near(model.predict(x), layer_by_layer(model, x), 1e-4)


def test_predict_from_many_threads_at_once():
    shape, make = NETWORKS["vgg-like"]
    x, _ = data(64, shape)
    model = make()
    want = model.predict(x, batch_size=8)
    wrong = []

    def run(begin):
        for _ in range(20):
            if not np.array_equal(model.predict(x[begin : begin + 8]), want[begin : begin + 8]):
                wrong.append(begin)

    with planning_as():
        threads = [threading.Thread(target=run, args=(8 * i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_trained_network_can_be_copied(duplicate):
    x, y = data(9, (9,))
    model = NETWORKS["linear"][1]()
    model.compile("adam")
    model.fit(x, y, shuffle=False, verbose=0)
    other = duplicate(model)
    before = other.predict(x)
    model.fit(x, y, shuffle=False, verbose=0)
    np.testing.assert_array_equal(other.predict(x), before)
    other.fit(x, y, shuffle=False, verbose=0)
    assert_equal_states(other, model)


# ---- what is not planned -------------------------------------------------------------------------


class Doubled(nn.ReLU):
    """A subclass of a known layer with another forward."""

    def forward(self, x):
        return 2 * super().forward(x)

    def backward(self, dy, need_dx=True):
        return super().backward(2 * dy, need_dx)


class Scale(nn.Module):
    def __init__(self):
        self.weight = nn.Parameter(np.full(1, 2, np.float32))

    def forward(self, x):
        self._keep(x)
        return x * self.weight.data

    def backward(self, dy, need_dx=True):
        (x,) = self._take()
        self.weight.accumulate_grad(np.float32([(dy * x).sum()]))
        return dy * self.weight.data


class Slow(optim.SGD):
    def _update(self, p, grad, state, group):
        super()._update(p, grad / 2, state, group)


def surprise(y, target):
    return float(np.mean(y))


UNKNOWN = {
    "Doubled": {"layer": Doubled},
    "Scale": {"layer": Scale},
    "Softmax": {"layer": nn.Softmax},
    "metrics": {"metrics": ["accuracy", surprise]},
    "OtherLoss": {"loss": OtherLoss(), "y": np.ones((20, 4), np.float32)},
    "Slow": {"optimizer": lambda p: Slow(p, lr=0.1)},
    "momentum": {"layer": lambda: nn.BatchNorm1d(8, momentum=None)},
    "share": {"layer": None},
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_the_planner_does_not_know_runs_layer_by_layer(what, capsys):
    x, y = data(20, (9,))
    arguments = {
        "layer": nn.ReLU,
        "optimizer": optim.Adam,
        "metrics": None,
        "loss": "cross_entropy",
        "y": y,
        **UNKNOWN[what],
    }
    y = arguments["y"]

    def run(planned, verbose):
        with planning_as(planned):
            convcore.manual_seed(1)
            layer = arguments["layer"]
            model = nn.Sequential(nn.Linear(9, 8), (layer or nn.ReLU)(), nn.Linear(8, 4))
            if layer is None:
                model = nn.Sequential(*model, nn.Linear(4, 4), nn.Linear(4, 4))
                model[4].weight = model[3].weight
            model.compile(*(arguments[key] for key in ("optimizer", "loss", "metrics")))
            model.predict(x)
            history = model.fit(x, y, epochs=3, batch_size=8, verbose=verbose).history
            model.fit(x, y, batch_size=8, verbose=verbose)
            return model, {k: v for k, v in history.items() if "second" not in k}

    model, history = run(True, 0)
    assert capsys.readouterr().err == ""
    other, same = run(False, 0)
    assert history == same
    assert_equal_states(model, other)
    run(True, 1)
    told = [line for line in capsys.readouterr().err.splitlines() if "planner" in line]
    assert len(told) == 1
    assert told[0].startswith("fit: layer by layer")
    assert what in told[0]
    with pytest.raises(ValueError, match=f"plan: there is no plan for input_shape.*{what}"):
        model.plan((9,), 8)


def test_the_reason_is_told_although_a_silent_training_came_before(capsys):
    x, y = data(20, (9,))
    model = nn.Sequential(nn.Linear(9, 4), Doubled())
    model.compile()
    model.fit(x, y, verbose=0)
    model.fit(x, y, verbose=1)
    assert "planner" in capsys.readouterr().err


class Filled(nn.Sequential):
    """A Sequential that makes its layers itself."""

    def __init__(self):
        super().__init__(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 4))


class Negated(Filled):
    def forward(self, x):
        return -super().forward(x)

    def backward(self, dy, need_dx=True):
        return super().backward(-dy, need_dx)


def test_a_class_derived_from_sequential():
    x, y = data(20, (9,))
    got, want = (trained(Filled, x, y, planned=planned) for planned in (True, False))
    assert_near_gradients(got, want)
    convcore.manual_seed(1)
    model = Negated()
    model.compile()
    assert not is_planned(model, x, 20)
    with pytest.raises(ValueError, match="got Negated"):
        model.plan((9,))


def test_a_layer_with_a_forward_of_its_own():
    x, _ = data(20, (9,))
    model = Filled()
    before = model.predict(x)
    model[1].forward = lambda x: 0 * x
    assert np.ptp(model.predict(x), axis=0).max() == 0
    assert np.ptp(before, axis=0).max() > 0


# ---- callbacks -----------------------------------------------------------------------------------


class Record(Callback):
    def __init__(self):
        self.seen = []

    def on_batch_end(self, batch, logs):
        self.seen.append((batch, logs))


def test_callbacks_see_every_batch():
    x, y = data(21, (1, 14, 14))
    make = NETWORKS["lenet-like"][1]
    records = []
    for planned in (True, False):
        record = Record()
        model = trained(
            make, x, y, OPTIMIZERS["sgd"], batch_size=8, epochs=2, callbacks=record, planned=planned
        )
        records.append(record.seen)
        assert record.seen[-1][1]["loss"] == model.history.history["loss"][-1]
    got, want = records
    assert [batch for batch, _ in got] == [batch for batch, _ in want] == [0, 1, 2] * 2
    for (_, logs), (_, other) in zip(got, want, strict=True):
        assert logs == pytest.approx(other, rel=1e-4)


class Change(Callback):
    """Changes something after each batch."""

    def __init__(self, change):
        self.change = change

    def on_batch_end(self, batch, logs):
        self.change(self.model, batch)


def set_rate(model, batch):
    model.optimizer.param_groups[0]["lr"] = 0.1 / (batch + 1)


def set_momentum(model, batch):
    model.optimizer.param_groups[0]["momentum"] = 0.5 * (batch % 2)


def set_weights(model, batch):
    p = next(model.parameters())
    p.data = p.data * np.float32(0.5)


def set_frozen(model, batch):
    for p in model[0].parameters():
        p.requires_grad = batch % 2 == 1


def set_layer(model, batch):
    model[1] = nn.Tanh() if batch == 1 else nn.ReLU()


def set_state(model, batch):
    model.optimizer.load_state_dict(model.optimizer.state_dict())
    for state in model.optimizer.state.values():
        for value in state.values():
            if isinstance(value, np.ndarray):
                value *= 2


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize(
    "change", [set_rate, set_momentum, set_weights, set_frozen, set_layer, set_state]
)
def test_changes_in_on_batch_end_take_effect_at_the_next_step(change, optimizer):
    if optimizer == "adam" and change is set_momentum:
        pytest.skip("Adam has no momentum")
    x, y = data(28, (9,))

    def make():
        return nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 4))

    models = []
    for planned in (True, False):
        with planning_as(planned):
            convcore.manual_seed(1)
            model = make()
            model.compile(OPTIMIZERS[optimizer])
            if (change, optimizer) == (set_frozen, "adam"):
                # Adam's steps become uneven: the plan lasts until the end of the epoch
                model.fit(x, y, batch_size=8, verbose=0, callbacks=Change(change))
                continue
            model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=Change(change))
            models.append(model)
    if models:
        assert_near_states(*models, 1e-2 if optimizer == "adam" else 1e-4)


class Failing(Callback):
    def __init__(self, error):
        self.error = error

    def on_batch_end(self, batch, logs):
        if batch == 1:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("enough"), KeyboardInterrupt()])
def test_an_error_in_a_callback_leaves_the_network_usable(error):
    x, y = data(24, (3, 12, 12))
    make = NETWORKS["vgg-like"][1]
    models = []
    for planned in (True, False):
        with planning_as(planned):
            convcore.manual_seed(1)
            model = make()
            model.compile(OPTIMIZERS["momentum"])
            with pytest.raises(type(error)):
                model.fit(x, y, batch_size=8, verbose=0, callbacks=Failing(error))
            assert model[0][1].num_batches_tracked == 2
            model.fit(x, y, batch_size=8, verbose=0)
            models.append(model)
    assert_near_states(*models, 1e-3)


# ---- text and memory -----------------------------------------------------------------------------


def test_plan_says_what_runs():
    model = NETWORKS["lenet-like"][1]()
    with pytest.raises(RuntimeError, match="not compiled"):
        model.plan((1, 14, 14))
    assert "linear" in model.plan((1, 14, 14), training=False)
    model.compile()
    text = model.plan((1, 14, 14), batch_size=8)
    assert text.startswith("8 images in ")
    for part in ("conv2d + relu + max_pool2d", "cross-entropy", "update and pack", "phase 2"):
        assert part in text
    model.compile(clip_grad_norm=1)
    assert "clip and update parameter 0" in model.plan((1, 14, 14), batch_size=8)
    assert "update" not in model.plan((1, 14, 14), batch_size=8, training=False)


def test_memory_does_not_grow_with_the_number_of_batch_sizes():
    x, y = data(64, (1, 14, 14))
    model = NETWORKS["lenet-like"][1]()
    model.compile(OPTIMIZERS["sgd"])
    model.fit(x, y, batch_size=64, verbose=0)
    one = model._planned.plan.memory_bytes()
    assert one > 0
    most = 0
    for batch_size in range(1, 40):
        model.fit(x, y, batch_size=batch_size, verbose=0)
        model.predict(x, batch_size=batch_size)
        most = max(most, model._planned.plan.memory_bytes())
    assert most <= 7 * one
    x = floats(np.random.default_rng(0), 8, 1, 14, 14)
    model.predict(x)


def test_a_profile_measures_the_steps():
    x, y = data(16, (1, 14, 14))
    model = NETWORKS["lenet-like"][1]()
    model.compile()
    model.fit(x, y, batch_size=8, verbose=0)
    plan = model._planned.plan
    plan.profile(8, True)
    model.fit(x, y, batch_size=8, verbose=0)
    assert "milliseconds of the first thread" in plan.describe(8, True)


class Interrupt(Callback):
    def on_batch_end(self, batch, logs):
        if batch == 1:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_leaves_what_whole_steps_made():
    x, y = data(40, (3, 12, 12))
    make = NETWORKS["vgg-like"][1]
    convcore.manual_seed(1)
    model = make()
    model.compile(OPTIMIZERS["adam"])
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=Interrupt())
    want = trained(make, x[:16], y[:16], OPTIMIZERS["adam"], batch_size=8)
    assert_equal_states(model, want)
    assert {state["step"] for state in model.optimizer.state.values()} == {2}


# ---- networks made at random ---------------------------------------------------------------------


class Maker:
    """Makes networks from a seed: layers in any order that fits, with residual blocks in blocks."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def pick(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def keeping_shape(self, channels, depth):
        """Return a layer that changes no shape."""
        kind = self.rng.integers(7 if depth < 2 else 6)
        if kind <= 1:
            groups = self.pick(1, 1, channels)
            dilation = self.pick(1, 1, 2)
            kernel = self.pick(1, 3, 3, 5)
            return nn.Conv2d(
                channels, channels, kernel, padding="same", dilation=dilation, groups=groups,
                bias=self.pick(True, False),
            )  # fmt: skip
        if kind == 2:
            return nn.BatchNorm2d(channels, affine=self.pick(True, True, False))
        if kind == 3:
            return self.pick(nn.ReLU, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.Identity)()
        if kind == 4:
            return self.pick(nn.MaxPool2d, nn.AvgPool2d)(3, 1, padding=1)
        if kind == 5:
            return nn.Dropout(0.25)
        body = self.sequence(channels, depth + 1)
        shortcut = self.pick(None, None, self.sequence(channels, depth + 1))
        return nn.Residual(body, shortcut, self.pick(None, nn.ReLU(), nn.Tanh()))

    def sequence(self, channels, depth):
        return nn.Sequential(
            *(self.keeping_shape(channels, depth) for _ in range(self.rng.integers(1, 5)))
        )

    def network(self):
        channels = self.pick(1, 2, 3, 7, 16)
        size = (int(self.rng.integers(9, 13)), int(self.rng.integers(9, 13)))
        shape, layers = (channels, *size), []
        for _ in range(self.rng.integers(1, 3)):
            layers.append(self.sequence(channels, 0))
            wider = self.pick(4, 8, 12, 16, 20, 32)
            layers.append(
                nn.Conv2d(channels, wider, 3, stride=self.pick(1, 1, 2), padding=self.pick(0, 1, 2))
            )
            channels = wider
            layers += self.pick([nn.BatchNorm2d(channels), nn.ReLU()], [nn.ReLU()], [])
        layers += self.pick([nn.MaxPool2d(2)], [nn.AvgPool2d(2, ceil_mode=True)], [])
        layers.append(nn.Flatten())
        features = nn.Sequential(*layers).predict(np.zeros((1, *shape), np.float32)).shape[1]
        layers += self.pick([nn.BatchNorm1d(features)], [nn.Tanh()], [])
        return shape, nn.Sequential(*layers, nn.Linear(features, 4))


@pytest.mark.parametrize("seed", range(60))
def test_a_network_made_at_random(seed):
    convcore.manual_seed(seed)
    shape, _ = Maker(seed).network()
    x, y = data(int(np.random.default_rng(seed).integers(9, 30)), shape)
    want = trained(lambda: Maker(seed).network()[1], x, y, planned=False)
    rules = _core.Plan.rules()
    for without in ((), [rules[seed % len(rules)]], rules):
        got = trained(lambda: Maker(seed).network()[1], x, y, without_rules=without)
        assert_near_gradients(got, want, 2e-3)
        assert_near_states(got, want, 1e-3)
        with planning_as(without_rules=without):
            output = got.predict(x, batch_size=7)
        assert_near(output, layer_by_layer(got, x), 1e-3)


# ---- what callbacks change in the middle of an epoch ---------------------------------------------


class _Once(Callback):
    """Does something after the first batch."""

    def __init__(self, act):
        self._act = act

    def on_batch_end(self, batch, logs):
        if batch == 0:
            self._act()


def test_labels_that_a_callback_makes_wrong_are_an_error(rng):
    x, y = rng.standard_normal((40, 8)).astype(np.float32), np.arange(40) % 4
    model = nn.Sequential(nn.Linear(8, 4))
    model.compile(optimizer="sgd")

    def spoil():
        y[:] = 10**9

    with pytest.raises(ValueError, match="target has a label out of range: expected 0 to 3"):
        model.fit(x, y, batch_size=10, verbose=0, callbacks=[_Once(spoil)])


def test_a_layer_that_the_planner_does_not_know_takes_over(rng):
    x, y = rng.standard_normal((35, 8)).astype(np.float32), np.arange(35) % 4
    calls = []

    class Unknown(nn.ReLU):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x)

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    model.compile(optimizer="sgd")

    def change():
        model[1] = Unknown()

    model.fit(x, y, batch_size=10, verbose=0, shuffle=False, callbacks=[_Once(change)])
    assert calls == [10, 10, 5]


def test_a_head_that_a_callback_replaces_is_the_one_that_computes(rng):
    x, y = rng.standard_normal((40, 8)).astype(np.float32), np.arange(40) % 4
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    model.compile(optimizer=lambda p: optim.SGD(p, lr=0.1))

    def replace():
        model[2] = nn.Linear(8, 4)
        model[2].weight.data[...] = 0

    model.fit(x, y, batch_size=10, verbose=0, callbacks=[_Once(replace)])
    assert np.abs(model[0].weight.grad).max() == 0  # no gradient passes a head of zeros

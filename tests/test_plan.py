"""The planned engine against the layers one by one: gradients, updates, statistics, predictions."""

from __future__ import annotations

import contextlib
import copy
import pickle
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


def is_planned(model):
    return model._planned is not None and model._told is None


def trained(make, x, y, optimizer=still, loss="cross_entropy", planned=True, **arguments):
    """Make a network from the same seed and fit it."""
    without = arguments.pop("without_rules", ())
    clip = arguments.pop("clip_grad_norm", None)
    with planning_as(planned, without):
        convcore.manual_seed(1)
        model = make()
        model.compile(optimizer=optimizer, loss=loss, clip_grad_norm=clip)
        model.fit(x, y, verbose=0, **{"batch_size": len(x), "shuffle": False, **arguments})
        if planned:
            assert is_planned(model), model._told
    return model


def assert_near(got, want, bound, what=""):
    """Hold `got` against `want`, within `bound` times the root mean square of `want`."""
    assert (got is None) == (want is None), what
    if got is None:
        return
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape and got.dtype == want.dtype, what
    rms = np.sqrt(np.mean(np.square(want, dtype=np.float64))) if want.size else 0
    worst = np.abs(got.astype(np.float64) - want).max(initial=0)
    assert worst <= bound * rms + 1e-7, f"{what}: differs by {worst:.3g}, rms {rms:.3g}"


def assert_near_gradients(got, want, bound=CLOSE, scales=None):
    for (name, p), (_, q) in zip(got.named_parameters(), want.named_parameters(), strict=True):
        assert_near(p.grad, q.grad, bound, f"gradient of {name}")


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
    "one channel": (
        (1, 6, 6),
        lambda: nn.Sequential(
            nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 16, 4), nn.ReLU(), *ending(16)
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
            trained(make, x, y, rate, batch_size=batch_size, epochs=2, shuffle=True, planned=planned)
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
    bound = 2e-2 if "adam" in name else 1e-4
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


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adamw"])
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
    assert is_planned(whole) and is_planned(second)
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


def test_batch_norm_in_evaluation_mode_stays_as_it_is():
    class Freeze(Callback):
        def on_epoch_begin(self, epoch):
            self.model[0][1].eval()

    x, y = data(16, (5, 6, 6))
    make = NETWORKS["batch norm read twice"][1]
    got, want = (
        trained(make, x, y, OPTIMIZERS["sgd"], planned=False, callbacks=Freeze())
        if not planned
        else _fit_without_check(make, x, y, OPTIMIZERS["sgd"], callbacks=Freeze())
        for planned in (True, False)
    )
    assert want[0][1].num_batches_tracked == 0
    assert_near_states(got, want)


def _fit_without_check(make, x, y, optimizer, **arguments):
    """Fit a network that the engine may run layer by layer."""
    convcore.manual_seed(1)
    model = make()
    model.compile(optimizer)
    model.fit(x, y, verbose=0, **{"batch_size": len(x), "shuffle": False, **arguments})
    return model


# ---- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lenet-like", "vgg-like", "resnet20", "groups and depthwise"])
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

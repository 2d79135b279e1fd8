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

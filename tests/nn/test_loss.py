"""The losses as objects."""

from __future__ import annotations

import re

import numpy as np
import pytest

import convcore.functional as F
from convcore import nn, optim
from helpers import floats


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_loss_is_the_function(rng, reduction, smoothing):
    y, target = floats(rng, 6, 4), np.array([0, 3, 2, 7, 1, 1])
    criterion = nn.CrossEntropyLoss(ignore_index=7, reduction=reduction, label_smoothing=smoothing)
    arguments = {"ignore_index": 7, "reduction": reduction, "label_smoothing": smoothing}
    loss, gradient = F.cross_entropy(y, target, **arguments, return_gradient=True)
    got = criterion(y, target)
    np.testing.assert_array_equal(got, loss)
    assert isinstance(got, float) == (reduction != "none")
    np.testing.assert_array_equal(criterion.backward(), gradient)
    np.testing.assert_array_equal(criterion.evaluate(y, target), loss)
    assert criterion.count(target) == 5


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss_is_the_function(rng, reduction):
    y, target = floats(rng, 6, 4), floats(rng, 6, 4)
    criterion = nn.MSELoss(reduction)
    np.testing.assert_array_equal(criterion(y, target), F.mse_loss(y, target, reduction))
    scale = 24 if reduction == "mean" else 1
    np.testing.assert_allclose(criterion.backward(), 2 * (y - target) / scale, rtol=1e-5)
    np.testing.assert_array_equal(criterion.evaluate(y, target), F.mse_loss(y, target, reduction))
    assert criterion.count(target) == 24


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_multi_margin_loss_is_the_function(rng, reduction):
    y, target, weight = floats(rng, 6, 4), np.array([0, 3, 2, 0, 1, 1]), abs(floats(rng, 4))
    criterion = nn.MultiMarginLoss(2, 0.5, weight, reduction)
    arguments = (2, 0.5, weight, reduction)
    loss, gradient = F.multi_margin_loss(y, target, *arguments, return_gradient=True)
    np.testing.assert_array_equal(criterion(y, target), loss)
    np.testing.assert_array_equal(criterion.backward(), gradient)
    np.testing.assert_array_equal(criterion.evaluate(y, target), loss)
    assert criterion.count(target) == 6


@pytest.mark.parametrize("loss", ["hinge", nn.MultiMarginLoss(p=2)])
def test_compile_takes_the_hinge_loss(loss, rng):
    x, y = floats(rng, 64, 6), rng.integers(0, 3, 64)
    x[np.arange(64), y] += 4
    model = nn.Sequential(nn.Linear(6, 3))
    model.compile(optimizer=lambda p: optim.SGD(p, lr=0.5), loss=loss)
    history = model.fit(x, y, epochs=30, verbose=0)
    assert isinstance(model.criterion, nn.MultiMarginLoss)
    values = model.evaluate(x, y)
    assert values["accuracy"] > 0.8
    assert values["loss"] < history.history["loss"][0]


def test_multi_margin_loss_rejects_targets_before_the_training():
    model = nn.Sequential(nn.Linear(6, 3))
    model.compile(optimizer="adam", loss="hinge")
    x = np.zeros((4, 6), np.float32)
    message = "y has a label that is out of range: expected 0 to 2 (the network has 3 outputs)"
    with pytest.raises(ValueError, match=re.escape(message)):
        model.fit(x, np.array([0, 1, 2, 3]))
    images = nn.Sequential(nn.Conv2d(1, 3, 1))
    images.compile(optimizer="adam", loss="hinge")
    message = "expected (N, classes) for MultiMarginLoss"
    with pytest.raises(ValueError, match=re.escape(message)):
        images.fit(np.zeros((4, 1, 2, 2), np.float32), np.zeros(4, int))
    with pytest.raises(ValueError, match="MultiMarginLoss: p is out of range: expected 1 or 2"):
        nn.MultiMarginLoss(3)


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), nn.MSELoss(), nn.MultiMarginLoss()])
def test_loss_backward_goes_once_with_each_forward(criterion, rng):
    y = floats(rng, 2, 2)
    target = np.array([0, 1]) if criterion.takes_labels else y
    with pytest.raises(RuntimeError, match="Loss: backward called before forward"):
        criterion.backward()
    criterion(y, target)
    criterion.backward()
    with pytest.raises(RuntimeError, match="Loss: backward called before forward"):
        criterion.backward()
    criterion(y, target)
    criterion.evaluate(y, target)


def test_loss_repr_shows_what_is_not_the_default():
    assert repr(nn.CrossEntropyLoss()) == "CrossEntropyLoss()"
    text = "CrossEntropyLoss(ignore_index=3, reduction='sum', label_smoothing=0.1)"
    assert repr(nn.CrossEntropyLoss(ignore_index=3, reduction="sum", label_smoothing=0.1)) == text
    assert repr(nn.MultiMarginLoss()) == "MultiMarginLoss()"
    text = "MultiMarginLoss(p=2, margin=0.5, weight=[1.0, 2.0], reduction='sum')"
    assert repr(nn.MultiMarginLoss(2, 0.5, np.array([1, 2], np.float32), "sum")) == text
    assert repr(nn.MSELoss("sum")) == "MSELoss(reduction='sum')"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        pytest.param(
            lambda: nn.MSELoss("avg"),
            ValueError,
            "MSELoss: reduction is not known: expected 'mean', 'sum', 'none', got 'avg'",
            id="reduction",
        ),
        pytest.param(
            lambda: nn.CrossEntropyLoss(label_smoothing=2),
            ValueError,
            "CrossEntropyLoss: label_smoothing is out of range: expected a number from 0 to 1, "
            "got 2",
            id="smoothing",
        ),
        pytest.param(
            lambda: nn.CrossEntropyLoss(ignore_index=0.5),
            TypeError,
            "CrossEntropyLoss: ignore_index has the wrong type: expected an int, got 0.5 (float)",
            id="ignore_index",
        ),
    ],
)
def test_loss_rejects(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_the_base_class_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="Loss has no forward"):
        nn.Loss()(np.zeros(1, np.float32), np.zeros(1, np.float32))

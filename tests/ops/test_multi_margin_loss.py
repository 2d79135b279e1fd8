"""multi_margin_loss: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import assert_close, assert_same_bits_at_any_thread_count, floats, numeric_gradient


@st.composite
def cases(draw):
    classes = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    shape = draw(st.sampled_from([(), (0,), (1,), (7,), (33,)]))
    options = {
        "p": draw(st.sampled_from([1, 2])),
        "margin": draw(st.sampled_from([1.0, 0.25, 0.0, -1.0])),
        "weight": draw(st.sampled_from([None, np.abs(floats(rng, classes))])),
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
    }
    return floats(rng, *shape, classes), rng.integers(0, classes, shape), options


def exact(options):
    weight = options["weight"]
    return options | {"weight": None if weight is None else weight.astype(np.float64)}


def sizes(x, options, power):
    """What the rounding of the terms is relative to: each is a difference of two scores."""
    size = (2 * np.abs(x).max(initial=0) + abs(options["margin"])) ** power * x.shape[-1]
    return size * (1 if options["weight"] is None else options["weight"].max())


@settings(max_examples=150, deadline=None)
@given(cases())
def test_multi_margin_loss_matches_reference(drawn):
    x, target, options = drawn
    want = np.asarray(reference.multi_margin_loss(x.astype(np.float64), target, **exact(options)))
    loss, gradient = F.multi_margin_loss(x, target, **options, return_gradient=True)
    if np.isnan(want).any():
        assert np.isnan(loss)
        return
    magnitude = sizes(x, options, options["p"]) / x.shape[-1]
    if options["reduction"] == "sum":
        magnitude = magnitude * max(target.size, 1)
    assert_close(np.asarray(loss), want, magnitude, x.shape[-1], "loss")
    np.testing.assert_array_equal(F.multi_margin_loss(x, target, **options), loss)

    dy = floats(np.random.default_rng(1), *want.shape) if want.shape else np.float32(-1.7)
    want = reference.multi_margin_loss_backward(
        np.asarray(dy, np.float64), x.astype(np.float64), target, **exact(options)
    )
    got = F.multi_margin_loss_backward(dy, x, target, **options)
    magnitude = 2 * sizes(x, options, options["p"] - 1) * np.abs(dy).max(initial=0)
    assert_close(got, want, magnitude, x.shape[-1], "dx")
    saved = F.multi_margin_loss_backward(dy, x, target, **options, saved=gradient)
    np.testing.assert_array_equal(got, saved)


@pytest.mark.parametrize("p", [1, 2])
def test_reference_multi_margin_loss_matches_finite_differences(p, rng):
    x, target, weight = rng.standard_normal((4, 5)), np.array([0, 4, 2, 2]), rng.random(5)
    arguments = (target, p, 0.7, weight)
    got = reference.multi_margin_loss_backward(1.5, x, *arguments)
    want = numeric_gradient(lambda v: reference.multi_margin_loss(v, *arguments), x, 1.5)
    np.testing.assert_allclose(got, want, atol=1e-7)


def test_multi_margin_loss_is_the_same_bits_at_any_thread_count(rng):
    x, target = floats(rng, 3000, 37), rng.integers(0, 37, 3000)
    assert_same_bits_at_any_thread_count(
        lambda: F.multi_margin_loss(x, target, return_gradient=True)
    )


def test_multi_margin_loss_keeps_nan_in_sight():
    x = np.array([[0, np.nan, 0], [0, 0, 0]], np.float32)
    loss, gradient = F.multi_margin_loss(
        x, np.array([0, 1]), reduction="none", return_gradient=True
    )
    assert np.isnan(loss).tolist() == [True, False]
    assert np.isfinite(gradient[1]).all()


X, LABELS = np.zeros((2, 3), np.float32), np.array([0, 1])
REJECTED = {
    "p": (
        lambda: F.multi_margin_loss(X, LABELS, 3),
        ValueError,
        "multi_margin_loss: p is out of range: expected at most 2, got 3",
    ),
    "label": (
        lambda: F.multi_margin_loss(X, np.array([0, 3])),
        ValueError,
        "multi_margin_loss: target has a label out of range: expected 0 to 2, got 3 at position 1",
    ),
    "target": (
        lambda: F.multi_margin_loss(X, np.array([0])),
        ValueError,
        "multi_margin_loss: target has the wrong shape: expected (2,) (one label per sample)",
    ),
    "weight": (
        lambda: F.multi_margin_loss(X, LABELS, weight=np.ones(2, np.float32)),
        ValueError,
        "multi_margin_loss: weight has the wrong shape: expected (3,) (one value per class)",
    ),
    "rank": (
        lambda: F.multi_margin_loss(X[None], LABELS),
        ValueError,
        "multi_margin_loss: x has the wrong number of dimensions: expected 1 (C,) or 2 (N, C)",
    ),
    "reduction": (
        lambda: F.multi_margin_loss(X, LABELS, reduction="max"),
        ValueError,
        "multi_margin_loss: reduction is not known: expected 'mean', 'sum' or 'none', got 'max'",
    ),
    "margin": (
        lambda: F.multi_margin_loss(X, LABELS, margin="1"),
        TypeError,
        "multi_margin_loss: margin has the wrong type: expected a number, got '1' (str)",
    ),
    "dy": (
        lambda: F.multi_margin_loss_backward(np.ones(2, np.float32), X, LABELS),
        ValueError,
        "multi_margin_loss_backward: dy has the wrong shape: expected () (the shape of the loss)",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REJECTED.values(), ids=REJECTED.keys())
def test_multi_margin_loss_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.torch
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("p", [1, 2])
def test_multi_margin_loss_matches_torch(torch, rng, p, reduction):
    x, target, weight = floats(rng, 9, 12), rng.integers(0, 12, 9), np.abs(floats(rng, 12))
    tx = torch.tensor(x, requires_grad=True)
    want = torch.nn.functional.multi_margin_loss(
        tx, torch.tensor(target), p, 0.5, torch.tensor(weight), reduction=reduction
    )
    want.sum().backward()
    loss, gradient = F.multi_margin_loss(x, target, p, 0.5, weight, reduction, return_gradient=True)
    np.testing.assert_allclose(loss, want.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(gradient, tx.grad.numpy(), rtol=1e-4, atol=1e-6)

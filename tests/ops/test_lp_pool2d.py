"""lp_pool2d: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import assert_same_bits_at_any_thread_count, floats, numeric_gradient
from pooling_cases import pooling_cases

EXPONENTS = [1, 2, 3, 4, 1.5, 2.5, 0.5]


def input_for(rng, p, shape):
    """Values that have a p-norm: of any sign for even numbers, else positive, and zeros."""
    x = floats(rng, *shape)
    if p != 1 and p % 2 != 0:
        x = np.abs(x)
    return np.where(rng.random(shape) < 0.2, 0, x).astype(np.float32)


@settings(max_examples=120, deadline=None)
@given(pooling_cases(forms=("valid",)), st.sampled_from(EXPONENTS))
def test_lp_pool2d_matches_reference(drawn, p):
    shape, arguments = drawn
    arguments = {k: v for k, v in arguments.items() if k not in ("padding", "dilation")}
    rng = np.random.default_rng(0)
    x = input_for(rng, p, shape)
    x64 = x.astype(np.float64)
    y = F.lp_pool2d(x, p, **arguments)
    want = reference.lp_pool2d(x64, p, **arguments)
    largest = reference.lp_pool2d(abs(x64), p, **arguments)
    assert y.dtype == np.float32
    assert y.shape == want.shape
    assert (abs(y - want) <= 1e-5 * largest).all()
    if p == 1:
        x64, x = abs(x64), abs(x)
        y = F.lp_pool2d(x, p, **arguments)
    dy = floats(rng, *y.shape)
    got = F.lp_pool2d_backward(dy, x, p, **arguments)
    if p < 1:  # the slope at zero is infinite
        assert np.isfinite(got[x > 0]).all()
        return
    want = reference.lp_pool2d_backward(dy.astype(np.float64), x64, p, **arguments)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
def test_reference_lp_pool2d_matches_finite_differences(p, rng):
    x = np.abs(rng.standard_normal((2, 2, 5, 6))) + 0.1
    dy = rng.standard_normal((2, 2, 2, 3))
    got = reference.lp_pool2d_backward(dy, x, p, 3, 2, True)
    assert got.shape == x.shape
    want = numeric_gradient(lambda v: reference.lp_pool2d(v, p, 3, 2, True), x, dy)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_lp_pool2d_between_the_sum_and_the_maximum(rng):
    x = np.abs(floats(rng, 2, 3, 8, 8))
    np.testing.assert_allclose(
        F.lp_pool2d(x, 1, 2), F.avg_pool2d(x, 2, divisor_override=1), rtol=1e-6
    )
    np.testing.assert_allclose(F.lp_pool2d(x, 60.0, 2), F.max_pool2d(x, 2), rtol=0.03)


def test_lp_pool2d_without_a_root_is_nan():
    x = np.full((1, 1, 2, 2), -1, np.float32)
    assert F.lp_pool2d(x, 1, 2).item() == -4
    assert F.lp_pool2d(x, 2, 2).item() == 2
    assert np.isnan(F.lp_pool2d(x, 3, 2))
    assert np.isnan(F.lp_pool2d(x, 2.5, 2))


def test_lp_pool2d_of_zeros_has_no_gradient():
    x, dy = np.zeros((1, 1, 4, 4), np.float32), np.ones((1, 1, 2, 2), np.float32)
    for p in EXPONENTS[1:]:
        assert (F.lp_pool2d(x, p, 2) == 0).all()
        assert (F.lp_pool2d_backward(dy, x, p, 2) == 0).all()


@pytest.mark.parametrize("p", [2, 2.5])
def test_lp_pool2d_is_the_same_bits_at_any_thread_count_and_in_both_orders(p, rng):
    x = input_for(rng, p, (7, 19, 33, 40))
    dy = floats(rng, 7, 19, 16, 19)
    for order in (np.asarray, F.channels_last):
        assert_same_bits_at_any_thread_count(lambda order=order: F.lp_pool2d(order(x), p, 3, 2))
        assert_same_bits_at_any_thread_count(
            lambda order=order: F.lp_pool2d_backward(order(dy), order(x), p, 3, 2)
        )
    last = F.channels_last(x)
    np.testing.assert_allclose(F.lp_pool2d(last, p, 3, 2), F.lp_pool2d(x, p, 3, 2), rtol=1e-5)
    want = F.lp_pool2d_backward(dy, x, p, 3, 2)
    np.testing.assert_allclose(F.lp_pool2d_backward(dy, last, p, 3, 2), want, rtol=1e-4, atol=1e-5)


def test_lp_pool2d_accepts_an_empty_batch():
    x = np.zeros((0, 3, 4, 4), np.float32)
    y = F.lp_pool2d(x, 2, 2)
    assert y.shape == (0, 3, 2, 2)
    assert F.lp_pool2d_backward(y, x, 2, 2).shape == x.shape


X = np.ones((1, 1, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: F.lp_pool2d(X, 0, 2),
            ValueError,
            "lp_pool2d: norm_type is out of range: expected a finite number above 0",
        ),
        (lambda: F.lp_pool2d(X, np.inf, 2), ValueError, "lp_pool2d: norm_type is out of range"),
        (lambda: F.lp_pool2d(X, "2", 2), TypeError, "lp_pool2d: norm_type has the wrong type"),
        (lambda: F.lp_pool2d(X, 2, 5), ValueError, "lp_pool2d: the window is larger than"),
        (
            lambda: F.lp_pool2d_backward(X, X, 2, 2),
            ValueError,
            "lp_pool2d_backward: dy has the wrong shape: expected (1, 1, 2, 2)",
        ),
    ],
)
def test_lp_pool2d_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.torch
@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
def test_lp_pool2d_matches_torch(torch, p, rng):
    x = np.abs(floats(rng, 2, 3, 9, 10)) + np.float32(0.1)
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.nn.functional.lp_pool2d(tx, p, (3, 2), 2)
    y = F.lp_pool2d(x, p, (3, 2), 2)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-5)
    dy = floats(rng, *y.shape)
    ty.backward(torch.tensor(dy))
    got = F.lp_pool2d_backward(dy, x, p, (3, 2), 2)
    np.testing.assert_allclose(got, tx.grad.numpy(), rtol=1e-4, atol=1e-5)

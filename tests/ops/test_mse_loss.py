"""mse_loss: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import assert_close, assert_same_bits_at_any_thread_count, floats, numeric_gradient

REDUCTIONS = ["mean", "sum", "none"]
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
shapes = st.lists(st.integers(0, 25), min_size=0, max_size=3)


def case(shape, reduction, seed=0):
    rng = np.random.default_rng(seed)
    dy = floats(rng, *shape) if reduction == "none" else np.float32(1.7)
    return dy, floats(rng, *shape), floats(rng, *shape)


@settings(max_examples=80, deadline=None)
@given(shapes, st.sampled_from(REDUCTIONS))
def test_mse_loss_forward_matches_reference(shape, reduction):
    _, x, target = case(shape, reduction)
    want = np.asarray(
        reference.mse_loss(x.astype(np.float64), target.astype(np.float64), reduction)
    )
    got = np.asarray(F.mse_loss(x, target, reduction))
    if reduction == "mean" and x.size == 0:
        assert np.isnan(got)
        assert np.isnan(want)
    else:  # every term is positive: the loss is its own magnitude
        assert_close(got, want, want, x.size if reduction != "none" else 1)


@settings(max_examples=80, deadline=None)
@given(shapes, st.sampled_from(REDUCTIONS))
def test_mse_loss_backward_matches_reference(shape, reduction):
    dy, x, target = case(shape, reduction)
    wants = reference.mse_loss_backward(
        *(np.asarray(a, np.float64) for a in (dy, x, target)), reduction
    )
    for got, want in zip(F.mse_loss_backward(dy, x, target, reduction), wants, strict=True):
        assert_close(got, want, want, 1)


@every_reduction
def test_reference_mse_loss_matches_finite_differences(reduction):
    dy, x, target = (np.asarray(a, np.float64) for a in case((3, 4), reduction))
    dx, dtarget = reference.mse_loss_backward(dy, x, target, reduction)
    np.testing.assert_allclose(
        dx, numeric_gradient(lambda v: reference.mse_loss(v, target, reduction), x, dy), atol=1e-8
    )
    np.testing.assert_allclose(
        dtarget,
        numeric_gradient(lambda v: reference.mse_loss(x, v, reduction), target, dy),
        atol=1e-8,
    )


@every_reduction
def test_mse_loss_is_the_same_bits_at_any_thread_count(reduction):
    dy, x, target = case((301, 1003), reduction)
    assert_same_bits_at_any_thread_count(lambda: F.mse_loss(x, target, reduction))
    assert_same_bits_at_any_thread_count(lambda: F.mse_loss_backward(dy, x, target, reduction))


@pytest.mark.parametrize("count", [4095, 4096, 4097, 8192, 20000])
def test_mse_loss_sums_every_shard(count):
    x = np.ones(count, np.float32)
    assert F.mse_loss(x, np.zeros_like(x), "sum") == count
    assert F.mse_loss(x, np.zeros_like(x)) == 1


def test_mse_loss_returns_a_float32_number_or_an_array():
    _, x, target = case((4,), "none")
    assert type(F.mse_loss(x, target)) is np.float32
    assert type(F.mse_loss(x, target, "sum")) is np.float32
    assert F.mse_loss(x, target, "none").shape == (4,)


@pytest.mark.parametrize("dy", [2, 2.0, np.float32(2), np.float64(2), np.array(2, np.float32)])
def test_mse_loss_backward_takes_any_number_as_dy(dy):
    _, x, target = case((4,), "mean")
    want = 2 * F.mse_loss_backward(1.0, x, target)[0]
    np.testing.assert_array_equal(F.mse_loss_backward(dy, x, target)[0], want)


def test_mse_loss_backward_leaves_out_what_is_not_needed():
    dy, x, target = case((4,), "mean")
    dx, dtarget = F.mse_loss_backward(dy, x, target)
    np.testing.assert_array_equal(dx, -dtarget)
    assert F.mse_loss_backward(dy, x, target, need_dx=False)[0] is None
    assert F.mse_loss_backward(dy, x, target, need_dtarget=False)[1] is None


@every_reduction
def test_mse_loss_accepts_strided_and_read_only_arrays(reduction):
    _, x, target = case((8, 5), reduction)
    want = F.mse_loss(x[::2].copy(), target[::2].copy(), reduction)
    x.flags.writeable = False
    np.testing.assert_array_equal(F.mse_loss(x[::2], target[::2], reduction), want)


def test_mse_loss_passes_nan_through():
    _, x, target = case((40,), "none")
    x[37] = np.nan
    assert np.isnan(F.mse_loss(x, target))
    assert np.flatnonzero(np.isnan(F.mse_loss(x, target, "none"))).tolist() == [37]
    assert np.flatnonzero(np.isnan(F.mse_loss_backward(1.0, x, target)[0])).tolist() == [37]


X = np.zeros((4, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        pytest.param(
            (X, X.T),
            ValueError,
            "target has the wrong shape: expected (4, 3) (the shape of x), got (3, 4)",
            id="shape",
        ),
        pytest.param(
            (X, X.astype(int)),
            TypeError,
            "target has the wrong dtype: expected float32, got int64",
            id="dtype",
        ),
        pytest.param(
            (X, X, "avg"),
            ValueError,
            "reduction is not known: expected 'mean', 'sum' or 'none', got 'avg'",
            id="reduction",
        ),
        pytest.param(
            (X, X, None),
            TypeError,
            "reduction has the wrong type: expected a str, got None (NoneType)",
            id="reduction_type",
        ),
    ],
)
def test_mse_loss_rejects(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"mse_loss: {message}")):
        F.mse_loss(*arguments)
    with pytest.raises(error, match=re.escape(f"mse_loss_backward: {message}")):
        F.mse_loss_backward(1.0, *arguments)


def test_mse_loss_backward_rejects_wrong_dy():
    message = (
        "mse_loss_backward: dy has the wrong shape: expected () (the shape of the loss), got (4, 3)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        F.mse_loss_backward(X, X, X)
    with pytest.raises(ValueError, match=re.escape("dy has the wrong shape: expected (4, 3)")):
        F.mse_loss_backward(1.0, X, X, "none")


@pytest.mark.torch
@every_reduction
@pytest.mark.parametrize("shape", [(4, 5), (), (0,)])
def test_mse_loss_matches_torch(torch, reduction, shape):
    dy, x, target = case(shape, reduction)
    tx, tt = (torch.tensor(a, requires_grad=True) for a in (x, target))
    tloss = torch.nn.functional.mse_loss(tx, tt, reduction=reduction)
    tloss.backward(torch.tensor(dy))
    np.testing.assert_allclose(F.mse_loss(x, target, reduction), tloss.detach().numpy(), rtol=1e-5)
    dx, dtarget = F.mse_loss_backward(dy, x, target, reduction)
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-5)
    np.testing.assert_allclose(dtarget, tt.grad.numpy(), rtol=1e-5)

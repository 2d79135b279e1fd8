"""group_norm and layer_norm: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import EPS32, assert_same_bits_at_any_thread_count, floats, numeric_gradient


def f64(array):
    return None if array is None else array.astype(np.float64)


def assert_near(got, want, scale, what=""):
    """Hold against the reference: the error of mean and variance reaches every value."""
    assert (got is None) == (want is None), what
    if got is not None:
        assert got.dtype == np.float32
        assert got.shape == want.shape
        error = np.abs(got - want).max(initial=0)
        assert error <= 100 * EPS32 * scale, f"{what}: {error:.3g}, scale {scale:.3g}"


def check(op, x, over, weight, bias, dy):
    forward, backward = getattr(F, op), getattr(F, f"{op}_backward")
    arguments = (over, weight, bias, 1e-5)
    exact = (over, f64(weight), f64(bias), 1e-5)
    want = getattr(reference, op)(f64(x), *exact)
    y, saved = forward(x, *arguments, return_saved=True)
    largest = np.abs(want).max(initial=1)
    assert_near(y, want, largest, "y")
    np.testing.assert_array_equal(forward(x, *arguments), y)
    wanted = getattr(reference, f"{op}_backward")(f64(dy), f64(x), *exact)
    grads = backward(dy, x, *arguments, saved=saved)
    # x may be nearly constant in a group: then 1 / standard deviation is large.
    steep = float(saved[1].max(initial=1))
    for got, exactly, what in zip(grads, wanted, ("dx", "dweight", "dbias"), strict=True):
        scale = np.abs(dy).sum() if what != "dx" else steep * 10
        assert_near(got, exactly, max(scale, 1) * largest, what)
    again = backward(dy, x, *arguments)
    for got, first in zip(again, grads, strict=True):
        np.testing.assert_array_equal(got, first)


@settings(max_examples=100, deadline=None)
@given(
    groups=st.integers(1, 5),
    per_group=st.integers(1, 4),
    rest=st.lists(st.integers(1, 20), max_size=2),
    n=st.integers(0, 4),
    affine=st.booleans(),
)
def test_group_norm_matches_reference(groups, per_group, rest, n, affine):
    rng = np.random.default_rng(0)
    c = groups * per_group
    x = floats(rng, n, c, *rest) + 3
    weight, bias = (floats(rng, c), floats(rng, c)) if affine else (None, None)
    check("group_norm", x, groups, weight, bias, floats(rng, *x.shape))


@settings(max_examples=100, deadline=None)
@given(
    outer=st.lists(st.integers(0, 9), max_size=2),
    inner=st.lists(st.integers(1, 40), min_size=1, max_size=2),
    affine=st.booleans(),
)
def test_layer_norm_matches_reference(outer, inner, affine):
    rng = np.random.default_rng(0)
    x = np.asarray(floats(rng, *outer, *inner) - 2, np.float32)
    weight, bias = (floats(rng, *inner), floats(rng, *inner)) if affine else (None, None)
    check("layer_norm", x, tuple(inner), weight, bias, floats(rng, *x.shape))


def test_layer_norm_of_long_rows_matches_reference(rng):
    x = floats(rng, 3, 9001) + 10
    weight, bias = floats(rng, 9001), floats(rng, 9001)
    check("layer_norm", x, 9001, weight, bias, floats(rng, 3, 9001))


@pytest.mark.parametrize("op", ["group_norm", "layer_norm"])
def test_reference_norm_matches_finite_differences(op, rng):
    x, dy = rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 4, 5))
    over, shape = (2, (4,)) if op == "group_norm" else ((4, 5), (4, 5))
    weight, bias = rng.standard_normal(shape), rng.standard_normal(shape)
    forward = getattr(reference, op)
    grads = getattr(reference, f"{op}_backward")(dy, x, over, weight, bias)
    functions = (
        (lambda v: forward(v, over, weight, bias), x),
        (lambda v: forward(x, over, v, bias), weight),
        (lambda v: forward(x, over, weight, v), bias),
    )
    for (f, at), got in zip(functions, grads, strict=True):
        np.testing.assert_allclose(got, numeric_gradient(f, at, dy), atol=1e-6)


def test_group_norm_between_one_group_and_one_channel_each(rng):
    x = floats(rng, 2, 6, 4, 5)
    whole = F.layer_norm(x, (6, 4, 5))
    np.testing.assert_allclose(F.group_norm(x, 1), whole, rtol=1e-5, atol=1e-6)
    each = F.layer_norm(x, (4, 5))
    np.testing.assert_allclose(F.group_norm(x, 6), each, rtol=1e-5, atol=1e-6)


def test_norms_do_not_lose_what_lies_far_from_zero(rng):
    x = (floats(rng, 4, 8, 10, 10) + 1000).astype(np.float32)
    want = reference.group_norm(x.astype(np.float64), 2)
    np.testing.assert_allclose(F.group_norm(x, 2), want, atol=2e-3)


@pytest.mark.parametrize("plane", [(1,), (28, 31)])
def test_norms_are_the_same_bits_at_any_thread_count(plane, rng):
    x, dy = floats(rng, 37, 24, *plane), floats(rng, 37, 24, *plane)
    weight, bias = floats(rng, 24), floats(rng, 24)
    assert_same_bits_at_any_thread_count(lambda: F.group_norm(x, 4, weight, bias))
    assert_same_bits_at_any_thread_count(lambda: F.group_norm_backward(dy, x, 4, weight, bias))
    rows, drows = floats(rng, 999, 200), floats(rng, 999, 200)
    weight, bias = floats(rng, 200), floats(rng, 200)
    assert_same_bits_at_any_thread_count(lambda: F.layer_norm(rows, 200, weight, bias))
    assert_same_bits_at_any_thread_count(
        lambda: F.layer_norm_backward(drows, rows, 200, weight, bias)
    )


def test_group_norm_takes_channels_last(rng):
    x, dy = floats(rng, 3, 12, 5, 6), floats(rng, 3, 12, 5, 6)
    np.testing.assert_array_equal(F.group_norm(F.channels_last(x), 3), F.group_norm(x, 3))
    got = F.group_norm_backward(F.channels_last(dy), F.channels_last(x), 3)[0]
    np.testing.assert_array_equal(got, F.group_norm_backward(dy, x, 3)[0])


def test_norms_leave_out_what_is_not_needed(rng):
    x, dy, weight = floats(rng, 3, 4, 6), floats(rng, 3, 4, 6), floats(rng, 4)
    want = F.group_norm_backward(dy, x, 2, weight, weight)
    names = ("need_dx", "need_dweight", "need_dbias")
    for left_out in range(3):
        needs = {name: i != left_out for i, name in enumerate(names)}
        got = F.group_norm_backward(dy, x, 2, weight, weight, **needs)
        assert [g is None for g in got] == [i == left_out for i in range(3)]
        for g, w in zip(got, want, strict=True):
            if g is not None:
                np.testing.assert_array_equal(g, w)


X = np.zeros((2, 6, 4), np.float32)
REJECTED = {
    "groups": (
        lambda: F.group_norm(X, 4),
        "group_norm: the channels of x cannot be divided into groups: expected a multiple of "
        "num_groups = 4, got 6",
    ),
    "no groups": (
        lambda: F.group_norm(X, 0),
        "group_norm: num_groups is out of range: expected at least 1, got 0",
    ),
    "rank": (
        lambda: F.group_norm(X[0, 0], 1),
        "group_norm: x has the wrong number of dimensions: expected at least 2 (N, C, ...), got 1",
    ),
    "weight": (
        lambda: F.group_norm(X, 2, np.ones(5, np.float32)),
        "group_norm: weight has the wrong shape: expected (6,) (one value per normalized element), "
        "got (5,)",
    ),
    "eps": (
        lambda: F.group_norm(X, 2, eps=-1.0),
        "group_norm: eps is out of range: expected a number of at least 0",
    ),
    "normalized_shape": (
        lambda: F.layer_norm(X, (6, 5)),
        "layer_norm: x has the wrong shape: expected (..., 6, 5) (its end is normalized_shape), "
        "got (2, 6, 4)",
    ),
    "nothing": (
        lambda: F.layer_norm(X, ()),
        "layer_norm: normalized_shape is empty: expected at least one size, got ()",
    ),
    "bias": (
        lambda: F.layer_norm(X, 4, bias=np.ones(5, np.float32)),
        "layer_norm: bias has the wrong shape: expected (4,) (one value per normalized element)",
    ),
    "dy": (
        lambda: F.layer_norm_backward(X[0], X, 4),
        "layer_norm_backward: dy has the wrong shape: expected (2, 6, 4) (the shape of x)",
    ),
    "bias backward": (
        lambda: F.group_norm_backward(X, X, 2, None, np.ones(5, np.float32)),
        "group_norm_backward: bias has the wrong shape: expected (6,) (one value per normalized "
        "element), got (5,)",
    ),
    "saved": (
        lambda: F.group_norm_backward(X, X, 2, saved=(np.zeros((2, 3), np.float32),) * 2),
        "group_norm_backward: saved mean has the wrong shape: expected (2, 2)",
    ),
}


@pytest.mark.parametrize(("call", "message"), REJECTED.values(), ids=REJECTED.keys())
def test_norms_reject(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.torch
@pytest.mark.parametrize("op", ["group_norm", "layer_norm"])
def test_norms_match_torch(torch, op, rng):
    x, dy = floats(rng, 4, 6, 5, 7), floats(rng, 4, 6, 5, 7)
    over, shape = (3, (6,)) if op == "group_norm" else ((5, 7), (5, 7))
    weight, bias = floats(rng, *shape), floats(rng, *shape)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    ty = getattr(torch.nn.functional, op)(tensors[0], over, *tensors[1:])
    ty.backward(torch.tensor(dy))
    y = getattr(F, op)(x, over, weight, bias)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-4, atol=1e-5)
    grads = getattr(F, f"{op}_backward")(dy, x, over, weight, bias)
    for got, tensor in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-3, atol=1e-4)

"""adaptive_max_pool2d: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import assert_same_bits_at_any_thread_count, floats, numeric_gradient

sizes = st.one_of(st.none(), st.integers(1, 12))


@settings(max_examples=120, deadline=None)
@given(
    st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)),
    sizes,
    sizes,
)
def test_adaptive_max_pool2d_matches_reference(shape, h_out, w_out):
    rng = np.random.default_rng(0)
    x = np.round(4 * floats(rng, *shape)).astype(np.float32)  # with equal values
    size = (h_out, w_out)
    y, indices = F.adaptive_max_pool2d(x, size, True)
    want, want_indices = reference.adaptive_max_pool2d(x.astype(np.float64), size, True)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(indices, want_indices)
    np.testing.assert_array_equal(F.adaptive_max_pool2d(x, size), y)
    dy = floats(rng, *y.shape)
    want = reference.adaptive_max_pool2d_backward(dy.astype(np.float64), x, size)
    got = F.adaptive_max_pool2d_backward(dy, x, size)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    saved = F.adaptive_max_pool2d_backward(dy, x, size, indices=indices)
    np.testing.assert_array_equal(saved, got)


def test_reference_adaptive_max_pool2d_matches_finite_differences(rng):
    x, dy = rng.standard_normal((2, 2, 5, 7)), rng.standard_normal((2, 2, 3, 2))
    got = reference.adaptive_max_pool2d_backward(dy, x, (3, 2))
    want = numeric_gradient(lambda v: reference.adaptive_max_pool2d(v, (3, 2)), x, dy)
    np.testing.assert_allclose(got, want, atol=1e-8)


@pytest.mark.parametrize("size", [1, 3, (2, 4)])
def test_adaptive_max_pool2d_takes_both_orders_of_memory(size, rng):
    x = floats(rng, 3, 19, 8, 9)
    last = F.channels_last(x)
    y, indices = F.adaptive_max_pool2d(x, size, True)
    last_y, last_indices = F.adaptive_max_pool2d(last, size, True)
    np.testing.assert_array_equal(last_y, y)
    np.testing.assert_array_equal(last_indices, indices)
    dy = floats(rng, *y.shape)
    want = F.adaptive_max_pool2d_backward(dy, x, size)
    got = F.adaptive_max_pool2d_backward(F.channels_last(dy), last, size, indices=last_indices)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_adaptive_max_pool2d_is_the_same_bits_at_any_thread_count(rng):
    x = floats(rng, 9, 20, 31, 33)
    for size in (1, 7):
        dy = floats(rng, 9, 20, size, size)
        assert_same_bits_at_any_thread_count(lambda size=size: F.adaptive_max_pool2d(x, size, True))
        assert_same_bits_at_any_thread_count(
            lambda size=size, dy=dy: F.adaptive_max_pool2d_backward(dy, x, size)
        )


@pytest.mark.parametrize("size", [1, (2, 3)])
def test_adaptive_max_pool2d_treats_nan_as_the_largest(size):
    x = np.zeros((1, 1, 5, 5), np.float32)
    x[0, 0, 0, :2] = np.nan
    y, indices = F.adaptive_max_pool2d(x, size, True)
    assert np.isnan(y[0, 0, 0, 0])
    assert indices[0, 0, 0, 0] == 1


X = np.zeros((1, 1, 5, 5), np.float32)
REJECTED = {
    "rank": (
        lambda: F.adaptive_max_pool2d(X[0], 1),
        "adaptive_max_pool2d: x has the wrong number of dimensions: expected 4 (N, C, H, W), got 3",
    ),
    "empty image": (
        lambda: F.adaptive_max_pool2d(X[:, :, :0], 1),
        "adaptive_max_pool2d: the input size along H is out of range: expected at least 1, got 0",
    ),
    "size": (
        lambda: F.adaptive_max_pool2d(X, -1),
        "adaptive_max_pool2d: output_size along H is out of range: expected at least 0, got -1",
    ),
    "dy": (
        lambda: F.adaptive_max_pool2d_backward(X, X, 2),
        "adaptive_max_pool2d_backward: dy has the wrong shape: expected (1, 1, 2, 2)",
    ),
    "foreign index": (
        lambda: F.adaptive_max_pool2d_backward(
            np.zeros((1, 1, 2, 2), np.float32), X, 2, indices=np.full((1, 1, 2, 2), 25)
        ),
        "adaptive_max_pool2d_backward: indices do not belong to these windows",
    ),
}


@pytest.mark.parametrize(("call", "message"), REJECTED.values(), ids=REJECTED.keys())
@pytest.mark.cpu_only("values are not read back from the GPU to be checked", ids=("foreign index",))
def test_adaptive_max_pool2d_rejects(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.torch
@pytest.mark.parametrize("size", [1, 3, (None, 4), (7, 9)])
def test_adaptive_max_pool2d_matches_torch(torch, size, rng):
    x = floats(rng, 2, 3, 8, 9)
    tx = torch.tensor(x, requires_grad=True)
    ty, want = torch.nn.functional.adaptive_max_pool2d(tx, size, return_indices=True)
    y, indices = F.adaptive_max_pool2d(x, size, True)
    np.testing.assert_array_equal(y, ty.detach().numpy())
    np.testing.assert_array_equal(indices, want.numpy())
    dy = floats(rng, *y.shape)
    ty.backward(torch.tensor(dy))
    got = F.adaptive_max_pool2d_backward(dy, x, size)
    np.testing.assert_allclose(got, tx.grad.numpy(), rtol=1e-5, atol=1e-5)

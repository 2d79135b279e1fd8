"""adaptive_avg_pool2d: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import (
    assert_adjoint,
    assert_close,
    assert_same_bits_at_any_thread_count,
    floats,
    numeric_gradient,
)

shapes = st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40))
sizes = st.none() | st.integers(1, 9)


def check_against_reference(shape, size):
    rng = np.random.default_rng(0)
    x = floats(rng, *shape)
    x64 = x.astype(np.float64)
    y = F.adaptive_avg_pool2d(x, size)
    want, magnitude = (reference.adaptive_avg_pool2d(a, size) for a in (x64, abs(x64)))
    assert_close(y, want, magnitude, shape[2] * shape[3], "y")
    dy = floats(rng, *y.shape)
    want, magnitude = (
        reference.adaptive_avg_pool2d_backward(a.astype(np.float64), x64, size)
        for a in (dy, abs(dy))
    )
    assert_close(F.adaptive_avg_pool2d_backward(dy, x, size), want, magnitude, 81, "dx")


@settings(max_examples=60, deadline=None)
@given(shapes, st.tuples(sizes, sizes))
def test_adaptive_avg_pool2d_matches_reference(shape, size):
    check_against_reference(shape, size)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 12, 24, 48, None, (1, None), [2, 24]])
def test_adaptive_avg_pool2d_of_dividing_sizes_matches_reference(size):
    check_against_reference((2, 3, 24, 48), size)


@pytest.mark.parametrize("size", [1, 2, (3, 5), (9, None)])
def test_reference_adaptive_avg_pool2d_matches_finite_differences(rng, size):
    x = rng.standard_normal((2, 2, 6, 7))
    dy = rng.standard_normal(reference.adaptive_avg_pool2d(x, size).shape)
    dx = reference.adaptive_avg_pool2d_backward(dy, x, size)
    numeric = numeric_gradient(lambda v: reference.adaptive_avg_pool2d(v, size), x, dy)
    np.testing.assert_allclose(dx, numeric, atol=1e-8)


@pytest.mark.parametrize("size", [1, 7, (5, 90)])
def test_adaptive_avg_pool2d_backward_is_adjoint(rng, size):
    x = floats(rng, 4, 5, 44, 37)
    y = F.adaptive_avg_pool2d(x, size)
    dy = floats(rng, *y.shape)
    assert_adjoint(y, dy, F.adaptive_avg_pool2d_backward(dy, x, size), x)


def test_adaptive_avg_pool2d_is_the_same_bits_at_any_thread_count(rng):
    x = floats(rng, 7, 11, 42, 43)
    for size in (1, 7, 6):
        dy = floats(rng, 7, 11, size, size)
        assert_same_bits_at_any_thread_count(lambda s=size: F.adaptive_avg_pool2d(x, s))
        assert_same_bits_at_any_thread_count(
            lambda s=size, dy=dy: F.adaptive_avg_pool2d_backward(dy, x, s)
        )


def test_adaptive_avg_pool2d_accepts_strided_and_read_only_arrays(rng):
    x = floats(rng, 2, 3, 6, 16)[..., ::2]  # the channels-last order has a test of its own
    x.flags.writeable = False
    want = F.adaptive_avg_pool2d(np.ascontiguousarray(x), 3)
    np.testing.assert_array_equal(F.adaptive_avg_pool2d(x, 3), want)


def test_adaptive_avg_pool2d_passes_nan_through():
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 2] = np.nan
    assert np.isnan(F.adaptive_avg_pool2d(x, 2))[0, 0].tolist() == [[False, True], [False, False]]


def test_adaptive_avg_pool2d_to_size_0_is_empty():
    x = np.ones((2, 3, 4, 5), np.float32)
    y = F.adaptive_avg_pool2d(x, (0, 2))
    assert y.shape == (2, 3, 0, 2)
    np.testing.assert_array_equal(F.adaptive_avg_pool2d_backward(y, x, (0, 2)), np.zeros_like(x))


X = np.zeros((2, 3, 8, 9), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(
            lambda: F.adaptive_avg_pool2d(X[0], 2),
            ValueError,
            "adaptive_avg_pool2d: x has the wrong number of dimensions: expected 4 (N, C, H, W), "
            "got 3 (x has shape (3, 8, 9))",
            id="rank",
        ),
        pytest.param(
            lambda: F.adaptive_avg_pool2d(X.astype(np.float64), 2),
            TypeError,
            "adaptive_avg_pool2d: x has the wrong dtype: expected float32, got float64",
            id="dtype",
        ),
        pytest.param(
            lambda: F.adaptive_avg_pool2d(X[:, :, :0], 2),
            ValueError,
            "adaptive_avg_pool2d: the input size along H is out of range: "
            "expected at least 1, got 0",
            id="empty-image",
        ),
        pytest.param(
            lambda: F.adaptive_avg_pool2d(X, (None, -1)),
            ValueError,
            "adaptive_avg_pool2d: output_size along W is out of range: expected at least 0, got -1",
            id="negative",
        ),
        pytest.param(
            lambda: F.adaptive_avg_pool2d(X, 2**40),
            ValueError,
            "adaptive_avg_pool2d: output_size along H is out of range: expected at most 2147483647",
            id="huge",
        ),
        pytest.param(
            lambda: F.adaptive_avg_pool2d(X, 2**31 - 1),
            ValueError,
            "adaptive_avg_pool2d: y is too large: expected at most 2^59 elements",
            id="too-many-pixels",
        ),
        pytest.param(
            lambda: F.adaptive_avg_pool2d(X, 1.5),
            TypeError,
            "adaptive_avg_pool2d: output_size has the wrong type: expected an int, got 1.5 (float)",
            id="type",
        ),
        pytest.param(
            lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)),
            ValueError,
            "adaptive_avg_pool2d: output_size has the wrong length: "
            "expected an int or 2 entries (ints or None), got (1, 2, 3)",
            id="length",
        ),
        pytest.param(
            lambda: F.adaptive_avg_pool2d_backward(X, X, 2),
            ValueError,
            "adaptive_avg_pool2d_backward: dy has the wrong shape: "
            "expected (2, 3, 2, 2) (the shape of the output), got (2, 3, 8, 9)",
            id="dy",
        ),
        pytest.param(
            lambda: F.adaptive_avg_pool2d_backward(X, None, 2),
            TypeError,
            "adaptive_avg_pool2d: x is not an array: "
            "expected a numpy.ndarray of float32, got NoneType",
            id="x-of-backward",
        ),
    ],
)
def test_adaptive_avg_pool2d_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.torch
@pytest.mark.parametrize("size", [1, 3, 7, 20, None, (None, 4), (5, 2)])
def test_adaptive_avg_pool2d_matches_torch(torch, rng, size):
    for shape in ((2, 3, 8, 9), (2, 2, 20, 7), (0, 3, 5, 5)):
        x = floats(rng, *shape)
        tx = torch.tensor(x, requires_grad=True)
        ty = torch.nn.functional.adaptive_avg_pool2d(tx, size if size is not None else (None, None))
        y = F.adaptive_avg_pool2d(x, size)
        np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-5, atol=1e-6)
        if shape[0] == 0:
            continue
        dy = floats(rng, *y.shape)
        ty.backward(torch.tensor(dy))
        got = F.adaptive_avg_pool2d_backward(dy, x, size)
        np.testing.assert_allclose(got, tx.grad.numpy(), rtol=1e-5, atol=1e-6)

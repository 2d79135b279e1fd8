"""linear: forward and backward."""

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

sizes = st.one_of(
    st.tuples(st.integers(0, 40), st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(0, 300), st.integers(1, 300), st.integers(1, 300)),  # several blocks
)


def case(n, i, o, seed=0):
    rng = np.random.default_rng(seed)
    return floats(rng, n, i), floats(rng, o, i), floats(rng, o), floats(rng, n, o)


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_linear_forward_matches_reference(size):
    x, w, b, _ = case(*size)
    x64, w64, b64 = (a.astype(np.float64) for a in (x, w, b))
    want = reference.linear(x64, w64, b64)
    magnitude = reference.linear(abs(x64), abs(w64), abs(b64))
    assert_close(F.linear(x, w, b), want, magnitude, size[1] + 1)
    assert_close(F.linear(x, w), want - b64, magnitude, size[1])


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_linear_backward_matches_reference(size):
    n, _, o = size
    x, w, b, dy = case(*size)
    grads = F.linear_backward(dy, x, w, b)
    wide = [a.astype(np.float64) for a in (dy, x, w, b)]
    wants = reference.linear_backward(*wide)
    magnitudes = reference.linear_backward(*(abs(a) for a in wide))
    for name, got, want, magnitude, terms in zip(
        ("dx", "dw", "db"), grads, wants, magnitudes, (o, n, n), strict=True
    ):
        assert_close(got, want, magnitude, terms, name)


def test_reference_linear_matches_finite_differences(rng):
    x, w, b, dy = (a.astype(np.float64) for a in case(3, 4, 5))
    dx, dw, db = reference.linear_backward(dy, x, w, b)
    np.testing.assert_allclose(
        dx, numeric_gradient(lambda v: reference.linear(v, w, b), x, dy), atol=1e-8
    )
    np.testing.assert_allclose(
        dw, numeric_gradient(lambda v: reference.linear(x, v, b), w, dy), atol=1e-8
    )
    np.testing.assert_allclose(
        db, numeric_gradient(lambda v: reference.linear(x, w, v), b, dy), atol=1e-8
    )


def test_linear_backward_is_adjoint():
    x, w, _, dy = case(300, 500, 200)
    dx, dw, _ = F.linear_backward(dy, x, w)
    y = F.linear(x, w)
    assert_adjoint(y, dy, dx, x)
    assert_adjoint(y, dy, dw, w)


def test_linear_is_the_same_bits_at_any_thread_count():
    x, w, b, dy = case(130, 300, 200)
    assert_same_bits_at_any_thread_count(lambda: F.linear(x, w, b))
    assert_same_bits_at_any_thread_count(lambda: F.linear_backward(dy, x, w, b))


def test_linear_takes_any_number_of_leading_dimensions(rng):
    x, w = floats(rng, 2, 3, 5), floats(rng, 4, 5)
    y = F.linear(x, w)
    assert y.shape == (2, 3, 4)
    np.testing.assert_array_equal(y.reshape(6, 4), F.linear(x.reshape(6, 5), w))
    assert F.linear(x[0, 0], w).shape == (4,)


def test_linear_accepts_strided_and_read_only_arrays(rng):
    x, w = floats(rng, 6, 10), floats(rng, 10, 4)
    want = F.linear(np.ascontiguousarray(x[::2]), np.ascontiguousarray(w.T))
    x.flags.writeable = False
    np.testing.assert_array_equal(F.linear(x[::2], w.T), want)


def test_linear_backward_leaves_out_what_is_not_needed(rng):
    x, w, b, dy = case(2, 3, 4)
    assert F.linear_backward(dy, x, w)[2] is None
    assert F.linear_backward(dy, x, w, b, need_dx=False, need_dw=False)[:2] == (None, None)


def test_linear_passes_nan_through(rng):
    x, w, b, _ = case(4, 5, 6)
    x[1, 2] = np.nan
    assert np.isnan(F.linear(x, w, b)).all(axis=1).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        pytest.param(
            lambda: (np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32)),
            ValueError,
            "linear: x has the wrong number of features: expected 5 (w has shape (4, 5)), "
            "got 3 (x has shape (2, 3))",
            id="features",
        ),
        pytest.param(
            lambda: (np.zeros((2, 3), np.float32), np.zeros(3, np.float32)),
            ValueError,
            "linear: w has the wrong number of dimensions: expected 2 (out_features, in_features), "
            "got 1 (w has shape (3,))",
            id="rank",
        ),
        pytest.param(
            lambda: (np.zeros((2, 3)), np.zeros((4, 3), np.float32)),
            TypeError,
            "linear: x has the wrong dtype: expected float32, got float64",
            id="dtype",
        ),
        pytest.param(
            lambda: ([[1.0]], np.zeros((4, 3), np.float32)),
            TypeError,
            "linear: x is not an array: expected a numpy.ndarray of float32, got list",
            id="list",
        ),
        pytest.param(
            lambda: (
                np.zeros((2, 3), np.float32),
                np.zeros((4, 3), np.float32),
                np.zeros(3, np.float32),
            ),
            ValueError,
            "linear: b has the wrong shape: expected (4,) (one value per output feature), got (3,)",
            id="bias",
        ),
    ],
)
def test_linear_rejects(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        F.linear(*arguments())


def test_linear_backward_rejects_a_wrong_bias(rng):
    dy, x, w = floats(rng, 2, 4), floats(rng, 2, 3), floats(rng, 4, 3)
    message = "linear_backward: b has the wrong shape: expected (4,) (one value per output of w), got (3,)"
    with pytest.raises(ValueError, match=re.escape(message)):
        F.linear_backward(dy, x, w, floats(rng, 3))
    message = "linear_backward: b is not an array: expected a numpy.ndarray of float32, got bool"
    with pytest.raises(TypeError, match=re.escape(message)):
        F.linear_backward(dy, x, w, True)


def test_linear_backward_rejects_wrong_dy(rng):
    x, w, _, _ = case(2, 3, 4)
    with pytest.raises(
        ValueError, match=re.escape("linear_backward: dy has the wrong shape: expected (2, 4)")
    ):
        F.linear_backward(x, x, w)


@pytest.mark.torch
def test_linear_matches_torch(torch):
    x, w, b, dy = case(5, 7, 3)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    ty = torch.nn.functional.linear(tx, tw, tb)
    ty.backward(torch.tensor(dy))
    np.testing.assert_allclose(F.linear(x, w, b), ty.detach().numpy(), rtol=1e-5, atol=1e-6)
    for got, want in zip(F.linear_backward(dy, x, w, b), (tx, tw, tb), strict=True):
        np.testing.assert_allclose(got, want.grad.numpy(), rtol=1e-5, atol=1e-6)

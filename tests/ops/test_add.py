"""add: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import assert_adjoint, assert_same_bits_at_any_thread_count, floats, numeric_gradient


def case(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return floats(rng, *shape), floats(rng, *shape), floats(rng, *shape)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 25), min_size=0, max_size=4))
def test_add_is_exact(shape):
    a, b, _ = case(*shape)
    y = F.add(a, b)
    assert y.dtype == np.float32
    assert y.shape == a.shape
    np.testing.assert_array_equal(y, reference.add(a, b))


@pytest.mark.cpu_only("its arrays are copies of those of the test")
def test_add_backward_gives_dy_without_a_copy():
    a, b, dy = case(3, 5)
    da, db = F.add_backward(dy, a, b)
    assert da is dy
    assert db is dy


def test_reference_add_matches_finite_differences():
    a, b, dy = (v.astype(np.float64) for v in case(2, 3))
    da, db = reference.add_backward(dy, a, b)
    np.testing.assert_allclose(
        da, numeric_gradient(lambda v: reference.add(v, b), a, dy), atol=1e-8
    )
    np.testing.assert_allclose(
        db, numeric_gradient(lambda v: reference.add(a, v), b, dy), atol=1e-8
    )


def test_add_backward_is_adjoint():
    a, b, dy = case(30, 50)
    da, _ = F.add_backward(dy, a, b)
    assert_adjoint(F.add(a, np.zeros_like(b)), dy, da, a)


def test_add_is_the_same_bits_at_any_thread_count():
    a, b, _ = case(301, 1003)
    assert_same_bits_at_any_thread_count(lambda: F.add(a, b))


def test_add_accepts_strided_and_read_only_arrays():
    a, b, dy = case(6, 10)
    a.flags.writeable = False
    np.testing.assert_array_equal(F.add(a.T, b.T), (a + b).T)
    da, db = F.add_backward(dy.T, a.T, b.T)
    np.testing.assert_array_equal(da, dy.T)
    np.testing.assert_array_equal(db, dy.T)


def test_add_passes_nan_through():
    a, b, _ = case(40)
    a[3], b[39] = np.nan, np.nan
    assert np.flatnonzero(np.isnan(F.add(a, b))).tolist() == [3, 39]


def test_add_rejects():
    a = np.zeros((2, 3), np.float32)
    with pytest.raises(
        ValueError,
        match=re.escape("add: b has the wrong shape: expected (2, 3) (the shape of a), got (3,)"),
    ):
        F.add(a, a[0])
    with pytest.raises(
        TypeError, match="add: b has the wrong dtype: expected float32, got float64"
    ):
        F.add(a, a.astype(np.float64))
    with pytest.raises(
        TypeError, match=r"add: a is not an array: expected a numpy.ndarray of float32, got float"
    ):
        F.add(1.0, a)


def test_add_backward_rejects():
    a = np.zeros((2, 3), np.float32)
    with pytest.raises(
        ValueError,
        match=re.escape(
            "add_backward: dy has the wrong shape: "
            "expected (2, 3) (the shape of the output), got (3, 2)"
        ),
    ):
        F.add_backward(a.T, a, a)
    with pytest.raises(
        ValueError, match=re.escape("add_backward: b has the wrong shape: expected (2, 3)")
    ):
        F.add_backward(a, a, a.T)


@pytest.mark.torch
def test_add_matches_torch(torch):
    a, b, _ = case(5, 7)
    np.testing.assert_array_equal(F.add(a, b), (torch.tensor(a) + torch.tensor(b)).numpy())

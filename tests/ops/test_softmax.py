"""softmax and log_softmax: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import assert_close, assert_same_bits_at_any_thread_count, floats, numeric_gradient

NAMES = ["softmax", "log_softmax"]
every_op = pytest.mark.parametrize("name", NAMES)


@st.composite
def shapes_and_dims(draw):
    shape = draw(st.lists(st.integers(0, 40), min_size=1, max_size=3))
    return shape, draw(st.integers(-len(shape), len(shape) - 1))


def forward(name):
    return getattr(F, name)


def backward(name):
    return getattr(F, f"{name}_backward")


def case(shape, seed=0):
    rng = np.random.default_rng(seed)
    return (4 * floats(rng, *shape)).astype(np.float32), floats(rng, *shape)


def spread(x, dim):
    """Return 1 + |x - max|: exp of that rounded difference has so many eps of relative error."""
    return 1 + np.abs(x - x.max(axis=dim, keepdims=True, initial=-np.inf)).astype(np.float64)


@every_op
@settings(max_examples=80, deadline=None)
@given(case_of=shapes_and_dims())
def test_softmax_forward_matches_reference(name, case_of):
    shape, dim = case_of
    x, _ = case(shape)
    want = getattr(reference, name)(x.astype(np.float64), dim)
    # The logarithm of the sum, at most 1 + log C, rounds like the difference that it is taken from.
    magnitude = spread(x, dim) * (want if name == "softmax" else 1) + (
        name == "log_softmax"
    ) * np.abs(want)
    assert_close(forward(name)(x, dim), want, magnitude, shape[dim], name)


@every_op
@settings(max_examples=80, deadline=None)
@given(case_of=shapes_and_dims())
def test_softmax_backward_matches_reference(name, case_of):
    shape, dim = case_of
    x, dy = case(shape)
    wide, dy64 = x.astype(np.float64), dy.astype(np.float64)
    want = getattr(reference, f"{name}_backward")(dy64, wide, dim)
    y, a = reference.softmax(wide, dim), np.abs(dy64)
    worst = spread(x, dim).max(axis=dim, keepdims=True, initial=1)
    if name == "softmax":
        magnitude = worst * y * (a + (a * y).sum(axis=dim, keepdims=True))
    else:
        magnitude = a + (worst + np.abs(np.log(y))) * y * a.sum(axis=dim, keepdims=True)
    assert_close(backward(name)(dy, x, dim), want, magnitude, shape[dim], name)


@every_op
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_reference_softmax_matches_finite_differences(name, dim):
    x, dy = (a.astype(np.float64) for a in case((3, 4, 2)))
    got = getattr(reference, f"{name}_backward")(dy, x, dim)
    want = numeric_gradient(lambda v: getattr(reference, name)(v, dim), x, dy)
    np.testing.assert_allclose(got, want, atol=1e-7)


def test_softmax_does_not_overflow():
    x = np.array([[1e38, -1e38, 0], [-1e38, -1e38, -1e38], [1000, 999, -np.inf]], np.float32)
    want = reference.softmax(x.astype(np.float64))
    np.testing.assert_allclose(F.softmax(x), want, rtol=1e-6)
    np.testing.assert_allclose(F.softmax(x.T, 0), want.T, rtol=1e-6)
    np.testing.assert_allclose(
        F.log_softmax(x), reference.log_softmax(x.astype(np.float64)), rtol=1e-6
    )


def test_softmax_is_one_for_a_single_element():
    assert F.softmax(np.array(3.0, np.float32)) == 1
    assert F.softmax(np.zeros((2, 1), np.float32)).tolist() == [[1], [1]]


@every_op
@pytest.mark.parametrize("shape_dim", [((3000, 33), 1), ((33, 3000), 0), ((5, 11, 700), 1)])
def test_softmax_is_the_same_bits_at_any_thread_count(name, shape_dim):
    shape, dim = shape_dim
    x, dy = case(shape)
    assert_same_bits_at_any_thread_count(lambda: forward(name)(x, dim))
    assert_same_bits_at_any_thread_count(lambda: backward(name)(dy, x, dim))


@every_op
def test_softmax_bits_do_not_depend_on_the_position(name):
    x, dy = case((21, 37))
    y, dx = forward(name)(x, 0), backward(name)(dy, x, 0)
    for j in range(0, 36):
        assert forward(name)(x[:, j:], 0).tobytes() == y[:, j:].tobytes()
        assert backward(name)(dy[:, j:], x[:, j:], 0).tobytes() == dx[:, j:].tobytes()
    rows = forward(name)(x, 1)
    assert all(forward(name)(x[i]).tobytes() == rows[i].tobytes() for i in range(21))


@every_op
def test_softmax_backward_from_the_saved_output_is_the_same_bits(name):
    x, dy = case((5, 33))
    for dim in (0, 1):
        y = forward(name)(x, dim)
        want = backward(name)(dy, x, dim).tobytes()
        assert backward(name)(dy, x, dim, saved=y).tobytes() == want
        assert backward(name)(dy, None, dim, saved=y).tobytes() == want


@every_op
def test_softmax_accepts_strided_and_read_only_arrays(name):
    x, dy = case((6, 10))
    want = forward(name)(x.T.copy()), backward(name)(dy.T.copy(), x.T.copy())
    x.flags.writeable = False
    np.testing.assert_array_equal(forward(name)(x.T), want[0])
    np.testing.assert_array_equal(backward(name)(dy.T, x.T), want[1])


@every_op
@pytest.mark.parametrize("dim", [0, 1])
def test_softmax_passes_nan_through_its_row(name, dim):
    x, _ = case((20, 20))
    x[3, 17] = np.nan
    x[5] = -np.inf if dim == 1 else x[5]
    bad = np.isnan(forward(name)(x, dim)).all(axis=dim)
    assert np.flatnonzero(bad).tolist() == ([3, 5] if dim == 1 else [17])
    assert not np.isnan(np.delete(forward(name)(x, dim), np.flatnonzero(bad), 1 - dim)).any()


@every_op
@pytest.mark.parametrize("dim", [2, -3])
def test_softmax_rejects_dim_out_of_range(name, dim):
    x = np.zeros((2, 3), np.float32)
    message = f"dim is out of range: expected -2 to 1 (x has shape (2, 3)), got {dim}"
    with pytest.raises(ValueError, match=re.escape(f"{name}: {message}")):
        forward(name)(x, dim)
    with pytest.raises(ValueError, match=re.escape(f"{name}_backward: {message}")):
        backward(name)(x, x, dim)


@every_op
def test_softmax_rejects_wrong_types(name):
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(
        TypeError, match=f"{name}: x has the wrong dtype: expected float32, got int64"
    ):
        forward(name)(np.zeros(3, np.int64))
    with pytest.raises(
        TypeError, match=f"{name}: dim has the wrong type: expected an int, got 1.5"
    ):
        forward(name)(x, 1.5)
    with pytest.raises(TypeError, match=f"{name}_backward: x is not an array: .* got NoneType"):
        backward(name)(x, None)


@every_op
def test_softmax_backward_rejects_wrong_shapes(name):
    x, other = np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)
    message = "has the wrong shape: expected (2, 3) (the shape of the output), got (3, 2)"
    with pytest.raises(ValueError, match=re.escape(f"{name}_backward: dy {message}")):
        backward(name)(other, x)
    with pytest.raises(ValueError, match=re.escape(f"{name}_backward: saved {message}")):
        backward(name)(x, x, saved=other)


@pytest.mark.torch
@every_op
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_softmax_matches_torch(name, dim, torch):
    x, dy = case((4, 5, 6))
    tx = torch.tensor(x, requires_grad=True)
    ty = getattr(torch, name)(tx, dim)
    ty.backward(torch.tensor(dy))
    np.testing.assert_allclose(forward(name)(x, dim), ty.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(backward(name)(dy, x, dim), tx.grad.numpy(), rtol=1e-5, atol=1e-6)

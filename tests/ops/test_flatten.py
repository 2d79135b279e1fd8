"""flatten: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import floats


@st.composite
def shapes_and_dims(draw):
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=5))
    first = draw(st.integers(0, len(shape) - 1))
    last = draw(st.integers(first, len(shape) - 1))
    signs = draw(st.tuples(st.booleans(), st.booleans()))
    return shape, *(d - len(shape) if s else d for d, s in zip((first, last), signs, strict=True))


@given(shapes_and_dims())
@pytest.mark.cpu_only("its arrays are copies of those of the test")
def test_flatten_matches_reference(case):
    shape, start_dim, end_dim = case
    x = floats(np.random.default_rng(0), *shape)
    y = F.flatten(x, start_dim, end_dim)
    want = reference.flatten(x.astype(np.float64), start_dim, end_dim)
    assert y.shape == want.shape
    np.testing.assert_array_equal(y, want)
    assert np.shares_memory(x, y) or x.size == 0
    dx = F.flatten_backward(y, x, start_dim, end_dim)
    np.testing.assert_array_equal(dx, reference.flatten_backward(want, x, start_dim, end_dim))
    assert np.shares_memory(dx, y) or x.size == 0


def test_flatten_makes_one_dimension_of_none():
    x = np.array(3.0, np.float32)
    assert F.flatten(x).tolist() == reference.flatten(x).tolist() == [3]
    assert F.flatten_backward(F.flatten(x), x).shape == ()


def test_flatten_copies_strided_arrays_into_order(rng):
    x = floats(rng, 4, 5, 6).transpose(2, 0, 1)
    np.testing.assert_array_equal(F.flatten(x, 1), np.ascontiguousarray(x).reshape(6, 20))
    x.flags.writeable = False
    assert F.flatten(x).shape == (120,)


X = np.zeros((2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        pytest.param(
            (X, 3),
            ValueError,
            "start_dim is out of range: expected -3 to 2 (x has shape (2, 3, 4)), got 3",
            id="start",
        ),
        pytest.param(
            (X, 0, -4),
            ValueError,
            "end_dim is out of range: expected -3 to 2 (x has shape (2, 3, 4)), got -4",
            id="end",
        ),
        pytest.param(
            (X, 2, 1),
            ValueError,
            "start_dim comes after end_dim: "
            "expected start_dim <= end_dim, got 2 and 1 (x has shape (2, 3, 4))",
            id="order",
        ),
        pytest.param(
            (X, 1.5),
            TypeError,
            "start_dim has the wrong type: expected an int, got 1.5",
            id="float",
        ),
        pytest.param(
            ([1.0],),
            TypeError,
            "x is not an array: expected a numpy.ndarray of float32, got list",
            id="list",
        ),
        pytest.param(
            (X.astype(np.float64),),
            TypeError,
            "x has the wrong dtype: "
            "expected float32, got float64 (convert it with .astype(numpy.float32))",
            id="dtype",
        ),
    ],
)
def test_flatten_rejects(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"flatten: {message}")):
        F.flatten(*arguments)
    with pytest.raises(error, match=re.escape(f"flatten_backward: {message}")):
        F.flatten_backward(X, *arguments)


def test_flatten_backward_rejects_wrong_dy():
    message = (
        "flatten_backward: dy has the wrong shape: "
        "expected (2, 12) (the shape of the output), got (2, 3, 4)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        F.flatten_backward(X, X, 1)


@pytest.mark.torch
@pytest.mark.parametrize("dims", [(), (1,), (0, 1), (-2, -1), (1, 1)])
def test_flatten_matches_torch(torch, dims):
    assert F.flatten(X, *dims).shape == tuple(torch.flatten(torch.tensor(X), *dims).shape)
    assert F.flatten(torch.tensor(X), *dims).shape == F.flatten(X, *dims).shape

"""dropout and dropout2d: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore
import convcore.functional as F
from convcore import reference
from convcore.random import RandomKey, get_rng_state, next_key
from helpers import (
    EPS32,
    assert_adjoint,
    assert_same_bits_at_any_thread_count,
    floats,
    numeric_gradient,
)

words = st.integers(0, 2**64 - 1)
shapes = st.lists(st.integers(0, 7), min_size=0, max_size=3).map(tuple)


@settings(max_examples=60, deadline=None)
@given(shapes, st.floats(0, 1), st.tuples(words, words))
def test_dropout_forward_and_backward_match_reference(shape, p, key):
    rng = np.random.default_rng(0)
    x, dy = floats(rng, *shape), floats(rng, *shape)
    x, dy = np.asarray(x, np.float32), np.asarray(dy, np.float32)  # shape () is a scalar so far
    for got, want in (
        (F.dropout(x, p, key=key), reference.dropout(x.astype(np.float64), p, key=key)),
        (
            F.dropout_backward(dy, x, p, key=key),
            reference.dropout_backward(dy.astype(np.float64), x, p, key=key),
        ),
    ):
        assert got.dtype == np.float32
        assert got.shape == shape
        # Two roundings: of 1 / (1 - p), and of the product.
        assert (abs(got - want) <= 3 * EPS32 * abs(want)).all()


@pytest.mark.parametrize("count", [1, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000])
def test_dropout_mask_matches_reference_at_every_length(count):
    y = F.dropout(np.ones(count, np.float32), 0.5, key=(7, 3))
    np.testing.assert_array_equal(y, 2 * reference.dropout(np.ones(count), 0.5, key=(7, 3)) / 2)


def test_reference_dropout_matches_finite_differences(rng):
    x, dy = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    dx = reference.dropout_backward(dy, x, 0.3, key=(1, 2))
    want = numeric_gradient(lambda v: reference.dropout(v, 0.3, key=(1, 2)), x, dy)
    np.testing.assert_allclose(dx, want, atol=1e-8)


def test_dropout_backward_is_adjoint(rng):
    x, dy, key = floats(rng, 300, 50), floats(rng, 300, 50), (5, 6)
    assert_adjoint(F.dropout(x, 0.4, key=key), dy, F.dropout_backward(dy, x, 0.4, key=key), x)


def test_dropout_is_the_same_bits_at_any_thread_count(rng):
    x = floats(rng, 300001)
    assert_same_bits_at_any_thread_count(lambda: F.dropout(x, 0.5, key=(1, 2)))
    assert_same_bits_at_any_thread_count(lambda: F.dropout_backward(x, x, 0.5, key=(1, 2)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_the_share_p_and_keeps_the_mean(p):
    count = 200_000
    y = F.dropout(np.ones(count, np.float32), p, key=(11, 0))
    deviation = np.sqrt(p * (1 - p) / count)
    assert abs((y == 0).mean() - p) < 5 * deviation
    assert abs(y.mean(dtype=np.float64) - 1) < 5 * deviation / (1 - p)


def test_dropout_masks_of_other_keys_are_other_masks():
    x = np.ones(1000, np.float32)
    masks = {F.dropout(x, key=key).tobytes() for key in ((0, 0), (0, 1), (1, 0), (2**32, 0))}
    assert len(masks) == 4


def test_dropout_mask_depends_on_the_position_alone():
    x = np.ones(1000, np.float32)
    whole = F.dropout(x, key=(3, 4))
    np.testing.assert_array_equal(F.dropout(x[:777], key=(3, 4)), whole[:777])
    np.testing.assert_array_equal(F.dropout(x.reshape(10, 100), key=(3, 4)).ravel(), whole)


def test_dropout_without_a_key_takes_the_next_stream():
    x = np.ones(100, np.float32)
    convcore.manual_seed(5)
    first, second = F.dropout(x), F.dropout(x)
    assert get_rng_state() == RandomKey(5, 2)
    np.testing.assert_array_equal(first, F.dropout(x, key=(5, 0)))
    np.testing.assert_array_equal(second, F.dropout(x, key=(5, 1)))
    assert (first != second).any()


@pytest.mark.cpu_only("its arrays are copies of those of the test")
def test_dropout_outside_training_returns_its_argument():
    x = np.ones((2, 3), np.float32)
    state = get_rng_state()
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout_backward(x, x, 0.5, training=False) is x
    strided = x.T
    assert F.dropout(strided, 0.5, False) is strided
    assert get_rng_state() == state


@pytest.mark.parametrize(("p", "value"), [(0, 1.0), (1, 0.0)])
def test_dropout_at_the_ends(p, value):
    x = np.ones(1000, np.float32)
    key = next_key()
    assert (F.dropout(x, p, key=key) == value).all()
    assert (F.dropout_backward(x, x, p, key=key) == value).all()


def test_dropout_backward_needs_no_key_when_nothing_is_dropped():
    x = np.ones(5, np.float32)
    np.testing.assert_array_equal(F.dropout_backward(x, x, 0.0), x)


def test_dropout_accepts_empty_strided_and_read_only_arrays(rng):
    assert F.dropout(np.zeros((0, 4), np.float32)).shape == (0, 4)
    x = floats(rng, 6, 10)
    x.flags.writeable = False
    want = F.dropout(np.ascontiguousarray(x[::2].T), key=(1, 1))
    np.testing.assert_array_equal(F.dropout(x[::2].T, key=(1, 1)), want)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_dropout_passes_nan_through(p):
    x = np.full(100, np.nan, np.float32)
    assert np.isnan(F.dropout(x, p, key=(0, 0))).all()  # dropped ones too, as in torch


# ---- whole channels ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 7), min_size=2, max_size=4).map(tuple),
    st.floats(0, 1),
    st.tuples(words, words),
)
def test_dropout2d_forward_and_backward_match_reference(shape, p, key):
    rng = np.random.default_rng(0)
    x, dy = floats(rng, *shape), floats(rng, *shape)
    for got, want in (
        (F.dropout2d(x, p, key=key), reference.dropout2d(x.astype(np.float64), p, key=key)),
        (
            F.dropout2d_backward(dy, x, p, key=key),
            reference.dropout2d_backward(dy.astype(np.float64), x, p, key=key),
        ),
    ):
        assert got.dtype == np.float32
        assert got.shape == shape
        assert (abs(got - want) <= 3 * EPS32 * abs(want)).all()


def test_dropout2d_drops_channels_and_keeps_the_mean():
    y = F.dropout2d(np.ones((400, 500, 2), np.float32), 0.3, key=(11, 0))
    assert (y[..., 0] == y[..., 1]).all()
    share = (y[..., 0] == 0).mean()
    assert abs(share - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 200_000)


def test_dropout2d_is_the_same_bits_at_any_thread_count_and_in_both_orders(rng):
    x = floats(rng, 9, 19, 30, 31)
    want = F.dropout2d(x, 0.5, key=(1, 2))
    np.testing.assert_array_equal(F.dropout2d(F.channels_last(x), 0.5, key=(1, 2)), want)
    for order in (np.asarray, F.channels_last):
        assert_same_bits_at_any_thread_count(
            lambda order=order: F.dropout2d(order(x), 0.5, key=(1, 2))
        )


@pytest.mark.cpu_only("its arrays are copies of those of the test")
def test_dropout2d_outside_training_returns_its_argument():
    x = np.ones((2, 3), np.float32)
    assert F.dropout2d(x, 0.5, training=False) is x
    assert F.dropout2d_backward(x, x, 0.5, training=False) is x


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_dropout2d_passes_nan_through(p):
    x = np.full((5, 20, 3), np.nan, np.float32)
    assert np.isnan(F.dropout2d(x, p, key=(0, 0))).all()


ONES = np.ones(3, np.float32)
REJECTED = {
    "one dimension": (
        lambda: F.dropout2d(ONES),
        ValueError,
        "dropout2d: x has the wrong number of dimensions: expected at least 2 (N, C, ...), got 1",
    ),
    "no key, channels": (
        lambda: F.dropout2d_backward(ONES[None], ONES[None]),
        ValueError,
        "dropout2d_backward: key is missing: expected the key of the forward call, got None",
    ),
    "dy, channels": (
        lambda: F.dropout2d_backward(ONES[None], ONES[:2, None], key=(0, 0)),
        ValueError,
        "dropout2d_backward: dy has the wrong shape: expected (2, 1) (the shape of x), got (1, 3)",
    ),
    "p, channels": (
        lambda: F.dropout2d(ONES[None], 1.5),
        ValueError,
        "dropout2d: p is out of range: expected a probability from 0 to 1, got 1.5",
    ),
    "p negative": (
        lambda: F.dropout(ONES, -0.1),
        ValueError,
        "dropout: p is out of range: expected a probability from 0 to 1, got -0.1",
    ),
    "p large, not training": (
        lambda: F.dropout(ONES, 1.5, False),
        ValueError,
        "dropout: p is out of range: expected a probability from 0 to 1, got 1.5",
    ),
    "p nan": (lambda: F.dropout(ONES, np.nan), ValueError, "dropout: p is out of range"),
    "p type": (
        lambda: F.dropout(ONES, "half"),
        TypeError,
        "dropout: p has the wrong type: expected a number, got 'half' (str)",
    ),
    "dtype": (
        lambda: F.dropout(ONES.astype(np.float64)),
        TypeError,
        "dropout: x has the wrong dtype: expected float32, got float64",
    ),
    "dtype, not training": (
        lambda: F.dropout([1.0], training=False),
        TypeError,
        "dropout: x is not an array: expected a numpy.ndarray of float32, got list",
    ),
    "key": (
        lambda: F.dropout(ONES, key=(0, -1)),
        ValueError,
        "dropout: key is not a random key: expected (seed, stream), each from 0 to 2**64 - 1, "
        "got (0, -1)",
    ),
    "key type": (lambda: F.dropout(ONES, key=3), ValueError, "dropout: key is not a random key"),
    "no key": (
        lambda: F.dropout_backward(ONES, ONES),
        ValueError,
        "dropout_backward: key is missing: expected the key of the forward call, got None",
    ),
    "dy": (
        lambda: F.dropout_backward(ONES[:2], ONES, key=(0, 0)),
        ValueError,
        "dropout_backward: dy has the wrong shape: expected (3,) (the shape of x), got (2,)",
    ),
    "p backward": (
        lambda: F.dropout_backward(ONES, ONES, 2, key=(0, 0)),
        ValueError,
        "dropout_backward: p is out of range: expected a probability from 0 to 1, got 2.0",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REJECTED.values(), ids=REJECTED.keys())
def test_dropout_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.torch
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_means_the_same_p_as_torch(torch, p):
    # Other random numbers, the same two values and the same share of zeros.
    x = np.full(50_000, 3.0, np.float32)
    want = torch.nn.functional.dropout(torch.tensor(x), p).numpy()
    got = F.dropout(x, p)
    np.testing.assert_allclose(np.unique(got), np.unique(want), rtol=1e-6)
    assert abs((got == 0).mean() - (want == 0).mean()) < 0.02
    nan = torch.nn.functional.dropout(torch.full((100,), np.nan), p)
    assert torch.isnan(nan).all()

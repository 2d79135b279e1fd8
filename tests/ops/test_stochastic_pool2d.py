"""stochastic_pool2d: forward and backward, in training and outside of it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings

import convcore
import convcore.functional as F
from convcore import reference
from convcore.random import RandomKey, get_rng_state
from helpers import assert_close, assert_same_bits_at_any_thread_count, floats, numeric_gradient
from pooling_cases import pooling_cases

KEY = (7, 3)


def windows_of(arguments):
    return {k: v for k, v in arguments.items() if k in ("kernel_size", "stride")}


def activations(rng, *shape):
    """Values as after a ReLU, some windows without any, some values negative."""
    x = floats(rng, *shape)
    return np.where(rng.random(shape) < 0.3, np.minimum(x, 0), np.maximum(x, 0)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(pooling_cases(forms=("valid",)))
def test_stochastic_pool2d_matches_reference(drawn):
    shape, arguments = (*drawn[0][:2], *(min(s, 9) for s in drawn[0][2:])), windows_of(drawn[1])
    rng = np.random.default_rng(0)
    x = activations(rng, *shape)
    # Of eighths the sums are exact, and so is the comparison with the threshold, nearly always.
    x = (np.round(x * 8) / 8).astype(np.float32)
    x64 = x.astype(np.float64)
    y, indices = F.stochastic_pool2d(x, **arguments, key=KEY, return_indices=True)
    want, want_indices = reference.stochastic_pool2d(x64, **arguments, key=KEY, return_indices=True)
    np.testing.assert_array_equal(indices, want_indices)
    np.testing.assert_array_equal(y, want)
    dy = floats(rng, *y.shape)
    want = reference.stochastic_pool2d_backward(
        dy.astype(np.float64), x64, **arguments, indices=indices
    )
    got = F.stochastic_pool2d_backward(dy, x, **arguments, indices=indices)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    again = F.stochastic_pool2d_backward(dy, x, **arguments, key=KEY)
    np.testing.assert_array_equal(again, got)


@settings(max_examples=60, deadline=None)
@given(pooling_cases(forms=("valid",)))
def test_stochastic_pool2d_outside_of_training_matches_reference(drawn):
    shape, arguments = (*drawn[0][:2], *(min(s, 20) for s in drawn[0][2:])), windows_of(drawn[1])
    rng = np.random.default_rng(1)
    x = activations(rng, *shape)
    x64 = x.astype(np.float64)
    y = F.stochastic_pool2d(x, **arguments, training=False)
    want = reference.stochastic_pool2d(x64, **arguments, training=False)
    assert_close(y, want, want, 25)
    dy = floats(rng, *y.shape)
    want = reference.stochastic_pool2d_backward(
        dy.astype(np.float64), x64, **arguments, training=False
    )
    got = F.stochastic_pool2d_backward(dy, x, **arguments, training=False)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max(initial=1))


def test_reference_stochastic_pool2d_matches_finite_differences(rng):
    x = np.abs(rng.standard_normal((2, 2, 5, 6))) + 0.1
    dy = rng.standard_normal((2, 2, 2, 2))
    arguments = (3, 2, False)
    got = reference.stochastic_pool2d_backward(dy, x, *arguments)
    want = numeric_gradient(lambda v: reference.stochastic_pool2d(v, *arguments), x, dy)
    np.testing.assert_allclose(got, want, atol=1e-7)


def test_stochastic_pool2d_draws_in_proportion(rng):
    weights = np.array([0, 1, 0.5, 3, 0, 2, 1.5, 0, 2], np.float32)
    x = np.broadcast_to(weights.reshape(3, 3), (100, 10, 3, 3)).astype(np.float32)
    counts = np.zeros(9)
    for stream in range(20):
        _, indices = F.stochastic_pool2d(x, 3, key=(0, stream), return_indices=True)
        counts += np.bincount(indices.ravel(), minlength=9)
    share = weights / weights.sum()
    deviation = np.sqrt(share * (1 - share) / counts.sum())
    assert (abs(counts / counts.sum() - share) <= 5 * deviation).all()


def test_stochastic_pool2d_of_zeros_is_zero():
    x = np.zeros((2, 3, 4, 4), np.float32)
    x[:, :, :2, 2:] = -1  # negative values are never drawn
    y, indices = F.stochastic_pool2d(x, 2, key=KEY, return_indices=True)
    assert (y == 0).all()
    assert indices[0, 0].tolist() == [[0, 2], [8, 10]]
    assert (F.stochastic_pool2d(x, 2, training=False) == 0).all()
    dy = np.ones((2, 3, 2, 2), np.float32)
    assert (F.stochastic_pool2d_backward(dy, x, 2, training=False) == 0).all()


def test_stochastic_pool2d_shows_nan_in_its_window_alone():
    x = np.ones((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 1] = np.nan
    for y in (F.stochastic_pool2d(x, 2, key=KEY), F.stochastic_pool2d(x, 2, training=False)):
        assert np.isnan(y[0, 0]).tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("arguments", [(2,), (3, 2), (3, 3), (2, 1)])
def test_stochastic_pool2d_is_the_same_bits_at_any_thread_count(arguments, rng):
    x = activations(rng, 9, 7, 40, 43)
    assert_same_bits_at_any_thread_count(
        lambda: F.stochastic_pool2d(x, *arguments, key=KEY, return_indices=True)
    )
    assert_same_bits_at_any_thread_count(lambda: F.stochastic_pool2d(x, *arguments, training=False))
    dy = floats(rng, *F.stochastic_pool2d(x, *arguments, key=KEY).shape)
    for training in (True, False):
        assert_same_bits_at_any_thread_count(
            lambda training=training: F.stochastic_pool2d_backward(
                dy, x, *arguments, training=training, key=KEY
            )
        )


def test_stochastic_pool2d_is_the_same_in_both_orders_of_memory(rng):
    x = activations(rng, 3, 19, 8, 10)
    want = F.stochastic_pool2d(x, 2, key=KEY)
    np.testing.assert_array_equal(F.stochastic_pool2d(F.channels_last(x), 2, key=KEY), want)
    dx = F.stochastic_pool2d_backward(want, x, 2, key=KEY)
    got = F.stochastic_pool2d_backward(F.channels_last(want), F.channels_last(x), 2, key=KEY)
    np.testing.assert_array_equal(got, dx)


def test_stochastic_pool2d_without_a_key_takes_the_next_stream(rng):
    x = activations(rng, 2, 3, 20, 20)
    convcore.manual_seed(5)
    first, second = F.stochastic_pool2d(x, 2), F.stochastic_pool2d(x, 2)
    assert get_rng_state() == RandomKey(5, 2)
    np.testing.assert_array_equal(first, F.stochastic_pool2d(x, 2, key=(5, 0)))
    assert (first != second).any()
    F.stochastic_pool2d(x, 2, training=False)
    assert get_rng_state() == RandomKey(5, 2)


def test_stochastic_pool2d_accepts_an_empty_batch():
    x = np.zeros((0, 3, 4, 4), np.float32)
    y = F.stochastic_pool2d(x, 2, key=KEY)
    assert y.shape == F.stochastic_pool2d(x, 2, training=False).shape == (0, 3, 2, 2)
    for training in (True, False):
        dx = F.stochastic_pool2d_backward(y, x, 2, training=training, key=KEY)
        assert dx.shape == x.shape


X = np.ones((1, 1, 4, 4), np.float32)
REJECTED = {
    "no key": (
        lambda: F.stochastic_pool2d_backward(X[:, :, :2, :2], X, 2),
        "stochastic_pool2d_backward: key and indices are missing",
    ),
    "key": (
        lambda: F.stochastic_pool2d(X, 2, key=(0, -1)),
        "stochastic_pool2d: key is not a random key",
    ),
    "indices": (
        lambda: F.stochastic_pool2d(X, 2, training=False, return_indices=True),
        "stochastic_pool2d: return_indices is for training: expected False, got True",
    ),
    "window": (
        lambda: F.stochastic_pool2d(X, 5),
        "stochastic_pool2d: the window is larger than the padded input along H",
    ),
    "dy": (
        lambda: F.stochastic_pool2d_backward(X, X, 2, training=False),
        "stochastic_pool2d_backward: dy has the wrong shape: expected (1, 1, 2, 2)",
    ),
    "foreign index": (
        lambda: F.stochastic_pool2d_backward(
            X[:, :, :2, :2], X, 2, indices=np.full((1, 1, 2, 2), 15)
        ),
        "stochastic_pool2d_backward: indices do not belong to these windows",
    ),
}


@pytest.mark.parametrize(("call", "message"), REJECTED.values(), ids=REJECTED.keys())
@pytest.mark.cpu_only("values are not read back from the GPU to be checked", ids=("foreign index",))
def test_stochastic_pool2d_rejects(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()

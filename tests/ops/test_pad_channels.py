"""pad_channels: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import assert_adjoint, assert_same_bits_at_any_thread_count, floats, numeric_gradient

pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*(st.integers(0, high) for high in (3, 5, 9, 20))),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    stride=pairs,
    last=st.booleans(),
)
def test_pad_channels_is_exact(shape, padding, stride, last):
    rng = np.random.default_rng(0)
    x = floats(rng, *shape)
    y = reference.pad_channels(x, padding, stride)
    dy = floats(rng, *y.shape)
    order = F.channels_last if last else np.asarray
    got = F.pad_channels(order(x), padding, stride)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(
        F.pad_channels_backward(order(dy), x, padding, stride),
        reference.pad_channels_backward(dy, x, padding, stride),
    )


def test_reference_pad_channels_matches_finite_differences(rng):
    x = rng.standard_normal((2, 3, 5, 4))
    arguments = (2, 1), (2, 3)
    dy = rng.standard_normal(reference.pad_channels(x, *arguments).shape)
    dx = reference.pad_channels_backward(dy, x, *arguments)
    want = numeric_gradient(lambda v: reference.pad_channels(v, *arguments), x, dy)
    np.testing.assert_allclose(dx, want, atol=1e-8)


def test_pad_channels_backward_is_adjoint(rng):
    x = floats(rng, 4, 16, 15, 13)
    y = F.pad_channels(x, 8, 2)
    dy = floats(rng, *y.shape)
    assert_adjoint(y, dy, F.pad_channels_backward(dy, x, 8, 2), x)


@pytest.mark.parametrize("order", [np.asarray, F.channels_last])
def test_pad_channels_is_the_same_bits_at_any_thread_count(rng, order):
    x = order(floats(rng, 11, 33, 30, 31))
    dy = order(floats(rng, 11, 46, 15, 16))
    assert_same_bits_at_any_thread_count(lambda: F.pad_channels(x, (6, 7), 2))
    assert_same_bits_at_any_thread_count(lambda: F.pad_channels_backward(dy, x, (6, 7), 2))


def test_pad_channels_of_one_int_pads_both_ends(rng):
    x = floats(rng, 2, 3, 4, 5)
    np.testing.assert_array_equal(F.pad_channels(x, 2), np.pad(x, ((0, 0), (2, 2), (0, 0), (0, 0))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 3), np.float32), 1), "x has the wrong number of dimensions: expected 4"),
        ((np.zeros((1, 2, 3, 4), np.float32), -1), "padding is out of range"),
        ((np.zeros((1, 2, 3, 4), np.float32), 1, 0), "stride is out of range"),
        ((np.zeros((1, 2, 3, 4), np.float32), (1, 2, 3)), "padding has the wrong length"),
    ],
)
def test_pad_channels_rejects(arguments, message):
    with pytest.raises(ValueError, match=re.escape(f"pad_channels: {message}")):
        F.pad_channels(*arguments)


def test_pad_channels_rejects_types():
    x = np.zeros((1, 2, 3, 4), np.float32)
    with pytest.raises(TypeError, match="pad_channels: x has the wrong dtype: expected float32"):
        F.pad_channels(x.astype(np.float64), 1)
    with pytest.raises(TypeError, match="pad_channels: padding has the wrong type"):
        F.pad_channels(x, 0.5)


def test_pad_channels_backward_rejects():
    x = np.zeros((1, 2, 3, 4), np.float32)
    with pytest.raises(
        ValueError,
        match=re.escape(
            "pad_channels_backward: dy has the wrong shape: expected (1, 4, 2, 2) "
            "(the shape of the output), got (1, 2, 3, 4)"
        ),
    ):
        F.pad_channels_backward(x, x, 1, 2)


@pytest.mark.torch
def test_pad_channels_matches_torch(torch, rng):
    x = torch.tensor(floats(rng, 2, 16, 9, 8), requires_grad=True)
    y = torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))
    dy = floats(rng, *y.shape)
    y.backward(torch.tensor(dy))
    ours = x.detach().numpy()
    np.testing.assert_array_equal(F.pad_channels(ours, 8, 2), y.detach().numpy())
    np.testing.assert_array_equal(F.pad_channels_backward(dy, ours, 8, 2), x.grad.numpy())

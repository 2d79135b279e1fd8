"""pad: forward and backward."""

from __future__ import annotations

import itertools
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

MODES = ["constant", "reflect", "replicate", "circular"]
every_mode = pytest.mark.parametrize("mode", MODES)


@st.composite
def cases(draw):
    mode = draw(st.sampled_from(MODES))
    size = [draw(st.integers(1, 40)) for _ in range(draw(st.sampled_from([1, 2])))]
    pad = []
    for length in reversed(size):  # torch's order
        most = {"reflect": length - 1, "circular": length}.get(mode, 7)
        pad += [draw(st.integers(0, min(most, 7))) for _ in range(2)]
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 3)), *size)
    return shape, pad, mode, draw(st.sampled_from([0.0, -1.5]))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_pad_matches_reference(case):
    shape, *arguments = case
    rng = np.random.default_rng(0)
    x = floats(rng, *shape)
    y = F.pad(x, *arguments)
    np.testing.assert_array_equal(y, reference.pad(x, *arguments))
    dy = floats(rng, *y.shape)
    want, magnitude = (
        reference.pad_backward(a.astype(np.float64), x, *arguments) for a in (dy, abs(dy))
    )
    assert_close(F.pad_backward(dy, x, *arguments), want, magnitude, 9)


@every_mode
def test_reference_pad_matches_finite_differences(mode, rng):
    x = rng.standard_normal((2, 2, 4, 5))
    arguments = ((3, 2, 1, 3), mode)
    dy = rng.standard_normal(reference.pad(x, *arguments).shape)
    dx = reference.pad_backward(dy, x, *arguments)
    want = numeric_gradient(lambda v: reference.pad(v, *arguments), x, dy)
    np.testing.assert_allclose(dx, want, atol=1e-8)


@every_mode
def test_pad_takes_both_orders_of_memory_and_keeps_them(mode, rng):
    x = floats(rng, 3, 19, 6, 7)
    arguments = ((2, 3, 4, 1), mode)
    y = F.pad(x, *arguments)
    dy = floats(rng, *y.shape)
    dx = F.pad_backward(dy, x, *arguments)
    for last_x, last_dy in itertools.product([False, True], repeat=2):
        x_in = F.channels_last(x) if last_x else x
        dy_in = F.channels_last(dy) if last_dy else dy
        np.testing.assert_array_equal(F.pad(x_in, *arguments), y)
        np.testing.assert_allclose(F.pad_backward(dy_in, x_in, *arguments), dx, atol=1e-5)
    assert F.pad(F.channels_last(x), *arguments).transpose(0, 2, 3, 1).flags.c_contiguous


@every_mode
def test_pad_is_the_same_bits_at_any_thread_count(mode, rng):
    x = floats(rng, 7, 20, 41, 43)
    arguments = ((5, 3, 2, 4), mode)
    dy = floats(rng, *F.pad(x, *arguments).shape)
    for order in (np.asarray, F.channels_last):
        assert_same_bits_at_any_thread_count(lambda order=order: F.pad(order(x), *arguments))
        assert_same_bits_at_any_thread_count(
            lambda order=order: F.pad_backward(order(dy), x, *arguments)
        )


@every_mode
def test_pad_backward_is_adjoint(mode, rng):
    x = floats(rng, 3, 4, 20, 33)
    y = F.pad(x, (3, 4, 5, 6), mode)
    dy = floats(rng, *y.shape)
    assert_adjoint(y, dy, F.pad_backward(dy, x, (3, 4, 5, 6), mode), x)


X = np.zeros((2, 1, 4, 5), np.float32)
REJECTED = {
    "mode": (
        lambda: F.pad(X, (1, 1), "same"),
        ValueError,
        "pad: mode is not known: expected 'constant', 'reflect', 'replicate' or 'circular', "
        "got 'same'",
    ),
    "reflect": (
        lambda: F.pad(X, (5, 0), "reflect"),
        ValueError,
        "pad: pad along W is too large for mode 'reflect': expected at most 4 (the input has size "
        "5), got 5",
    ),
    "circular": (
        lambda: F.pad(X, (0, 0, 5, 0), "circular"),
        ValueError,
        "pad: pad along H is too large for mode 'circular': expected at most 4 (the input has "
        "size 4), got 5",
    ),
    "empty": (
        lambda: F.pad(X[:, :, :0], (0, 0, 1, 0), "replicate"),
        ValueError,
        "pad: the input along H has no pixel to pad with: expected at least 1, got 0",
    ),
    "negative": (
        lambda: F.pad(X, (-1, 0)),
        ValueError,
        "pad: pad along W is out of range: expected at least 0, got -1",
    ),
    "sides": (
        lambda: F.pad(X, (1, 2, 3)),
        ValueError,
        "pad: pad has the wrong length: expected (left, right) or (left, right, top, bottom), "
        "got (1, 2, 3)",
    ),
    "rank": (
        lambda: F.pad(X[0, 0], (1, 1)),
        ValueError,
        "pad: x has the wrong number of dimensions: expected 4 (N, C, H, W), or 3 (N, C, W), got 2",
    ),
    "dy": (
        lambda: F.pad_backward(X, X, (1, 1)),
        ValueError,
        "pad_backward: dy has the wrong shape: expected (2, 1, 4, 7)",
    ),
    "dtype": (
        lambda: F.pad(X.astype(np.float64), (1, 1)),
        TypeError,
        "pad: x has the wrong dtype: expected float32, got float64",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REJECTED.values(), ids=REJECTED.keys())
def test_pad_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.torch
@every_mode
def test_pad_matches_torch(torch, mode, rng):
    x = floats(rng, 2, 3, 5, 6)
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.nn.functional.pad(tx, (3, 2, 1, 4), mode)
    y = F.pad(x, (3, 2, 1, 4), mode)
    np.testing.assert_array_equal(y, ty.detach().numpy())
    dy = floats(rng, *y.shape)
    ty.backward(torch.tensor(dy))
    got = F.pad_backward(dy, x, (3, 2, 1, 4), mode)
    np.testing.assert_allclose(got, tx.grad.numpy(), rtol=1e-5, atol=1e-5)

"""subsampling2d: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings

import convcore.functional as F
from convcore import reference
from helpers import (
    assert_adjoint,
    assert_close,
    assert_same_bits_at_any_thread_count,
    floats,
    numeric_gradient,
)
from pooling_cases import pooling_cases


def case(rng, shape, arguments):
    x, weight, bias = floats(rng, *shape), floats(rng, shape[1]), floats(rng, shape[1])
    y = F.subsampling2d(x, weight, bias, **arguments)
    return x, weight, bias, floats(rng, *y.shape)


def exact(*arrays):
    return [None if a is None else a.astype(np.float64) for a in arrays]


@settings(max_examples=100, deadline=None)
@given(pooling_cases(forms=("valid",)))
def test_subsampling2d_matches_reference(drawn):
    shape, arguments = drawn
    arguments = {k: v for k, v in arguments.items() if k in ("kernel_size", "stride")}
    x, weight, bias, dy = case(np.random.default_rng(0), shape, arguments)
    for b in (bias, None):
        x64, w64, b64, dy64 = exact(x, weight, b, dy)
        sizes = [None if a is None else abs(a) for a in (x64, w64, b64, dy64)]
        y = F.subsampling2d(x, weight, b, **arguments)
        magnitude = reference.subsampling2d(*sizes[:3], **arguments)
        assert_close(y, reference.subsampling2d(x64, w64, b64, **arguments), magnitude, 25, "y")
        grads = F.subsampling2d_backward(dy, x, weight, b, **arguments)
        want = reference.subsampling2d_backward(dy64, x64, w64, b64, **arguments)
        largest = reference.subsampling2d_backward(sizes[3], *sizes[:3], **arguments)
        for got, exactly, size in zip(grads, want, largest, strict=True):
            if exactly is None:
                assert got is None
            else:
                assert_close(got, exactly, size, 25 + dy.size)


def test_reference_subsampling2d_matches_finite_differences(rng):
    x, weight, bias = (rng.standard_normal(s) for s in ((2, 3, 5, 6), 3, 3))
    arguments = {"kernel_size": (2, 3), "stride": (1, 2)}
    dy = rng.standard_normal(reference.subsampling2d(x, weight, bias, **arguments).shape)
    grads = reference.subsampling2d_backward(dy, x, weight, bias, **arguments)
    functions = (
        (lambda v: reference.subsampling2d(v, weight, bias, **arguments), x),
        (lambda v: reference.subsampling2d(x, v, bias, **arguments), weight),
        (lambda v: reference.subsampling2d(x, weight, v, **arguments), bias),
    )
    for (f, at), got in zip(functions, grads, strict=True):
        np.testing.assert_allclose(got, numeric_gradient(f, at, dy), atol=1e-7)


def test_subsampling2d_backward_is_adjoint(rng):
    for arguments in ({}, {"kernel_size": 3, "stride": 2}):
        x, weight, _, dy = case(rng, (4, 5, 21, 34), arguments)
        y = F.subsampling2d(x, weight, **arguments)
        dx, dweight, _ = F.subsampling2d_backward(dy, x, weight, **arguments)
        assert_adjoint(y, dy, dx, x)
        assert_adjoint(y, dy, dweight, weight)


def test_subsampling2d_is_the_same_bits_at_any_thread_count(rng):
    x, weight, bias, dy = case(rng, (37, 6, 28, 28), {})
    for order in (np.asarray, F.channels_last):
        x = order(x)
        assert_same_bits_at_any_thread_count(lambda x=x: F.subsampling2d(x, weight, bias))
        assert_same_bits_at_any_thread_count(
            lambda x=x: F.subsampling2d_backward(dy, x, weight, bias)
        )


def test_subsampling2d_leaves_out_what_is_not_needed(rng):
    x, weight, bias, dy = case(rng, (3, 4, 6, 6), {})
    want = F.subsampling2d_backward(dy, x, weight, bias)
    for left_out in range(3):
        needs = {
            name: i != left_out for i, name in enumerate(("need_dx", "need_dweight", "need_dbias"))
        }
        got = F.subsampling2d_backward(dy, x, weight, bias, **needs)
        for i in range(3):
            if i == left_out:
                assert got[i] is None
            else:
                np.testing.assert_array_equal(got[i], want[i])


def test_subsampling2d_accepts_an_empty_batch():
    x, weight = np.zeros((0, 3, 4, 4), np.float32), np.ones(3, np.float32)
    y = F.subsampling2d(x, weight, weight)
    assert y.shape == (0, 3, 2, 2)
    dx, dweight, dbias = F.subsampling2d_backward(y, x, weight, weight)
    assert dx.shape == x.shape
    assert dweight.tolist() == dbias.tolist() == [0, 0, 0]


X, ONE = np.zeros((2, 1, 4, 4), np.float32), np.ones(1, np.float32)
REJECTED = {
    "weight": (
        lambda: F.subsampling2d(X, np.ones(2, np.float32)),
        ValueError,
        "subsampling2d: weight has the wrong shape: expected (1,) (one value per channel), "
        "got (2,)",
    ),
    "bias": (
        lambda: F.subsampling2d(X, ONE, np.ones(2, np.float32)),
        ValueError,
        "subsampling2d: bias has the wrong shape: expected (1,) (one value per channel), got (2,)",
    ),
    "window": (
        lambda: F.subsampling2d(X, ONE, kernel_size=5),
        ValueError,
        "subsampling2d: the window is larger than the padded input along H",
    ),
    "kernel": (
        lambda: F.subsampling2d(X, ONE, kernel_size="2"),
        TypeError,
        "subsampling2d: kernel_size has the wrong type: expected an int, got '2' (str)",
    ),
    "rank": (
        lambda: F.subsampling2d(X[0], ONE),
        ValueError,
        "subsampling2d: x has the wrong number of dimensions: expected 4 (N, C, H, W), got 3",
    ),
    "dy": (
        lambda: F.subsampling2d_backward(X, X, ONE),
        ValueError,
        "subsampling2d_backward: dy has the wrong shape: expected (2, 1, 2, 2)",
    ),
    "bias backward": (
        lambda: F.subsampling2d_backward(X[:, :, :2, :2], X, ONE, np.ones(2, np.float32)),
        ValueError,
        "subsampling2d_backward: bias has the wrong shape: expected (1,) (one value per output of "
        "weight), got (2,)",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REJECTED.values(), ids=REJECTED.keys())
def test_subsampling2d_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()

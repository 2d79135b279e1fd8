"""avg_pool2d and avg_pool1d: forward and backward."""

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
from pooling_cases import pooling_cases

OPS = {
    1: (F.avg_pool1d, F.avg_pool1d_backward, reference.avg_pool1d, reference.avg_pool1d_backward),
    2: (F.avg_pool2d, F.avg_pool2d_backward, reference.avg_pool2d, reference.avg_pool2d_backward),
}


def check_against_reference(axes, shape, arguments):
    forward, backward, reference_forward, reference_backward = OPS[axes]
    rng = np.random.default_rng(0)
    x = floats(rng, *shape)
    x64 = x.astype(np.float64)
    taps = 25
    y = forward(x, **arguments)
    assert_close(
        y, reference_forward(x64, **arguments), reference_forward(abs(x64), **arguments), taps, "y"
    )
    dy = floats(rng, *y.shape)
    dy64 = dy.astype(np.float64)
    want = reference_backward(dy64, x64, **arguments)
    magnitude = reference_backward(abs(dy64), x64, **arguments)
    assert_close(backward(dy, x, **arguments), want, magnitude, taps, "dx")


@settings(max_examples=100, deadline=None)
@given(pooling_cases(), st.booleans(), st.sampled_from([None, None, 1, 3, -7]))
def test_avg_pool2d_matches_reference(case, count_include_pad, divisor):
    more = {"count_include_pad": count_include_pad, "divisor_override": divisor}
    check_against_reference(2, case[0], case[1] | more)


@settings(max_examples=50, deadline=None)
@given(pooling_cases(axes=1), st.booleans())
def test_avg_pool1d_matches_reference(case, count_include_pad):
    check_against_reference(1, case[0], case[1] | {"count_include_pad": count_include_pad})


@pytest.mark.parametrize("w_in", [2, 3, 10, 17, 28, 31, 32, 33, 64, 67])
@pytest.mark.parametrize("kernel", [2, (1, 2), (2, 1)])
def test_avg_pool2d_of_tiles_matches_reference(w_in, kernel):
    check_against_reference(2, (2, 3, 5, w_in), {"kernel_size": kernel})


def test_avg_pool2d_of_a_large_window_matches_reference(rng):
    x = floats(rng, 2, 3, 37, 41)
    x64 = x.astype(np.float64)
    for kernel in ((37, 41), (30, 30), (37, 5)):
        want, magnitude = (reference.avg_pool2d(a, kernel) for a in (x64, abs(x64)))
        assert_close(F.avg_pool2d(x, kernel), want, magnitude, kernel[0] * kernel[1])


@pytest.mark.parametrize("count_include_pad", [False, True])
def test_reference_avg_pool2d_matches_finite_differences(rng, count_include_pad):
    arguments = (3, 2, ((1, 0), (1, 1)), True, count_include_pad)
    x = rng.standard_normal((2, 2, 6, 7))
    dy = rng.standard_normal(reference.avg_pool2d(x, *arguments).shape)
    dx = reference.avg_pool2d_backward(dy, x, *arguments)
    numeric = numeric_gradient(lambda v: reference.avg_pool2d(v, *arguments), x, dy)
    np.testing.assert_allclose(dx, numeric, atol=1e-8)


def test_reference_avg_pool1d_matches_finite_differences(rng):
    x = rng.standard_normal((2, 2, 9))
    dy = rng.standard_normal((2, 2, 5))
    dx = reference.avg_pool1d_backward(dy, x, 3, 2, 1)
    numeric = numeric_gradient(lambda v: reference.avg_pool1d(v, 3, 2, 1), x, dy)
    np.testing.assert_allclose(dx, numeric, atol=1e-8)


@pytest.mark.parametrize(
    "arguments", [(2,), (3, 2, 1), (5, 1, "same", False, False), (3, 3, 0, True)]
)
def test_avg_pool2d_backward_is_adjoint(rng, arguments):
    x = floats(rng, 4, 5, 44, 37)
    y = F.avg_pool2d(x, *arguments)
    dy = floats(rng, *y.shape)
    assert_adjoint(y, dy, F.avg_pool2d_backward(dy, x, *arguments), x)


def test_avg_pool2d_is_the_same_bits_at_any_thread_count(rng):
    x = floats(rng, 7, 5, 41, 43)
    for arguments in ((2,), (3, 2, 1), (20, 4)):
        dy = floats(rng, *F.avg_pool2d(x, *arguments).shape)
        assert_same_bits_at_any_thread_count(lambda a=arguments: F.avg_pool2d(x, *a))
        assert_same_bits_at_any_thread_count(
            lambda a=arguments, dy=dy: F.avg_pool2d_backward(dy, x, *a)
        )


def test_avg_pool2d_accepts_strided_and_read_only_arrays(rng):
    x = floats(rng, 2, 6, 8, 3).transpose(0, 3, 1, 2)
    x.flags.writeable = False
    np.testing.assert_array_equal(F.avg_pool2d(x, 2), F.avg_pool2d(np.ascontiguousarray(x), 2))
    dy = floats(rng, 4, 3, 3, 2).T
    want = F.avg_pool2d_backward(np.ascontiguousarray(dy), x, 2)
    np.testing.assert_array_equal(F.avg_pool2d_backward(dy, x, 2), want)


def test_avg_pool2d_passes_nan_through():
    x = np.zeros((1, 1, 2, 6), np.float32)
    x[0, 0, 1, 2] = np.nan
    assert np.isnan(F.avg_pool2d(x, 2)).ravel().tolist() == [False, True, False]
    dy = np.array([[[[0, np.nan, 0]]]], np.float32)
    assert (
        np.isnan(F.avg_pool2d_backward(dy, x, 2))[0, 0].tolist()
        == [[False, False, True, True, False, False]] * 2
    )


def test_avg_pool2d_accepts_a_window_far_larger_than_the_image():
    x = np.array([[[[1, 3, 2]]]], np.float32)
    arguments = (2**31 - 1, None, 2**30 - 1, False, False)
    assert F.avg_pool2d(x, *arguments).tolist() == [[[[2.0]]]]
    dx = F.avg_pool2d_backward(np.full((1, 1, 1, 1), 3, np.float32), x, *arguments)
    assert dx.tolist() == [[[[1.0, 1.0, 1.0]]]]


X = np.zeros((2, 3, 8, 9), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(
            lambda: F.avg_pool2d(X[0], 2),
            ValueError,
            "avg_pool2d: x has the wrong number of dimensions: expected 4 (N, C, H, W), "
            "got 3 (x has shape (3, 8, 9))",
            id="rank",
        ),
        pytest.param(
            lambda: F.avg_pool1d(X, 2),
            ValueError,
            "avg_pool1d: x has the wrong number of dimensions: expected 3 (N, C, W), "
            "got 4 (x has shape (2, 3, 8, 9))",
            id="rank-1d",
        ),
        pytest.param(
            lambda: F.avg_pool2d(X.astype(np.float64), 2),
            TypeError,
            "avg_pool2d: x has the wrong dtype: expected float32, got float64",
            id="dtype",
        ),
        pytest.param(
            lambda: F.avg_pool2d(X[..., :0], 2),
            ValueError,
            "avg_pool2d: the input size along W is out of range: expected at least 1, got 0",
            id="empty-image",
        ),
        pytest.param(
            lambda: F.avg_pool2d(X, 2, 0),
            ValueError,
            "avg_pool2d: stride along H is out of range: expected at least 1, got 0",
            id="stride",
        ),
        pytest.param(
            lambda: F.avg_pool1d(X[0], 3, padding=2),
            ValueError,
            "avg_pool1d: padding along W is more than half the window: "
            "expected at most 1 (the window spans 3), got 2",
            id="padding-more-than-half",
        ),
        pytest.param(
            lambda: F.avg_pool2d(X, 10),
            ValueError,
            "avg_pool2d: the window is larger than the padded input along H",
            id="window",
        ),
        pytest.param(
            lambda: F.avg_pool2d(X, 2, divisor_override=0),
            ValueError,
            "avg_pool2d: divisor_override is zero: expected None or an int other than 0, got 0",
            id="divisor",
        ),
        pytest.param(
            lambda: F.avg_pool2d(X, 2, divisor_override=0.5),
            TypeError,
            "avg_pool2d: divisor_override has the wrong type: expected an int, got 0.5 (float)",
            id="divisor-type",
        ),
        pytest.param(
            lambda: F.avg_pool2d(np.zeros((0, 1, 2**30, 2**30), np.float32), 1),
            ValueError,
            "avg_pool2d: a plane of x is too large: expected at most 2^59 elements, "
            "got (1073741824, 1073741824)",
            id="too-many-pixels",
        ),
        pytest.param(
            lambda: F.avg_pool2d_backward(X, X, 2),
            ValueError,
            "avg_pool2d_backward: dy has the wrong shape: "
            "expected (2, 3, 4, 4) (the shape of the output), got (2, 3, 8, 9)",
            id="dy",
        ),
        pytest.param(
            lambda: F.avg_pool1d_backward(X[0].astype(np.float16), X[0], 2),
            TypeError,
            "avg_pool1d_backward: dy has the wrong dtype: expected float32, got float16",
            id="dy-dtype",
        ),
        pytest.param(
            lambda: F.avg_pool2d_backward(X, [[1.0]], 2),
            TypeError,
            "avg_pool2d: x is not an array: expected a numpy.ndarray of float32, got list",
            id="x-of-backward",
        ),
    ],
)
def test_avg_pool2d_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.torch
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("divisor", [None, 5, -2])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(2, None, 0), (3, 2, 1), ((3, 2), (2, 3), (1, 0)), (4, 3, 2), ((1, 5), 1, (0, 2)), (7, 4, 3)],
)
def test_avg_pool2d_matches_torch(
    torch, rng, kernel, stride, padding, ceil_mode, count_include_pad, divisor
):
    for h_in, w_in in ((8, 9), (7, 20), (6, 6)):
        arguments = (kernel, stride, padding, ceil_mode, count_include_pad, divisor)
        x = floats(rng, 2, 3, h_in, w_in)
        tx = torch.tensor(x, requires_grad=True)
        ty = torch.nn.functional.avg_pool2d(tx, *arguments)
        y = F.avg_pool2d(x, *arguments)
        np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-5, atol=1e-6)
        dy = floats(rng, *y.shape)
        ty.backward(torch.tensor(dy))
        np.testing.assert_allclose(
            F.avg_pool2d_backward(dy, x, *arguments), tx.grad.numpy(), rtol=1e-5, atol=1e-6
        )


@pytest.mark.torch
def test_avg_pool1d_matches_torch(torch, rng):
    x = floats(rng, 2, 3, 11)
    for arguments in ((2,), (3, 2, 1, True), (3, 2, 1, True, False)):
        want = torch.nn.functional.avg_pool1d(torch.tensor(x), *arguments).numpy()
        np.testing.assert_allclose(F.avg_pool1d(x, *arguments), want, rtol=1e-5, atol=1e-6)

"""max_pool2d and max_pool1d: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings

import convcore.functional as F
from convcore import reference
from helpers import assert_same_bits_at_any_thread_count, floats, numeric_gradient
from pooling_cases import pooling_cases

OPS = {
    1: (F.max_pool1d, F.max_pool1d_backward, reference.max_pool1d, reference.max_pool1d_backward),
    2: (F.max_pool2d, F.max_pool2d_backward, reference.max_pool2d, reference.max_pool2d_backward),
}


def shuffled(shape, seed=0):
    """Distinct numbers in random order: every window has one winner."""
    count = int(np.prod(shape))
    return np.random.default_rng(seed).permutation(count).reshape(shape).astype(np.float32)


def check_against_reference(axes, shape, arguments, x):
    forward, backward, reference_forward, reference_backward = OPS[axes]
    want, want_indices = reference_forward(x.astype(np.float64), **arguments, return_indices=True)
    y, indices = forward(x, **arguments, return_indices=True)
    assert y.dtype == np.float32
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(indices, want_indices)
    np.testing.assert_array_equal(forward(x, **arguments), want)

    dy = np.random.default_rng(1).integers(-9, 10, y.shape).astype(np.float32)  # exact sums
    want_dx = reference_backward(dy.astype(np.float64), x.astype(np.float64), **arguments)
    for dx in (
        backward(dy, x, **arguments),
        backward(dy, x, **arguments, indices=indices),
        backward(dy, x, **arguments, indices=indices.astype(np.int64)),
    ):
        assert dx.dtype == np.float32
        np.testing.assert_array_equal(dx, want_dx)


@settings(max_examples=100, deadline=None)
@given(pooling_cases(dilated=True))
def test_max_pool2d_matches_reference(case):
    check_against_reference(2, *case, shuffled(case[0]))


@settings(max_examples=50, deadline=None)
@given(pooling_cases(axes=1, dilated=True))
def test_max_pool1d_matches_reference(case):
    check_against_reference(1, *case, shuffled(case[0]))


@settings(max_examples=50, deadline=None)
@given(pooling_cases(dilated=True))
def test_max_pool2d_with_ties_and_nan_matches_reference(case):
    rng = np.random.default_rng(3)
    x = rng.choice(np.array([-np.inf, 0, 1, np.nan], np.float32), case[0], p=[0.3, 0.3, 0.3, 0.1])
    check_against_reference(2, *case, x)


@pytest.mark.parametrize("w_in", [2, 3, 10, 17, 28, 31, 32, 33, 64, 67])
@pytest.mark.parametrize("h_in", [2, 5, 28])
def test_max_pool2d_of_pairs_matches_reference(h_in, w_in):
    check_against_reference(2, (2, 3, h_in, w_in), {"kernel_size": 2}, shuffled((2, 3, h_in, w_in)))
    check_against_reference(1, (2, 3, w_in), {"kernel_size": 2}, shuffled((2, 3, w_in)))


@pytest.mark.parametrize("arguments", [{}, {"stride": 1, "padding": 1}, {"dilation": 2}])
def test_reference_max_pool2d_matches_finite_differences(rng, arguments):
    x = shuffled((2, 2, 6, 7)).astype(np.float64)
    dy = rng.standard_normal(reference.max_pool2d(x, 3, **arguments).shape)
    dx = reference.max_pool2d_backward(dy, x, 3, **arguments)
    numeric = numeric_gradient(lambda v: reference.max_pool2d(v, 3, **arguments), x, dy)
    np.testing.assert_allclose(dx, numeric, atol=1e-7)


def test_reference_max_pool1d_matches_finite_differences(rng):
    x = shuffled((2, 2, 9)).astype(np.float64)
    dy = rng.standard_normal((2, 2, 8))
    dx = reference.max_pool1d_backward(dy, x, 3, 1, [(1, 0)])
    numeric = numeric_gradient(lambda v: reference.max_pool1d(v, 3, 1, [(1, 0)]), x, dy)
    np.testing.assert_allclose(dx, numeric, atol=1e-7)


def test_max_pool2d_gives_ties_to_the_first():
    x = np.zeros((1, 1, 4, 40), np.float32)
    _, indices = F.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(indices[0, 0], np.add.outer([0, 80], np.arange(0, 40, 2)))


def test_max_pool2d_passes_nan_through():
    x = np.zeros((1, 1, 2, 6), np.float32)
    x[0, 0, 1, 2] = np.nan
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    assert np.isnan(y).ravel().tolist() == [False, True, False]
    assert indices.ravel().tolist() == [0, 8, 4]
    dy = np.array([[[[1, np.nan, 3]]]], np.float32)
    np.testing.assert_array_equal(
        F.max_pool2d_backward(dy, x, 2)[0, 0], [[1, 0, 0, 0, 3, 0], [0, 0, np.nan, 0, 0, 0]]
    )


def test_max_pool2d_is_the_same_bits_at_any_thread_count(rng):
    x = floats(rng, 7, 5, 41, 43)
    for arguments in ((2,), (3, 2, 1), (5, 3)):
        y = F.max_pool2d(x, *arguments)
        dy = floats(rng, *y.shape)
        assert_same_bits_at_any_thread_count(
            lambda a=arguments: F.max_pool2d(x, *a, return_indices=True)
        )
        assert_same_bits_at_any_thread_count(
            lambda a=arguments, dy=dy: F.max_pool2d_backward(dy, x, *a)
        )


def test_max_pool2d_accepts_strided_and_read_only_arrays(rng):
    x = floats(rng, 2, 6, 8, 3).transpose(0, 3, 1, 2)
    x.flags.writeable = False
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(y, F.max_pool2d(np.ascontiguousarray(x), 2))
    dy = floats(rng, 4, 3, 3, 2).T
    want = F.max_pool2d_backward(np.ascontiguousarray(dy), x, 2)
    np.testing.assert_array_equal(F.max_pool2d_backward(dy, x, 2), want)
    strided = np.repeat(indices, 2, axis=3)[..., ::2]
    np.testing.assert_array_equal(F.max_pool2d_backward(dy, x, 2, indices=strided), want)


def test_max_pool2d_accepts_a_window_far_larger_than_the_image():
    x = np.array([[[[1, 3, 2]]]], np.float32)
    huge = 2**31 - 1
    y, indices = F.max_pool2d(x, huge, padding=2**30 - 1, return_indices=True)
    assert (y.tolist(), indices.tolist()) == ([[[[3.0]]]], [[[[1]]]])


# ---- errors ----

X = np.zeros((2, 3, 8, 9), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(
            lambda: F.max_pool2d(X[0], 2),
            ValueError,
            "max_pool2d: x has the wrong number of dimensions: expected 4 (N, C, H, W), "
            "got 3 (x has shape (3, 8, 9))",
            id="rank",
        ),
        pytest.param(
            lambda: F.max_pool1d(X, 2),
            ValueError,
            "max_pool1d: x has the wrong number of dimensions: expected 3 (N, C, W), "
            "got 4 (x has shape (2, 3, 8, 9))",
            id="rank-1d",
        ),
        pytest.param(
            lambda: F.max_pool2d(X.astype(np.float64), 2),
            TypeError,
            "max_pool2d: x has the wrong dtype: expected float32, got float64",
            id="dtype",
        ),
        pytest.param(
            lambda: F.max_pool2d(X[:, :, :0], 2, padding=1),
            ValueError,
            "max_pool2d: the input size along H is out of range: expected at least 1, got 0",
            id="empty-image",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, 0),
            ValueError,
            "max_pool2d: kernel_size along H is out of range: expected at least 1, got 0",
            id="kernel-0",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, (1, 2**31)),
            ValueError,
            "max_pool2d: kernel_size along W is out of range: "
            "expected at most 2147483647, got 2147483648",
            id="kernel-huge",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, 2**70),
            ValueError,
            f"max_pool2d: kernel_size is out of range: expected a 64-bit int, got {2**70}",
            id="kernel-beyond-64-bits",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, 2.0),
            TypeError,
            "max_pool2d: kernel_size has the wrong type: expected an int, got 2.0 (float)",
            id="kernel-float",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, (2, 2, 2)),
            ValueError,
            "max_pool2d: kernel_size has the wrong length: "
            "expected an int or 2 ints, got (2, 2, 2)",
            id="kernel-length",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, 2, (2, -1)),
            ValueError,
            "max_pool2d: stride along W is out of range: expected at least 1, got -1",
            id="stride",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, 2, padding=-1),
            ValueError,
            "max_pool2d: padding along H is out of range: expected at least 0, got -1",
            id="padding-negative",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, 2, dilation=0),
            ValueError,
            "max_pool2d: dilation along H is out of range: expected at least 1, got 0",
            id="dilation",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, 3, padding=((1, 1), (0, 2))),
            ValueError,
            "max_pool2d: padding along W is more than half the window: "
            "expected at most 1 (the window spans 3), got 2",
            id="padding-more-than-half",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, 2, padding="full"),
            ValueError,
            "max_pool2d: padding is not known: "
            "expected an int, ints, pairs, 'valid' or 'same', got 'full'",
            id="padding-name",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, (9, 1)),
            ValueError,
            "max_pool2d: the window is larger than the padded input along H: "
            "expected dilation * (kernel_size - 1) + 1 <= 8 + 0 + 0 (input and padding), "
            "got 1 * (9 - 1) + 1 = 9",
            id="window",
        ),
        pytest.param(
            lambda: F.max_pool2d(X, 20, 3, ceil_mode=True),
            ValueError,
            "<= 8 + 0 + 0 (input and padding) + 2 (stride - 1, for ceil_mode), "
            "got 1 * (20 - 1) + 1 = 20",
            id="window-ceil-mode",
        ),
        pytest.param(
            lambda: F.max_pool1d(X[0], 2, 1, 5, 10),
            ValueError,
            "max_pool1d: a dilated window along W steps over the whole input: "
            "expected windows with a tap on the input of size 9, got dilation 10 and padding 5",
            id="steps-over",
        ),
        pytest.param(
            lambda: F.max_pool2d(np.zeros((0, 1, 2**16, 2**16), np.float32), 2),
            ValueError,
            "max_pool2d: the image is too large for 32-bit indices: "
            "expected at most 2147483647 pixels in a plane, got 4294967296",
            id="too-many-pixels",
        ),
        pytest.param(
            lambda: F.max_pool2d_backward(X, X, 2),
            ValueError,
            "max_pool2d_backward: dy has the wrong shape: "
            "expected (2, 3, 4, 4) (the shape of the output), got (2, 3, 8, 9)",
            id="dy",
        ),
        pytest.param(
            lambda: F.max_pool2d_backward(X[:, :, :4, :4], [[1.0]], 2, indices=X.astype(int)),
            TypeError,
            "max_pool2d: x is not an array: expected a numpy.ndarray of float32, got list",
            id="x-of-backward",
        ),
        pytest.param(
            lambda: F.max_pool2d_backward(X[:, :, :4, :4], X, 2, indices=X.astype(int)),
            ValueError,
            "max_pool2d_backward: indices has the wrong shape: expected (2, 3, 4, 4)",
            id="indices-shape",
        ),
        pytest.param(
            lambda: F.max_pool2d_backward(X[:, :, :4, :4], X, 2, indices=X[:, :, :4, :4]),
            TypeError,
            "max_pool2d_backward: indices has the wrong dtype: expected integers, got float32",
            id="indices-dtype",
        ),
    ],
)
@pytest.mark.cpu_only("how NumPy's memory lies is not seen on the GPU", ids=("indices-dtype",))
def test_max_pool2d_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("arguments", [(2,), (3, 1, 1)], ids=["pairs", "overlapping"])
@pytest.mark.parametrize("bad", [-1, -(2**31), 72, 71, 2**31 - 1, 2**40])
@pytest.mark.cpu_only("values are not read back from the GPU to be checked")
def test_max_pool2d_backward_rejects_indices_outside_their_windows(arguments, bad):
    y, indices = F.max_pool2d(X, *arguments, return_indices=True)
    for position in ((0, 0, 0, 0), (1, 2, 1, 2)):
        wrong = indices.astype(np.int64)
        wrong[position] = bad
        with pytest.raises(
            ValueError, match=r"max_pool2d_backward: indices (do not belong|has a value)"
        ):
            F.max_pool2d_backward(y, X, *arguments, indices=wrong)


# ---- torch ----


@pytest.mark.torch
@settings(max_examples=50, deadline=None)
@given(pooling_cases(forms=("int", "per axis")))
def test_max_pool2d_matches_torch(torch, case):
    shape, arguments = case
    x = shuffled(shape)
    tx = torch.tensor(x, requires_grad=True)
    ty, tindices = torch.nn.functional.max_pool2d(tx, **arguments, return_indices=True)
    y, indices = F.max_pool2d(x, **arguments, return_indices=True)
    np.testing.assert_array_equal(y, ty.detach().numpy())
    np.testing.assert_array_equal(indices, tindices.numpy())
    if shape[0] == 0:
        return
    dy = np.random.default_rng(1).integers(-9, 10, y.shape).astype(np.float32)
    ty.backward(torch.tensor(dy))
    np.testing.assert_array_equal(F.max_pool2d_backward(dy, x, **arguments), tx.grad.numpy())


@pytest.mark.torch
def test_max_pool_edge_cases_match_torch(torch):
    t = torch.nn.functional
    for x in (
        np.array([[[[1, np.nan, 3], [np.nan, 2, np.nan], [0, np.nan, 1]]]], np.float32),  # last NaN
        np.full((1, 1, 3, 3), -np.inf, np.float32),
        np.ones((1, 1, 3, 3), np.float32),
    ):
        for arguments in (
            (3,),
            (2, 1, 1),
            (4, 2, 0, 1, True),
            (2, 2, 0, 1, True),
            (2, 1, 1, (2, 3)),
        ):
            want = t.max_pool2d(torch.tensor(x), *arguments, return_indices=True)
            for got, w in zip(F.max_pool2d(x, *arguments, return_indices=True), want, strict=True):
                np.testing.assert_array_equal(got, w.numpy())
    x = shuffled((2, 3, 11))
    want = t.max_pool1d(torch.tensor(x), 3, 2, 1, 1, True, return_indices=True)
    for got, w in zip(F.max_pool1d(x, 3, 2, 1, 1, True, return_indices=True), want, strict=True):
        np.testing.assert_array_equal(got, w.numpy())


@pytest.mark.parametrize("order", [np.asarray, F.channels_last])
@pytest.mark.cpu_only("values are not read back from the GPU to be checked")
def test_max_pool2d_backward_rejects_indices_beyond_32_bits(order, rng):
    x = order(floats(rng, 2, 3, 4, 4))
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    indices = indices.astype(np.int64)
    indices[1, 2, 0, 1] = 2**40
    with pytest.raises(ValueError, match="indices has a value that is too large: expected 32-bit"):
        F.max_pool2d_backward(y, x, 2, indices=indices)

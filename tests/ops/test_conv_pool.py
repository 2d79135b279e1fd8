"""conv2d_relu_max_pool2d: one pass against the three operations one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import assert_close, assert_same_bits_at_any_thread_count, floats

# Output channels and pooled widths around the widths of a vector (4, 8, 16), kernels around the
# largest number of taps that one register tile takes.
CHANNELS_OUT = st.sampled_from([1, 2, 3, 5, 6, 7, 11, 12, 13, 16, 17, 33])
KERNELS = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 9])


@st.composite
def cases(draw):
    """Shapes of x and w, and the padding."""
    kh, kw = draw(KERNELS), draw(KERNELS)
    pads = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(2))
    conv = draw(st.integers(2, 9)), draw(st.integers(2, 41))  # output of the convolution
    h, w = (max(1, c + k - 1 - sum(p)) for c, k, p in zip(conv, (kh, kw), pads, strict=True))
    if h + sum(pads[0]) < kh + 1 or w + sum(pads[1]) < kw + 1:
        h, w = h + kh, w + kw
    c_in = draw(st.sampled_from([1, 2, 3, 5, 6, 8, 16, 19]))
    return (draw(st.integers(1, 3)), c_in, h, w), (draw(CHANNELS_OUT), c_in, kh, kw), pads


def exact(rng, *shape):
    """Small whole numbers: sums of their products are exact in float32."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def unfused(x, w, b, padding):
    conv = reference.conv2d(x.astype(np.float64), w.astype(np.float64), b, padding=padding)
    return conv, reference.max_pool2d(reference.relu(conv), 2)


def unfused_backward(dy, x, w, b, padding):
    x, w, dy = (a.astype(np.float64) for a in (x, w, dy))
    conv = reference.conv2d(x, w, b, padding=padding)
    d = reference.max_pool2d_backward(dy, reference.relu(conv), 2)
    d = reference.relu_backward(d, conv)
    return reference.conv2d_backward(d, x, w, b, padding=padding)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_matches_the_separate_operations(case):
    x_shape, w_shape, padding = case
    rng = np.random.default_rng(1)
    x, w, b = exact(rng, *x_shape), exact(rng, *w_shape), exact(rng, w_shape[0]) + 0.5
    y = F.conv2d_relu_max_pool2d(x, w, b, padding)
    want = unfused(x, w, b, padding)[1]
    np.testing.assert_array_equal(y, want)

    # Whole numbers, so many windows have equal winners: the first must get the gradient.
    dy = exact(rng, *want.shape)
    want_grads = unfused_backward(dy, x, w, b, padding)
    for gradient in (dy, F.channels_last(dy)):
        for images in (x, F.channels_last(x)):
            grads = F.conv2d_relu_max_pool2d_backward(gradient, images, w, b, padding)
            for got, wanted in zip(grads, want_grads, strict=True):
                assert got.dtype == np.float32
                np.testing.assert_array_equal(got, wanted)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_is_within_rounding_of_the_separate_operations(case):
    x_shape, w_shape, padding = case
    rng = np.random.default_rng(2)
    x, w, b = floats(rng, *x_shape), floats(rng, *w_shape), floats(rng, w_shape[0])
    _, want = unfused(x, w, b, padding)
    magnitude = unfused(np.abs(x), np.abs(w), np.abs(b), padding)[1]
    assert_close(F.conv2d_relu_max_pool2d(x, w, b, padding), want, magnitude, w[0].size + 1, "y")


@pytest.mark.parametrize("c_out", [6, 16])
def test_no_bias_and_no_dx(rng, c_out):
    x, w = exact(rng, 2, 3, 11, 12), exact(rng, c_out, 3, 3, 3)
    y = F.conv2d_relu_max_pool2d(x, w)
    np.testing.assert_array_equal(y, unfused(x, w, None, 0)[1])
    dx, dw, db = F.conv2d_relu_max_pool2d_backward(y, x, w, need_dx=False)
    assert dx is None
    assert db is None
    np.testing.assert_array_equal(dw, unfused_backward(y, x, w, None, 0)[1])


@pytest.mark.parametrize("c_out", [6, 16])
def test_nan_passes_as_through_the_separate_operations(rng, c_out):
    x, w, b = floats(rng, 2, 2, 14, 15), floats(rng, c_out, 2, 3, 3), floats(rng, c_out)
    x[0, 1, 5, 6] = np.nan
    y = F.conv2d_relu_max_pool2d(x, w, b, 1)
    want = F.max_pool2d(F.relu(F.conv2d(x, w, b, padding=1)), 2)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(want))
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
    # The gradient goes to the same pixels: where it is a NaN's, dx of the other is finite too.
    dx = F.conv2d_relu_max_pool2d_backward(np.ones_like(y), x, w, b, 1)[0]
    conv = F.conv2d(x, w, b, padding=1)
    d = F.relu_backward(F.max_pool2d_backward(np.ones_like(y), F.relu(conv), 2), conv)
    want_dx = F.conv2d_backward(d, x, w, b, padding=1, need_dw=False)[0]
    np.testing.assert_allclose(dx, want_dx, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("c_out", [6, 16])
def test_empty_batch(rng, c_out):
    x, w, b = floats(rng, 0, 2, 8, 8), floats(rng, c_out, 2, 3, 3), floats(rng, c_out)
    y = F.conv2d_relu_max_pool2d(x, w, b)
    assert y.shape == (0, c_out, 3, 3)
    dx, dw, db = F.conv2d_relu_max_pool2d_backward(y, x, w, b)
    assert dx.shape == x.shape
    np.testing.assert_array_equal(dw, np.zeros_like(w))
    np.testing.assert_array_equal(db, np.zeros_like(b))


@pytest.mark.parametrize(("c_in", "c_out"), [(1, 6), (6, 16)])
def test_same_bits_at_any_thread_count(rng, c_in, c_out):
    x, w, b = floats(rng, 37, c_in, 16, 16), floats(rng, c_out, c_in, 5, 5), floats(rng, c_out)
    y = F.conv2d_relu_max_pool2d(x, w, b, 2)
    dy = floats(rng, *y.shape)
    assert_same_bits_at_any_thread_count(lambda: F.conv2d_relu_max_pool2d(x, w, b, 2))
    assert_same_bits_at_any_thread_count(lambda: F.conv2d_relu_max_pool2d_backward(dy, x, w, b, 2))


def test_errors_name_the_argument(rng):
    x, w = floats(rng, 1, 2, 8, 8), floats(rng, 6, 2, 3, 3)
    with pytest.raises(ValueError, match="conv2d_relu_max_pool2d: x has the wrong number of"):
        F.conv2d_relu_max_pool2d(x[:, :1], w)
    with pytest.raises(ValueError, match="conv2d_relu_max_pool2d: b "):
        F.conv2d_relu_max_pool2d(x, w, floats(rng, 5))
    with pytest.raises(ValueError, match=r"conv2d_relu_max_pool2d: .*larger"):
        F.conv2d_relu_max_pool2d(x[:, :, :3, :3], w)
    with pytest.raises(ValueError, match="conv2d_relu_max_pool2d_backward: dy "):
        F.conv2d_relu_max_pool2d_backward(floats(rng, 1, 6, 6, 6), x, w)

"""conv2d and conv1d: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import convcore
import convcore.functional as F
from convcore import reference
from convcore.nn import Parameter
from helpers import (
    assert_adjoint,
    assert_close,
    assert_same_bits_at_any_thread_count,
    floats,
    numeric_gradient,
)


@st.composite
def convolutions(draw):
    """Draw shapes and parameters of a valid convolution: (n, c, h, w), (k, r, s), parameters."""
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = draw(
        st.one_of(
            st.integers(0, 3),
            st.sampled_from(["valid", "same"]),
            st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2),
        )
    )
    groups = draw(st.integers(1, 3))
    c_in, c_out = (groups * draw(st.integers(1, 4)) for _ in range(2))
    if draw(st.booleans()):
        c_out *= 4  # more than one tile of output channels
    size = (draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    total = {"valid": (0, 0), "same": (99, 99)}.get(padding) if isinstance(padding, str) else None
    if total is None:
        total = (2 * padding,) * 2 if isinstance(padding, int) else tuple(map(sum, padding))
    for axis in range(2):
        assume(size[axis] + total[axis] >= dilation[axis] * (kernel[axis] - 1) + 1)
    n = draw(st.sampled_from([0, 1, 2, 9]))
    return (n, c_in, *size), (c_out, c_in // groups, *kernel), (stride, padding, dilation, groups)


def arrays(x_shape, w_shape, parameters):
    rng = np.random.default_rng(1)
    x, w, b = floats(rng, *x_shape), floats(rng, *w_shape), floats(rng, w_shape[0])
    y = reference.conv2d(x.astype(float), w.astype(float), b.astype(float), *parameters)
    return x, w, b, floats(rng, *y.shape)


@settings(max_examples=150, deadline=None)
@given(convolutions())
def test_conv2d_forward_matches_reference(case):
    check_forward(case, "auto")


@settings(max_examples=100, deadline=None)
@given(convolutions(), st.sampled_from(["planar", "direct"]), st.booleans())
def test_conv2d_forward_matches_reference_by_each_algorithm(case, algo, last):
    if algo != "planar":
        assume(case[2][3] == 1)
    check_forward(case, algo, F.channels_last if last else np.asarray)


# Largest error of Winograd's algorithms as a part of the result's RMS. On images of ordinary size it
# is about 1e-5 (tested below); where most of a tile is padding the RMS is small beside the tile.
WINOGRAD_SLACK = 3e-5
WINOGRAD2X2_SLACK = 1e-5


def slack_of(algo, x, w):
    """Winograd's transforms mix a tile's pixels: its errors are bounded against all of the result."""
    if algo == "winograd":
        return WINOGRAD_SLACK
    if algo == "winograd2x2":
        return WINOGRAD2X2_SLACK
    many = min(x.shape[1], w.shape[0]) >= 12 and w.shape[2:] in ((3, 3), (5, 5))
    return WINOGRAD_SLACK if algo == "auto" and many else 0.0


def check_forward(case, algo, order=np.asarray):
    x, w, b, _ = arrays(*case)
    x = order(x)
    wide = [a.astype(np.float64) for a in (x, w, b)]
    want = reference.conv2d(*wide, *case[2])
    magnitude = reference.conv2d(*map(abs, wide), *case[2])
    bound = {"magnitude": magnitude, "terms": w[0].size + 1, "slack": slack_of(algo, x, w)}
    assert_close(F.conv2d(x, w, b, *case[2], algo=algo), want, **bound)
    without_bias = F.conv2d(x, w, None, *case[2], algo=algo)
    assert_close(without_bias, want - wide[2][:, None, None], **bound)


@settings(max_examples=150, deadline=None)
@given(convolutions())
# The first tap only meets padding: without it the padding is negative.
@example(case=((1, 1, 4, 1), (1, 1, 3, 1), ((3, 1), 1, (2, 1), 1)))
def test_conv2d_backward_matches_reference(case):
    check_backward(case, "auto")


@settings(max_examples=100, deadline=None)
@given(convolutions(), st.sampled_from(["planar", "direct"]), st.booleans())
def test_conv2d_backward_matches_reference_by_each_algorithm(case, algo, last):
    if algo != "planar":
        assume(case[2][3] == 1)
    check_backward(case, algo, F.channels_last if last else np.asarray)


@st.composite
def few_channel_convolutions(draw):
    """Draw few input channels and one vector of output channels or more, or few on both sides."""
    axis = {"kernel": st.integers(1, 7), "stride": st.sampled_from([1, 1, 2, 3])}
    kernel, stride = ((draw(axis[name]), draw(axis[name])) for name in ("kernel", "stride"))
    dilation = tuple(draw(st.sampled_from([1, 1, 2])) for _ in range(2))
    padding = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(2))
    size = (draw(st.integers(1, 18)), draw(st.integers(1, 18)))
    for i in range(2):
        assume(size[i] + sum(padding[i]) >= dilation[i] * (kernel[i] - 1) + 1)
    c_in = draw(st.integers(1, 7))
    n, c_out = draw(
        st.one_of(
            st.tuples(st.sampled_from([1, 3, 20]), st.integers(12, 40)),
            st.tuples(st.sampled_from([12, 13, 16, 29]), st.integers(1, 11)),  # images as lanes
        )
    )
    return (n, c_in, *size), (c_out, c_in, *kernel), (stride, padding, dilation, 1)


@settings(max_examples=150, deadline=None)
@given(few_channel_convolutions(), st.booleans())
def test_conv2d_of_few_channels_matches_reference(case, last):
    order = F.channels_last if last else np.asarray
    check_forward(case, "auto", order)
    check_backward(case, "auto", order)


def check_backward(case, algo, order=np.asarray):
    x, w, b, dy = arrays(*case)
    x, dy = order(x), order(dy)
    wide = [a.astype(np.float64) for a in (dy, x, w, b)]
    wants = reference.conv2d_backward(*wide, *case[2])
    magnitudes = reference.conv2d_backward(*map(abs, wide), *case[2])
    pixels = dy.size // max(1, w.shape[0])
    terms = (w.size // w.shape[1], pixels, pixels)
    grads = F.conv2d_backward(dy, x, w, b, *case[2], algo=algo)
    for name, got, want, magnitude, count in zip(
        ("dx", "dw", "db"), grads, wants, magnitudes, terms, strict=True
    ):
        assert_close(got, want, magnitude, count, name, slack_of(algo, x, w))


@pytest.mark.parametrize(
    ("algo", "largest"), [("direct", 3e-6), ("winograd", 1.5e-5), ("winograd2x2", 3e-6)]
)
@pytest.mark.parametrize(("channels", "size"), [(16, 32), (32, 16), (64, 8)])
def test_conv2d_error_is_a_small_part_of_the_rms(algo, largest, channels, size, pytestconfig):
    if pytestconfig.getoption("--device") == "cuda":
        largest *= 1.5  # one sum after the other over all taps and channels; the CPU keeps several
    case = ((4, channels, size, size), (channels, channels, 3, 3), (1, 1, 1, 1))
    x, w, _, dy = arrays(*case)
    wide = [a.astype(np.float64) for a in (dy, x, w)]
    got = (
        F.conv2d(x, w, None, 1, 1, algo=algo),
        *F.conv2d_backward(dy, x, w, None, 1, 1, algo=algo),
    )
    want = (reference.conv2d(*wide[1:], None, 1, 1), *reference.conv2d_backward(*wide, None, 1, 1))
    for name, mine, true in zip(("y", "dx", "dw"), got, want, strict=False):
        if (algo, name) == ("winograd2x2", "dw"):
            continue  # that is winograd's
        error = np.abs(mine - true).max() / np.sqrt(np.mean(true**2))
        assert error <= largest, (name, error)


@st.composite
def winograd_convolutions(draw):
    """Draw 3x3 convolutions of stride 1 or 2, or 5x5 of stride 1, with any padding below the size."""
    taps, stride = draw(st.sampled_from([(3, 1), (3, 2), (3, 2), (5, 1)]))
    size = (draw(st.integers(1, 21)), draw(st.integers(1, 21)))
    padding = tuple(
        (draw(st.integers(0, taps - 1)), draw(st.integers(0, taps - 1))) for _ in range(2)
    )
    for axis in range(2):
        assume(size[axis] + sum(padding[axis]) >= taps)
    n, c_in, c_out = (
        draw(st.sampled_from([0, 1, 3])),
        draw(st.integers(1, 40)),
        draw(st.integers(1, 40)),
    )
    return (n, c_in, *size), (c_out, c_in, taps, taps), (stride, padding, 1, 1)


@settings(max_examples=150, deadline=None)
@given(winograd_convolutions(), st.sampled_from(["winograd", "winograd2x2"]), st.booleans())
def test_conv2d_by_winograd_matches_reference(case, algo, last):
    assume(algo == "winograd" or case[1][2] == 3)
    check_forward(case, algo, F.channels_last if last else np.asarray)
    check_backward(case, algo, F.channels_last if last else np.asarray)


@pytest.mark.parametrize(
    ("algo", "taps", "stride"),
    [
        ("winograd", 3, 1),
        ("winograd2x2", 3, 1),
        ("winograd", 3, 2),
        ("winograd2x2", 3, 2),
        ("winograd", 5, 1),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_conv2d_by_winograd_is_the_same_bits_at_any_thread_count(algo, taps, stride, size):
    args = (stride, taps // 2, 1, 1)
    x, w, b, dy = arrays((9, 20, size, size), (70, 20, taps, taps), args)
    assert_same_bits_at_any_thread_count(lambda: F.conv2d(x, w, b, *args, algo=algo))
    assert_same_bits_at_any_thread_count(
        lambda: F.conv2d_backward(dy, x, w, b, *args, algo=algo)[:2]
    )


@pytest.mark.parametrize(
    ("algo", "taps", "stride", "largest"),
    [("winograd", 3, 2, 1e-5), ("winograd2x2", 3, 2, 3e-6), ("winograd", 5, 1, 1e-5)],
)
def test_conv2d_error_of_other_winograd_filters(algo, taps, stride, largest):
    args = (stride, taps // 2, 1, 1)
    x, w, _, dy = arrays((4, 64, 16, 16), (96, 64, taps, taps), args)
    wide = [a.astype(np.float64) for a in (dy, x, w)]
    got = (
        F.conv2d(x, w, None, *args, algo=algo),
        F.conv2d_backward(dy, x, w, None, *args, algo=algo)[0],
    )
    want = (
        reference.conv2d(*wide[1:], None, *args),
        reference.conv2d_backward(*wide, None, *args)[0],
    )
    for mine, true in zip(got, want, strict=True):
        assert np.abs(mine - true).max() / np.sqrt(np.mean(true**2)) <= largest


def test_conv2d_by_winograd2x2_has_the_weight_gradient_of_winograd():
    x, w, b, dy = arrays((2, 16, 6, 6), (16, 16, 3, 3), (1, 1, 1, 1))
    dw = [F.conv2d_backward(dy, x, w, b, 1, 1, algo=a)[1] for a in ("winograd", "winograd2x2")]
    np.testing.assert_array_equal(*dw)


@st.composite
def convolutions_of_many_channels(draw):
    """Draw convolutions whose channels fill more than one vector and one block of terms."""
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    size = (draw(st.integers(4, 15)), draw(st.integers(4, 30)))
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(2))
    n, c_in, c_out = (
        draw(st.sampled_from([0, 1, 2, 11])),
        draw(st.integers(1, 70)),
        draw(st.integers(1, 70)),
    )
    return (n, c_in, *size), (c_out, c_in, *kernel), (stride, padding, 1, 1)


@settings(max_examples=40, deadline=None)
@given(convolutions_of_many_channels(), st.booleans())
def test_direct_conv2d_of_many_channels_matches_reference(case, last):
    check_forward(case, "direct", F.channels_last if last else np.asarray)
    check_backward(case, "direct", F.channels_last if last else np.asarray)


@st.composite
def pointwise_convolutions(draw):
    """Draw 1x1 convolutions of any stride."""
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    size = (draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    n, c_in, c_out = (
        draw(st.sampled_from([0, 1, 3])),
        draw(st.integers(1, 150)),
        draw(st.integers(1, 150)),
    )
    return (n, c_in, *size), (c_out, c_in, 1, 1), (stride, 0, 1, 1)


@settings(max_examples=60, deadline=None)
@given(pointwise_convolutions(), st.booleans())
def test_conv2d_by_gemm_matches_reference(case, last):
    check_forward(case, "gemm", F.channels_last if last else np.asarray)
    check_backward(case, "gemm", F.channels_last if last else np.asarray)


LAYERS = {  # x, w, parameters
    "lenet_c1": ((9, 1, 28, 28), (6, 1, 5, 5), (1, 2, 1, 1)),
    "lenet_c3": ((9, 6, 14, 14), (16, 6, 5, 5), (1, 0, 1, 1)),
    "lenet_c1_large_batch": ((29, 1, 28, 28), (6, 1, 5, 5), (1, 2, 1, 1)),
    "lenet_c3_large_batch": ((64, 6, 14, 14), (16, 6, 5, 5), (1, 0, 1, 1)),
    "resnet20_stem": ((9, 3, 32, 32), (16, 3, 3, 3), (1, 1, 1, 1)),
    "resnet20_stage1": ((2, 16, 32, 32), (16, 16, 3, 3), (1, 1, 1, 1)),
    "resnet20_downsample": ((2, 16, 32, 32), (32, 16, 3, 3), (2, 1, 1, 1)),
    "odd_downsample": ((1, 16, 33, 31), (24, 16, 3, 3), (2, 1, 1, 1)),
    "shortcut": ((2, 16, 32, 32), (32, 16, 1, 1), (2, 0, 1, 1)),
    "expand": ((2, 32, 14, 14), (130, 32, 1, 1), (1, 0, 1, 1)),
    "wide_shortcut": ((3, 64, 15, 13), (128, 64, 1, 1), (2, 0, 1, 1)),
    "stem": ((1, 3, 65, 65), (20, 3, 7, 7), (2, 3, 1, 1)),
    "depthwise": ((2, 24, 17, 15), (24, 1, 3, 3), (1, 1, 1, 24)),
    "wide_row": ((1, 2, 3, 300), (7, 2, 3, 3), (1, 1, 1, 1)),
    "stride_over_kernel": ((3, 4, 23, 29), (5, 4, 2, 3), (5, 0, 1, 1)),
    "dilated": ((3, 4, 23, 29), (5, 4, 3, 3), ((2, 3), 4, (4, 2), 1)),
    "whole_image": ((4, 3, 9, 9), (8, 3, 9, 9), (1, 0, 1, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_conv2d_backward_is_adjoint(name):
    x, w, _, dy = arrays(*LAYERS[name])
    y = F.conv2d(x, w, None, *LAYERS[name][2])
    dx, dw, _ = F.conv2d_backward(dy, x, w, None, *LAYERS[name][2])
    assert_adjoint(y, dy, dx, x)
    assert_adjoint(y, dy, dw, w)


@pytest.mark.parametrize("name", LAYERS)
def test_conv2d_is_the_same_bits_at_any_thread_count(name):
    x, w, b, dy = arrays(*LAYERS[name])
    assert_same_bits_at_any_thread_count(lambda: F.conv2d(x, w, b, *LAYERS[name][2]))
    assert_same_bits_at_any_thread_count(lambda: F.conv2d_backward(dy, x, w, b, *LAYERS[name][2]))


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param((1, 0, 1, 1), id="plain"),
        pytest.param(((2, 1), ((0, 2), (1, 0)), (1, 2), 2), id="everything"),
        pytest.param((2, "same", 1, 1), id="same"),
    ],
)
def test_reference_conv2d_matches_finite_differences(parameters, rng):
    groups = parameters[3]
    x, w, b = (
        rng.standard_normal((2, 4, 5, 6)),
        rng.standard_normal((4, 4 // groups, 2, 3)),
        rng.standard_normal(4),
    )
    dy = rng.standard_normal(reference.conv2d(x, w, b, *parameters).shape)
    dx, dw, db = reference.conv2d_backward(dy, x, w, b, *parameters)
    for got, want in (
        (dx, numeric_gradient(lambda v: reference.conv2d(v, w, b, *parameters), x, dy)),
        (dw, numeric_gradient(lambda v: reference.conv2d(x, v, b, *parameters), w, dy)),
        (db, numeric_gradient(lambda v: reference.conv2d(x, w, v, *parameters), b, dy)),
    ):
        np.testing.assert_allclose(got, want, atol=1e-7)


def test_reference_conv2d_is_the_naive_sum(rng):
    x, w, b = (
        rng.standard_normal((2, 4, 6, 5)),
        rng.standard_normal((6, 2, 2, 3)),
        rng.standard_normal(6),
    )
    y = reference.conv2d(x, w, b, (2, 1), ((1, 0), (0, 2)), (1, 2), 2)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 2)))
    want = np.zeros_like(y)
    for n, k, i, j in np.ndindex(y.shape):
        want[n, k, i, j] = b[k]
        for c, r, s in np.ndindex(2, 2, 3):
            want[n, k, i, j] += w[k, c, r, s] * padded[n, k // 3 * 2 + c, i * 2 + r, j + s * 2]
    np.testing.assert_allclose(y, want, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(9, 50)),
    st.tuples(st.integers(1, 9), st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.sampled_from([0, 2, "same", ((1, 3),)]), st.integers(1, 2)),
)
def test_conv1d_matches_reference(x_shape, kernels, parameters):
    rng = np.random.default_rng(2)
    x, w = floats(rng, *x_shape), floats(rng, kernels[0], x_shape[1], kernels[1])
    b = floats(rng, kernels[0])
    wide = [a.astype(np.float64) for a in (x, w, b)]
    want = reference.conv1d(*wide, *parameters)
    assert_close(
        F.conv1d(x, w, b, *parameters),
        want,
        reference.conv1d(*map(abs, wide), *parameters),
        w[0].size + 1,
    )
    dy = floats(rng, *want.shape)
    wide = [dy.astype(np.float64), *wide]
    for got, grad, magnitude in zip(
        F.conv1d_backward(dy, x, w, b, *parameters),
        reference.conv1d_backward(*wide, *parameters),
        reference.conv1d_backward(*map(abs, wide), *parameters),
        strict=True,
    ):
        assert_close(got, grad, magnitude, max(dy.size, w.size))


def test_conv2d_accepts_strided_and_read_only_arrays(rng):
    x, w = floats(rng, 2, 8, 9, 3), floats(rng, 3, 3, 3, 5)
    x.flags.writeable = w.flags.writeable = False
    x_view, w_view = x.transpose(0, 3, 1, 2)[:, :, ::2], w.transpose(3, 0, 1, 2)
    got = F.conv2d(x_view, w_view)
    want = F.conv2d(np.ascontiguousarray(x_view), np.ascontiguousarray(w_view))
    np.testing.assert_array_equal(got, want)


def test_conv2d_passes_nan_and_inf_to_the_pixels_that_see_them(rng):
    x, w = floats(rng, 1, 2, 9, 9), floats(rng, 3, 2, 3, 3)
    x[0, 0, 4, 4] = np.nan
    seen = np.isnan(F.conv2d(x, w))
    want = np.zeros((7, 7), bool)
    want[2:5, 2:5] = True
    np.testing.assert_array_equal(seen, np.broadcast_to(want, seen.shape))


def test_conv2d_backward_keeps_nan_out_of_weights_that_do_not_see_it(rng):
    x, dy = floats(rng, 1, 1, 6, 6), floats(rng, 1, 1, 4, 4)
    x[0, 0, 0, 0] = np.inf  # only tap (0, 0) of output (0, 0) reads it
    _, dw, _ = F.conv2d_backward(dy, x, np.ones((1, 1, 3, 3), np.float32))
    assert np.isfinite(dw).sum() == 8
    assert not np.isfinite(dw[0, 0, 0, 0])


def test_conv2d_backward_leaves_out_what_is_not_needed(rng):
    x, w, b, dy = (
        floats(rng, 1, 1, 3, 3),
        floats(rng, 1, 1, 2, 2),
        floats(rng, 1),
        floats(rng, 1, 1, 2, 2),
    )
    assert F.conv2d_backward(dy, x, w)[2] is None
    dx, dw, db = F.conv2d_backward(dy, x, w, b, need_dx=False, need_db=False)
    assert (dx, db) == (None, None)
    np.testing.assert_array_equal(dw, F.conv2d_backward(dy, x, w, b)[1])


@pytest.mark.parametrize("c_out", [3, 16])
def test_conv2d_of_no_channels_is_the_bias(c_out, rng):
    x, w, b = floats(rng, 2, 0, 8, 8), floats(rng, c_out, 0, 3, 3), floats(rng, c_out)
    y = F.conv2d(x, w, b)
    np.testing.assert_array_equal(y, np.broadcast_to(b[:, None, None], (2, c_out, 6, 6)))
    dx, dw, db = F.conv2d_backward(y, x, w, b)
    assert (dx.shape, dw.shape) == (x.shape, w.shape)
    np.testing.assert_allclose(db, b * 72, rtol=1e-5)


def test_conv2d_empty_batch_gives_zero_gradients():
    x, w, b = (
        np.zeros((0, 3, 8, 8), np.float32),
        np.ones((4, 3, 3, 3), np.float32),
        np.ones(4, np.float32),
    )
    y = F.conv2d(x, w, b)
    assert y.shape == (0, 4, 6, 6)
    dx, dw, db = F.conv2d_backward(y, x, w, b)
    assert dx.shape == x.shape
    assert not dw.any()
    assert not db.any()


def test_conv2d_steady_loop_asks_the_system_for_no_memory(rng):
    x, w, b = floats(rng, 8, 3, 16, 16), floats(rng, 8, 3, 3, 3), floats(rng, 8)
    for _ in range(3):
        y = F.conv2d(x, w, b)
        F.conv2d_backward(y, x, w, b)
    before = convcore._core.memory_stats()["system_requests"]
    for _ in range(5):
        y = F.conv2d(x, w, b)
        F.conv2d_backward(y, x, w, b)
    assert convcore._core.memory_stats()["system_requests"] == before


def zeros(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.cpu_only("integers that are arrays come from NumPy")
def test_conv2d_takes_arrays_without_dimensions_as_ints(rng):
    x, w, two = floats(rng, 1, 2, 8, 8), floats(rng, 4, 1, 2, 2), np.array(2)
    got = F.conv2d(x, w, stride=two, padding=two, dilation=two, groups=two)
    np.testing.assert_array_equal(got, F.conv2d(x, w, None, 2, 2, 2, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(
            lambda: F.conv2d(zeros(3, 8, 8), zeros(4, 3, 3, 3)),
            ValueError,
            "conv2d: x has the wrong number of dimensions: expected 4 (N, C_in, H, W), got 3 (x has shape (3, 8, 8))",
            id="rank",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(8, 1, 28, 28), zeros(16, 3, 5, 5)),
            ValueError,
            "conv2d: x has the wrong number of channels: expected 3 (w has shape (16, 3, 5, 5), groups is 1), "
            "got 1 (x has shape (8, 1, 28, 28))",
            id="channels",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 4, 8, 8), zeros(3, 2, 3, 3), groups=2),
            ValueError,
            "conv2d: the output channels cannot be split into groups: expected a multiple of groups = 2, got 3",
            id="groups",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), groups=0),
            ValueError,
            "conv2d: groups is out of range: expected at least 1, got 0",
            id="no_groups",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), stride=0),
            ValueError,
            "conv2d: stride along H is out of range: expected at least 1, got 0",
            id="stride",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), padding=(0, -1)),
            ValueError,
            "conv2d: padding along W is out of range: expected at least 0, got -1",
            id="negative_padding",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), dilation=(1, 0)),
            ValueError,
            "conv2d: dilation along W is out of range: expected at least 1, got 0",
            id="dilation",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 4, 8), zeros(1, 1, 5, 3)),
            ValueError,
            "conv2d: the window is larger than the padded input along H: expected dilation * (kernel_size - 1) + 1 "
            "<= 4 + 0 + 0 (input and padding), got 1 * (5 - 1) + 1 = 5",
            id="kernel_too_large",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 0, 3)),
            ValueError,
            "conv2d: kernel_size along H is out of range: expected at least 1, got 0",
            id="empty_kernel",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), zeros(2)),
            ValueError,
            "conv2d: b has the wrong shape: expected (1,) (one value per output channel), got (2,)",
            id="bias",
        ),
        pytest.param(
            lambda: F.conv2d(np.zeros((1, 1, 8, 8)), zeros(1, 1, 3, 3)),
            TypeError,
            "conv2d: x has the wrong dtype: expected float32, got float64 (convert it with .astype(numpy.float32))",
            id="dtype",
        ),
        pytest.param(
            lambda: F.conv2d([[1]], zeros(1, 1, 3, 3)),
            TypeError,
            "conv2d: x is not an array: expected a numpy.ndarray of float32, got list",
            id="list",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), Parameter(zeros(1, 1, 3, 3))),
            TypeError,
            "conv2d: w is not an array: expected a numpy.ndarray of float32, got Parameter (pass its .data)",
            id="parameter",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), stride=1.5),
            TypeError,
            "conv2d: stride has the wrong type: expected an int, got 1.5 (float)",
            id="float_stride",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), stride=(1, 2, 3)),
            ValueError,
            "conv2d: stride has the wrong length: expected an int or 2 ints, got (1, 2, 3)",
            id="stride_length",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), padding="full"),
            ValueError,
            "conv2d: padding is not known: expected an int, ints, pairs, 'valid' or 'same', got 'full'",
            id="padding_word",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), padding=((1, 1),)),
            ValueError,
            "conv2d: padding has the wrong length: expected 2 pairs (before, after), got ((1, 1),)",
            id="padding_length",
        ),
        pytest.param(
            lambda: F.conv2d_backward(zeros(1, 1, 8, 8), zeros(1, 1, 8, 8), zeros(1, 1, 3, 3)),
            ValueError,
            "conv2d_backward: dy has the wrong shape: expected (1, 1, 6, 6) (the shape of the output), got (1, 1, 8, 8)",
            id="dy",
        ),
        pytest.param(
            lambda: F.conv1d(zeros(1, 1, 8, 8), zeros(1, 1, 3)),
            ValueError,
            "conv1d: x has the wrong number of dimensions: expected 3 (N, C_in, L), got 4 (x has shape (1, 1, 8, 8))",
            id="conv1d_rank",
        ),
        pytest.param(
            lambda: F.conv1d(zeros(1, 1, 8), zeros(1, 1, 9)),
            ValueError,
            "conv1d: the window is larger than the padded input along L",
            id="conv1d_kernel_too_large",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(2, 1, 8, 8), zeros(1, 1, 3, 3), padding=2**31 - 1),
            ValueError,
            "conv2d: the padded input is too large: expected at most 2^59 elements, "
            "got (2, 1, 4294967302, 4294967302)",
            id="huge",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), padding=2**62),
            ValueError,
            "conv2d: padding along H is out of range: expected at most 2147483647, got 4611686018427387904",
            id="overflow",
        ),
        pytest.param(
            lambda: F.conv2d(zeros(1, 1, 3, 3), zeros(2, 1, 3, 3), algo=1),
            TypeError,
            "conv2d: algo has the wrong type: expected a str, got 1 (int)",
            id="algo-type",
        ),
        pytest.param(
            lambda: F.conv2d_backward(
                zeros(1, 2, 1, 1), zeros(1, 1, 3, 3), zeros(2, 1, 3, 3), algo=None
            ),
            TypeError,
            "conv2d_backward: algo has the wrong type: expected a str, got None (NoneType)",
            id="algo-type-backward",
        ),
        pytest.param(
            lambda: F.conv2d_backward(
                zeros(1, 2, 1, 1), zeros(1, 1, 3, 3), zeros(2, 1, 3, 3), zeros(3)
            ),
            ValueError,
            "conv2d_backward: b has the wrong shape: expected (2,) (one value per output of w), got (3,)",
            id="b-backward",
        ),
        pytest.param(
            lambda: F.conv1d_backward(zeros(1, 2, 1), zeros(1, 1, 3), zeros(2, 1, 3), zeros(2, 1)),
            ValueError,
            "conv1d_backward: b has the wrong shape: expected (2,) (one value per output of w), got (2, 1)",
            id="b-backward-1d",
        ),
    ],
)
def test_conv2d_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.cpu_only("the GPU has one algorithm")
def test_conv2d_rejects_an_algorithm_that_cannot():
    with pytest.raises(
        ValueError, match=r"cannot compute this convolution: expected 3x3 filters.*got winograd"
    ):
        F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 5, 3), algo="winograd")
    with pytest.raises(ValueError, match=r"cannot compute this convolution.*got winograd2x2"):
        F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), None, 3, algo="winograd2x2")
    for padding in (0, 1):
        with pytest.raises(
            ValueError, match=r"cannot compute this convolution: expected 1x1.*got gemm"
        ):
            F.conv2d(
                zeros(1, 1, 8, 8), zeros(1, 1, 3 - 2 * padding, 1), padding=padding, algo="gemm"
            )
    with pytest.raises(ValueError, match=r"algo is not known: expected 'auto'.*got 'fft'"):
        F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 5, 5), algo="fft")


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"stride": 10**8}, id="stride"),
        pytest.param({"dilation": 10**4, "padding": 10**4}, id="dilation"),
    ],
)
@pytest.mark.parametrize("channels", [1, 16])
def test_conv2d_memory_does_not_grow_with_stride_or_dilation(parameters, channels, rng):
    x, w = floats(rng, 1, channels, 5, 5), floats(rng, channels, channels, 3, 3)
    want = (
        reference.conv2d(*(a.astype(float) for a in (x, w)), None, **parameters)
        if "stride" in parameters
        else None
    )
    convcore._core.release_cache()
    before = convcore._core.memory_stats()["cached_bytes"]
    y = F.conv2d(x, w, **parameters)
    F.conv2d_backward(y, x, w, **parameters)
    if want is not None:
        np.testing.assert_allclose(y, want, atol=1e-4)
    assert convcore._core.memory_stats()["cached_bytes"] - before < 64e6


def test_ops_report_memory_that_an_array_copied_into_order_would_need():
    huge = np.broadcast_to(np.float32(1), (2**42,))
    with pytest.raises(MemoryError):
        F.relu(huge)
    with pytest.raises(MemoryError):
        F.cross_entropy(zeros(1, 3), np.broadcast_to(np.int64(0), (2**42,)))


def test_conv2d_reports_memory_that_cannot_be_had():
    with pytest.raises(MemoryError):
        F.conv2d(zeros(1, 1, 8, 8), zeros(1, 1, 3, 3), padding=2**27)


@pytest.mark.torch
@pytest.mark.parametrize("name", LAYERS)
def test_conv2d_matches_torch(name, torch):
    x, w, b, dy = arrays(*LAYERS[name])
    stride, padding, dilation, groups = LAYERS[name][2]
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    y = torch.nn.functional.conv2d(*tensors, stride, padding, dilation, groups)
    y.backward(torch.tensor(dy))
    got = (F.conv2d(x, w, b, *LAYERS[name][2]), *F.conv2d_backward(dy, x, w, b, *LAYERS[name][2]))
    for mine, theirs in zip(got, (y.detach(), *(t.grad for t in tensors)), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-4, atol=1e-4 * np.abs(mine).max())


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch: an odd pixel costs it a copy
@pytest.mark.parametrize(("kernel", "dilation"), [(2, 1), (3, 1), (4, 3), (5, 2)])
def test_conv2d_same_padding_matches_torch_at_stride_1(kernel, dilation, torch, rng):
    x, w = floats(rng, 2, 3, 11, 8), floats(rng, 4, 3, kernel, kernel)
    want = torch.nn.functional.conv2d(
        torch.tensor(x), torch.tensor(w), padding="same", dilation=dilation
    )
    np.testing.assert_allclose(
        F.conv2d(x, w, padding="same", dilation=dilation), want.numpy(), atol=1e-4
    )


@pytest.mark.torch
@pytest.mark.cpu_only("tensors of torch in the memory of the CPU")
def test_conv2d_reads_torch_tensors_through_dlpack(torch, rng):
    x, w = floats(rng, 2, 3, 8, 8), floats(rng, 4, 3, 3, 3)
    np.testing.assert_array_equal(F.conv2d(torch.tensor(x), torch.tensor(w)), F.conv2d(x, w))

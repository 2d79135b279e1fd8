"""Activations: forward and backward."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import (
    EPS32,
    assert_close,
    assert_same_bits_at_any_thread_count,
    floats,
    numeric_gradient,
)

SMOOTH = ["gelu", "gelu_tanh", "silu"]  # x times a probability
NAMES = ["relu", "leaky_relu", "tanh", "sigmoid", "scaled_tanh", "elu", *SMOOTH]
FROM_OUTPUT = ["relu", "tanh", "sigmoid", "scaled_tanh"]  # those whose backward takes saved=

SMALLEST_NORMAL = 2.0**-126
every_op = pytest.mark.parametrize("name", NAMES)
shapes = st.lists(st.integers(0, 20), min_size=0, max_size=3)


def function(module, name, suffix=""):
    if name == "gelu_tanh":
        return functools.partial(getattr(module, f"gelu{suffix}"), approximate="tanh")
    return getattr(module, f"{name}{suffix}")


def forward(name):
    return function(F, name)


def backward(name):
    return function(F, name, "_backward")


def reference_of(name, suffix=""):
    return function(reference, name, suffix)


def growth(name, x):
    """Return how the rounding of the argument grows: that of exp(-u), |u| times."""
    return 1 + x**2 if name in ("gelu", "gelu_tanh") else 1.0


def case(shape, seed=0):
    rng = np.random.default_rng(seed)
    return np.asarray(3 * floats(rng, *shape)), floats(rng, *shape)


@every_op
@settings(max_examples=40, deadline=None)
@given(shape=shapes)
def test_activation_forward_matches_reference(name, shape):
    x, _ = case(shape)
    x64 = x.astype(np.float64)
    want = reference_of(name)(x64)
    assert_close(forward(name)(x), want, want * growth(name, x64), 1, name)


@every_op
@settings(max_examples=40, deadline=None)
@given(shape=shapes)
def test_activation_backward_matches_reference(name, shape):
    x, dy = case(shape)
    x64, dy64 = x.astype(np.float64), dy.astype(np.float64)
    want = reference_of(name, "_backward")(dy64, x64)
    # 1 - y rounds with an absolute error of eps: relative to dy * y, not to the product with 1 - y.
    factor = {"tanh": 1.0, "scaled_tanh": 1.2, "sigmoid": reference.sigmoid(x64)}.get(name)
    magnitude = want if factor is None else dy * factor
    if name in SMOOTH:  # the two terms of (x * P(x))' = P + x P' cancel near the minimum
        probability = reference_of(name)(x64) / np.where(x64 == 0, 1, x64)
        terms = 2 * abs(probability) + abs(want / dy64)
        magnitude = dy * terms * growth(name, x64)
    assert_close(backward(name)(dy, x), want, magnitude, 1, name)


def test_relu_is_exact(rng):
    x, dy = case((7, 13))
    np.testing.assert_array_equal(F.relu(x), np.maximum(x, 0))
    np.testing.assert_array_equal(F.relu_backward(dy, x), dy * (x > 0))


def test_relu_backward_is_zero_at_zero():
    x = np.array([0.0, -0.0], np.float32)
    assert F.relu_backward(np.ones(2, np.float32), x).tolist() == [0, 0]
    assert F.leaky_relu_backward(np.ones(2, np.float32), x, 0.25).tolist() == [0.25, 0.25]


@pytest.mark.parametrize(("name", "ulps"), [("tanh", 1.4), ("sigmoid", 2.4)])
@pytest.mark.cpu_only("the bound is that of csrc/cpu/math.h", ids=("tanh-1.4", "sigmoid-2.4"))
def test_activation_forward_is_accurate_in_every_binade(name, ulps):
    x = np.concatenate(
        [
            sign * np.linspace(2.0**e, 2.0 ** (e + 1), 500, dtype=np.float32)
            for e in range(-126, 8)
            for sign in (1, -1)
        ]
    )
    want = reference_of(name)(x.astype(np.float64))
    y = forward(name)(x)
    assert (
        y[np.abs(want) < SMALLEST_NORMAL * (1 - ulps * EPS32)] == 0
    ).all()  # denormals are flushed
    normal = np.abs(want) > SMALLEST_NORMAL * (1 + ulps * EPS32)
    error = np.abs(y - want)[normal] / np.spacing(np.abs(want[normal]).astype(np.float32))
    assert error.max() <= ulps


@every_op
@pytest.mark.cpu_only("on the GPU denormals are numbers")
def test_activation_takes_denormals_as_zero(name):
    x, dy = np.array([1e-40, -1e-40], np.float32), np.array([0.7, 0.7], np.float32)
    zero = np.array([0.0, -0.0], np.float32)
    np.testing.assert_array_equal(np.abs(forward(name)(x)), np.abs(forward(name)(zero)))
    np.testing.assert_array_equal(backward(name)(dy, x), backward(name)(dy, zero))


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
@pytest.mark.cpu_only("on the GPU denormals are numbers", ids=("tanh",))
def test_activation_handles_the_ends_of_the_range(name):
    inf = np.inf
    x = np.array([-inf, -3e38, -200, -95, -1e-45, -0.0, 0.0, 1e-45, 95, 200, 3e38, inf], np.float32)
    y = forward(name)(x)
    want = reference_of(name)(x.astype(np.float64))
    want[np.abs(want) < SMALLEST_NORMAL] = 0  # denormals are flushed
    np.testing.assert_allclose(y, want, rtol=4 * EPS32, atol=0)
    if name == "tanh":
        assert np.signbit(y).tolist() == np.signbit(x).tolist()


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_activation_has_its_limits_at_the_ends(name):
    x = np.array([-np.inf, -3e38, -1e4, 1e4, 3e38, np.inf], np.float32)
    assert (forward(name)(x) == np.maximum(x, 0)).all()
    assert backward(name)(np.ones(6, np.float32), x).tolist() == [0, 0, 0, 1, 1, 1]


def test_elu_does_not_lose_small_numbers():
    x = -np.logspace(-30, 3, 200).astype(np.float32)
    want = np.expm1(x.astype(np.float64))
    np.testing.assert_allclose(F.elu(x), want, rtol=4 * EPS32)
    np.testing.assert_allclose(F.elu(np.array([-np.inf], np.float32), 2.0), -2)


@pytest.mark.cpu_only("the bound is that of csrc/cpu/math.h")
def test_gelu_is_right_in_the_tail():
    x = np.linspace(-12, 0, 500, dtype=np.float32)
    want = reference.gelu(x.astype(np.float64))
    np.testing.assert_allclose(F.gelu(x), want, rtol=100 * EPS32)


def test_scaled_tanh_of_lenet_maps_one_to_one():
    np.testing.assert_allclose(F.scaled_tanh(np.array([-1, 1], np.float32)), [-1, 1], atol=1e-4)


def test_activation_rejects_arguments_without_meaning():
    x = np.zeros(3, np.float32)
    message = "alpha is zero: expected a number other than 0, got 0"
    with pytest.raises(ValueError, match=f"scaled_tanh: {message}"):
        F.scaled_tanh(x, 0)
    with pytest.raises(ValueError, match=f"scaled_tanh_backward: {message}"):
        F.scaled_tanh_backward(x, x, 0)
    message = "approximate is not known: expected 'none' or 'tanh', got 'erf'"
    with pytest.raises(ValueError, match=f"gelu: {message}"):
        F.gelu(x, "erf")
    with pytest.raises(ValueError, match=f"gelu_backward: {message}"):
        F.gelu_backward(x, x, "erf")
    with pytest.raises(TypeError, match="elu: alpha has the wrong type: expected a number"):
        F.elu(x, "1")


@every_op
def test_reference_activation_matches_finite_differences(name, rng):
    x, dy = (a.astype(np.float64) for a in case((3, 5)))
    got = reference_of(name, "_backward")(dy, x)
    np.testing.assert_allclose(got, numeric_gradient(reference_of(name), x, dy), atol=1e-8)


@every_op
def test_activation_is_the_same_bits_at_any_thread_count(name):
    x, dy = case((300, 1001))
    assert_same_bits_at_any_thread_count(lambda: forward(name)(x))
    assert_same_bits_at_any_thread_count(lambda: backward(name)(dy, x))


@every_op
def test_activation_bits_do_not_depend_on_the_position(name):
    x, dy = case((67,))
    y, dx = forward(name)(x), backward(name)(dy, x)
    for i in range(x.size):
        assert forward(name)(x[i:]).tobytes() == y[i:].tobytes()
        assert backward(name)(dy[i:], x[i:]).tobytes() == dx[i:].tobytes()


@pytest.mark.parametrize("name", FROM_OUTPUT)
def test_activation_backward_from_the_saved_output_is_the_same_bits(name):
    x, dy = case((5, 33))
    y = forward(name)(x)
    want = backward(name)(dy, x).tobytes()
    assert backward(name)(dy, x, saved=y).tobytes() == want
    assert backward(name)(dy, None, saved=y).tobytes() == want


@every_op
def test_activation_accepts_strided_and_read_only_arrays(name):
    x, dy = case((6, 10))
    want = (
        forward(name)(np.ascontiguousarray(x.T)),
        backward(name)(np.ascontiguousarray(dy.T), x.T.copy()),
    )
    x.flags.writeable = False
    np.testing.assert_array_equal(forward(name)(x.T), want[0])
    np.testing.assert_array_equal(backward(name)(dy.T, x.T), want[1])


@every_op
def test_activation_passes_nan_through(name):
    x, dy = case((40,))
    x[[3, 39]] = np.nan
    assert np.flatnonzero(np.isnan(forward(name)(x))).tolist() == [3, 39]
    dy[7] = np.nan
    x[7] = 1
    assert np.isnan(backward(name)(dy, x)[7])


@every_op
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        pytest.param(
            [1.0],
            TypeError,
            "x is not an array: expected a numpy.ndarray of float32, got list",
            id="list",
        ),
        pytest.param(
            np.zeros(3),
            TypeError,
            "x has the wrong dtype: expected float32, got float64",
            id="dtype",
        ),
    ],
)
def test_activation_rejects(name, x, error, message):
    with pytest.raises(error, match=re.escape(f"{name}: {message}")):
        forward(name)(x)


@pytest.mark.parametrize("slope", ["0.1", b"0.1", None])
def test_leaky_relu_rejects_a_slope_that_is_no_number(slope):
    x = np.zeros(3, np.float32)
    message = "negative_slope has the wrong type: expected a number, got "
    with pytest.raises(TypeError, match=f"leaky_relu: {message}"):
        F.leaky_relu(x, slope)
    with pytest.raises(TypeError, match=f"leaky_relu_backward: {message}"):
        F.leaky_relu_backward(x, x, slope)


@every_op
def test_activation_backward_rejects_wrong_dy(name):
    dy, x = np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)
    message = (
        f"{name}_backward: dy has the wrong shape: "
        "expected (3, 2) (the shape of the output), got (2, 3)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        backward(name)(dy, x)


@pytest.mark.parametrize("name", FROM_OUTPUT)
def test_activation_backward_rejects_wrong_saved(name):
    dy, saved = np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float32)
    message = (
        f"{name}_backward: saved has the wrong shape: "
        "expected (3, 2) (the shape of the output), got (2, 3)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        backward(name)(dy, dy, saved=saved)


@pytest.mark.parametrize("name", FROM_OUTPUT)
def test_activation_backward_rejects_neither_x_nor_saved(name):
    with pytest.raises(TypeError, match=f"{name}_backward: x is not an array: .* got NoneType"):
        backward(name)(np.zeros(3, np.float32), None)


@pytest.mark.torch
@every_op
def test_activation_matches_torch(name, torch):
    x, dy = case((9, 11))
    x[0, :7] = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-37, 50]
    if name in SMOOTH:  # torch has NaN at the ends
        x[0, 3:5] = 3
    tx = torch.tensor(x, requires_grad=True)
    if name == "scaled_tanh":
        ty = 1.7159 * torch.tanh(2 / 3 * tx)
    else:
        ty = function(torch.nn.functional, name)(tx)
    ty.backward(torch.tensor(dy))
    atol = 1e-6 if name in SMOOTH else 1e-40  # torch adds 1 to the error function
    np.testing.assert_allclose(forward(name)(x), ty.detach().numpy(), rtol=1e-6, atol=atol)
    np.testing.assert_allclose(backward(name)(dy, x), tx.grad.numpy(), rtol=1e-5, atol=1e-6)

"""optimizer: the in-place kernels of one step; convcore.optim is tested in tests/test_optim.py."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convcore import _core, reference
from helpers import EPS32, assert_same_bits_at_any_thread_count, floats

counts = st.sampled_from([0, 1, 3, 15, 16, 17, 33, 100])


def arrays(count, seed=0):
    """Return param, grad, and two arrays of state, the second one positive."""
    rng = np.random.default_rng(seed)
    return (*(floats(rng, count) for _ in range(3)), floats(rng, count) ** 2)


def wide(*values):
    return tuple(v.astype(np.float64) for v in values)


def assert_within(got, want, magnitude):
    """Hold `got` within 8 roundings of the largest term that enters it."""
    assert (abs(got.astype(np.float64) - want) <= 8 * EPS32 * magnitude + 1e-30).all()


@settings(max_examples=60, deadline=None)
@given(
    counts,
    st.sampled_from([0.0, 0.9]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.05]),
)
def test_sgd_step_matches_reference(count, momentum, dampening, weight_decay, nesterov, first, l1):
    param, grad, buffer, _ = arrays(count)
    options = {
        "lr": 0.1,
        "momentum": momentum,
        "dampening": dampening,
        "weight_decay": weight_decay,
        "nesterov": nesterov,
        "l1": l1,
    }
    param64, grad64, buffer64 = wide(param, grad, buffer)
    want, want_buffer = reference.sgd_step(param64, grad64, None if first else buffer64, **options)
    _core.sgd_step(param, grad, buffer, *list(options.values())[:-1], first, l1)
    terms = abs(grad64) + weight_decay * abs(param64) + l1 + abs(buffer64)
    assert_within(param, want, abs(param64) + 0.1 * terms)
    if momentum != 0:
        assert_within(buffer, want_buffer, terms)
    else:
        np.testing.assert_array_equal(buffer, buffer64)


@settings(max_examples=60, deadline=None)
@given(
    counts,
    st.sampled_from([1, 2, 1000, 10**9]),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
    st.sampled_from([1e-8, 0.1]),
    st.sampled_from([0.0, 0.05]),
)
def test_adam_step_matches_reference(count, step, weight_decay, decoupled, eps, l1):
    param, grad, mean, square = arrays(count)
    options = {
        "lr": 0.1,
        "eps": eps,
        "weight_decay": weight_decay,
        "decoupled": decoupled,
        "l1": l1,
    }
    param64, grad64, mean64, square64 = wide(param, grad, mean, square)
    want, want_mean, want_square = reference.adam_step(
        param64, grad64, mean64, square64, step, betas=(0.9, 0.999), **options
    )
    _core.adam_step(
        param, grad, mean, square, 0.1, 0.9, 0.999, eps, weight_decay, decoupled, step, l1
    )
    penalty = weight_decay * abs(param64) + l1
    terms = abs(grad64) + penalty + abs(mean64)
    assert_within(mean, want_mean, terms)
    assert_within(square, want_square, want_square + (abs(grad64) + penalty) * penalty)
    # A step is lr * mean / root: an error of the mean counts in units of the root, one of the
    # square (float32 in the sum g = grad + decay * param) relative to itself.
    root = np.sqrt(want_square / (1 - 0.999**step)) + eps
    relative = 1 + (abs(grad64) + penalty) * penalty / (want_square + 1e-30)
    size = 0.1 * terms / (1 - 0.9**step) / root * relative
    assert_within(param, want, abs(param64) + size)


@settings(max_examples=60, deadline=None)
@given(
    counts,
    st.sampled_from([0.0, 0.9]),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
    st.sampled_from([0.0, 0.05]),
)
def test_rmsprop_step_matches_reference(count, momentum, weight_decay, centered, l1):
    param, grad, buffer, square = arrays(count)
    mean = 0.1 * grad  # of an estimate of the variance that is well above 0
    square = square + 1
    options = {
        "lr": 0.1,
        "alpha": 0.9,
        "eps": 1e-8,
        "weight_decay": weight_decay,
        "momentum": momentum,
        "centered": centered,
        "l1": l1,
    }
    param64, grad64, square64, mean64, buffer64 = wide(param, grad, square, mean, buffer)
    want, want_square, want_mean, want_buffer = reference.rmsprop_step(
        param64, grad64, square64, mean64, buffer64, **options
    )
    _core.rmsprop_step(
        param,
        grad,
        square,
        mean if centered else None,
        buffer if momentum else None,
        *options.values(),
    )
    terms = abs(grad64) + weight_decay * abs(param64) + l1
    assert_within(square, want_square, square64 + terms**2)
    assert_within(mean, want_mean, terms + abs(mean64))
    size = 4 * terms * (1 + terms**2) + abs(buffer64)  # the root is about 1
    assert_within(buffer, want_buffer, size)
    assert_within(param, want, abs(param64) + 0.1 * size)


def test_centered_rmsprop_takes_rounding_for_no_variance():
    ones = np.ones(5, np.float32)
    param, square, mean = ones.copy(), ones.copy(), ones * np.float32(1.0000002)
    _core.rmsprop_step(param, ones * 0, square, mean, None, 0.1, 1.0, 1e-8, 0.0, 0.0, True, 0.0)
    np.testing.assert_array_equal(param, ones)


@settings(max_examples=60, deadline=None)
@given(
    counts,
    st.sampled_from([1, 2, 1000]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.0, 0.01]),
    st.sampled_from([0.0, 0.05]),
)
def test_adagrad_step_matches_reference(count, step, weight_decay, lr_decay, l1):
    param, grad, _, total = arrays(count)
    total = total + 1
    param64, grad64, total64 = wide(param, grad, total)
    want, want_total = reference.adagrad_step(
        param64,
        grad64,
        total64,
        step,
        lr=0.1,
        lr_decay=lr_decay,
        weight_decay=weight_decay,
        l1=l1,
    )
    _core.adagrad_step(param, grad, total, 0.1, lr_decay, 1e-10, weight_decay, step, l1)
    terms = abs(grad64) + weight_decay * abs(param64) + l1
    assert_within(total, want_total, total64 + terms**2)
    assert_within(param, want, abs(param64) + 0.1 * terms * (1 + terms**2))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(0, 3), (3, 0), (1, 1), (5, 17), (7, 2, 3, 3), (4,), (33, 129)]),
    st.sampled_from([0.0, 0.5, 3.0, 1e6]),
)
def test_limit_norms_matches_reference(shape, most):
    param = floats(np.random.default_rng(1), *shape)
    want = reference.limit_norms(param.astype(np.float64), most) if most else np.zeros(shape)
    kept = param.copy()
    _core.limit_norms(param, most)
    np.testing.assert_allclose(param, want, rtol=1e-5, atol=1e-30)
    if most == 1e6:
        np.testing.assert_array_equal(param, kept)


def test_limit_norms_leaves_rows_with_nan():
    param = np.array([[3, 4], [np.nan, 1], [0.6, 0.8]], np.float32)
    _core.limit_norms(param, 1.0)
    np.testing.assert_allclose(param, [[0.6, 0.8], [np.nan, 1], [0.6, 0.8]], rtol=1e-6)
    with pytest.raises(ValueError, match="limit_norms: param has no rows"):
        _core.limit_norms(np.array(1.0, np.float32), 1.0)


@pytest.mark.torch
def test_limit_norms_matches_torch(torch, rng):
    param = floats(rng, 6, 5, 3, 3)
    want = torch.renorm(torch.tensor(param), p=2, dim=0, maxnorm=6.5).numpy()
    _core.limit_norms(param, 6.5)
    np.testing.assert_allclose(param, want, rtol=1e-5, atol=1e-6)


def test_optimizer_steps_are_the_same_bits_at_any_thread_count():
    param, grad, mean, square = arrays(200_003)

    def sgd():
        p, b = param.copy(), mean.copy()
        _core.sgd_step(p, grad, b, 0.1, 0.9, 0.0, 0.01, True, False, 1e-3)
        return p, b

    def adam():
        p, m, s = param.copy(), mean.copy(), square.copy()
        _core.adam_step(p, grad, m, s, 0.1, 0.9, 0.999, 1e-8, 0.01, False, 3, 1e-3)
        return p, m, s

    def rmsprop():
        p, s, m, b = param.copy(), square + 100, mean.copy(), mean.copy()
        _core.rmsprop_step(p, grad, s, m, b, 0.1, 0.9, 1e-8, 0.01, 0.9, True, 1e-3)
        return p, s, m, b

    def adagrad():
        p, s = param.copy(), square.copy()
        _core.adagrad_step(p, grad, s, 0.1, 0.1, 1e-10, 0.01, 3, 1e-3)
        return p, s

    def limited():
        p = param[: 199 * 1005].reshape(199, 1005).copy()
        _core.limit_norms(p, 31.0)
        return (p,)

    for step in (sgd, adam, rmsprop, adagrad, limited):
        assert_same_bits_at_any_thread_count(step)


def test_optimizer_steps_take_any_shape_and_strided_gradients(rng):
    param, grad = floats(rng, 4, 6), floats(rng, 6, 4)
    grad.flags.writeable = False
    want = param - np.float32(0.5) * grad.T
    _core.sgd_step(param, grad.T, None, 0.5, 0, 0, 0, False, True, 0)
    np.testing.assert_allclose(param, want, rtol=1e-6, atol=1e-6)
    scalar = np.array(1.0, np.float32)
    _core.sgd_step(scalar, scalar.copy(), None, 0.5, 0, 0, 0, False, True, 0)
    assert scalar == 0.5


def test_optimizer_steps_pass_nan_through_and_leave_the_rest_alone():
    param, grad, mean, square = arrays(40)
    grad[7] = np.nan
    only = [i == 7 for i in range(40)]
    p = param.copy()
    _core.sgd_step(p, grad, None, 0.1, 0, 0, 0, False, True, 0)
    assert np.isnan(p).tolist() == only
    _core.adam_step(param, grad, mean, square, 0.1, 0.9, 0.999, 1e-8, 0, False, 1, 0)
    assert np.isnan(param).tolist() == only
    assert np.isnan(mean).tolist() == only
    assert np.isnan(square).tolist() == only


def test_sgd_step_without_weight_decay_keeps_an_infinite_parameter():
    param, grad = np.full(3, np.inf, np.float32), np.ones(3, np.float32)
    _core.sgd_step(param, grad, None, 0.1, 0, 0, 0, False, True, 0)
    assert (param == np.inf).all()


def sgd(param, grad, buffer=None, momentum=0.0):
    _core.sgd_step(param, grad, buffer, 0.1, momentum, 0.0, 0.0, False, True, 0.0)


def adam(param, grad, mean, square, step=1):
    _core.adam_step(param, grad, mean, square, 0.1, 0.9, 0.999, 1e-8, 0.0, False, step, 0.0)


def zeros(count, dtype=np.float32):
    return np.zeros(count, dtype)


def read_only(array):
    array.flags.writeable = False
    return array


REJECTED = {
    "sgd grad": (
        lambda: sgd(zeros(3), zeros(4)),
        ValueError,
        "sgd_step: grad has the wrong shape: expected (3,) (the shape of the parameter), got (4,)",
    ),
    "sgd buffer": (
        lambda: sgd(zeros(3), zeros(3), zeros(2), 0.9),
        ValueError,
        "sgd_step: momentum_buffer has the wrong shape: expected (3,)",
    ),
    "sgd no buffer": (
        lambda: sgd(zeros(3), zeros(3), None, 0.9),
        ValueError,
        "sgd_step: momentum_buffer is missing: expected an array when momentum is not 0, got None",
    ),
    "sgd read-only": (
        lambda: sgd(read_only(zeros(3)), zeros(3)),
        ValueError,
        "sgd_step: param cannot be updated in place: expected a writeable array, "
        "got a read-only one",
    ),
    "sgd strided": (
        lambda: sgd(zeros(6)[::2], zeros(3)),
        ValueError,
        "sgd_step: param cannot be updated in place: expected a C-contiguous array, "
        "got strided memory",
    ),
    "sgd dtype": (
        lambda: sgd(zeros(3), zeros(3, np.float64)),
        TypeError,
        "sgd_step: grad has the wrong dtype: expected float32, got float64",
    ),
    "adam grad": (
        lambda: adam(zeros(3), zeros(4), zeros(3), zeros(3)),
        ValueError,
        "adam_step: grad has the wrong shape: expected (3,)",
    ),
    "adam mean": (
        lambda: adam(zeros(3), zeros(3), zeros(2), zeros(3)),
        ValueError,
        "adam_step: exp_avg has the wrong shape: expected (3,)",
    ),
    "adam square": (
        lambda: adam(zeros(3), zeros(3), zeros(3), zeros(2)),
        ValueError,
        "adam_step: exp_avg_sq has the wrong shape: expected (3,)",
    ),
    "adam step": (
        lambda: adam(zeros(3), zeros(3), zeros(3), zeros(3), 0),
        ValueError,
        "adam_step: step is out of range: expected at least 1, got 0",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REJECTED.values(), ids=REJECTED.keys())
@pytest.mark.cpu_only(
    "how NumPy's memory lies is not seen on the GPU", ids=("sgd read-only", "sgd strided")
)
def test_optimizer_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()

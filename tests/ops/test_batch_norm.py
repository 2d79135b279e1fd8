"""batch_norm: forward, running statistics and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import EPS32, assert_same_bits_at_any_thread_count, floats, numeric_gradient

# (N, C), (N, C, L) and (N, C, H, W), with odd sizes, more than a vector, and an empty batch.
shapes = st.one_of(
    st.tuples(st.integers(0, 40), st.integers(1, 40)),
    st.tuples(st.integers(0, 6), st.integers(1, 9), st.integers(1, 70)),
    st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(1, 11), st.integers(1, 11)),
    st.tuples(st.integers(1, 3), st.integers(1, 140), st.integers(1, 7), st.integers(1, 7)),
).filter(lambda shape: per_channel(shape) != 1)


def per_channel(shape):
    return shape[0] * int(np.prod(shape[2:]))


def case(shape, seed=0, mean=0.0):
    """Return x, running_mean, running_var, weight, bias and dy."""
    rng = np.random.default_rng(seed)
    c = shape[1]
    var = rng.uniform(0.5, 2, c).astype(np.float32)
    x = floats(rng, *shape) + np.float32(mean)
    return x, floats(rng, c), var, floats(rng, c), floats(rng, c), floats(rng, *shape)


def wide(*arrays):
    return tuple(a.astype(np.float64) for a in arrays)


def channels(values, x):
    """Return one value per channel in a shape that broadcasts against x."""
    return values.reshape((1, -1) + (1,) * (x.ndim - 2))


def axes_of(x):
    return (0, *range(2, x.ndim))


def assert_within(got, want, bound, what=""):
    assert got.dtype == np.float32
    assert got.shape == want.shape
    error = abs(got.astype(np.float64) - want)
    assert (error <= bound).all(), (what, error.max())


def bounds_of(x, dy, mean, rstd, weight, bias, training):
    """Return bounds on the errors of y, dx, dweight and dbias.

    Sums of small blocks are made in float32 and added in double, so an error is a few roundings
    to float32 of what enters the formula. Three parts matter: the mean is kept in float32
    (EPS32 * |mean|, in units of the deviation); the sums it comes from round relative to the
    deviation (1 / rstd); and the factors rstd and weight are rounded, relative to |x - mean|.
    """
    mean, rstd, scale = (channels(v, x) for v in (mean, rstd, abs(weight) * rstd))
    deviation = abs(x - mean) + 0.25 / rstd
    y = 8 * EPS32 * (scale * (deviation + abs(mean)) + abs(channels(bias, x)))
    center = (deviation + abs(mean)) * rstd  # of xhat, in units of 8 EPS32
    axes, m = axes_of(x), max(per_channel(x.shape), 1)
    dbias = abs(dy).sum(axis=axes)
    dweight = (abs(dy) * center).sum(axis=axes)
    dx = abs(dy)
    if training:
        xhat = deviation * rstd
        slope = (abs(dy) * xhat).sum(axis=axes) / m
        dx = dx + channels(dbias, x) / m + xhat * channels(dweight, x) / m
        dx = dx + center * channels(slope, x)
    return y, 8 * EPS32 * scale * dx, 8 * EPS32 * dweight, 8 * EPS32 * dbias


def statistics(x, mean, var, training, eps):
    """Return mean and rstd in float64, of the batch or the running ones."""
    if training:
        mean, var = x.mean(axis=axes_of(x)), x.var(axis=axes_of(x))
    return mean, 1 / np.sqrt(var + eps)


@settings(max_examples=60, deadline=None)
@given(shapes, st.booleans(), st.sampled_from([0.0, 3.0, 1000.0]), st.booleans())
def test_batch_norm_forward_and_backward_match_reference(shape, training, mean, last):
    check_against_reference(shape, training, mean, last)


@pytest.mark.parametrize(
    "shape", [(70, 3, 40, 41), (3000, 20), (5, 2, 150, 151), (2, 7, 130, 131)], ids=str
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_batch_norm_of_several_shards_matches_reference(shape, training, last):
    check_against_reference(shape, training, 5.0, last)


def check_against_reference(shape, training, mean, last, eps=1e-5):
    x, run_mean, run_var, weight, bias, dy = case(shape, mean=mean)
    x64, mean64, var64, weight64, bias64, dy64 = wide(x, run_mean, run_var, weight, bias, dy)
    if x.size:
        used = statistics(x64, mean64, var64, training, eps)
    else:
        used = np.zeros(shape[1]), np.ones(shape[1])
    bounds = bounds_of(x64, dy64, *used, weight64, bias64, training)
    if last and x.ndim == 4:
        x, dy = F.channels_last(x), F.channels_last(dy)
    arguments = (run_mean, run_var, weight, bias, training, 0.1, eps)
    arguments64 = (mean64, var64, weight64, bias64, training, 0.1, eps)

    want_grads = reference.batch_norm_backward(dy64, x64, *arguments64)
    grads = F.batch_norm_backward(dy, x, *arguments)
    for name, got, want, bound in zip(
        ("dx", "dweight", "dbias"), grads, want_grads, bounds[1:], strict=True
    ):
        assert_within(got, want, bound, name)

    y = F.batch_norm(x, *arguments)
    assert_within(y, reference.batch_norm(x64, *arguments64), bounds[0], "y")
    assert_within(run_mean, mean64, 2 * EPS32 * (abs(mean64) + 1 / used[1]), "running_mean")
    assert_within(run_var, var64, 4 * EPS32 * abs(var64), "running_var")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (3, 2, 4), (2, 3, 2, 2)], ids=str)
def test_reference_batch_norm_matches_finite_differences(shape, training):
    x, mean, var, weight, bias, dy = wide(*case(shape))

    def forward(x, weight, bias):
        return reference.batch_norm(x, mean.copy(), var.copy(), weight, bias, training)

    dx, dweight, dbias = reference.batch_norm_backward(dy, x, mean, var, weight, bias, training)
    for got, f, at in (
        (dx, lambda v: forward(v, weight, bias), x),
        (dweight, lambda v: forward(x, v, bias), weight),
        (dbias, lambda v: forward(x, weight, v), bias),
    ):
        np.testing.assert_allclose(got, numeric_gradient(f, at, dy), atol=1e-7)


@pytest.mark.parametrize("shape", [(64, 3, 9, 9), (2000, 5)], ids=str)
@pytest.mark.cpu_only(
    "the GPU adds 64 numbers in float32 before it goes on in double", ids=("(2000, 5)",)
)
def test_batch_norm_statistics_are_accurate_for_a_large_mean(shape, rng):
    x = (1000 + rng.standard_normal(shape)).astype(np.float32)
    x[0] = 0  # an outlier where the sums begin
    var = np.zeros(shape[1], np.float32)
    _, (mean, rstd) = F.batch_norm(
        x, np.zeros_like(var), var, training=True, momentum=1.0, return_saved=True
    )
    axes, x64 = axes_of(x), x.astype(np.float64)
    np.testing.assert_allclose(mean, x64.mean(axis=axes), rtol=2 * EPS32)
    np.testing.assert_allclose(var, x64.var(axis=axes, ddof=1), rtol=4 * EPS32)
    np.testing.assert_allclose(rstd, 1 / np.sqrt(x64.var(axis=axes) + 1e-5), rtol=4 * EPS32)


def test_batch_norm_of_a_constant_channel_is_the_bias():
    x = np.full((4, 2, 3), 1234.5, np.float32)
    bias = np.array([1, -2], np.float32)
    y = F.batch_norm(x, bias=bias, training=True)
    np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None], x.shape))


def test_batch_norm_updates_running_statistics_in_training_only():
    x = np.array([[1.0], [3.0]], np.float32)
    mean, var = np.zeros(1, np.float32), np.ones(1, np.float32)
    F.batch_norm(x, mean, var, training=True, momentum=0.25)
    assert (mean[0], var[0]) == (0.5, 1.25)  # 0.25 * 2; 0.75 * 1 + 0.25 * 2 (divided by m - 1)
    F.batch_norm(x, mean, var, training=False)
    F.batch_norm_backward(x, x, mean, var, training=True)
    assert (mean[0], var[0]) == (0.5, 1.25)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 5, 5)], ids=str)
def test_batch_norm_backward_takes_what_the_forward_saved(shape, training):
    x, mean, var, weight, bias, dy = case(shape)
    arguments = (weight, bias, training)
    want = F.batch_norm_backward(dy, x, mean, var, *arguments)
    y, saved = F.batch_norm(x, mean.copy(), var.copy(), *arguments, return_saved=True)
    np.testing.assert_array_equal(y, F.batch_norm(x, mean.copy(), var.copy(), *arguments))
    assert [s.shape for s in saved] == [(shape[1],)] * 2
    got = F.batch_norm_backward(dy, x, None, None, *arguments, saved=saved)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


def test_batch_norm_saved_mean_is_no_view_of_the_running_mean():
    x, mean, var, *_ = case((4, 3))
    _, (saved_mean, _) = F.batch_norm(x, mean, var, return_saved=True)
    assert not np.shares_memory(saved_mean, mean)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    "shape",
    [
        (64, 2, 33, 31),
        (3000, 40),
        (3, 70, 9, 9),
        (9000, 1, 4),
        (2, 1, 300, 301),
        (40, 16, 15, 16),
        (1, 5, 200, 201),
    ],
    ids=str,
)
def test_batch_norm_is_the_same_bits_at_any_thread_count(shape, training, last):
    x, mean, var, weight, bias, dy = case(shape)
    if last and x.ndim == 4:
        x, dy = F.channels_last(x), F.channels_last(dy)

    def forward():
        running = mean.copy(), var.copy()
        y, saved = F.batch_norm(x, *running, weight, bias, training, return_saved=True)
        return (y, *saved, *running)

    assert_same_bits_at_any_thread_count(forward)
    assert_same_bits_at_any_thread_count(
        lambda: F.batch_norm_backward(dy, x, mean, var, weight, bias, training)
    )


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4), (2, 3, 0)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_accepts_empty_batch(shape, training):
    x, mean, var, weight, bias, dy = case(shape)
    kept = mean.copy(), var.copy()
    assert F.batch_norm(x, mean, var, weight, bias, training).shape == shape
    np.testing.assert_array_equal((mean, var), kept)
    dx, dweight, dbias = F.batch_norm_backward(dy, x, mean, var, weight, bias, training)
    assert dx.shape == shape
    np.testing.assert_array_equal((dweight, dbias), np.zeros((2, 3)))


def test_batch_norm_accepts_no_channels():
    assert F.batch_norm(np.zeros((4, 0, 2), np.float32), training=True).shape == (4, 0, 2)


def test_batch_norm_accepts_strided_and_read_only_arrays(rng):
    x = floats(rng, 6, 5, 5, 4)
    mean, var = floats(rng, 8)[::2], np.ones(8, np.float32)[::2]
    for a in (x, mean, var):
        a.flags.writeable = False
    strided = x.transpose(0, 3, 1, 2)[::2]
    want = F.batch_norm(np.ascontiguousarray(strided), mean.copy(), var.copy())
    np.testing.assert_array_equal(F.batch_norm(strided, mean, var), want)


def test_batch_norm_backward_leaves_out_what_is_not_needed():
    x, mean, var, weight, bias, dy = case((3, 2, 4))
    assert F.batch_norm_backward(dy, x, mean, var)[1:] == (None, None)
    arguments = (dy, x, mean, var, weight, bias, True)
    want = F.batch_norm_backward(*arguments)
    for i, name in enumerate(("need_dx", "need_dweight", "need_dbias")):
        got = F.batch_norm_backward(*arguments, **{name: False})
        assert got[i] is None
        for j in {0, 1, 2} - {i}:
            np.testing.assert_array_equal(got[j], want[j])


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5)], ids=str)
def test_batch_norm_passes_nan_through(shape):
    x, mean, var, weight, bias, dy = case(shape)
    x[1, 2] = np.nan
    y = F.batch_norm(x, weight=weight, bias=bias, training=True)
    dx, dweight, dbias = F.batch_norm_backward(dy, x, None, None, weight, bias, True)
    spoilt = [False, False, True, False]
    assert np.isnan(y).all(axis=axes_of(x)).tolist() == spoilt
    assert np.isnan(dx).all(axis=axes_of(x)).tolist() == spoilt
    assert np.isnan(dweight).tolist() == spoilt
    assert not np.isnan(dbias).any()
    y = F.batch_norm(x, mean, var, weight, bias)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def read_only(array):
    array.flags.writeable = False
    return array


REJECTED = {
    "rank": (
        lambda: F.batch_norm(zeros(3), training=True),
        ValueError,
        "batch_norm: x has the wrong number of dimensions: expected at least 2 (N, C, ...), "
        "got 1 (x has shape (3,))",
    ),
    "dtype": (
        lambda: F.batch_norm(zeros(2, 3, dtype=np.float64), training=True),
        TypeError,
        "batch_norm: x has the wrong dtype: expected float32, got float64",
    ),
    "weight": (
        lambda: F.batch_norm(zeros(2, 3), weight=zeros(2), training=True),
        ValueError,
        "batch_norm: weight has the wrong shape: expected (3,) (one value per channel of x), "
        "got (2,)",
    ),
    "bias": (
        lambda: F.batch_norm(zeros(2, 3), bias=zeros(3, 1), training=True),
        ValueError,
        "batch_norm: bias has the wrong shape: expected (3,) (one value per channel of x), "
        "got (3, 1)",
    ),
    "running_mean": (
        lambda: F.batch_norm(zeros(2, 3), zeros(2), zeros(3)),
        ValueError,
        "batch_norm: running_mean has the wrong shape: expected (3,)",
    ),
    "running_var": (
        lambda: F.batch_norm(zeros(2, 3), zeros(3), zeros(2)),
        ValueError,
        "batch_norm: running_var has the wrong shape: expected (3,)",
    ),
    "mean alone": (
        lambda: F.batch_norm(zeros(2, 3), zeros(3), training=True),
        ValueError,
        "batch_norm: running statistics are incomplete: expected running_mean and running_var "
        "together, or neither, got running_mean alone",
    ),
    "var alone": (
        lambda: F.batch_norm(zeros(2, 3), None, zeros(3)),
        ValueError,
        "or neither, got running_var alone",
    ),
    "no running": (
        lambda: F.batch_norm(zeros(2, 3)),
        ValueError,
        "batch_norm: running_mean and running_var are missing: expected two arrays (C,) when "
        "training is False, got None",
    ),
    "one value": (
        lambda: F.batch_norm(zeros(1, 3, 1, 1), training=True),
        ValueError,
        "batch_norm: x has too few values per channel: expected more than 1 in training (their "
        "variance is needed), got 1 (x has shape (1, 3, 1, 1))",
    ),
    "eps in training": (
        lambda: F.batch_norm(zeros(2, 3), training=True, eps=0),
        ValueError,
        "batch_norm: eps is out of range: expected more than 0 in training, got 0.0",
    ),
    "eps": (
        lambda: F.batch_norm(zeros(2, 3), zeros(3), zeros(3), eps=-1.0),
        ValueError,
        "batch_norm: eps is out of range: expected at least 0, got -1.0",
    ),
    "eps type": (
        lambda: F.batch_norm(zeros(2, 3), training=True, eps="small"),
        TypeError,
        "batch_norm: eps has the wrong type: expected a number, got 'small' (str)",
    ),
    "momentum": (
        lambda: F.batch_norm(zeros(2, 3), training=True, momentum=1.5),
        ValueError,
        "batch_norm: momentum is out of range: expected a number from 0 to 1, got 1.5",
    ),
    "momentum nan": (
        lambda: F.batch_norm(zeros(2, 3), zeros(3), zeros(3), momentum=np.nan),
        ValueError,
        "batch_norm: momentum is out of range: expected a number from 0 to 1, got nan",
    ),
    "momentum, backward": (
        lambda: F.batch_norm_backward(zeros(2, 3), zeros(2, 3), training=True, momentum=-np.inf),
        ValueError,
        "batch_norm: momentum is out of range: expected a number from 0 to 1, got -inf",
    ),
    "momentum type": (
        lambda: F.batch_norm(zeros(2, 3), training=True, momentum=None),
        TypeError,
        "batch_norm: momentum has the wrong type: expected a number, got None (NoneType)",
    ),
    "read-only statistics": (
        lambda: F.batch_norm(zeros(2, 3), read_only(zeros(3)), zeros(3), training=True),
        ValueError,
        "batch_norm: running_mean cannot be updated in place: expected a writeable array, "
        "got a read-only one",
    ),
    "strided statistics": (
        lambda: F.batch_norm(zeros(2, 3), zeros(3), zeros(6)[::2], training=True),
        ValueError,
        "batch_norm: running_var cannot be updated in place: expected a C-contiguous array, "
        "got strided memory",
    ),
    "dy": (
        lambda: F.batch_norm_backward(zeros(2, 4), zeros(2, 3), training=True),
        ValueError,
        "batch_norm_backward: dy has the wrong shape: expected (2, 3) (the shape of x), got (2, 4)",
    ),
    "saved is an array": (
        lambda: F.batch_norm_backward(zeros(2, 3), zeros(2, 3), training=True, saved=zeros(2, 3)),
        ValueError,
        "batch_norm_backward: saved is not what the forward returned: expected two arrays "
        "(mean, rstd), got array([[0.",
    ),
    "saved is incomplete": (
        lambda: F.batch_norm_backward(
            zeros(2, 3), zeros(2, 3), training=True, saved=(None, zeros(3))
        ),
        ValueError,
        "batch_norm_backward: saved is not what the forward returned: expected two arrays "
        "(mean, rstd), got (None, array([0.",
    ),
    "saved is too long": (
        lambda: F.batch_norm_backward(
            zeros(2, 3), zeros(2, 3), training=True, saved=(zeros(3),) * 3
        ),
        ValueError,
        "batch_norm_backward: saved is not what the forward returned",
    ),
    "saved mean": (
        lambda: F.batch_norm_backward(
            zeros(2, 3), zeros(2, 3), training=True, saved=(zeros(2), zeros(3))
        ),
        ValueError,
        "batch_norm_backward: saved mean has the wrong shape: expected (3,) (one value per "
        "channel of x), got (2,)",
    ),
    "saved rstd": (
        lambda: F.batch_norm_backward(
            zeros(2, 3), zeros(2, 3), training=True, saved=(zeros(3), zeros(2))
        ),
        ValueError,
        "batch_norm_backward: saved rstd has the wrong shape: expected (3,)",
    ),
    "no running, backward": (
        lambda: F.batch_norm_backward(zeros(2, 3), zeros(2, 3)),
        ValueError,
        "batch_norm_backward: running_mean and running_var are missing",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REJECTED.values(), ids=REJECTED.keys())
@pytest.mark.cpu_only(
    "how NumPy's memory lies is not seen on the GPU",
    ids=("read-only statistics", "strided statistics", "saved is an array", "saved is incomplete"),
)
def test_batch_norm_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.cpu_only("its arrays are copies of those of the test")
def test_batch_norm_rejects_running_statistics_that_share_memory():
    buffer = np.ones(12, np.float32)
    x, a, b = buffer[:6].reshape(2, 3), buffer[6:9], buffer[9:]
    for arguments, message in (
        ((x, a, a), "running_mean shares memory with running_var: expected memory of its own"),
        ((x, buffer[7:10], b), "running_mean shares memory with running_var"),
        ((x, x[0], b), "running_mean shares memory with x"),
        ((x, a, x[1]), "running_var shares memory with x"),
    ):
        with pytest.raises(ValueError, match="batch_norm: " + message):
            F.batch_norm(*arguments, training=True)
        F.batch_norm(*arguments)  # nothing is written
    assert (buffer == 1).all()
    F.batch_norm(x, a, b, training=True)
    assert (b != 1).all()  # the variance of equal values is 0


def test_batch_norm_that_fails_leaves_running_statistics_alone():
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match="weight has the wrong shape"):
        F.batch_norm(x, mean, var, np.ones(4, np.float32), training=True)
    assert mean.tolist() == [0, 0, 0]
    assert var.tolist() == [1, 1, 1]


@pytest.mark.torch
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(9, 5), (4, 3, 7), (4, 3, 5, 6)], ids=str)
def test_batch_norm_matches_torch(torch, shape, affine, training):
    x, mean, var, weight, bias, dy = case(shape, mean=2.0)
    if not affine:
        weight = bias = None

    def tensor(a, requires_grad=True):
        # In float64: torch blends the running statistics in the dtype of x, with cancellation.
        return None if a is None else torch.tensor(a.astype(float), requires_grad=requires_grad)

    tx, tw, tb = tensor(x), tensor(weight), tensor(bias)
    tmean, tvar = tensor(mean, False), tensor(var, False)
    ty = torch.nn.functional.batch_norm(tx, tmean, tvar, tw, tb, training, 0.3, 1e-3)
    ty.backward(tensor(dy, False))
    arguments = (mean, var, weight, bias, training, 0.3, 1e-3)
    grads = F.batch_norm_backward(dy, x, *arguments)
    y = F.batch_norm(x, *arguments)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mean, tmean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(var, tvar.numpy(), rtol=1e-6)
    for got, want in zip(grads, (tx, tw, tb), strict=True):
        if want is None:
            assert got is None
        else:
            np.testing.assert_allclose(got, want.grad.numpy(), rtol=1e-5, atol=1e-5)

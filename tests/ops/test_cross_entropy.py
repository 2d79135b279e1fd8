"""cross_entropy: forward and backward."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import reference
from helpers import assert_close, assert_same_bits_at_any_thread_count, floats, numeric_gradient

every_reduction = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


@st.composite
def cases(draw):
    """Logits of any rank with labels, a third of them ignored."""
    classes = draw(st.integers(1, 40))
    shape = draw(st.lists(st.integers(0, 20), min_size=0, max_size=2))
    options = {
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "ignore_index": draw(st.sampled_from([-100, 255, 0])),
    }
    return *case(shape, classes, options["ignore_index"]), options


def case(shape, classes, ignore_index=-100, seed=0):
    rng = np.random.default_rng(seed)
    x = (4 * floats(rng, *shape[:1], classes, *shape[1:])).astype(np.float32)
    target = rng.integers(0, classes, shape)
    target = np.where(rng.random(shape) < 1 / 3, ignore_index, target)
    return x, target


def class_axis(x):
    return 1 if x.ndim > 1 else 0


def spread(x):
    """1 + max |x - max x| over the classes: its eps is the rounding error of the exponents."""
    axis = class_axis(x)
    return 1.0 + (x.max(axis=axis, keepdims=True) - x.min(axis=axis, keepdims=True)).astype(
        np.float64
    )


@settings(max_examples=120, deadline=None)
@given(cases())
def test_cross_entropy_forward_matches_reference(case_of):
    x, target, options = case_of
    want = np.asarray(reference.cross_entropy(x.astype(np.float64), target, **options))
    each = np.where(target != options["ignore_index"], np.squeeze(2 * spread(x), class_axis(x)), 0)
    each = each + np.log(x.shape[class_axis(x)])
    loss = F.cross_entropy(x, target, **options)
    if options["reduction"] == "mean" and not (target != options["ignore_index"]).any():
        assert np.isnan(loss)
        assert np.isnan(want)
    else:
        magnitude = {"none": each, "sum": each.sum(), "mean": each.max(initial=0)}
        assert_close(
            np.asarray(loss), want, magnitude[options["reduction"]], x.shape[class_axis(x)]
        )


@settings(max_examples=120, deadline=None)
@given(cases())
def test_cross_entropy_backward_matches_reference(case_of):
    x, target, options = case_of
    none = options["reduction"] == "none"
    dy = floats(np.random.default_rng(1), *target.shape) if none else np.float32(-1.7)
    want = reference.cross_entropy_backward(
        np.asarray(dy, np.float64), x.astype(np.float64), target, **options
    )
    got = F.cross_entropy_backward(dy, x, target, **options)
    counted = (
        max(1, (target != options["ignore_index"]).sum()) if options["reduction"] == "mean" else 1
    )
    scale = np.abs(np.expand_dims(np.broadcast_to(dy, target.shape), class_axis(x))) / counted
    # p - q cancels: the error is that of p, not of the difference.
    p = reference.softmax(x.astype(np.float64), class_axis(x))
    assert_close(
        got,
        want,
        scale * (spread(x) * p + np.abs(want / np.maximum(scale, 1e-30))),
        x.shape[class_axis(x)],
    )


@settings(max_examples=60, deadline=None)
@given(
    shape=st.one_of(
        st.tuples(st.integers(0, 20), st.integers(1, 40)), st.tuples(st.integers(1, 40))
    ),
    label_smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_shares_of_the_classes_match_the_reference(shape, label_smoothing, reduction):
    rng = np.random.default_rng(0)
    x, target = 4 * floats(rng, *shape), rng.random(shape, np.float32)
    target[rng.random(shape) < 0.4] = 0  # their sum need not be 1
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    want = reference.cross_entropy(x.astype(np.float64), target, **options)
    np.testing.assert_allclose(F.cross_entropy(x, target, **options), want, rtol=1e-5, atol=1e-5)
    dy = floats(rng, *np.shape(want))
    want = reference.cross_entropy_backward(dy, x.astype(np.float64), target, **options)
    got = F.cross_entropy_backward(dy, x, target, **options)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    _, saved = F.cross_entropy(x, target, **options, return_gradient=True)
    np.testing.assert_array_equal(
        got, F.cross_entropy_backward(dy, x, target, **options, saved=saved)
    )


def test_a_whole_share_is_a_label():
    x, target = case((50,), 7)
    target = np.where(target < 0, 0, target)
    shares = np.eye(7, dtype=np.float32)[target]
    for smoothing in (0.0, 0.3):
        want, dx = F.cross_entropy(x, target, label_smoothing=smoothing, return_gradient=True)
        got, dq = F.cross_entropy(x, shares, label_smoothing=smoothing, return_gradient=True)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        np.testing.assert_allclose(dq, dx, atol=1e-7)


def test_a_class_without_a_share_may_be_impossible():
    x = np.array([[0, -np.inf, 1]], np.float32)
    loss = F.cross_entropy(x, np.array([[0.5, 0, 0.5]], np.float32))
    assert np.isfinite(loss)


def test_shares_are_the_same_bits_at_any_thread_count(rng):
    x, target = floats(rng, 400, 33), rng.random((400, 33), np.float32)
    assert_same_bits_at_any_thread_count(
        lambda: F.cross_entropy(x, target, return_gradient=True)[1]
    )


@pytest.mark.parametrize(
    ("x", "target", "message"),
    [
        ((2, 3), (2, 4), "target has the wrong shape: expected (2, 3) (of shares of the classes: the shape of x)"),
        ((2, 3, 4), (2, 3, 4), "target has shares of classes: expected x of shape (N, C) or (C,) for them, got (2, 3, 4)"),
    ],
)  # fmt: skip
def test_shares_must_fit(x, target, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        F.cross_entropy(np.zeros(x, np.float32), np.zeros(target, np.float32))


@every_reduction
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_reference_cross_entropy_matches_finite_differences(reduction, label_smoothing):
    x, target = case((4, 3), 5)
    dy = np.random.default_rng(2).standard_normal(target.shape if reduction == "none" else ())
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    got = reference.cross_entropy_backward(dy, x.astype(np.float64), target, **options)
    want = numeric_gradient(lambda v: reference.cross_entropy(v, target, **options), x, dy)
    np.testing.assert_allclose(got, want, atol=1e-8)


@every_reduction
@pytest.mark.parametrize("shape", [(7,), (3, 21)])
def test_cross_entropy_gradient_comes_with_the_loss(reduction, shape):
    x, target = case(shape, 10)
    options = {"reduction": reduction, "label_smoothing": 0.1}
    loss, gradient = F.cross_entropy(x, target, return_gradient=True, **options)
    assert np.asarray(loss).tobytes() == np.asarray(F.cross_entropy(x, target, **options)).tobytes()
    dy = np.full(shape, 0.3, np.float32) if reduction == "none" else 0.3
    fresh = F.cross_entropy_backward(dy, x, target, **options)
    reused = F.cross_entropy_backward(dy, x, target, saved=gradient, **options)
    assert fresh.tobytes() == reused.tobytes() == (gradient * np.float32(0.3)).tobytes()


def test_cross_entropy_returns_a_float32_number_or_an_array():
    x, target = case((4,), 3)
    assert type(F.cross_entropy(x, target)) is np.float32
    assert type(F.cross_entropy(x, target, reduction="sum")) is np.float32
    assert F.cross_entropy(x, target, reduction="none").shape == (4,)


@pytest.mark.parametrize("dy", [2, 2.0, np.float32(2), np.float64(2), np.array(2, np.float32)])
def test_cross_entropy_backward_takes_any_number_as_dy(dy):
    x, target = case((4,), 3)
    want = 2 * F.cross_entropy_backward(1.0, x, target)
    np.testing.assert_array_equal(F.cross_entropy_backward(dy, x, target), want)


def test_cross_entropy_takes_logits_of_one_sample():
    x, _ = case((1,), 5)
    loss, dx = F.cross_entropy(x[0], 3, return_gradient=True)
    assert loss == F.cross_entropy(x, np.array([3]))
    assert dx.shape == (5,)
    assert F.cross_entropy(x[0], np.int64(3)) == F.cross_entropy(x[0], np.array(3)) == loss


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64])
def test_cross_entropy_takes_labels_of_any_integer_dtype(dtype):
    x, _ = case((6,), 10)
    target = np.arange(6).astype(dtype)
    assert F.cross_entropy(x, target) == F.cross_entropy(x, np.arange(6))


def test_cross_entropy_ignores_samples_whatever_their_logits():
    x, _ = case((3,), 4)
    target = np.array([1, -100, 2])
    want = F.cross_entropy(x[[0, 2]], target[[0, 2]])
    x[1] = np.nan
    loss, dx = F.cross_entropy(x, target, return_gradient=True)
    assert loss == want
    assert dx[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("shape", [(0,), (3,), (0, 5), (3, 0), (2, 4)])
def test_cross_entropy_over_no_label_is_nan_with_a_zero_gradient(shape):
    x, target = case(shape, 4)
    target[...] = -100
    loss, dx = F.cross_entropy(x, target, return_gradient=True)
    assert np.isnan(loss)
    assert dx.shape == x.shape
    assert not dx.any()
    assert F.cross_entropy(x, target, reduction="sum") == 0
    assert F.cross_entropy(x, target, reduction="none").tolist() == np.zeros(shape).tolist()


def test_cross_entropy_handles_infinite_logits():
    x = np.array([[-np.inf, 0, 0], [0, -np.inf, 0]], np.float32)
    loss, dx = F.cross_entropy(x, np.array([0, 0]), reduction="none", return_gradient=True)
    np.testing.assert_allclose(loss, [np.inf, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(dx, [[-1, 0.5, 0.5], [-0.5, 0, 0.5]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (5, 3)])
def test_cross_entropy_passes_nan_through(shape):
    x, target = case(shape, 4, seed=3)
    target[...] = 2
    x[1, 0] = np.nan
    loss, dx = F.cross_entropy(x, target, reduction="none", return_gradient=True)
    bad = np.zeros(shape, bool)
    bad[1] = True
    np.testing.assert_array_equal(np.isnan(loss), bad)
    np.testing.assert_array_equal(np.isnan(dx).all(axis=1), bad)


@every_reduction
@pytest.mark.parametrize("shape", [(5000,), (7, 999)])
def test_cross_entropy_is_the_same_bits_at_any_thread_count(reduction, shape):
    x, target = case(shape, 10)
    options = {"reduction": reduction, "label_smoothing": 0.1}
    assert_same_bits_at_any_thread_count(
        lambda: F.cross_entropy(x, target, return_gradient=True, **options)
    )
    dy = np.full(shape, 0.7, np.float32) if reduction == "none" else 0.7
    assert_same_bits_at_any_thread_count(lambda: F.cross_entropy_backward(dy, x, target, **options))


def test_cross_entropy_accepts_strided_and_read_only_arrays():
    x, target = case((8,), 6)
    want = F.cross_entropy(x[::2].copy(), target[::2].copy(), return_gradient=True)
    x.flags.writeable = target.flags.writeable = False
    got = F.cross_entropy(x[::2], target[::2], return_gradient=True)
    assert got[0] == want[0]
    np.testing.assert_array_equal(got[1], want[1])


LOGITS = np.zeros((4, 10), np.float32)
LABELS = np.zeros(4, np.int64)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        pytest.param(
            (LOGITS, np.array([0, 1, 2, 10])),
            {},
            ValueError,
            "target has a label out of range: "
            "expected 0 to 9 (or ignore_index = -100), got 10 at position 3",
            id="label",
        ),
        pytest.param(
            (LOGITS, np.array([0, -1, 2, 10])),
            {"ignore_index": 255},
            ValueError,
            "target has a label out of range: "
            "expected 0 to 9 (or ignore_index = 255), got -1 at position 1",
            id="negative_label",
        ),
        pytest.param(
            (LOGITS, np.zeros(3, np.int64)),
            {},
            ValueError,
            "target has the wrong shape: expected (4,) (one label per sample), got (3,)",
            id="target_shape",
        ),
        pytest.param(
            (np.zeros((4, 10, 2, 3), np.float32), np.zeros((4, 3, 2), np.int64)),
            {},
            ValueError,
            "target has the wrong shape: expected (4, 2, 3) (one label per sample), got (4, 3, 2)",
            id="target_shape_of_images",
        ),
        pytest.param(
            (LOGITS, LABELS.astype(np.float32)),
            {},
            TypeError,
            "target has the wrong dtype: expected integers, got float32",
            id="target_dtype",
        ),
        pytest.param(
            (LOGITS, [0, 0, 0, 0]),
            {},
            TypeError,
            "target is not an array: expected a numpy.ndarray of integers, got list",
            id="target_list",
        ),
        pytest.param(
            (LOGITS, np.array([0, 0, 0, 2**63], np.uint64)),
            {},
            ValueError,
            "target has a value that is too large: "
            "expected 64-bit integers, got 0 ... 9223372036854775808",
            id="huge_label",
        ),
        pytest.param(
            (LOGITS.astype(np.float64), LABELS),
            {},
            TypeError,
            "x has the wrong dtype: expected float32, got float64",
            id="dtype",
        ),
        pytest.param(
            (np.array(1, np.float32), LABELS),
            {},
            ValueError,
            "x has the wrong number of dimensions: expected at least 1 (C,) or (N, C, ...), got 0",
            id="rank",
        ),
        pytest.param(
            (np.zeros((4, 0), np.float32), LABELS),
            {},
            ValueError,
            "x has the wrong number of classes: "
            "expected 1 to 2147483647, got 0 (x has shape (4, 0))",
            id="no_classes",
        ),
        pytest.param(
            (LOGITS, LABELS),
            {"reduction": "avg"},
            ValueError,
            "reduction is not known: expected 'mean', 'sum' or 'none', got 'avg'",
            id="reduction",
        ),
        pytest.param(
            (LOGITS, LABELS),
            {"reduction": 3},
            TypeError,
            "reduction has the wrong type: expected a str, got 3 (int)",
            id="reduction_type",
        ),
        pytest.param(
            (LOGITS, LABELS),
            {"label_smoothing": "0.1"},
            TypeError,
            "label_smoothing has the wrong type: expected a number, got '0.1' (str)",
            id="label_smoothing_type",
        ),
        pytest.param(
            (LOGITS, LABELS),
            {"label_smoothing": 1.5},
            ValueError,
            "label_smoothing is out of range: expected 0 to 1, got 1.5",
            id="label_smoothing",
        ),
        pytest.param(
            (LOGITS, LABELS),
            {"label_smoothing": np.nan},
            ValueError,
            "label_smoothing is out of range: expected 0 to 1, got nan",
            id="label_smoothing_nan",
        ),
        pytest.param(
            (LOGITS, LABELS),
            {"ignore_index": 1.5},
            TypeError,
            "ignore_index has the wrong type: expected an int, got 1.5",
            id="ignore_index",
        ),
    ],
)
@pytest.mark.cpu_only(
    "how NumPy's memory lies is not seen on the GPU", ids=("huge_label", "target_dtype")
)
def test_cross_entropy_rejects(arguments, options, error, message):
    with pytest.raises(error, match=re.escape(f"cross_entropy: {message}")):
        F.cross_entropy(*arguments, **options)
    with pytest.raises(error, match=re.escape(f"cross_entropy_backward: {message}")):
        F.cross_entropy_backward(1.0, *arguments, **options)


def test_cross_entropy_backward_rejects_wrong_dy_and_saved():
    with pytest.raises(
        ValueError,
        match=re.escape(
            "cross_entropy_backward: dy has the wrong shape: "
            "expected () (the shape of the loss), got (4,)"
        ),
    ):
        F.cross_entropy_backward(np.ones(4, np.float32), LOGITS, LABELS)
    with pytest.raises(ValueError, match=re.escape("dy has the wrong shape: expected (4,)")):
        F.cross_entropy_backward(1.0, LOGITS, LABELS, reduction="none")
    with pytest.raises(
        ValueError,
        match=re.escape(
            "saved has the wrong shape: expected (4, 10) (the shape of x), got (10, 4)"
        ),
    ):
        F.cross_entropy_backward(1.0, LOGITS, LABELS, saved=LOGITS.T)


@pytest.mark.torch
@every_reduction
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(9,), (), (3, 4), (2, 3, 5), (0,)])
def test_cross_entropy_matches_torch(torch, reduction, label_smoothing, shape):
    x, target = case(shape, 7, ignore_index=-1)
    options = {"reduction": reduction, "label_smoothing": label_smoothing, "ignore_index": -1}
    tx = torch.tensor(x, requires_grad=True)
    tloss = torch.nn.functional.cross_entropy(tx, torch.tensor(target), **options)
    loss, dx = F.cross_entropy(x, target, return_gradient=True, **options)
    np.testing.assert_allclose(loss, tloss.detach().numpy(), rtol=1e-5, atol=1e-6)
    tloss.sum().backward()
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.torch
def test_cross_entropy_with_every_label_ignored_matches_torch(torch):
    x, _ = case((3,), 7)
    target = np.full(3, -100)
    tx = torch.tensor(x, requires_grad=True)
    tloss = torch.nn.functional.cross_entropy(tx, torch.tensor(target))
    tloss.backward()
    loss, dx = F.cross_entropy(x, target, return_gradient=True)
    assert np.isnan(loss)
    assert torch.isnan(tloss)
    np.testing.assert_array_equal(dx, tx.grad.numpy())

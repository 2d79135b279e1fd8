"""gather_images: batches out of a data set, cropped, mirrored and normalised."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from convcore import random, reference
from helpers import assert_close, assert_same_bits_at_any_thread_count, floats


def pixels(rng, dtype, *shape):
    if dtype == np.uint8:
        return rng.integers(0, 256, shape).astype(np.uint8)
    return floats(rng, *shape)


@settings(max_examples=120, deadline=None)
@given(
    dtype=st.sampled_from([np.uint8, np.float32]),
    count=st.integers(0, 5),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 70)),
    pad=st.integers(0, 5),
    flip=st.booleans(),
    scaled=st.booleans(),
    last=st.booleans(),
    key=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
)
def test_gather_images_matches_the_reference(dtype, count, shape, pad, flip, scaled, last, key):
    rng = np.random.default_rng(0)
    x = pixels(rng, dtype, 6, *shape)
    indices = rng.integers(0, 6, count)
    what = {"pad": pad, "flip": flip, "key": key}
    if scaled:
        what |= {"scale": floats(rng, shape[0]), "shift": floats(rng, shape[0])}
    got = F.gather_images(x, indices, channels_last=last, **what)
    want = reference.gather_images(x, indices, **what)
    if not scaled:
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, want)
        return
    magnitude = reference.gather_images(
        abs(x.astype(np.float64)), indices, **what | {k: abs(what[k]) for k in ("scale", "shift")}
    )
    assert_close(got, want, magnitude, 2)
    other = F.gather_images(x, indices, channels_last=not last, **what)
    np.testing.assert_array_equal(got, other)


@pytest.mark.parametrize("pad", [40, 300, 2**30])
def test_gather_images_may_push_an_image_out(rng, pad):
    x = pixels(rng, np.uint8, 50, 1, 3, 33)
    arguments = {"pad": pad, "flip": True, "key": (1, 2)}
    got = F.gather_images(x, np.arange(50), **arguments)
    if pad < 1000:
        np.testing.assert_array_equal(got, reference.gather_images(x, np.arange(50), **arguments))
    else:
        assert not got.any()


def test_gather_images_takes_long_lines_in_parts(rng):
    x = pixels(rng, np.uint8, 3, 2, 2, 700)
    arguments = {"pad": 3, "flip": True, "key": (5, 0)}
    want = reference.gather_images(x, np.arange(3), **arguments)
    for last in (False, True):
        got = F.gather_images(x, np.arange(3), channels_last=last, **arguments)
        np.testing.assert_array_equal(got, want)


def test_gather_images_without_arguments_keeps_every_bit():
    x = np.array([0.0, -0.0, np.nan, np.inf, 1e-42, -3.0], np.float32).reshape(2, 1, 1, 3)
    got = F.gather_images(x, np.array([1, 0]))
    assert got.tobytes() == x[::-1].tobytes()


@pytest.mark.parametrize("last", [False, True])
def test_gather_images_has_the_asked_order_of_memory(rng, last):
    got = F.gather_images(
        pixels(rng, np.uint8, 4, 3, 5, 6), np.arange(4), flip=True, channels_last=last
    )
    order = got.transpose(0, 2, 3, 1) if last else got
    assert order.flags.c_contiguous


def test_an_image_becomes_the_same_wherever_it_stands_in_the_batch(rng):
    x, key = pixels(rng, np.uint8, 20, 3, 8, 8), (3, 7)
    whole = F.gather_images(x, np.arange(20), pad=2, flip=True, key=key)
    order = rng.permutation(20)
    np.testing.assert_array_equal(
        F.gather_images(x, order, pad=2, flip=True, key=key), whole[order]
    )


def test_each_shift_and_side_comes_as_often_as_the_others():
    x = np.zeros((1, 1, 5, 5), np.uint8)
    x[0, 0, 2, 2], x[0, 0, 2, 3] = 1, 2
    x = np.repeat(x, 5000, axis=0)
    y = F.gather_images(x, np.arange(5000), pad=1, flip=True, key=(0, 0))
    places = np.argwhere(y[:, 0] == 1)[:, 1:]
    _, counts = np.unique(places, axis=0, return_counts=True)
    assert len(counts) == 9
    assert (abs(counts - 5000 / 9) < 5 * np.sqrt(5000 / 9)).all()
    mirrored = [np.argwhere(image == 2)[0, 1] < np.argwhere(image == 1)[0, 1] for image in y[:, 0]]
    assert 2300 < sum(mirrored) < 2700


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("last", [False, True])
def test_gather_images_is_the_same_bits_at_any_thread_count(rng, dtype, last):
    x, order = pixels(rng, dtype, 301, 3, 31, 33), rng.permutation(301)
    scale, shift = floats(rng, 3), floats(rng, 3)
    assert_same_bits_at_any_thread_count(
        lambda: F.gather_images(
            x,
            order,
            pad=4,
            flip=True,
            key=(1, 1),
            scale=scale,
            shift=shift,
            channels_last=last,
        )
    )


def test_gather_images_takes_a_stream_only_for_what_is_random(rng):
    x, before = pixels(rng, np.uint8, 2, 1, 4, 4), random.get_rng_state().stream
    F.gather_images(x, np.arange(2))
    assert random.get_rng_state().stream == before
    F.gather_images(x, np.arange(2), flip=True)
    F.gather_images(x, np.arange(2), pad=1)
    assert random.get_rng_state().stream == before + 2


X = np.zeros((4, 3, 5, 6), np.uint8)
ONE = np.zeros(1, np.int64)
THREE = np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("x", "indices", "arguments", "error", "message"),
    [
        (X[0], ONE, {}, ValueError, "x has the wrong number of dimensions: expected 4"),
        (X[:, :, ::2], ONE, {}, ValueError, "x cannot be read in place: expected a C-contiguous"),
        (
            X.astype(np.float64),
            ONE,
            {},
            TypeError,
            "x has the wrong dtype: expected uint8 or float32, got float64",
        ),
        ([[1]], ONE, {}, TypeError, "x is not an array: expected a numpy.ndarray of uint8 or"),
        (
            X,
            ONE + 4,
            {},
            ValueError,
            "indices has a value out of range: expected 0 to 3 (the images of x), got 4",
        ),
        (X, ONE - 1, {}, ValueError, "indices has a value out of range"),
        (X, ONE[None], {}, ValueError, "indices has the wrong number of dimensions: expected 1"),
        (X, THREE, {}, TypeError, "indices has the wrong dtype: expected integers, got float32"),
        (X, ONE, {"pad": -1}, ValueError, "pad is out of range"),
        (X, ONE, {"pad": 1.5}, TypeError, "pad has the wrong type"),
        (X, ONE, {"key": 3}, ValueError, "key is not a random key"),
        (X, ONE, {"scale": THREE}, ValueError, "scale and shift go together"),
        (
            X,
            ONE,
            {"scale": THREE, "shift": THREE[:2]},
            ValueError,
            "shift has the wrong shape: expected (3,) (one per channel of x), got (2,)",
        ),
    ],
)
@pytest.mark.cpu_only("how NumPy's memory lies is not seen on the GPU", ids=("x1-", "x7-"))
def test_gather_images_rejects(x, indices, arguments, error, message):
    with pytest.raises(error, match=re.escape(f"gather_images: {message}")):
        F.gather_images(x, indices, **arguments)

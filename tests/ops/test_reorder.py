"""channels_last: the order of memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convcore.functional as F
from helpers import assert_same_bits_at_any_thread_count, floats

sizes = st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20))


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_channels_last_keeps_every_value(shape):
    x = floats(np.random.default_rng(0), *shape)
    y = F.channels_last(x)
    np.testing.assert_array_equal(y, x)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous or 1 in shape or 0 in shape


@pytest.mark.parametrize(
    "shape", [(2, 3, 41, 40), (1, 130, 33, 34), (3, 64, 8, 8), (4, 1, 9, 5)], ids=str
)
def test_channels_last_and_back_keeps_every_value(shape, rng):
    x = floats(rng, *shape)
    last = F.channels_last(x)
    np.testing.assert_array_equal(last, x)
    np.testing.assert_array_equal(F.flatten(last, 1), x.reshape(len(x), -1))


@pytest.mark.cpu_only("its arrays are copies of those of the test")
def test_channels_last_gives_back_what_is_so_already(rng):
    y = F.channels_last(floats(rng, 2, 5, 4, 3))
    assert F.channels_last(y) is y


def test_channels_last_is_the_same_bits_at_any_thread_count(rng):
    x = floats(rng, 8, 33, 30, 31)
    assert_same_bits_at_any_thread_count(lambda: F.channels_last(x))


def test_channels_last_rejects_other_ranks(rng):
    with pytest.raises(ValueError, match="channels_last: x has the wrong number of dimensions"):
        F.channels_last(floats(rng, 3, 4))

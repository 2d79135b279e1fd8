"""The number of threads."""

from __future__ import annotations

import re

import numpy as np
import pytest

import convcore


@pytest.mark.parametrize("count", ["a", 1.5, True, None])
def test_set_num_threads_rejects_what_is_no_int(count):
    before = convcore.num_threads()
    message = f"set_num_threads: count has the wrong type: expected an int, got {count!r} ("
    with pytest.raises(TypeError, match=re.escape(message)):
        convcore.set_num_threads(count)
    assert convcore.num_threads() == before


@pytest.mark.parametrize("count", [0, -1, -(2**40)])
def test_set_num_threads_rejects_less_than_one(count):
    with pytest.raises(ValueError, match="set_num_threads: count is out of range: expected "):
        convcore.set_num_threads(count)


def test_set_num_threads_takes_integers_of_numpy():
    convcore.set_num_threads(np.int64(3))
    assert convcore.num_threads() == 3

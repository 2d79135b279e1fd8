"""Denormals are zero inside our calls only: NumPy computes with them before and after."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import convcore
from convcore import functional as F

SMALLEST = np.float32(2.0**-149)


def bits_are_zero(a):
    """Tell zeros by their bits: a comparison may take a denormal for zero."""
    return bool((a.view(np.uint32) << 1 == 0).all())


def numpy_keeps_denormals():
    operand, small = np.full(64, SMALLEST), np.full(64, np.float32(2.0**-70))
    return not bits_are_zero(operand * np.float32(2)) and not bits_are_zero(small * small)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("x_value", "w_value"), [(2.0**-130, 1.0), (1.0, 2.0**-130), (2.0**-80, 2.0**-60)]
)
@pytest.mark.parametrize("size", [4, 64])  # one range, several ranges
def test_conv2d_takes_denormals_as_zero(threads, x_value, w_value, size):
    convcore.set_num_threads(threads)
    x = np.full((2, 16, size, size), x_value, np.float32)
    w = np.full((16, 16, 1, 1), w_value, np.float32)
    y = F.conv2d(x, w)
    assert bits_are_zero(y)
    dx, dw = F.conv2d_backward(np.full(y.shape, 2.0**-130, np.float32), x, w, need_db=False)[:2]
    assert bits_are_zero(dx)
    assert bits_are_zero(dw)


def test_conv2d_keeps_the_smallest_normal_number():
    smallest_normal = np.finfo(np.float32).tiny
    x = np.full((1, 3, 5, 5), smallest_normal, np.float32)
    w = np.zeros((2, 3, 1, 1), np.float32)
    w[:, 0] = 1
    assert (F.conv2d(x, w) == smallest_normal).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_numpy_computes_with_denormals_after_our_calls(rng, threads):
    convcore.set_num_threads(threads)
    assert numpy_keeps_denormals()
    x = rng.standard_normal((4, 16, 32, 32)).astype(np.float32)
    F.conv2d(x, rng.standard_normal((16, 16, 3, 3)).astype(np.float32))
    F.relu(x[0, 0])
    assert numpy_keeps_denormals()
    with pytest.raises(ValueError, match="conv2d"):
        F.conv2d(x, np.zeros((16, 15, 3, 3), np.float32))
    assert numpy_keeps_denormals()


def test_a_python_thread_keeps_denormals_after_our_calls(rng):
    x = rng.standard_normal((4, 16, 32, 32)).astype(np.float32)
    kept = []

    def work():
        F.relu(x)
        kept.append(numpy_keeps_denormals())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert kept == [True]

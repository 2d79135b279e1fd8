"""Every op takes images in either order of memory and gives the same numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import convcore.functional as F
from helpers import assert_same_bits_at_any_thread_count, floats

SHAPE = (3, 19, 11, 13)


def distinct(rng, shape):
    return rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32)


def batch_norm(x):
    return F.batch_norm(x, training=True)


def batch_norm_backward(dy, x):
    return F.batch_norm_backward(dy, x, training=True)[0]


COEFFICIENTS = np.linspace(-1, 1, SHAPE[1], dtype=np.float32)

OPS = {  # forward(x), backward(dy, x), whether the two orders give the same bits
    "relu": (F.relu, F.relu_backward, True),
    "leaky_relu": (F.leaky_relu, F.leaky_relu_backward, True),
    "tanh": (F.tanh, F.tanh_backward, True),
    "sigmoid": (F.sigmoid, F.sigmoid_backward, True),
    "silu": (F.silu, F.silu_backward, True),
    "add": (lambda x: F.add(x, x), lambda dy, x: F.add_backward(dy, x, x)[1], True),
    "pad_channels": (
        lambda x: F.pad_channels(x, (2, 3), (2, 3)),
        lambda dy, x: F.pad_channels_backward(dy, x, (2, 3), (2, 3)),
        True,
    ),
    "flatten": (lambda x: F.flatten(x, 1), lambda dy, x: F.flatten_backward(dy, x, 1), True),
    "softmax": (lambda x: F.softmax(x, 1), lambda dy, x: F.softmax_backward(dy, x, 1), True),
    "batch_norm": (batch_norm, batch_norm_backward, False),
    "max_pool2d": (
        lambda x: F.max_pool2d(x, 2),
        lambda dy, x: F.max_pool2d_backward(dy, x, 2),
        True,
    ),
    "max_pool2d_overlapping": (
        lambda x: F.max_pool2d(x, 3, 1, 1),
        lambda dy, x: F.max_pool2d_backward(dy, x, 3, 1, 1),
        False,
    ),
    "max_pool2d_dilated": (
        lambda x: F.max_pool2d(x, 3, 2, 1, 2, ceil_mode=True),
        lambda dy, x: F.max_pool2d_backward(dy, x, 3, 2, 1, 2, ceil_mode=True),
        False,
    ),
    "avg_pool2d": (
        lambda x: F.avg_pool2d(x, 2),
        lambda dy, x: F.avg_pool2d_backward(dy, x, 2),
        False,
    ),
    "adaptive_avg_pool2d": (
        lambda x: F.adaptive_avg_pool2d(x, 3),
        lambda dy, x: F.adaptive_avg_pool2d_backward(dy, x, 3),
        False,
    ),
    "subsampling2d": (
        lambda x: F.subsampling2d(x, COEFFICIENTS),
        lambda dy, x: F.subsampling2d_backward(dy, x, COEFFICIENTS)[0],
        False,
    ),
    "adaptive_avg_pool2d_to_one": (
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda dy, x: F.adaptive_avg_pool2d_backward(dy, x, 1),
        False,
    ),
    "avg_pool2d_with_everything": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        lambda dy, x: F.avg_pool2d_backward(
            dy, x, 3, 2, 1, ceil_mode=True, count_include_pad=False
        ),
        False,
    ),
}


STAY = [
    "relu",
    "batch_norm",
    "max_pool2d",
    "max_pool2d_overlapping",
    "avg_pool2d",
    "adaptive_avg_pool2d",
    "pad_channels",
]


@pytest.mark.parametrize("name", OPS)
def test_both_orders_of_memory_give_the_same(name, rng):
    forward, backward, same_bits = OPS[name]
    x = distinct(rng, SHAPE) / 1000
    y = forward(x)
    dy = floats(rng, *y.shape)
    dx = backward(dy, x)
    tolerance = {} if same_bits else {"rtol": 1e-5, "atol": 1e-5}
    compare = np.testing.assert_array_equal if same_bits else np.testing.assert_allclose
    for last_x, last_dy in itertools.product([False, True], repeat=2):
        x_in = F.channels_last(x) if last_x else x
        dy_in = F.channels_last(dy) if last_dy and dy.ndim == 4 else dy
        compare(forward(x_in), y, **tolerance)
        compare(backward(dy_in, x_in), dx, **tolerance)


@pytest.mark.parametrize("name", STAY)
def test_channels_last_stays_channels_last(name, rng):
    forward, backward, _ = OPS[name]
    x = F.channels_last(floats(rng, *SHAPE))
    y = forward(x)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert backward(y, x).transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("name", STAY)
def test_channels_last_is_the_same_bits_at_any_thread_count(name, rng):
    forward, backward, _ = OPS[name]
    x = F.channels_last(floats(rng, 16, 33, 30, 31))
    assert_same_bits_at_any_thread_count(lambda: forward(x))
    dy = F.channels_last(floats(rng, *forward(x).shape))
    assert_same_bits_at_any_thread_count(lambda: backward(dy, x))


def test_max_pool2d_indices_are_the_same_in_both_orders(rng):
    x = distinct(rng, SHAPE)
    y, indices = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    last_y, last_indices = F.max_pool2d(F.channels_last(x), 3, 2, 1, return_indices=True)
    np.testing.assert_array_equal(last_y, y)
    np.testing.assert_array_equal(last_indices, indices)
    dy = floats(rng, *y.shape)
    dx = F.max_pool2d_backward(dy, F.channels_last(x), 3, 2, 1, indices=last_indices)
    np.testing.assert_allclose(
        dx, F.max_pool2d_backward(dy, x, 3, 2, 1, indices=indices), atol=1e-6
    )


@pytest.mark.cpu_only("values are not read back from the GPU to be checked")
def test_max_pool2d_backward_rejects_foreign_indices_in_channels_last(rng):
    x = F.channels_last(floats(rng, *SHAPE))
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    foreign = indices.astype(np.int32)
    foreign[1, 2, 0, 0] = 10**6
    with pytest.raises(ValueError, match="indices do not belong to these windows"):
        F.max_pool2d_backward(y, x, 2, indices=foreign)

"""convcore.random: published numbers, streams, and what is drawn from them."""

from __future__ import annotations

import re

import numpy as np
import pytest

import convcore
from convcore import _core, init, random
from convcore.random import RandomKey, get_rng_state, manual_seed, next_key, set_rng_state
from convcore.reference.dropout import philox
from helpers import assert_same_bits_at_any_thread_count

# The known answers for philox4x32-10 that are published with Random123 (Salmon et al., SC 2011):
# counter words, key words, result. The counter is (block, stream), the key is the seed, each with
# the lower word first. (numpy.random.Philox is the 64-bit sibling: its numbers are others.)
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "want"), KNOWN_ANSWERS, ids=["zeros", "ones", "pi"])
def test_philox_gives_the_published_numbers(counter, key, want):
    block, stream = counter[0] | counter[1] << 32, counter[2] | counter[3] << 32
    seed = key[0] | key[1] << 32
    assert tuple(_core.philox(seed, stream, block)) == want
    assert philox(seed, stream, block) == want


def test_uniform_takes_the_numbers_of_the_stream_in_order():
    manual_seed(2**40 + 3)
    next_key()
    got = random.uniform((3, 7), 0.0, 1.0)
    bits = [philox(2**40 + 3, 1, i // 4)[i % 4] for i in range(21)]
    assert got.ravel().tolist() == [(b >> 8) / 2**24 for b in bits]
    assert got.dtype == np.float32


def test_uniform_has_the_asked_range_and_spread():
    values = random.uniform((100_000,), -2.0, 3.0).astype(np.float64)
    assert values.min() >= -2
    assert values.max() <= 3
    assert abs(values.mean() - 0.5) < 5 * 5 / np.sqrt(12 * 100_000)
    assert abs(values.std() - 5 / np.sqrt(12)) < 0.02


def test_normal_has_the_asked_mean_and_spread():
    values = random.normal((100_000,), 3.0, 2.0)
    assert values.dtype == np.float32
    assert values.mean() == pytest.approx(3.0, abs=0.03)
    assert values.std() == pytest.approx(2.0, rel=0.02)
    inside = np.abs(values - 3.0) < 2.0
    assert inside.mean() == pytest.approx(0.6827, abs=0.01)
    assert np.isfinite(values).all()


def test_normal_takes_one_stream_per_call():
    before = random.get_rng_state().stream
    first, second = random.normal((5,), 0.0, 1.0), random.normal((5,), 0.0, 1.0)
    assert random.get_rng_state().stream == before + 2
    assert not np.array_equal(first, second)
    assert random.normal((0, 3), 0.0, 1.0).shape == (0, 3)


@pytest.mark.parametrize(("mode", "fan"), [("fan_in", 16 * 9), ("fan_out", 64 * 9)])
def test_kaiming_normal_has_the_spread_of_its_fan(mode, fan):
    weight = init.kaiming_normal_(np.empty((64, 16, 3, 3), np.float32), mode=mode)
    assert weight.std() == pytest.approx(np.sqrt(2 / fan), rel=0.03)
    leaky = init.kaiming_normal_(np.empty((64, 16, 3, 3), np.float32), 1.0, mode)
    assert leaky.std() == pytest.approx(np.sqrt(1 / fan), rel=0.03)


def test_kaiming_normal_rejects():
    with pytest.raises(ValueError, match="kaiming_normal_: mode is not known"):
        init.kaiming_normal_(np.empty((2, 2), np.float32), mode="fan")


def test_uniform_is_the_same_bits_at_any_thread_count():
    def draw():
        manual_seed(9)
        return random.uniform((50_001,), -1.0, 1.0)

    assert_same_bits_at_any_thread_count(draw)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1797])
def test_permutation_is_a_permutation(n):
    p = _core.random_permutation(1, 2, n)
    assert p.dtype == np.int64
    assert sorted(p.tolist()) == list(range(n))


def test_permutation_is_the_same_bits_at_any_thread_count():
    assert_same_bits_at_any_thread_count(lambda: _core.random_permutation(3, 4, 100_000))


def test_permutation_depends_on_seed_and_stream():
    keys = [(0, 0), (0, 1), (1, 0), (2**63, 0)]
    assert len({_core.random_permutation(*key, 100).tobytes() for key in keys}) == len(keys)


def test_permutation_gives_each_order_equally_often():
    counts: dict[tuple[int, ...], int] = {}
    draws = 6000
    for stream in range(draws):
        order = tuple(_core.random_permutation(0, stream, 3).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert all(abs(count - draws / 6) < 5 * np.sqrt(draws / 6) for count in counts.values())


def test_permutation_rejects_a_negative_length():
    message = "random_permutation: n is out of range: expected at least 0, got -1"
    with pytest.raises(ValueError, match=re.escape(message)):
        _core.random_permutation(0, 0, -1)


def test_manual_seed_starts_over():
    manual_seed(4)
    first = [next_key(), next_key()]
    assert first == [RandomKey(4, 0), RandomKey(4, 1)]
    manual_seed(4)
    assert [next_key(), next_key()] == first


def test_rng_state_resumes_where_it_was_taken():
    manual_seed(6)
    next_key()
    state = get_rng_state()
    a = random.uniform((5,), 0.0, 1.0)
    set_rng_state(tuple(state))
    np.testing.assert_array_equal(random.uniform((5,), 0.0, 1.0), a)
    assert get_rng_state() == RandomKey(6, 2)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_manual_seed_rejects(seed):
    message = f"manual_seed: seed is out of range: expected 0 to 2**64 - 1, got {seed}"
    with pytest.raises(ValueError, match=re.escape(message)):
        convcore.manual_seed(seed)


@pytest.mark.parametrize("seed", [True, 2.0, "2", None, np.array([2])])
def test_manual_seed_rejects_what_is_no_int(seed):
    with pytest.raises(
        TypeError, match="manual_seed: seed has the wrong type: expected an int, got"
    ):
        convcore.manual_seed(seed)


@pytest.mark.parametrize("seed", [np.int64(7), np.uint8(7), np.array(7)])
def test_manual_seed_takes_integers_of_numpy(seed):
    convcore.manual_seed(seed)
    assert get_rng_state() == (7, 0)
    assert type(get_rng_state().seed) is int


@pytest.mark.parametrize(
    "state", [(1, -1), (2**64, 0), (1.0, 0), (1, "0"), (True, 0), (1,), (1, 2, 3), 5, None]
)
def test_set_rng_state_rejects_and_changes_nothing(state):
    before = get_rng_state()
    message = "set_rng_state: state is not a random key: expected (seed, stream), each from 0 to "
    with pytest.raises(ValueError, match=re.escape(message)):
        set_rng_state(state)
    assert get_rng_state() == before

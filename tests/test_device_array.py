"""DeviceArray: copies between the devices, views, exchange with other libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import convcore
import convcore.functional as F
from convcore import DeviceArray, from_dlpack, to_device
from helpers import floats

pytestmark = pytest.mark.usefixtures("cuda")

DTYPES = (np.float32, np.int32, np.int64, np.uint8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0, 2), (2, 3, 4, 5)])
def test_values_come_back_as_they_went(dtype, shape):
    host = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    array = to_device(host, "cuda")
    assert isinstance(array, DeviceArray)
    assert (array.shape, array.dtype, array.ndim) == (host.shape, host.dtype, host.ndim)
    assert (array.size, array.nbytes) == (host.size, host.nbytes)
    assert array.strides == host.strides or host.size == 0
    assert array.device == "cuda"
    back = array.numpy()
    assert back.dtype == host.dtype
    np.testing.assert_array_equal(back, host)
    np.testing.assert_array_equal(array.copy().numpy(), host)
    assert to_device(array, "cuda") is array
    np.testing.assert_array_equal(to_device(array, "cpu"), host)
    np.testing.assert_array_equal(array.to_device("cpu"), host)


def test_strided_arrays_are_copied_in_order(rng):
    x = floats(rng, 6, 8)
    np.testing.assert_array_equal(to_device(x.T, "cuda").numpy(), x.T)
    np.testing.assert_array_equal(to_device(x[::2, 1:], "cuda").numpy(), x[::2, 1:])


def test_channels_last_memory_stays_so(rng):
    x = floats(rng, 2, 3, 4, 5)
    last = F.channels_last(x)
    array = to_device(last, "cuda")
    assert array.strides == last.strides
    back = array.numpy()
    assert back.strides == last.strides
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(array.reshape(2, -1).numpy(), x.reshape(2, -1))
    np.testing.assert_array_equal(array[1:].numpy(), x[1:])
    assert F.channels_last(to_device(x, "cuda")).strides == last.strides


def test_reshape_is_a_view(rng):
    x = floats(rng, 4, 6)
    array = to_device(x, "cuda")
    for shape in ((24,), (-1,), (2, -1, 3), (4, 6, 1)):
        view = array.reshape(shape)
        np.testing.assert_array_equal(view.numpy(), x.reshape(shape))
        np.testing.assert_array_equal(array.reshape(*shape).numpy(), x.reshape(shape))
    array.reshape(-1)[...] = 1.0
    np.testing.assert_array_equal(array.numpy(), np.ones((4, 6)))
    for shape in ((5, 5), (-1, 5), (-2, 12)):
        with pytest.raises(ValueError, match="reshape"):
            array.reshape(shape)


def test_a_slice_is_a_view(rng):
    x = floats(rng, 7, 3)
    array = to_device(x, "cuda")
    for index in (slice(None), slice(2, 5), slice(-3, None), slice(5, 2), slice(0, 100), ...):
        np.testing.assert_array_equal(array[index].numpy(), x[index])
    array[2:4] = 5.0
    array[4:5] = to_device(x[:1], "cuda")
    x[2:4], x[4:5] = 5.0, x[:1]
    np.testing.assert_array_equal(array.numpy(), x)
    with pytest.raises(ValueError, match="a slice has a step: expected step 1, got 2"):
        array[::2]
    with pytest.raises(TypeError, match="this index cannot be used on the GPU"):
        array[0]
    with pytest.raises(ValueError, match="the assigned value has the wrong shape"):
        array[2:4] = to_device(x[:1], "cuda")


def test_a_view_keeps_the_memory(rng):
    x = floats(rng, 5, 3)
    array = to_device(x, "cuda")
    view = array[1:3]
    del array
    others = [to_device(np.zeros((5, 3), np.float32), "cuda") for _ in range(3)]
    np.testing.assert_array_equal(view.numpy(), x[1:3])
    assert len(others) == 3


def test_single_values():
    assert to_device(np.array(2.5, np.float32), "cuda").item() == 2.5
    assert float(to_device(np.array([2.5], np.float32), "cuda")) == 2.5
    assert int(to_device(np.array([[7]]), "cuda")) == 7
    assert not to_device(np.array([0]), "cuda")
    array = to_device(np.zeros((3, 2), np.float32), "cuda")
    assert len(array) == 3
    with pytest.raises(ValueError, match="item: the array is no single value"):
        float(array)
    with pytest.raises(TypeError, match="without axes"):
        len(to_device(np.array(1), "cuda"))
    assert repr(array) == "DeviceArray(shape=(3, 2), dtype=float32, device='cuda')"


def test_numpy_refuses_it():
    array = to_device(np.zeros(3, np.float32), "cuda")
    with pytest.raises(TypeError, match=r"use \.numpy\(\)"):
        np.asarray(array)
    with pytest.raises(TypeError):
        np.zeros(3, np.float32) + array
    with pytest.raises(TypeError):
        iter(array)


def test_rejects():
    with pytest.raises(TypeError, match=r"to_device: array has the wrong dtype: .* got float64"):
        to_device(np.zeros(3), "cuda")
    with pytest.raises(TypeError, match=r"to_device: array is not an array: .* got list"):
        to_device([1.0], "cuda")
    with pytest.raises(
        ValueError, match="to_device: device is not known: expected 'cpu' or 'cuda', got 'tpu'"
    ):
        to_device(np.zeros(3, np.float32), "tpu")
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(
        ValueError, match=r"add: the arrays are on different devices: .* got b on cpu"
    ):
        convcore._core.add_forward(to_device(x, "cuda"), x)
    with pytest.raises(TypeError, match="linear: x has the wrong dtype: expected float32"):
        convcore._core.linear_forward(to_device(x.astype(np.int32), "cuda"), x, None)


def test_out_of_memory_is_a_memory_error():
    convcore.cuda.empty_cache()
    with pytest.raises(
        MemoryError, match=r"out of device memory: \d+ bytes asked for, \d+ of \d+ free"
    ):
        convcore._core.device_zeros((1 << 42,))
    assert convcore._core.device_zeros((3,)).numpy().tolist() == [0, 0, 0]


def test_memory_is_counted_and_used_again():
    convcore.cuda.empty_cache()
    before = convcore.cuda.memory_stats()
    assert before["cached_bytes"] == 0
    array = to_device(np.zeros(10_000, np.float32), "cuda")
    held = convcore.cuda.memory_stats()
    assert 40_000 <= held["live_bytes"] - before["live_bytes"] < 41_000
    del array
    array = to_device(np.zeros(10_000, np.float32), "cuda")
    assert convcore.cuda.memory_stats() == held
    del array
    convcore.cuda.empty_cache()
    after = convcore.cuda.memory_stats()
    assert (after["live_bytes"], after["cached_bytes"]) == (before["live_bytes"], 0)
    convcore.cuda.synchronize()


# ---- exchange with other libraries ---------------------------------------------------------------


class OnlyDlpack:
    """What another library's array looks like."""

    def __init__(self, array, versioned=True):
        self.array, self.versioned, self.stream = array, versioned, None

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream=None, **more):
        if more and not self.versioned:
            raise TypeError("__dlpack__() got an unexpected keyword argument")
        self.stream = stream
        return self.array.__dlpack__(stream=stream, **more)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_shares_the_memory(rng, dtype, versioned):
    x = rng.integers(0, 9, (3, 4)).astype(dtype)
    array = to_device(x, "cuda")
    other = OnlyDlpack(array, versioned)
    shared = from_dlpack(other)
    assert isinstance(shared, DeviceArray)
    assert other.stream == array.__cuda_array_interface__["stream"]
    array[:1] = 0
    x[:1] = 0
    del array, other
    assert shared.dtype == dtype
    np.testing.assert_array_equal(shared.numpy(), x)


def test_dlpack_of_views_and_channels_last(rng):
    x = floats(rng, 4, 3, 2, 5)
    for source in (x, F.channels_last(x)):
        array = to_device(source, "cuda")
        shared = from_dlpack(OnlyDlpack(array[1:3]))
        assert shared.strides == array.strides
        np.testing.assert_array_equal(shared.numpy(), x[1:3])
    assert from_dlpack(OnlyDlpack(to_device(x[:0], "cuda"))).shape == (0, 3, 2, 5)


def test_dlpack_of_the_cpu_gives_numpy(rng):
    x = floats(rng, 3)
    assert np.shares_memory(from_dlpack(x), x)
    assert np.shares_memory(from_dlpack(OnlyDlpack(x)), x)


def test_ops_take_arrays_of_other_libraries(rng):
    x = floats(rng, 3, 4)
    y = F.relu(OnlyDlpack(to_device(x, "cuda")))
    np.testing.assert_array_equal(y.numpy(), np.maximum(x, 0))


def test_dlpack_arguments(rng):
    x = floats(rng, 3)
    array = to_device(x, "cuda")
    assert array.__dlpack_device__() == (2, 0)
    for stream in (None, -1, 1, 2, 1234):
        assert '"dltensor"' in repr(array.__dlpack__(stream=stream))
    assert '"dltensor_versioned"' in repr(array.__dlpack__(max_version=(1, 1)))
    assert '"dltensor"' in repr(array.__dlpack__(max_version=(0, 8), dl_device=(2, 0)))
    with pytest.raises(BufferError, match="dl_device"):
        array.__dlpack__(dl_device=(1, 0))
    with pytest.raises(ValueError, match="stream 0"):
        array.__dlpack__(stream=0)

    class Copied(OnlyDlpack):
        def __dlpack__(self, **more):
            return self.array.__dlpack__(copy=True)

    other = from_dlpack(Copied(array))
    array[...] = 0
    np.testing.assert_array_equal(other.numpy(), x)


def test_cuda_array_interface(rng):
    array = to_device(floats(rng, 2, 3, 4, 5), "cuda")
    interface = array.__cuda_array_interface__
    assert interface["version"] == 3
    assert (interface["shape"], interface["typestr"]) == ((2, 3, 4, 5), "<f4")
    assert interface["strides"] is None
    assert interface["stream"] not in (0, None)
    address, read_only = interface["data"]
    assert not read_only
    assert array[1:].__cuda_array_interface__["data"][0] == address + 3 * 4 * 5 * 4
    last = F.channels_last(array).__cuda_array_interface__
    assert last["strides"] == (240, 4, 60, 12)
    assert to_device(np.zeros(0, np.float32), "cuda").__cuda_array_interface__["data"][0] == 0


# In a process of its own: the plug-in is opened once.
def test_without_cuda_the_reason_is_told(tmp_path):
    script = "import numpy, convcore; convcore.to_device(numpy.zeros(1, 'f'), 'cuda')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "CONVCORE_CUDA_LIBRARY": str(tmp_path / "none.so")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search("RuntimeError: CUDA is not available: the CUDA plug-in cannot", done.stderr)

"""Arrays of either device: those of NumPy, and those in the memory of the GPU.

The ops take and give both. What else the package does with arrays that may be either is here.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from convcore import _core
from convcore._core import DeviceArray as DeviceArray

AnyArray = np.ndarray[Any, Any]
T = TypeVar("T")


def to_device(array: Any, device: str) -> Any:
    """Return `array` on a device: itself when it is there already, else a copy.

    Parameters
    ----------
    array : ndarray or DeviceArray
        Of float32, int32, int64 or uint8; or what speaks DLPack.
    device : {'cpu', 'cuda'}
        The arrays of 'cpu' are NumPy's.

    Returns
    -------
    ndarray or DeviceArray

    Raises
    ------
    MemoryError
        When the GPU has no room for it; the message has the sizes.
    RuntimeError
        When CUDA is not available; the message tells why.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore
    >>> x = np.zeros((2, 3), np.float32)
    >>> convcore.to_device(x, "cpu") is x
    True
    """
    return _core.to_device(array, device)


def from_dlpack(array: object) -> Any:
    """Return what speaks DLPack, such as a tensor of torch, without a copy.

    Parameters
    ----------
    array : object with ``__dlpack__``
        In the memory of the CPU, or of the GPU: row-major or channels-last then.

    Returns
    -------
    ndarray or DeviceArray
        The same memory, which lives as long as one of the two does.

    Raises
    ------
    BufferError
        When the memory cannot be read in place.

    Examples
    --------
    >>> import numpy as np
    >>> import convcore
    >>> convcore.from_dlpack(np.arange(3, dtype=np.float32))
    array([0., 1., 2.], dtype=float32)
    """
    return _core.from_dlpack(array)


def is_array(value: object) -> bool:
    """Return whether it is an array of one of the devices."""
    return isinstance(value, (np.ndarray, DeviceArray))


def device_of(array: object) -> str:
    """Return the name of the device."""
    return "cuda" if isinstance(array, DeviceArray) else "cpu"


def device_of_module(module: Any) -> str:
    """Return the name of the device on which a module computes."""
    for array in module._state().values():
        if array.dtype == np.float32:
            return device_of(array)
    return "cpu"


def to_numpy(array: Any) -> AnyArray:
    """Return the values as an array of NumPy; what is one already is not copied."""
    return array.numpy() if isinstance(array, DeviceArray) else np.asarray(array)


def beside(array: T, other: object) -> T:
    """Return `array` (None stays None) on the device of `other`."""
    if array is None or isinstance(array, DeviceArray) == isinstance(other, DeviceArray):
        return array
    moved: T = _core.to_device(array, device_of(other))
    return moved


def full_beside(other: Any, value: float) -> Any:
    """Return an array of float32 of the shape and on the device of `other`, full of `value`."""
    if isinstance(other, DeviceArray) and value == 0:
        return _core.device_zeros(other.shape)
    return beside(np.full(np.shape(other), value, np.float32), other)


def add(a: Any, b: Any) -> Any:
    """Return a + b, of arrays of float32 of one shape, as a new array."""
    if device_of(a) != "cpu":
        return _core.add_forward(a, b)
    return np.asarray(a + b, np.float32)


def masked(values: Any, mask: Any) -> Any:
    """Return `values`, and 0 where `mask` is 0 (it is 1 elsewhere), as a new array."""
    if device_of(values) != "cpu":
        return _core.relu_backward(values, None, mask, 0.0, 0.0)  # dy where y > 0, else 0
    return np.where(mask != 0, values, np.float32(0))


def is_writeable(array: Any) -> bool:
    """Return whether values can be put into it."""
    return isinstance(array, DeviceArray) or bool(array.flags.writeable)

"""A learnable array and its gradient."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from convcore._arrays import DeviceArray, add, device_of, masked, to_device, to_numpy
from convcore.functional._arguments import FloatArray

AnyArray = np.ndarray[Any, Any]


def _checked(value: object) -> FloatArray:
    """Return `value`, or a copy when it is not C-contiguous and writeable."""
    if isinstance(value, DeviceArray) and value.dtype == np.float32:
        return cast("FloatArray", value.reshape(value.shape))  # in row-major order
    if not isinstance(value, np.ndarray):
        raise TypeError(
            "Parameter: data is not an array: expected a numpy.ndarray of float32, "
            f"got {type(value).__name__}"
        )
    if value.dtype != np.float32:
        raise TypeError(
            f"Parameter: data has the wrong dtype: expected float32, got {value.dtype} "
            "(convert it with .astype(numpy.float32))"
        )
    return np.require(value, requirements=["C", "W"])


class Parameter:
    """A learnable array and the gradient of the loss with respect to it.

    Parameters
    ----------
    data : ndarray, float32
        The values. Kept without a copy when C-contiguous and writeable.
    requires_grad : bool, default True
        Whether layers compute a gradient for it.
    mask : ndarray of the same shape, optional
        The values where it is 0 are no parameters: they are set to 0 in `data`, their gradients
        are 0, and so they stay 0 in every optimizer (the table of `Conv2d(connections=...)`).
        Whoever writes into `data` in place calls `keep_mask` afterwards.

    Attributes
    ----------
    grad : ndarray of the same shape, float32, or None
        The sum of the gradients since it was last set to None.
    requires_grad : bool
        Whether layers compute a gradient for it.
    mask : ndarray of the same shape, float32, or None
        1 where a value is learnt, else 0.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore.nn.parameter import Parameter
    >>> p = Parameter(np.zeros(2, np.float32))
    >>> p.accumulate_grad(np.ones(2, np.float32))
    >>> p.accumulate_grad(np.ones(2, np.float32))
    >>> p.grad
    array([2., 2.], dtype=float32)
    """

    def __init__(
        self, data: FloatArray, requires_grad: bool = True, mask: AnyArray | None = None
    ) -> None:
        self._data = _checked(data)
        self.grad: FloatArray | None = None
        self.requires_grad = requires_grad
        self.mask: FloatArray | None = None
        if mask is not None:
            if mask.shape != self.shape:
                raise ValueError(
                    f"Parameter: mask has the wrong shape: expected {self.shape}, got {mask.shape}"
                )
            self.mask = (mask != 0).astype(np.float32)
            self.keep_mask()

    @property
    def data(self) -> FloatArray:
        """The values; a new array must have the same shape and dtype."""
        return self._data

    @data.setter
    def data(self, value: FloatArray) -> None:
        value = _checked(value)
        if value.shape != self.shape:
            raise ValueError(
                f"Parameter: data has the wrong shape: expected {self.shape}, got {value.shape}"
            )
        self._data = value
        self.keep_mask()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `data`."""
        return self._data.shape

    @property
    def device(self) -> str:
        """Where the values are: ``"cpu"`` or ``"cuda"``."""
        return device_of(self._data)

    def to(self, device: str) -> Parameter:
        """Move values, gradient and mask to a device, and return the parameter."""
        self._data = _checked(to_device(self._data, device))
        if self.grad is not None:
            self.grad = to_device(self.grad, device)
        if self.mask is not None:
            self.mask = to_device(self.mask, device)
        return self

    def numel(self) -> int:
        """Return the number of values that are learnt: those inside of the mask."""
        return self._data.size if self.mask is None else int(np.count_nonzero(to_numpy(self.mask)))

    def keep_mask(self) -> None:
        """Set the values outside of the mask to 0."""
        if self.mask is None:
            return
        if self.device == "cpu":
            np.putmask(self._data, self.mask == 0, 0)
        else:
            self._data[...] = masked(self._data, self.mask)

    def accumulate_grad(self, g: FloatArray) -> None:
        """Add `g` to `grad`; the first `g` becomes `grad` itself, without a copy.

        `g` is never written to: a sum is a new array.
        """
        if g.shape != self.shape:
            raise ValueError(
                f"Parameter: grad has the wrong shape: expected {self.shape}, got {g.shape}"
            )
        if self.mask is not None:
            g = masked(g, self.mask)
        self.grad = g if self.grad is None else add(self.grad, g)

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, requires_grad={self.requires_grad})"

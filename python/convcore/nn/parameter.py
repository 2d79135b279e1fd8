"""A learnable array and its gradient."""

from __future__ import annotations

import numpy as np

from convcore.functional._arguments import FloatArray


def _checked(value: object) -> FloatArray:
    """Return `value`, or a copy when it is not C-contiguous and writeable."""
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

    Attributes
    ----------
    grad : ndarray of the same shape, float32, or None
        The sum of the gradients since it was last set to None.
    requires_grad : bool
        Whether layers compute a gradient for it.

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

    def __init__(self, data: FloatArray, requires_grad: bool = True) -> None:
        self._data = _checked(data)
        self.grad: FloatArray | None = None
        self.requires_grad = requires_grad

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

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `data`."""
        return self._data.shape

    def accumulate_grad(self, g: FloatArray) -> None:
        """Add `g` to `grad`; the first `g` becomes `grad` itself, without a copy.

        `g` is never written to: a sum is a new array.
        """
        if g.shape != self.shape:
            raise ValueError(
                f"Parameter: grad has the wrong shape: expected {self.shape}, got {g.shape}"
            )
        if self.grad is None:
            self.grad = g
        else:
            self.grad = np.asarray(self.grad + g, np.float32)

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, requires_grad={self.requires_grad})"

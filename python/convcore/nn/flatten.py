"""Flatten."""

from __future__ import annotations

import convcore.functional as F
from convcore.functional._arguments import FloatArray, to_int
from convcore.nn.module import Module


class Flatten(Module):
    """Join the dimensions from `start_dim` to `end_dim` into one; no data moves.

    Parameters
    ----------
    start_dim : int, default 1
        The default keeps the batch.
    end_dim : int, default -1

    See Also
    --------
    convcore.functional.flatten : The same as a function.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = to_int("Flatten", "start_dim", start_dim)
        self.end_dim = to_int("Flatten", "end_dim", end_dim)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return `x` in its new shape."""
        y = F.flatten(x, self.start_dim, self.end_dim)
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return `dy` in the shape of the input."""
        (x,) = self._take()
        return F.flatten_backward(dy, x, self.start_dim, self.end_dim) if need_dx else None

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"

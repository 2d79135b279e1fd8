"""The output layer of LeNet-5 of 1998."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import convcore.functional as F
from convcore.functional._arguments import FloatArray
from convcore.nn.module import Module


class EuclideanRBF(Module):
    """Minus the squared distance of `x` to each of some fixed codes, up to what all have in common.

    ``y_k = 2 x . w_k - |w_k|^2``, which is ``|x|^2 - |x - w_k|^2``. The paper's units give
    ``|x - w_k|^2``, and the least one is the answer; the term ``|x|^2`` is the same for all codes
    and changes neither that nor a softmax. So `CrossEntropyLoss` on this layer is the paper's
    criterion (9), without the constant for images that are no digit.

    Parameters
    ----------
    codes : sequence of sequences of float
        One for each class. They are no parameters: nothing trains them.

    Attributes
    ----------
    weight : ndarray, shape (classes, features)
        Twice the codes: a buffer, as `bias`.
    bias : ndarray, shape (classes,)
        Minus the squared norms of the codes.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE, 1998, section II.B, equation (7).

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import nn
    >>> layer = nn.EuclideanRBF([[1, 1, -1], [-1, 1, 1]])
    >>> layer(np.array([[1, 1, 1]], np.float32))
    array([[-1., -1.]], dtype=float32)
    >>> list(layer.parameters())
    []
    """

    weight: FloatArray
    bias: FloatArray

    def __init__(self, codes: Sequence[Sequence[float]]) -> None:
        table = np.asarray(codes, np.float32)
        if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
            raise ValueError(
                "EuclideanRBF: codes has the wrong form: expected numbers of shape (classes, "
                f"features), got shape {table.shape}"
            )
        self.codes = tuple(tuple(float(v) for v in code) for code in table)
        self.register_buffer("weight", 2 * table)
        self.register_buffer("bias", -(table**2).sum(axis=1))

    def forward(self, x: FloatArray) -> FloatArray:
        """Return y, shape (N, classes)."""
        self._keep(x)
        return F.linear(x, self.weight, self.bias)

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (x,) = self._take()
        if not need_dx:
            return None
        dx, _, _ = F.linear_backward(dy, x, self.weight, self.bias, need_dw=False, need_db=False)
        return dx

    def multiply_adds(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
        """Return the multiply-adds for one sample."""
        return int(self.weight.size)

    def window(self) -> str:
        """Return ``"all"``."""
        return "all"

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.weight.shape[1]} features, {len(self.weight)} codes"

"""Activations."""

from __future__ import annotations

import math

import convcore.functional as F
from convcore.functional._arguments import FloatArray, to_int
from convcore.nn import _checks as check
from convcore.nn.module import Module


class ReLU(Module):
    """``max(x, 0)``.

    Parameters
    ----------
    inplace : bool, default False
        Accepted so that networks written for torch run; convcore never writes into an input.

    See Also
    --------
    convcore.functional.relu : The mathematics.
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = bool(inplace)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return ``max(x, 0)``."""
        y = F.relu(x)
        # The sign of y is all that backward reads, and y is kept by the next layer anyway: so x
        # can be freed.
        self._keep(y)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dy where x was positive, else 0."""
        (y,) = self._take()
        return F.relu_backward(dy, y) if need_dx else None

    def extra_repr(self) -> str:
        """Return ``inplace`` when it is set."""
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """``x`` where positive, else ``negative_slope * x``.

    Parameters
    ----------
    negative_slope : float, default 0.01
    inplace : bool, default False
        Accepted so that networks written for torch run; convcore never writes into an input.

    See Also
    --------
    convcore.functional.leaky_relu : The mathematics.
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = check.real(
            "LeakyReLU", "negative_slope", negative_slope, -math.inf, math.inf
        )
        self.inplace = bool(inplace)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return ``x`` where positive, else ``negative_slope * x``."""
        y = F.leaky_relu(x, self.negative_slope)
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (x,) = self._take()
        return F.leaky_relu_backward(dy, x, self.negative_slope) if need_dx else None

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class Tanh(Module):
    """Hyperbolic tangent.

    See Also
    --------
    convcore.functional.tanh : The mathematics.
    """

    def forward(self, x: FloatArray) -> FloatArray:
        """Return ``tanh(x)``."""
        y = F.tanh(x)
        self._keep(y)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (y,) = self._take()
        return F.tanh_backward(dy, y, saved=y) if need_dx else None


class Sigmoid(Module):
    """Logistic function.

    See Also
    --------
    convcore.functional.sigmoid : The mathematics.
    """

    def forward(self, x: FloatArray) -> FloatArray:
        """Return ``1 / (1 + exp(-x))``."""
        y = F.sigmoid(x)
        self._keep(y)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (y,) = self._take()
        return F.sigmoid_backward(dy, y, saved=y) if need_dx else None


class ScaledTanh(Module):
    """``alpha * tanh(beta * x)``: by default the squashing function of LeNet-5.

    torch has no such layer; the name and the arguments are those of ONNX.

    Parameters
    ----------
    alpha : float, default 1.7159
        The limit for large `x`, not 0.
    beta : float, default 2/3

    See Also
    --------
    convcore.functional.scaled_tanh : The mathematics.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE, 1998, equation (6) and appendix A.
    """

    def __init__(self, alpha: float = 1.7159, beta: float = 2 / 3) -> None:
        self.alpha = check.real("ScaledTanh", "alpha", alpha, -math.inf, math.inf)
        self.beta = check.real("ScaledTanh", "beta", beta, -math.inf, math.inf)
        if self.alpha == 0:
            raise ValueError("ScaledTanh: alpha is zero: expected a number other than 0, got 0")

    def forward(self, x: FloatArray) -> FloatArray:
        """Return ``alpha * tanh(beta * x)``."""
        y = F.scaled_tanh(x, self.alpha, self.beta)
        self._keep(y)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (y,) = self._take()
        return F.scaled_tanh_backward(dy, y, self.alpha, self.beta, saved=y) if need_dx else None

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"alpha={self.alpha}, beta={self.beta}"


class ELU(Module):
    """``x`` where positive, else ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    alpha : float, default 1.0
    inplace : bool, default False
        Accepted so that networks written for torch run; convcore never writes into an input.

    See Also
    --------
    convcore.functional.elu : The mathematics.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = check.real("ELU", "alpha", alpha, -math.inf, math.inf)
        self.inplace = bool(inplace)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return ``x`` where positive, else ``alpha * (exp(x) - 1)``."""
        y = F.elu(x, self.alpha)
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (x,) = self._take()
        return F.elu_backward(dy, x, self.alpha) if need_dx else None

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class GELU(Module):
    """``x`` times the probability that a standard normal number is less than `x`.

    Parameters
    ----------
    approximate : {'none', 'tanh'}

    See Also
    --------
    convcore.functional.gelu : The mathematics.
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = check.choice("GELU", "approximate", approximate, ("none", "tanh"))

    def forward(self, x: FloatArray) -> FloatArray:
        """Return ``x * P(x)``."""
        y = F.gelu(x, self.approximate)
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (x,) = self._take()
        return F.gelu_backward(dy, x, self.approximate) if need_dx else None

    def extra_repr(self) -> str:
        """Return the argument."""
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """``x`` times its logistic function; also called swish.

    Parameters
    ----------
    inplace : bool, default False
        Accepted so that networks written for torch run; convcore never writes into an input.

    See Also
    --------
    convcore.functional.silu : The mathematics.
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = bool(inplace)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return ``x / (1 + exp(-x))``."""
        y = F.silu(x)
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (x,) = self._take()
        return F.silu_backward(dy, x) if need_dx else None

    def extra_repr(self) -> str:
        """Return ``inplace`` when it is set."""
        return "inplace=True" if self.inplace else ""


class Softmax(Module):
    """Numbers in (0, 1) that sum to 1 along an axis.

    Parameters
    ----------
    dim : int, default -1
        The axis. (torch's default, None, guesses one, and warns.)

    See Also
    --------
    convcore.functional.softmax : The mathematics.
    CrossEntropyLoss : Takes the logits, and needs no softmax before it.
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = to_int("Softmax", "dim", dim)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the softmax of `x`."""
        y = F.softmax(x, self.dim)
        self._keep(y)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (y,) = self._take()
        return F.softmax_backward(dy, y, self.dim, saved=y) if need_dx else None

    def extra_repr(self) -> str:
        """Return the argument."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """Logarithm of the softmax.

    Parameters
    ----------
    dim : int, default -1
        The axis. (torch's default, None, guesses one, and warns.)

    See Also
    --------
    convcore.functional.log_softmax : The mathematics.
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = to_int("LogSoftmax", "dim", dim)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the logarithm of the softmax of `x`."""
        y = F.log_softmax(x, self.dim)
        self._keep(y)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (y,) = self._take()
        return F.log_softmax_backward(dy, y, self.dim, saved=y) if need_dx else None

    def extra_repr(self) -> str:
        """Return the argument."""
        return f"dim={self.dim}"

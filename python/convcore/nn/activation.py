"""Activations."""

from __future__ import annotations

import math
from typing import Any

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


class _OfInput(Module):
    """An activation whose gradient is a function of its input, which it keeps."""

    _forward: Any
    _backward: Any

    def _arguments(self) -> tuple[Any, ...]:
        """Return the arguments of the functions, after the array."""
        return ()

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the function of each element of `x`."""
        y: FloatArray = self._forward(x, *self._arguments())
        self._keep(x)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (x,) = self._take()
        if not need_dx:
            return None
        dx: FloatArray = self._backward(dy, x, *self._arguments())
        return dx


class _OfOutput(Module):
    """An activation whose gradient is a function of its output, which it keeps."""

    _forward: Any
    _backward: Any

    def _arguments(self) -> tuple[Any, ...]:
        """Return the arguments of the functions, after the array."""
        return ()

    def forward(self, x: FloatArray) -> FloatArray:
        """Return the function of `x`."""
        y: FloatArray = self._forward(x, *self._arguments())
        self._keep(y)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Return dx."""
        (y,) = self._take()
        if not need_dx:
            return None
        dx: FloatArray = self._backward(dy, y, *self._arguments(), saved=y)
        return dx


class LeakyReLU(_OfInput):
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

    _forward = staticmethod(F.leaky_relu)
    _backward = staticmethod(F.leaky_relu_backward)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = check.real(
            "LeakyReLU", "negative_slope", negative_slope, -math.inf, math.inf
        )
        self.inplace = bool(inplace)

    def _arguments(self) -> tuple[Any, ...]:
        return (self.negative_slope,)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class Tanh(_OfOutput):
    """Hyperbolic tangent.

    See Also
    --------
    convcore.functional.tanh : The mathematics.
    """

    _forward = staticmethod(F.tanh)
    _backward = staticmethod(F.tanh_backward)


class Sigmoid(_OfOutput):
    """Logistic function.

    See Also
    --------
    convcore.functional.sigmoid : The mathematics.
    """

    _forward = staticmethod(F.sigmoid)
    _backward = staticmethod(F.sigmoid_backward)


class ScaledTanh(_OfOutput):
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

    _forward = staticmethod(F.scaled_tanh)
    _backward = staticmethod(F.scaled_tanh_backward)

    def __init__(self, alpha: float = 1.7159, beta: float = 2 / 3) -> None:
        self.alpha = check.real("ScaledTanh", "alpha", alpha, -math.inf, math.inf)
        self.beta = check.real("ScaledTanh", "beta", beta, -math.inf, math.inf)
        if self.alpha == 0:
            raise ValueError("ScaledTanh: alpha is zero: expected a number other than 0, got 0")

    def _arguments(self) -> tuple[Any, ...]:
        return self.alpha, self.beta

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"alpha={self.alpha}, beta={self.beta}"


class ELU(_OfInput):
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

    _forward = staticmethod(F.elu)
    _backward = staticmethod(F.elu_backward)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = check.real("ELU", "alpha", alpha, -math.inf, math.inf)
        self.inplace = bool(inplace)

    def _arguments(self) -> tuple[Any, ...]:
        return (self.alpha,)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class GELU(_OfInput):
    """``x`` times the probability that a standard normal number is less than `x`.

    Parameters
    ----------
    approximate : {'none', 'tanh'}

    See Also
    --------
    convcore.functional.gelu : The mathematics.
    """

    _forward = staticmethod(F.gelu)
    _backward = staticmethod(F.gelu_backward)

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = check.choice("GELU", "approximate", approximate, ("none", "tanh"))

    def _arguments(self) -> tuple[Any, ...]:
        return (self.approximate,)

    def extra_repr(self) -> str:
        """Return the argument."""
        return f"approximate={self.approximate!r}"


class SiLU(_OfInput):
    """``x`` times its logistic function; also called swish.

    Parameters
    ----------
    inplace : bool, default False
        Accepted so that networks written for torch run; convcore never writes into an input.

    See Also
    --------
    convcore.functional.silu : The mathematics.
    """

    _forward = staticmethod(F.silu)
    _backward = staticmethod(F.silu_backward)

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = bool(inplace)

    def extra_repr(self) -> str:
        """Return ``inplace`` when it is set."""
        return "inplace=True" if self.inplace else ""


class Softmax(_OfOutput):
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

    _forward = staticmethod(F.softmax)
    _backward = staticmethod(F.softmax_backward)

    def __init__(self, dim: int = -1) -> None:
        self.dim = to_int("Softmax", "dim", dim)

    def _arguments(self) -> tuple[Any, ...]:
        return (self.dim,)

    def extra_repr(self) -> str:
        """Return the argument."""
        return f"dim={self.dim}"


class LogSoftmax(_OfOutput):
    """Logarithm of the softmax.

    Parameters
    ----------
    dim : int, default -1
        The axis. (torch's default, None, guesses one, and warns.)

    See Also
    --------
    convcore.functional.log_softmax : The mathematics.
    """

    _forward = staticmethod(F.log_softmax)
    _backward = staticmethod(F.log_softmax_backward)

    def __init__(self, dim: int = -1) -> None:
        self.dim = to_int("LogSoftmax", "dim", dim)

    def _arguments(self) -> tuple[Any, ...]:
        return (self.dim,)

    def extra_repr(self) -> str:
        """Return the argument."""
        return f"dim={self.dim}"

"""Batch normalisation."""

from __future__ import annotations

import math

import numpy as np

import convcore.functional as F
from convcore.functional._arguments import FloatArray
from convcore.nn import _checks as check
from convcore.nn.linear import accumulate
from convcore.nn.module import AnyArray, Module
from convcore.nn.parameter import Parameter

#: running_mean, running_var, weight, bias
_Arrays = tuple[FloatArray | None, FloatArray | None, FloatArray | None, FloatArray | None]


class _BatchNorm(Module):
    """What BatchNorm1d and BatchNorm2d share."""

    _ranks: tuple[int, ...]
    _form: str
    running_mean: FloatArray | None
    running_var: FloatArray | None
    num_batches_tracked: AnyArray | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        name = type(self).__name__
        self.num_features = check.integer(name, "num_features", num_features)
        self.eps = check.real(name, "eps", eps, 0.0, math.inf)
        self.momentum = None if momentum is None else check.real(name, "momentum", momentum, 0, 1)
        self.affine = bool(affine)
        self.track_running_stats = bool(track_running_stats)
        n = self.num_features
        self.weight = Parameter(np.ones(n, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(n, np.float32)) if affine else None
        tracked = self.track_running_stats
        self.register_buffer("running_mean", np.zeros(n, np.float32) if tracked else None)
        self.register_buffer("running_var", np.ones(n, np.float32) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def forward(self, x: FloatArray) -> FloatArray:
        """Return `x` with mean 0 and variance 1 per channel, scaled and shifted."""
        self._expect_input(x)
        # Without running statistics those of the batch are used, in training or not.
        use_batch = self.training or self.running_mean is None
        momentum = self._momentum_of_this_batch() if self.training else 0.0
        arrays = self._arrays()
        y, saved = F.batch_norm(x, *arrays, use_batch, momentum, self.eps, return_saved=True)
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        self._keep(x, saved, use_batch)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Add the gradients of weight and bias; return dx."""
        x, saved, use_batch = self._take()
        weight, bias = self.weight, self.bias
        dx, dweight, dbias = F.batch_norm_backward(
            dy,
            x,
            *self._arrays(),
            use_batch,
            0.0,
            self.eps,
            saved=saved,
            need_dx=need_dx,
            need_dweight=weight is not None and weight.requires_grad,
            need_dbias=bias is not None and bias.requires_grad,
        )
        accumulate(weight, dweight)
        accumulate(bias, dbias)
        return dx

    def _arrays(self) -> _Arrays:
        weight, bias = self.weight, self.bias
        return (
            self.running_mean,
            self.running_var,
            None if weight is None else weight.data,
            None if bias is None else bias.data,
        )

    def _momentum_of_this_batch(self) -> float:
        if self.momentum is not None:
            return self.momentum
        # No momentum: the running statistics are the plain average over all batches.
        return 0.0 if self.num_batches_tracked is None else 1 / (int(self.num_batches_tracked) + 1)

    def _expect_input(self, x: FloatArray) -> None:
        # The op takes any rank; the class is the promise that it is this one.
        shape = getattr(x, "shape", None)
        if shape is not None and len(shape) not in self._ranks:
            raise ValueError(
                f"{type(self).__name__}: x has the wrong number of dimensions: "
                f"expected {self._form}, got {len(shape)} (x has shape {tuple(shape)})"
            )

    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of features (N, C) or sequences (N, C, L).

    Parameters
    ----------
    num_features : int
        C, the number of channels.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float or None, default 0.1
        Share of the new batch in the running statistics; None: plain average over all batches.
    affine : bool, default True
        With a weight (first 1) and a bias (first 0) per channel.
    track_running_stats : bool, default True
        False: the statistics of the batch are used in evaluation too.

    Attributes
    ----------
    weight, bias : Parameter, shape (C,), or None
    running_mean, running_var : ndarray, shape (C,), float32, or None
    num_batches_tracked : ndarray, shape (), int64, or None

    See Also
    --------
    convcore.functional.batch_norm : The mathematics.
    """

    _ranks = (2, 3)
    _form = "2 (N, C) or 3 (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (N, C, H, W).

    Parameters
    ----------
    num_features : int
        C, the number of channels.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float or None, default 0.1
        Share of the new batch in the running statistics; None: plain average over all batches.
    affine : bool, default True
        With a weight (first 1) and a bias (first 0) per channel.
    track_running_stats : bool, default True
        False: the statistics of the batch are used in evaluation too.

    Attributes
    ----------
    weight, bias : Parameter, shape (C,), or None
    running_mean, running_var : ndarray, shape (C,), float32, or None
    num_batches_tracked : ndarray, shape (), int64, or None

    See Also
    --------
    convcore.functional.batch_norm : The mathematics.
    """

    _ranks = (4,)
    _form = "4 (N, C, H, W)"

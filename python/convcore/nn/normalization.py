"""Batch, group and layer normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import convcore.functional as F
from convcore.functional._arguments import FloatArray, is_sequence
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


class _SampleNorm(Module):
    """What GroupNorm and LayerNorm share: statistics of one sample, parameters, gradients."""

    _forward: Any
    _backward: Any
    eps: float
    weight: Parameter | None
    bias: Parameter | None

    def _over(self) -> Any:
        """Return what the statistics go over, as the functions take it."""
        raise NotImplementedError

    def _arguments(self) -> tuple[Any, ...]:
        weight, bias = self.weight, self.bias
        return (
            self._over(),
            None if weight is None else weight.data,
            None if bias is None else bias.data,
            self.eps,
        )

    def forward(self, x: FloatArray) -> FloatArray:
        """Return `x` with mean 0 and variance 1, scaled and shifted."""
        y: FloatArray
        y, saved = self._forward(x, *self._arguments(), return_saved=True)
        self._keep(x, saved)
        return y

    def backward(self, dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
        """Add the gradients of weight and bias; return dx."""
        x, saved = self._take()
        weight, bias = self.weight, self.bias
        dx: FloatArray | None
        dx, dweight, dbias = self._backward(
            dy,
            x,
            *self._arguments(),
            saved=saved,
            need_dx=need_dx,
            need_dweight=weight is not None and weight.requires_grad,
            need_dbias=bias is not None and bias.requires_grad,
        )
        accumulate(weight, dweight)
        accumulate(bias, dbias)
        return dx

    def window(self) -> str:
        """Return ``"all"``: each output sees the statistics of the whole image."""
        return "all"


class GroupNorm(_SampleNorm):
    """Normalisation of groups of channels of each sample.

    Parameters
    ----------
    num_groups : int
        Divides `num_channels`.
    num_channels : int
        C, the number of channels.
    eps : float, default 1e-5
        Added to the variance.
    affine : bool, default True
        With a weight (first 1) and a bias (first 0) per channel.
    bias : bool, default True
        False leaves the bias out.

    Attributes
    ----------
    weight, bias : Parameter, shape (C,), or None

    See Also
    --------
    convcore.functional.group_norm : The mathematics.
    """

    _forward = staticmethod(F.group_norm)
    _backward = staticmethod(F.group_norm_backward)

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
    ) -> None:
        self.num_groups = check.integer("GroupNorm", "num_groups", num_groups)
        self.num_channels = check.integer("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(
                "GroupNorm: num_channels cannot be divided into groups: expected a multiple of "
                f"num_groups = {self.num_groups}, got {self.num_channels}"
            )
        self.eps = check.real("GroupNorm", "eps", eps, 0.0, math.inf)
        self.affine = bool(affine)
        c = self.num_channels
        self.weight = Parameter(np.ones(c, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(c, np.float32)) if affine and bias else None

    def _over(self) -> int:
        return self.num_groups

    def forward(self, x: FloatArray) -> FloatArray:
        """Return `x` with mean 0 and variance 1 per group, scaled and shifted."""
        shape = getattr(x, "shape", (0, self.num_channels))
        if len(shape) > 1 and shape[1] != self.num_channels:
            raise ValueError(
                "GroupNorm: x has the wrong number of channels: expected "
                f"{self.num_channels}, got {shape[1]} (x has shape {tuple(shape)})"
            )
        return super().forward(x)

    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LayerNorm(_SampleNorm):
    """Normalisation over the last dimensions of each sample.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The sizes of the last dimensions.
    eps : float, default 1e-5
        Added to the variance.
    elementwise_affine : bool, default True
        With a weight (first 1) and a bias (first 0) per element.
    bias : bool, default True
        False leaves the bias out.

    Attributes
    ----------
    weight, bias : Parameter, shape `normalized_shape`, or None

    See Also
    --------
    convcore.functional.layer_norm : The mathematics.
    """

    _forward = staticmethod(F.layer_norm)
    _backward = staticmethod(F.layer_norm_backward)

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        sizes = normalized_shape if is_sequence(normalized_shape) else (normalized_shape,)
        self.normalized_shape = tuple(
            check.integer("LayerNorm", "normalized_shape", size)
            for size in sizes  # type: ignore[union-attr]
        )
        if not self.normalized_shape:
            raise ValueError(
                "LayerNorm: normalized_shape is empty: expected at least one size, got ()"
            )
        self.eps = check.real("LayerNorm", "eps", eps, 0.0, math.inf)
        self.elementwise_affine = bool(elementwise_affine)
        shape = self.normalized_shape
        with_bias = elementwise_affine and bias
        self.weight = Parameter(np.ones(shape, np.float32)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(shape, np.float32)) if with_bias else None

    def _over(self) -> tuple[int, ...]:
        return self.normalized_shape

    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )

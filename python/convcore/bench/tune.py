"""The fastest algorithm for each convolution of a network, by measuring them all."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import convcore.functional as F
from convcore import _core
from convcore._algorithms import Pass
from convcore.bench.timing import numbers, time_calls
from convcore.functional._arguments import FloatArray, to_padding
from convcore.nn.conv import Conv2d
from convcore.nn.module import Module, observe, observe_backward

PASSES = ("forward", "backward_input", "backward_weight")


@dataclass
class Tuned:
    """One pass of a convolution, and how long each algorithm took.

    Attributes
    ----------
    key : Pass
    automatic : str
        The algorithm that is taken without a file.
    seconds : dict
        For each algorithm the median of the rounds.
    """

    key: Pass
    automatic: str
    seconds: dict[str, float]

    @property
    def fastest(self) -> str:
        """The name of the fastest algorithm."""
        return min(self.seconds, key=self.seconds.__getitem__)


class _Arrays:
    """Keeps what each convolution gets, in the order of memory in which it gets it."""

    def __init__(self, model: Module) -> None:
        self.x: dict[int, FloatArray] = {}
        self.dy: dict[int, FloatArray] = {}
        self.layers = [m for m in model.modules() if isinstance(m, Conv2d)]

    def __call__(self, module: Module, x: FloatArray) -> FloatArray:
        """Observe a forward."""
        if isinstance(module, Conv2d):
            self.x[id(module)] = x
        return module.forward(x)

    def watched(self, layer: Module) -> Callable[..., FloatArray | None]:
        """Return the layer's backward that keeps its dy."""
        backward = layer.backward

        def watched(dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
            self.dy[id(layer)] = dy
            return backward(dy, need_dx=need_dx)

        return watched


def tune(
    model: Module, input_shape: tuple[int, ...], batch: int, rounds: int, seconds: float
) -> list[Tuned]:
    """Measure every algorithm for each pass of each convolution, on random numbers.

    Parameters
    ----------
    model : Module
    input_shape : tuple of int
        Without the batch.
    batch : int
    rounds : int
        The algorithms take turns; a round's figure is the median of its calls.
    seconds : float
        Of a round of one algorithm.

    Returns
    -------
    list of Tuned
        Convolutions of the same shape once, in the order of the network.
    """
    model.train()
    arrays = _Arrays(model)
    with observe(arrays), observe_backward(arrays.layers, arrays.watched):
        y = model(numbers(1, (batch, *input_shape)))
        model.backward(numbers(2, y.shape))
    found: dict[Pass, Tuned] = {}
    for layer in arrays.layers:
        x, dy = arrays.x[id(layer)], arrays.dy[id(layer)]
        for which in PASSES:
            key = _key(which, layer, x)
            if key not in found:
                found[key] = _measure(key, layer, x, dy, rounds, seconds)
    return list(found.values())


def _key(which: str, layer: Conv2d, x: FloatArray) -> Pass:
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    pads = to_padding("tune", layer.padding, x.shape[2:], kernel, stride, dilation)
    padding = tuple(count for pair in pads for count in pair)
    return Pass(which, x.shape, layer.weight.data.shape, stride, padding, dilation, layer.groups)


def _measure(
    key: Pass, layer: Conv2d, x: FloatArray, dy: FloatArray, rounds: int, seconds: float
) -> Tuned:
    b = None if layer.bias is None else layer.bias.data
    padding = (key.padding[:2], key.padding[2:])
    arguments = (x, layer.weight.data, b, key.stride, padding, key.dilation, key.groups)

    def run(algo: str) -> Any:
        if key.which == "forward":
            return F.conv2d(*arguments, algo=algo)
        dx = key.which == "backward_input"
        return F.conv2d_backward(
            dy, *arguments, algo=algo, need_dx=dx, need_dw=not dx, need_db=not dx
        )

    times: dict[str, list[float]] = {name: [] for name in _core.conv2d_algorithms(*key)}
    for _ in range(rounds):
        for name, of_rounds in times.items():
            of_rounds.append(time_calls(partial(run, name), seconds)["seconds"])
    medians = {name: statistics.median(of_rounds) for name, of_rounds in times.items()}
    return Tuned(key, _core.conv2d_algorithm(*key), medians)

"""Where the time of a network goes: forward and backward of each layer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from convcore.functional._arguments import FloatArray, to_padding
from convcore.nn.conv import Conv2d
from convcore.nn.module import Module, observe, observe_backward


@dataclass
class LayerTime:
    """One layer of a `NetworkTime`.

    Attributes
    ----------
    name, layer : str
        As in `summary`.
    output_shape : tuple of int
        Without the batch.
    algorithm : str or None
        Of a convolution: forward, gradient of the input, gradient of the weight.
    forward_flops, backward_flops : int
        Of the whole batch; convolutions and dense layers only.
    forward_seconds, backward_seconds : float
        Medians; 0 for what does not run (backward of what lies before the first parameters).
    """

    name: str
    layer: str
    output_shape: tuple[int, ...] = ()
    algorithm: str | None = None
    forward_flops: int = 0
    backward_flops: int = 0
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0


@dataclass
class NetworkTime:
    """The layers in the order in which they run, and the whole network, measured separately."""

    input_shape: tuple[int, ...]
    batch: int
    threads: int
    peak_flops: float  # per second
    forward_seconds: float
    backward_seconds: float
    layers: list[LayerTime] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return everything in forms that JSON knows."""
        return asdict(self)


class _Recorder:
    """Keeps the seconds of each leaf's two directions."""

    def __init__(self, model: Module) -> None:
        self.forward: dict[int, list[float]] = {}
        self.backward: dict[int, list[float]] = {}
        self.layers: dict[int, LayerTime] = {}
        self.needs_dx: dict[int, bool] = {}
        self._names = {
            id(module): name
            for name, module in model.named_modules()
            if next(module.children(), None) is None
        }

    def __call__(self, module: Module, x: FloatArray) -> FloatArray:
        """Observe a forward."""
        if id(module) not in self._names:
            return module.forward(x)
        start = time.perf_counter()
        y = module.forward(x)
        self.forward.setdefault(id(module), []).append(time.perf_counter() - start)
        if id(module) not in self.layers:
            flops = 2 * len(x) * module.multiply_adds(x.shape[1:], y.shape[1:])
            self.layers[id(module)] = LayerTime(
                self._names[id(module)],
                type(module).__name__,
                output_shape=y.shape[1:],
                algorithm=_algorithm(module, x.shape),
                forward_flops=flops,
            )
        return y

    def timed(self, leaf: Module) -> Callable[..., FloatArray | None]:
        """Return the leaf's backward with a clock around it."""
        backward = leaf.backward

        def timed(dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
            start = time.perf_counter()
            dx = backward(dy, need_dx=need_dx)
            self.backward.setdefault(id(leaf), []).append(time.perf_counter() - start)
            self.needs_dx[id(leaf)] = need_dx
            return dx

        return timed

    def rows(self, model: Module) -> list[LayerTime]:
        """Return the layers with the medians of their seconds."""
        modules = {id(module): module for module in model.modules()}
        for identity, row in self.layers.items():
            row.forward_seconds = statistics.median(self.forward[identity])
            if identity in self.backward:
                row.backward_seconds = statistics.median(self.backward[identity])
                trained = any(p.requires_grad for p in modules[identity].parameters())
                row.backward_flops = row.forward_flops * (trained + self.needs_dx[identity])
        return list(self.layers.values())


def _algorithm(module: Module, x_shape: tuple[int, ...]) -> str | None:
    from convcore import _core

    if not isinstance(module, Conv2d):
        return None
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    pads = to_padding("time", module.padding, x_shape[2:], kernel, stride, dilation)
    pixels = [count for pair in pads for count in pair]
    w_shape = module.weight.data.shape
    return " ".join(
        _core.conv2d_algorithm(which, x_shape, w_shape, stride, pixels, dilation, module.groups)
        for which in ("forward", "backward_input", "backward_weight")
    )


def time_layers(
    model: Module, input_shape: tuple[int, ...], batch: int, iterations: int
) -> NetworkTime:
    """Train on random numbers, without an optimizer, and time each layer.

    As in training the gradient of the input is left out. Layers find the caches as the layer
    before left them.

    Parameters
    ----------
    model : Module
    input_shape : tuple of int
        Without the batch.
    batch : int
    iterations : int
        After two that do not count.

    Returns
    -------
    NetworkTime
    """
    import convcore
    from convcore import _core
    from convcore.bench.timing import WARM_UP_CALLS, numbers

    x = numbers(1, (batch, *input_shape))
    model.train()
    peak = _core.peak("fma", 0.2)
    whole_forward, whole_backward = [], []
    recorder = _Recorder(model)
    dy = numbers(2, model(x).shape)
    model.forget()
    for _ in range(WARM_UP_CALLS + iterations):
        start = time.perf_counter()
        model(x)
        middle = time.perf_counter()
        model.backward(dy, need_dx=False)
        whole_forward.append(middle - start)
        whole_backward.append(time.perf_counter() - middle)
    leaves = [module for module in model.modules() if next(module.children(), None) is None]
    with observe(recorder), observe_backward(leaves, recorder.timed):
        for _ in range(iterations):
            model(x)
            model.backward(dy, need_dx=False)
    return NetworkTime(
        input_shape,
        batch,
        convcore.num_threads(),
        max(peak, _core.peak("fma", 0.2)),
        statistics.median(whole_forward[WARM_UP_CALLS:]),
        statistics.median(whole_backward[WARM_UP_CALLS:]),
        recorder.rows(model),
    )

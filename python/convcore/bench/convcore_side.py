"""The workers that run convcore: layers, and whole networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import convcore
import convcore.functional as F
from convcore import _core, nn, optim
from convcore.bench import cases, networks
from convcore.bench.timing import (
    flush_elements,
    memory_growth,
    numbers,
    rate,
    sample,
    time_calls,
)
from convcore.bench.workers import serve
from convcore.callbacks import Callback
from convcore.functional._arguments import FloatArray

Calls = dict[str, Callable[[], FloatArray]]


def _first(arrays: Any) -> FloatArray:
    """Return the first gradient that was asked for."""
    return next(a for a in arrays if a is not None)


def _as_in_network(seed: int, shape: tuple[int, ...]) -> FloatArray:
    """Return images in the order of memory in which a network has them.

    That is how a convolution with that many filters leaves them.
    """
    channels = shape[1]
    before = np.zeros((1, channels, 4, 4), np.float32)
    after = F.conv2d(before, np.zeros((channels, channels, 3, 3), np.float32), padding=1)
    images = numbers(seed, shape)
    return images if after.flags.c_contiguous else F.channels_last(images)


def conv(case: cases.ConvCase) -> Calls:
    """Return the three passes of a convolution with bias."""
    x, w = _as_in_network(1, case.x_shape), numbers(2, case.w_shape)
    b, dy = numbers(3, case.w_shape[:1]), _as_in_network(4, case.y_shape)
    window = (case.stride, case.padding)
    return {
        "forward": lambda: F.conv2d(x, w, b, *window),
        "backward_input": lambda: _first(
            F.conv2d_backward(dy, x, w, b, *window, need_dw=False, need_db=False)
        ),
        "backward_weight": lambda: _first(F.conv2d_backward(dy, x, w, b, *window, need_dx=False)),
    }


def dense(case: cases.DenseCase) -> Calls:
    """Return the three passes of a dense layer with bias."""
    x, w = numbers(1, case.x_shape), numbers(2, case.w_shape)
    b, dy = numbers(3, case.w_shape[:1]), numbers(4, case.y_shape)
    return {
        "forward": lambda: F.linear(x, w, b),
        "backward_input": lambda: _first(
            F.linear_backward(dy, x, w, b, need_dw=False, need_db=False)
        ),
        "backward_weight": lambda: _first(F.linear_backward(dy, x, w, b, need_dx=False)),
    }


def pool(case: cases.PoolCase) -> Calls:
    """Return the two passes; max pooling makes indices and uses them."""
    x, dy = _as_in_network(1, case.x_shape), _as_in_network(2, case.y_shape)
    window = (case.kernel, case.stride, case.padding)
    if case.kind == "avg":
        return {
            "forward": lambda: F.avg_pool2d(x, *window),
            "backward": lambda: F.avg_pool2d_backward(dy, x, *window),
        }
    _, indices = F.max_pool2d(x, *window, return_indices=True)
    return {
        "forward": lambda: F.max_pool2d(x, *window, return_indices=True)[0],
        "backward": lambda: F.max_pool2d_backward(dy, x, *window, indices=indices),
    }


def norm(case: cases.NormCase) -> Calls:
    """Return the two passes of a batch norm in training."""
    x, dy = _as_in_network(1, case.x_shape), _as_in_network(2, case.y_shape)
    weight, bias = numbers(3, (case.channels,)), numbers(4, (case.channels,))
    statistics = np.zeros(case.channels, np.float32), np.ones(case.channels, np.float32)
    arguments = (*statistics, weight, bias)
    _, saved = F.batch_norm(x, *arguments, training=True, return_saved=True)
    return {
        "forward": lambda: F.batch_norm(x, *arguments, training=True, return_saved=True)[0],
        "backward": lambda: _first(
            F.batch_norm_backward(dy, x, *arguments, training=True, saved=saved)
        ),
    }


def calls(op: str, fields: list[str | int]) -> Calls:
    """Return the passes of a case."""
    make: dict[str, Callable[[Any], Calls]] = {
        "conv": conv,
        "dense": dense,
        "pool": pool,
        "norm": norm,
    }
    return make[op](cases.make(op, fields))


class _Answers:
    """Keeps the data of the case that is measured."""

    def __init__(self) -> None:
        self._case: Any = None
        self._calls: Calls = {}
        self._flusher: FloatArray | None = None

    def __call__(self, request: dict[str, Any]) -> Any:
        return getattr(self, request.pop("do"))(**request)

    def start(self, threads: int | None) -> dict[str, Any]:
        """Set the number of threads, once."""
        if threads is not None:
            convcore.set_num_threads(threads)
        return {"threads": convcore.num_threads()}

    def peak(self, name: str, seconds: float) -> float:
        """Measure a ceiling."""
        return _core.peak(name, seconds)

    def sample(self, op: str, fields: list[str | int], which: str, layout: str) -> dict[str, Any]:
        """Return some elements of the result, and the algorithm that made it."""
        algorithm = None
        if op == "conv":
            case = cases.ConvCase(*map(int, fields))
            padding = (case.padding,) * 4
            algorithm = _core.conv2d_algorithm(
                which, case.x_shape, case.w_shape, (case.stride,) * 2, padding, (1, 1), 1
            )
        return sample(self._call(op, fields, which)()) | {"algorithm": algorithm}

    def time(
        self,
        op: str,
        fields: list[str | int],
        which: str,
        layout: str,
        seconds: float,
        cold: bool,
    ) -> dict[str, Any]:
        """Time one pass."""
        return time_calls(self._call(op, fields, which), seconds, self._flush if cold else None)

    def _call(self, op: str, fields: list[str | int], which: str) -> Callable[[], FloatArray]:
        if self._case != (op, fields):
            self._calls = {}  # first free, then allocate
            self._calls, self._case = calls(op, fields), (op, fields)
        return self._calls[which]

    def _flush(self) -> None:
        """Go through a large array with all threads: each core's caches are overwritten."""
        if self._flusher is None:
            self._flusher = np.ones(flush_elements(), np.float32)
        F.relu(self._flusher)


# ---- whole networks ------------------------------------------------------------------------------


def network(build: networks.Builder) -> nn.Sequential:
    """Return a network with the weights that both sides begin with."""
    model: nn.Sequential = build(nn)
    for index, (name, parameter) in enumerate(model.named_parameters()):
        parameter.data[...] = networks.weight(index, name, parameter.data.shape)
    return model


class _Deadline(Callback):
    """Ends a training after the epoch in which the time is up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self._seconds -= logs["seconds"]
        if self._seconds <= 0:
            self.model.stop_training = True


class _Network:
    """Keeps the network that is measured: one in the life of the process."""

    def __call__(self, request: dict[str, Any]) -> Any:
        return getattr(self, request.pop("do"))(**request)

    def prepare(
        self, name: str, task: str, batch: int, threads: int, mode: dict[str, Any]
    ) -> dict[str, Any]:
        """Make the network, and show that it computes what the other side does."""
        convcore.set_num_threads(threads)
        self._batch = batch
        chosen = networks.NETWORKS[name]
        self._x, self._y = networks.data(chosen, batch)
        self._model = network(chosen.build)
        optimizer = optim.SGD(
            self._model.parameters(), lr=networks.LEARNING_RATE, momentum=networks.MOMENTUM
        )
        self._model.compile(optimizer=optimizer, loss="cross_entropy")
        checks = {"train": self._first_losses, "predict": self._first_output}
        return {"check": checks[task]() if task in checks else []}

    def train(self, seconds: float) -> float:
        """Return images per second of the epochs of a `fit`."""
        history = self._fit(epochs=1 << 30, callbacks=_Deadline(seconds)).history
        return len(self._x) * len(history["seconds"]) / sum(history["seconds"])

    def predict(self, seconds: float) -> float:
        """Return images per second of `predict`."""
        x, batch = self._x, self._batch
        return rate(lambda: self._model.predict(x, batch_size=batch), len(x), seconds)

    def memory(self, seconds: float) -> int:
        """Return how far the resident memory grows in a few steps."""
        count = networks.MEMORY_STEPS * self._batch
        return memory_growth(lambda: self._fit(count))

    def _fit(self, count: int | None = None, **arguments: Any) -> convcore.History:
        """Train on the first images; None: on all."""
        x, y = self._x[:count], self._y[:count]
        return self._model.fit(x, y, batch_size=self._batch, verbose=0, **arguments)

    def _first_losses(self) -> list[float]:
        return self._fit(self._batch, epochs=2).history["loss"]

    def _first_output(self) -> list[float]:
        x, batch = self._x[: self._batch], self._batch
        output: list[float] = self._model.predict(x, batch_size=batch)[0].tolist()
        return output


def serve_layers() -> None:
    """Serve the layers of `run.measure`."""
    serve(_Answers())


def serve_networks() -> None:
    """Serve the networks of `network_run.measure`."""
    serve(_Network())

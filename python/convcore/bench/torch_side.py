"""The workers that run torch: the functions that its layers and its autograd call, and networks.

It runs in a process that imports torch before convcore, and of convcore it uses nothing that
computes: torch has its own OpenMP, with the settings of the user.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

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

Calls = dict[str, Callable[[], Any]]


def _tensor(seed: int, shape: tuple[int, ...], layout: str) -> Any:
    import torch

    tensor = torch.from_numpy(numbers(seed, shape))
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def conv(case: cases.ConvCase, layout: str) -> Calls:
    """Return the three passes of a convolution with bias."""
    import torch

    x, w = _tensor(1, case.x_shape, layout), _tensor(2, case.w_shape, layout)
    b, dy = _tensor(3, case.w_shape[:1], ""), _tensor(4, case.y_shape, layout)
    pair = ([case.stride] * 2, [case.padding] * 2, [1, 1])

    def backward(*needed: bool) -> Any:
        return torch.ops.aten.convolution_backward(
            dy, x, w, [case.c_out], *pair, False, [0, 0], 1, list(needed)
        )

    return {
        "forward": lambda: torch.nn.functional.conv2d(x, w, b, *pair),
        "backward_input": lambda: backward(True, False, False)[0],
        "backward_weight": lambda: backward(False, True, True)[1],
    }


def dense(case: cases.DenseCase, layout: str) -> Calls:
    """Return the three passes of a dense layer with bias."""
    import torch

    x, w = _tensor(1, case.x_shape, ""), _tensor(2, case.w_shape, "")
    b, dy = _tensor(3, case.w_shape[:1], ""), _tensor(4, case.y_shape, "")
    return {
        "forward": lambda: torch.nn.functional.linear(x, w, b),
        "backward_input": lambda: dy.mm(w),
        "backward_weight": lambda: (dy.t().mm(x), dy.sum(0))[0],
    }


def pool(case: cases.PoolCase, layout: str) -> Calls:
    """Return the two passes; max pooling makes indices and uses them."""
    import torch

    x, dy = _tensor(1, case.x_shape, layout), _tensor(2, case.y_shape, layout)
    window = ([case.kernel] * 2, [case.stride] * 2, [case.padding] * 2)
    if case.kind == "avg":
        return {
            "forward": lambda: torch.ops.aten.avg_pool2d(x, *window),
            "backward": lambda: torch.ops.aten.avg_pool2d_backward(
                dy, x, *window, False, True, None
            ),
        }
    dilation = [1, 1]
    indices = torch.ops.aten.max_pool2d_with_indices(x, *window, dilation, False)[1]
    return {
        "forward": lambda: torch.ops.aten.max_pool2d_with_indices(x, *window, dilation, False)[0],
        "backward": lambda: torch.ops.aten.max_pool2d_with_indices_backward(
            dy, x, *window, dilation, False, indices
        ),
    }


def norm(case: cases.NormCase, layout: str) -> Calls:
    """Return the two passes of a batch norm in training."""
    import torch

    x, dy = _tensor(1, case.x_shape, layout), _tensor(2, case.y_shape, layout)
    weight, bias = _tensor(3, (case.channels,), ""), _tensor(4, (case.channels,), "")
    statistics = (torch.zeros(case.channels), torch.ones(case.channels))

    def forward() -> Any:
        return torch.ops.aten.native_batch_norm(x, weight, bias, *statistics, True, 0.1, 1e-5)

    _, mean, rstd = forward()
    needed = [True, True, True]
    return {
        "forward": lambda: forward()[0],
        "backward": lambda: torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, *statistics, mean, rstd, True, 1e-5, needed
        )[0],
    }


def calls(op: str, fields: list[str | int], layout: str) -> Calls:
    """Return the passes of a case."""
    make: dict[str, Callable[[Any, str], Calls]] = {
        "conv": conv,
        "dense": dense,
        "pool": pool,
        "norm": norm,
    }
    return make[op](cases.make(op, fields), layout)


class _Answers:
    """Keeps the data of the case that is measured."""

    def __init__(self) -> None:
        self._case: Any = None
        self._calls: dict[str, Calls] = {}
        self._flusher: Any = None

    def __call__(self, request: dict[str, Any]) -> Any:
        import torch

        with torch.inference_mode():
            return getattr(self, request.pop("do"))(**request)

    def start(self, threads: int) -> dict[str, Any]:
        """Set the number of threads, once."""
        import torch

        torch.set_num_threads(threads)
        return {"threads": torch.get_num_threads(), "version": torch.__version__}

    def sample(self, op: str, fields: list[str | int], which: str, layout: str) -> dict[str, Any]:
        """Return some elements of the result."""
        return sample(self._call(op, fields, which, layout)().contiguous().numpy())

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
        call = self._call(op, fields, which, layout)
        return time_calls(call, seconds, self._flush if cold else None)

    def _call(self, op: str, fields: list[str | int], which: str, layout: str) -> Callable[[], Any]:
        if self._case != (op, fields):
            self._calls, self._case = {}, (op, fields)  # first free, then allocate
        if layout not in self._calls:
            self._calls[layout] = calls(op, fields, layout)
        return self._calls[layout][which]

    def _flush(self) -> None:
        """Go through a large array with all threads: each core's caches are overwritten."""
        import torch

        if self._flusher is None:
            self._flusher = torch.ones(flush_elements())
        torch.relu(self._flusher)


# ---- whole networks ------------------------------------------------------------------------------


def layers() -> Any:
    """Return torch's layers, and what convcore has besides.

    ReLU works in place, and so does the sum of a residual block: that takes less memory and time.
    """
    import torch

    class Residual(torch.nn.Module):  # type: ignore[misc]
        """The twin of `convcore.nn.Residual`."""

        def __init__(self, body: Any, shortcut: Any = None, activation: Any = None) -> None:
            super().__init__()
            self.body, self.shortcut, self.activation = body, shortcut, activation

        def forward(self, x: Any) -> Any:
            y = self.body(x)
            y += x if self.shortcut is None else self.shortcut(x)
            return y if self.activation is None else self.activation(y)

    own = {"Residual": Residual, "ReLU": partial(torch.nn.ReLU, inplace=True)}
    return SimpleNamespace(**(vars(torch.nn) | own))


def network(build: networks.Builder) -> Any:
    """Return a network with the weights that both sides begin with."""
    import torch

    model = build(layers())
    with torch.no_grad():
        for index, (name, parameter) in enumerate(model.named_parameters()):
            value = networks.weight(index, name, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(value))
    return model


class _Network:
    """Keeps the network that is measured: one in the life of the process."""

    def __call__(self, request: dict[str, Any]) -> Any:
        return getattr(self, request.pop("do"))(**request)

    def prepare(
        self, name: str, task: str, batch: int, threads: int, mode: dict[str, Any]
    ) -> dict[str, Any]:
        """Make the network, and show that it computes what the other side does."""
        import torch

        torch.set_num_threads(threads)
        self._batch = batch
        chosen = networks.NETWORKS[name]
        self._x, self._y = map(torch.from_numpy, networks.data(chosen, batch))
        model = network(chosen.build)
        if mode["layout"] == "channels_last":
            model, self._x = (a.to(memory_format=torch.channels_last) for a in (model, self._x))
        self._optimizer = torch.optim.SGD(
            model.parameters(),
            lr=networks.LEARNING_RATE,
            momentum=networks.MOMENTUM,
            fused=True,
        )
        self._order = self._shuffled()
        self._criterion = torch.nn.CrossEntropyLoss()
        model.train(task != "predict")
        self._model = torch.compile(model) if mode["compile"] else model
        checks = {"train": self._first_losses, "predict": self._first_output}
        return {
            "check": checks[task]() if task in checks else [],
            "version": torch.__version__,
        }

    def train(self, seconds: float) -> float:
        """Return images per second of a bare loop."""
        return rate(self._next_step, self._batch, seconds)

    def predict(self, seconds: float) -> float:
        """Return images per second of a bare loop."""
        import torch

        starts = itertools.cycle(range(0, len(self._x), self._batch))

        def step() -> None:
            start = next(starts)
            self._model(self._x[start : start + self._batch])

        with torch.inference_mode():
            return rate(step, self._batch, seconds)

    def memory(self, seconds: float) -> int:
        """Return how far the resident memory grows in a few steps."""

        def steps() -> None:
            for _ in range(networks.MEMORY_STEPS):
                self._next_step()

        return memory_growth(steps)

    def _shuffled(self) -> Iterator[Any]:
        """Return the indices of batches, epoch after epoch."""
        import torch

        while True:
            order = torch.randperm(len(self._x))
            for start in range(0, len(order), self._batch):
                yield order[start : start + self._batch]

    def _next_step(self) -> None:
        index = next(self._order)
        self._step(self._x[index], self._y[index])

    def _step(self, x: Any, y: Any) -> Any:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._criterion(self._model(x), y)
        loss.backward()
        self._optimizer.step()
        return loss

    def _first_losses(self) -> list[float]:
        x, y = self._x[: self._batch], self._y[: self._batch]
        return [self._step(x, y).item() for _ in range(2)]

    def _first_output(self) -> list[float]:
        import torch

        with torch.inference_mode():
            output: list[float] = self._model(self._x[: self._batch])[0].tolist()
        return output


def serve_layers() -> None:
    """Serve the layers of `run.measure`."""
    serve(_Answers())


def serve_networks() -> None:
    """Serve the networks of `network_run.measure`."""
    serve(_Network())

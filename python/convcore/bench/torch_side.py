"""The worker that runs torch: the functions that its layers and its autograd call.

It runs in a process that imports torch before convcore, and of convcore it uses nothing that
computes: torch has its own OpenMP, with the settings of the user.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convcore.bench import cases
from convcore.bench.timing import flush_elements, numbers, sample, time_calls
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


def main() -> None:
    """Serve."""
    serve(_Answers())

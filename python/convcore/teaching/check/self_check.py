"""Every kernel of the library against the reference, on this machine.

Each instruction set that the machine has is run in a process of its own, since a process chooses
one when it starts. What is checked is the installed library itself, with numbers and sizes that
reach every path (tails of vectors, every algorithm of the convolution), at one thread and at
several.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import convcore
import convcore.functional as F
from convcore import _core, reference
from convcore._table import table

#: Largest difference from the reference, as a part of the largest number of the result. Rounding is
#: about 1e-6, Winograd's transforms 1e-5; a wrong index is 1e-1.
LARGEST_ERROR = 2e-4
_THREADS = 3
_TIME_LIMIT = 300  # seconds, for one instruction set

Arrays = list[npt.NDArray[Any]]


class Floats(tuple[int, ...]):
    """Stands for an array of that shape with normally distributed numbers."""


class Positive(tuple[int, ...]):
    """Stands for an array of that shape with numbers from 0.5 to 1.5."""


@dataclass(frozen=True)
class Labels:
    """Stands for an array of `count` integers from 0 to `high` - 1."""

    count: int
    high: int


@dataclass(frozen=True)
class Call:
    """One op with its arguments.

    Attributes
    ----------
    op : str
        In `convcore.functional` and `convcore.reference`.
    arguments : tuple
        `Floats`, `Positive` and `Labels` are replaced by arrays.
    options : dict
        Keywords of both sides, and of backward.
    """

    op: str
    arguments: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)


def _conv(x: tuple[int, ...], w: tuple[int, ...], *rest: Any) -> tuple[Any, ...]:
    return Floats(x), Floats(w), Floats(w[:1]), *rest


_X = Floats((2, 5, 13, 18))
_NOT_NEGATIVE = Positive((2, 5, 13, 18))
_KEY = {"key": (3, 5)}

#: The arguments of every op. A new op is one line here.
CALLS: tuple[Call, ...] = (
    Call("conv2d", _conv((2, 3, 13, 18), (7, 3, 5, 5), 1, 2)),
    Call("conv2d", _conv((2, 16, 14, 15), (33, 16, 3, 3), 1, 1)),
    Call("conv2d", _conv((3, 20, 17, 9), (24, 20, 3, 3), 2, 1)),
    Call("conv2d", _conv((2, 19, 9, 11), (18, 19, 1, 1))),
    Call("conv2d", _conv((17, 4, 9, 9), (6, 4, 3, 3))),
    Call("conv2d", _conv((2, 6, 12, 13), (8, 3, 3, 2), (2, 1), ((1, 2), (0, 1)), (1, 2), 2)),
    Call("conv2d", _conv((2, 16, 10, 10), (16, 1, 3, 3), 1, 1, 1, 16)),
    Call("conv1d", _conv((2, 5, 37), (9, 5, 4), 2, 1)),
    Call("conv2d_relu_max_pool2d", _conv((3, 1, 29, 30), (6, 1, 5, 5), 2)),
    Call("conv2d_relu_max_pool2d", _conv((3, 6, 15, 14), (16, 6, 5, 5))),
    Call("linear", (Floats((19, 70)), Floats((33, 70)), Floats((33,)))),
    Call("linear", (Floats((1, 5)), Floats((3, 5)), None)),
    Call("max_pool2d", (_X, 2)),
    Call("max_pool2d", (_X, (3, 2), (2, 1), (1, 0), (1, 2))),
    Call("max_pool2d", (Floats((2, 33, 9, 8)), 3, 2, 1)),
    Call("max_pool1d", (Floats((2, 5, 37)), 3, 2)),
    Call("avg_pool2d", (_X, 2)),
    Call("avg_pool2d", (_X, 3, 2, 1, True, False)),
    Call("avg_pool1d", (Floats((2, 5, 37)), 3, 2)),
    Call("lp_pool2d", (_X, 2, 3, 2)),
    Call("lp_pool2d", (_NOT_NEGATIVE, 3, (2, 3), 1)),
    Call("stochastic_pool2d", (_NOT_NEGATIVE, 2, 2, True), _KEY),
    Call("stochastic_pool2d", (_NOT_NEGATIVE, 3, 2, False)),
    Call("subsampling2d", (_X, Floats((5,)), Floats((5,)))),
    Call("adaptive_max_pool2d", (_X, (3, 5))),
    Call("adaptive_avg_pool2d", (_X, (3, 5))),
    Call("adaptive_avg_pool2d", (_X, 1)),
    Call("relu", (_X,)),
    Call("leaky_relu", (_X, 0.2)),
    Call("tanh", (_X,)),
    Call("sigmoid", (_X,)),
    Call("scaled_tanh", (_X,)),
    Call("elu", (_X, 0.7)),
    Call("gelu", (_X,)),
    Call("gelu", (_X, "tanh")),
    Call("silu", (_X,)),
    Call("softmax", (Floats((5, 37)),)),
    Call("softmax", (_X, 1)),
    Call("log_softmax", (Floats((5, 37)),)),
    Call("cross_entropy", (Floats((21, 10)), Labels(21, 10))),
    Call("cross_entropy", (Floats((21, 37)), Labels(21, 37)), {"label_smoothing": 0.1}),
    Call("mse_loss", (Floats((9, 31)), Floats((9, 31)))),
    Call("batch_norm", (_X, None, None, Floats((5,)), Floats((5,)), True)),
    Call("batch_norm", (_X, Floats((5,)), Positive((5,)), Floats((5,)), Floats((5,)), False)),
    Call("batch_norm", (Floats((40, 19)), None, None, Floats((19,)), Floats((19,)), True)),
    Call("group_norm", (Floats((3, 6, 7, 9)), 2, Floats((6,)), Floats((6,)))),
    Call("layer_norm", (Floats((4, 6, 37)), 37, Floats((37,)), Floats((37,)))),
    Call("multi_margin_loss", (Floats((21, 10)), Labels(21, 10))),
    Call("multi_margin_loss", (Floats((21, 37)), Labels(21, 37), 2, 0.5)),
    Call("dropout", (_X, 0.3, True), _KEY),
    Call("dropout2d", (_X, 0.3, True), _KEY),
    Call("pad", (_X, (1, 2, 3, 0))),
    *(Call("pad", (_X, (1, 2, 3, 0), mode)) for mode in ("reflect", "replicate", "circular")),
    Call("flatten", (_X, 1)),
    Call("add", (_X, _X)),
    Call("pad_channels", (_X, (2, 3), 2)),
    Call("channels_last", (_X,)),
    Call("gather_images", (_X, Labels(7, 2)), {"pad": 2, "flip": True, **_KEY}),
)

# ---- one process, one instruction set ------------------------------------------------------------


def _fused(x: Any, w: Any, b: Any, padding: Any = 0) -> Any:
    return reference.max_pool2d(reference.relu(reference.conv2d(x, w, b, 1, padding)), 2)


def _fused_backward(dy: Any, x: Any, w: Any, b: Any, padding: Any = 0) -> Any:
    y = reference.conv2d(x, w, b, 1, padding)
    d = reference.max_pool2d_backward(dy, reference.relu(y), 2)
    return reference.conv2d_backward(reference.relu_backward(d, y), x, w, b, 1, padding)


#: What has no function of its name in the reference.
_REFERENCES: dict[str, Callable[..., Any]] = {
    "conv2d_relu_max_pool2d": _fused,
    "conv2d_relu_max_pool2d_backward": _fused_backward,
    "channels_last": lambda x: x,
}


def _reference_of(op: str) -> Callable[..., Any] | None:
    return _REFERENCES.get(op) or getattr(reference, op, None)


def unchecked() -> list[str]:
    """Return the ops that no call in `CALLS` reaches."""
    reached = {call.op for call in CALLS}
    return [op for op in F.__all__ if not op.endswith("_backward") and op not in reached]


def _realised(rng: np.random.Generator, arguments: Sequence[Any]) -> list[Any]:
    made: list[Any] = []
    for argument in arguments:
        if isinstance(argument, Floats):
            made.append(rng.standard_normal(argument).astype(np.float32))
        elif isinstance(argument, Positive):
            made.append((0.5 + rng.random(argument)).astype(np.float32))
        elif isinstance(argument, Labels):
            made.append(rng.integers(0, argument.high, argument.count))
        else:
            made.append(argument)
    return made


def _wide(values: Sequence[Any]) -> list[Any]:
    """Return copies with float32 arrays as float64."""
    return [
        value.astype(np.float64) if getattr(value, "dtype", None) == np.float32 else value
        for value in values
    ]


def _arrays(result: Any) -> Arrays:
    values = result if isinstance(result, tuple) else (result,)
    return [np.asarray(value) for value in values if value is not None]


def error_of(got: Arrays, want: Arrays) -> float:
    """Return the largest difference as a part of the largest number; infinite for other shapes."""
    largest = 0.0
    for g, w in zip(got, want, strict=True):
        if g.shape != w.shape or not np.isfinite(g).all():
            return float("inf")
        scale = max(float(np.abs(w).max(initial=0.0)), 1e-30)
        difference = np.abs(g.astype(np.float64) - w).max(initial=0.0)
        largest = max(largest, float(difference) / scale)
    return largest


#: Keywords that only the library's side has; None where an algorithm cannot do that pass.
Own = dict[str, Any] | None


def _variants(call: Call) -> Iterator[tuple[str, Own, Own]]:
    """Yield the algorithms: a name and the keywords of forward and of backward."""
    if call.op != "conv2d":
        yield "", {}, {}
        return
    algorithms = _algorithms(call)
    for name in ("auto", *sorted({name for names in algorithms.values() for name in names})):
        can = {which: name in ("auto", *names) for which, names in algorithms.items()}
        both = can["backward_input"] and can["backward_weight"]
        yield name, {"algo": name} if can["forward"] else None, {"algo": name} if both else None


def _algorithms(call: Call) -> dict[str, list[str]]:
    from convcore.functional._arguments import to_padding, to_tuple

    x, w, rest = call.arguments[0], call.arguments[1], call.arguments[3:]
    settings: list[Any] = [*rest, *[1, 0, 1, 1][len(rest) :]]
    stride, padding, dilation, groups = settings
    strides, dilations = to_tuple("", "", stride, 2), to_tuple("", "", dilation, 2)
    pads = to_padding("", padding, x[2:], w[2:], strides, dilations)
    pixels = [count for pair in pads for count in pair]
    shapes = tuple(x), tuple(w)
    return {
        which: _core.conv2d_algorithms(which, *shapes, strides, pixels, dilations, groups)
        for which in ("forward", "backward_input", "backward_weight")
    }


def _passes(call: Call, rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Yield the name and the error of forward and backward, by every algorithm."""
    arguments = _realised(rng, call.arguments)
    forward = getattr(F, call.op)
    right = _reference_of(call.op)
    assert right is not None, call.op
    want = _arrays(right(*_wide(arguments), **call.options))
    dy = rng.standard_normal(want[0].shape).astype(np.float32)
    dy = dy if want[0].ndim else dy[()]
    backward = getattr(F, f"{call.op}_backward", None)
    right_backward = _reference_of(f"{call.op}_backward")
    wants: Arrays = []
    if backward is not None:
        assert right_backward is not None
        wants = _arrays(right_backward(np.float64(dy), *_wide(arguments), **call.options))
    for name, own, own_backward in _variants(call):
        label = f"{call.op} {name}".strip()
        if own is not None:
            keywords = {**call.options, **own}
            yield label, _worst(partial(forward, *arguments, **keywords), want)
        if backward is not None and own_backward is not None:
            keywords = {**call.options, **own_backward}
            yield f"{label} backward", _worst(partial(backward, dy, *arguments, **keywords), wants)


def _worst(compute: Callable[[], Any], want: Arrays) -> float:
    """Return the error; infinite when the bits depend on the number of threads."""
    before = convcore.num_threads()
    try:
        results = []
        for threads in (1, _THREADS):
            convcore.set_num_threads(threads)
            results.append(_arrays(compute()))
    finally:
        convcore.set_num_threads(before)
    if any(a.tobytes() != b.tobytes() for a, b in zip(*results, strict=True)):
        return float("inf")
    return error_of(results[0], want)


def _optimizers(rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Yield the errors of the update rules, which work in place."""
    numbers = rng.standard_normal((5, 37)).astype(np.float32)
    numbers[2] = 1 + np.abs(numbers[2])  # a mean of squares: above the square of the mean
    numbers[3] *= 0.2
    param, grad, square, mean, buffer = _wide(list(numbers))

    def own() -> list[Any]:
        return [row.copy() for row in numbers]

    p, g, _, _, b = own()
    _core.sgd_step(p, g, b, 0.1, 0.9, 0.0, 0.01, True, False, 0.02)
    rule: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.01, "l1": 0.02}
    sgd = reference.sgd_step(param, grad, buffer, momentum=0.9, nesterov=True, **rule)
    yield "SGD", error_of([p, b], _arrays(sgd))
    for decoupled in (False, True):
        p, g, s, m, _ = own()
        _core.adam_step(p, g, m, s, 0.1, 0.9, 0.999, 1e-8, 0.01, decoupled, 3, 0.02)
        adam = reference.adam_step(param, grad, mean, square, 3, decoupled=decoupled, **rule)
        yield "AdamW" if decoupled else "Adam", error_of([p, m, s], _arrays(adam))
    p, g, s, m, b = own()
    _core.rmsprop_step(p, g, s, m, b, 0.1, 0.99, 1e-8, 0.01, 0.9, True, 0.02)
    rmsprop = reference.rmsprop_step(
        param, grad, square, mean, buffer, momentum=0.9, centered=True, **rule
    )
    yield "RMSprop", error_of([p, s, m, b], _arrays(rmsprop))
    p, g, s, _, _ = own()
    _core.adagrad_step(p, g, s, 0.1, 0.3, 1e-10, 0.01, 3, 0.02)
    adagrad = reference.adagrad_step(param, grad, square, 3, lr_decay=0.3, **rule)
    yield "Adagrad", error_of([p, s], _arrays(adagrad))
    rows = numbers[0, :36].reshape(4, 9).copy()
    _core.limit_norms(rows, 1.0)
    yield "max-norm", error_of([rows], [reference.limit_norms(param[:36].reshape(4, 9), 1.0)])


def _transforms(rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Yield the errors of the transforms of images, each by itself."""
    from convcore import transforms as T

    x, indices, key = rng.random((4, 3, 17, 17), np.float32), np.array([2, 0, 3]), (7, 3)
    for transform in (
        T.RandomCrop(12, 3),
        T.Resize((9, 23)),
        T.RandomResizedCrop((11, 8)),
        T.RandomHorizontalFlip(),
        T.RandomVerticalFlip(),
        T.RandomRotation(30),
        T.RandomRotation90(),
        T.RandomErasing(0.9),
        T.Cutout(5),
        T.GaussianNoise(),
        T.GaussianBlur(5),
        T.Sobel(),
        T.Normalize(0.5, 0.25),
        T.Grayscale(3),
        T.ColorJitter(0.4, 0.4, 0.2, 0.1),
    ):
        stages = transform.stages
        call = partial(_core.transform_images, x, indices, stages, *key, 1.0, None, None, False)
        want = reference.transform_images(x.astype(np.float64), indices, stages, key)
        yield type(transform).__name__, _worst(call, [want])


def errors_here(seed: int) -> dict[str, float]:
    """Return the largest error of each kernel with the instruction set of this process."""
    rng = np.random.default_rng(seed)
    errors: dict[str, float] = {}
    for call in CALLS:
        for name, error in _passes(call, rng):
            errors[name] = max(error, errors.get(name, 0.0))
    errors.update(_optimizers(rng))
    errors.update(_transforms(rng))
    return errors


# ---- all instruction sets ------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class SelfReport:
    """The errors of all kernels; ``str`` gives the table.

    Attributes
    ----------
    isas : tuple of str
        The instruction sets.
    errors : dict
        By kernel and instruction set: the largest difference from the reference, as a part of the
        largest number; infinite for a wrong shape, numbers that are not finite, and bits that
        depend on the number of threads.
    problems : dict
        By instruction set: why there are no results.
    unchecked : tuple of str
        Ops that have no numbers to be checked with.
    """

    version: str
    isas: tuple[str, ...]
    errors: dict[str, dict[str, float]]
    problems: dict[str, str]
    unchecked: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether everything is right."""
        within = all(e <= LARGEST_ERROR for row in self.errors.values() for e in row.values())
        return within and bool(self.errors) and not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return everything in forms that JSON knows."""
        return {"passed": self.passed, "largest_error": LARGEST_ERROR, **asdict(self)}

    def __repr__(self) -> str:
        return f"SelfReport({len(self.errors)} kernels, passed={self.passed})"

    def __str__(self) -> str:
        rows = [
            (name, *(_shown(row.get(isa)) for isa in self.isas))
            for name, row in self.errors.items()
        ]
        lines = [table(("largest error", *self.isas), rows)] if rows else []
        lines += [f"{isa}: {problem}" for isa, problem in self.problems.items()]
        if self.unchecked:
            lines.append(f"not checked: {', '.join(self.unchecked)}")
        verdict = "everything is right" if self.passed else "something is wrong"
        count = f"{len(self.errors)} kernels on {len(self.isas)} instruction sets"
        lines.append(f"{count}, errors up to {LARGEST_ERROR:g} are allowed: {verdict}")
        return "\n".join(lines)


def _shown(error: float | None) -> str:
    if error is None:
        return "-"
    return f"{error:.1e}" if error <= LARGEST_ERROR else f"WRONG {error:.1e}"


def check_self(seed: int = 0) -> SelfReport:
    """Compare every kernel with the reference, by each instruction set of this machine.

    Parameters
    ----------
    seed : int, default 0
        Of the numbers.

    Returns
    -------
    SelfReport
    """
    isas = tuple(_core.reachable_isas().split(","))
    errors: dict[str, dict[str, float]] = {}
    problems = {}
    for isa in isas:
        try:
            found = _errors_of(isa, seed)
        except RuntimeError as error:
            problems[isa] = str(error)
            found = {}
        for name, value in found.items():
            errors.setdefault(name, {})[isa] = value
    return SelfReport(convcore.__version__, isas, errors, problems, tuple(unchecked()))


def _errors_of(isa: str, seed: int) -> dict[str, float]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(seed)],
            env={**os.environ, "CONVCORE_ISA": isa},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"did not finish within {_TIME_LIMIT} s") from None
    if done.returncode < 0:
        raise RuntimeError(f"crashed ({signal.Signals(-done.returncode).name})")
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RuntimeError(f"failed: {last[0]}")
    errors: dict[str, float] = json.loads(done.stdout)
    return errors


if __name__ == "__main__":
    print(json.dumps(errors_here(int(sys.argv[1]))))

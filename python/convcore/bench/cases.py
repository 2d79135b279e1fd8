"""The named shapes that are measured, read from ``cases.txt``, and what they cost.

FLOPs are the nominal ones: two per multiply-add of the formula, multiplications with padding
counted, whatever the algorithm does. Bytes are the least that has to move: each array read or
written once, 4 bytes an element.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from importlib import resources
from typing import NamedTuple

OPS = ("conv", "dense", "pool", "norm")
FLOAT = 4
INDEX = 4  # of max pooling, as convcore stores it


class Cost(NamedTuple):
    """What one pass has to do at least."""

    flops: int
    bytes: int


class ConvCase(NamedTuple):
    """One convolution: batch, input channels and size, filters, kernel, stride, padding."""

    batch: int
    c_in: int
    size: int
    c_out: int
    kernel: int
    stride: int
    padding: int

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes that are measured one by one."""
        return ("forward", "backward_input", "backward_weight")

    @property
    def size_out(self) -> int:
        """Rows and columns of the output."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Of the input."""
        return (self.batch, self.c_in, self.size, self.size)

    @property
    def w_shape(self) -> tuple[int, ...]:
        """Of the weight; the bias has its first size."""
        return (self.c_out, self.c_in, self.kernel, self.kernel)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Of the output."""
        return (self.batch, self.c_out, self.size_out, self.size_out)

    def cost(self, which: str) -> Cost:
        """Return what a pass costs: the three read two of x, w, y and write the third."""
        x, w, y = map(math.prod, (self.x_shape, self.w_shape, self.y_shape))
        return Cost(2 * y * w // self.c_out, FLOAT * (x + w + y))


class DenseCase(NamedTuple):
    """One dense layer: batch, input and output features."""

    batch: int
    in_features: int
    out_features: int

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes that are measured one by one."""
        return ("forward", "backward_input", "backward_weight")

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Of the input."""
        return (self.batch, self.in_features)

    @property
    def w_shape(self) -> tuple[int, ...]:
        """Of the weight; the bias has its first size."""
        return (self.out_features, self.in_features)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Of the output."""
        return (self.batch, self.out_features)

    def cost(self, which: str) -> Cost:
        """Return what a pass costs: the three read two of x, w, y and write the third."""
        x, w, y = map(math.prod, (self.x_shape, self.w_shape, self.y_shape))
        return Cost(2 * self.batch * w, FLOAT * (x + w + y))


class PoolCase(NamedTuple):
    """One pooling: batch, channels, input size, 'max' or 'avg', kernel, stride, padding."""

    batch: int
    channels: int
    size: int
    kind: str
    kernel: int
    stride: int
    padding: int

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes that are measured one by one."""
        return ("forward", "backward")

    @property
    def size_out(self) -> int:
        """Rows and columns of the output."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Of the input."""
        return (self.batch, self.channels, self.size, self.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Of the output."""
        return (self.batch, self.channels, self.size_out, self.size_out)

    def cost(self, which: str) -> Cost:
        """Return what a pass costs: an operation per value of a window; max has indices as well."""
        x, y = math.prod(self.x_shape), math.prod(self.y_shape)
        indices = INDEX * y if self.kind == "max" else 0
        return Cost(y * self.kernel**2, FLOAT * (x + y) + indices)


class NormCase(NamedTuple):
    """One batch norm in training: batch, channels, size."""

    batch: int
    channels: int
    size: int

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes that are measured one by one."""
        return ("forward", "backward")

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Of the input."""
        return (self.batch, self.channels, self.size, self.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Of the output."""
        return self.x_shape

    def cost(self, which: str) -> Cost:
        """Return what a pass costs.

        Forward: sum, sum of squares (3 operations), scale and shift (2); x is read and y written.
        Backward: two sums (4), the gradient (4); dy and x are read and dx written.
        """
        x = math.prod(self.x_shape)
        return Cost(5 * x, FLOAT * 2 * x) if which == "forward" else Cost(8 * x, FLOAT * 3 * x)


Case = ConvCase | DenseCase | PoolCase | NormCase
_KINDS: dict[str, type[ConvCase] | type[DenseCase] | type[PoolCase] | type[NormCase]] = {
    "conv": ConvCase,
    "dense": DenseCase,
    "pool": PoolCase,
    "norm": NormCase,
}


@functools.cache
def table() -> dict[str, dict[str, Case]]:
    """Return all cases: by op, then by name."""
    text = resources.files("convcore.bench").joinpath("cases.txt").read_text("utf-8")
    cases: dict[str, dict[str, Case]] = {op: {} for op in OPS}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words:
            op, name, *fields = words
            cases[op][name] = make(op, fields)
    return cases


def make(op: str, fields: Iterable[str | int]) -> Case:
    """Return the case of an op with these fields."""
    values = (int(f) if str(f).isdigit() else f for f in fields)
    return _KINDS[op](*values)  # type: ignore[arg-type]


def find(name: str) -> tuple[str, Case]:
    """Return the op and the case of that name."""
    for op, cases in table().items():
        if name in cases:
            return op, cases[name]
    raise KeyError(name)


def names(ops: Iterable[str] = OPS) -> list[str]:
    """Return the names of all cases of some ops, in the order of the table."""
    return [name for op in ops for name in table()[op]]

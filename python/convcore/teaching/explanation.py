"""What `explain` returns, and its text."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from convcore._table import table
from convcore.nn.module import Module
from convcore.teaching.arithmetic import Formula, Shape

_BYTES = 4  # of a float32
#: Multiply-adds that one timed pass over a batch should have, about 10 ms on one core.
_TIMED_WORK = 2e8
#: Networks with more than this per image are measured with one: some seconds are enough.
_LARGE_WORK = 1e9


@dataclass(frozen=True)
class Row:
    """One layer of an `Explanation`.

    Attributes
    ----------
    name, layer : str
        As in `summary`; ``"sum"`` is the sum of a residual block.
    input_shape, output_shape : tuple of int
        Without the batch.
    size, parameters, multiply_adds : str
        The arithmetic, ``"(28 + 2*2 - 5)/1 + 1 = 28"``; where none is known, the number alone, and
        "" for the size.
    parameter_count, multiply_add_count : int
        The numbers; multiply-adds per image, forward.
    receptive_field : tuple of int
        Pixels of the input that one output value sees, per spatial axis.
    memory_bytes : int
        Of the output for one image; 0 where the output is a view of the input.
    forward_ms, backward_ms : float or None
        Measured, for a batch; None when not measured, or when that direction does not run.
    """

    name: str
    layer: str
    input_shape: Shape
    output_shape: Shape
    size: str
    parameters: str
    multiply_adds: str
    parameter_count: int
    multiply_add_count: int
    receptive_field: Shape
    memory_bytes: int
    forward_ms: float | None = None
    backward_ms: float | None = None


@dataclass(frozen=True, repr=False)
class Explanation:
    """A network layer by layer, with totals; ``str`` gives the table.

    Attributes
    ----------
    rows : tuple of Row
    parameters, multiply_adds : int
        Of all layers; multiply-adds per image, forward.
    parameter_bytes : int
        Of the parameters as float32; their gradients take the same again.
    activation_bytes : int
        Of all outputs for one image: what training keeps for the way back.
    batch, threads : int or None
        Of the measurement.
    forward_ms, backward_ms : float or None
        Of the whole network, measured separately from the layers.
    steps : str
        A convolution or pooling by hand; "" when there is nothing to show.
    note : str
        Why something was not measured.
    """

    model: str
    input_shape: Shape
    output_shape: Shape
    rows: tuple[Row, ...]
    parameters: int
    multiply_adds: int
    parameter_bytes: int
    activation_bytes: int
    batch: int | None = None
    threads: int | None = None
    forward_ms: float | None = None
    backward_ms: float | None = None
    steps: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return everything in forms that JSON knows."""
        return asdict(self)

    def __repr__(self) -> str:
        return f"Explanation({self.model!r}, {len(self.rows)} layers)"

    def __str__(self) -> str:
        body = _details(self) if len(self.rows) == 1 else _network_text(self)
        return "\n\n".join(part for part in (body, self.steps, self.note) if part)


def make_row(
    name: str,
    layer: str,
    x_shape: Shape,
    y_shape: Shape,
    formula: Formula,
    parameters: int,
    multiply_adds: int,
    receptive_field: Shape,
    *,
    is_view: bool = False,
) -> Row:
    """Return the row of a layer: its arithmetic, or where none is known its numbers."""
    return Row(
        name,
        layer,
        x_shape,
        y_shape,
        "" if formula.size is None else str(formula.size),
        f"{parameters:,}" if formula.parameters is None else str(formula.parameters),
        f"{multiply_adds:,}" if formula.multiply_adds is None else str(formula.multiply_adds),
        parameters,
        multiply_adds,
        receptive_field,
        0 if is_view else _BYTES * math.prod(y_shape),
    )


def totals(name: str, input_shape: Shape, output_shape: Shape, rows: Sequence[Row]) -> Explanation:
    """Return the explanation of these rows."""
    parameters = sum(row.parameter_count for row in rows)
    return Explanation(
        name,
        input_shape,
        output_shape,
        tuple(rows),
        parameters,
        sum(row.multiply_add_count for row in rows),
        _BYTES * parameters,
        sum(row.memory_bytes for row in rows),
    )


def measure(explanation: Explanation, model: Module, batch: int | None) -> Explanation:
    """Return the explanation with milliseconds; those of a copy, so that the model stays."""
    from convcore.bench.layers import time_layers

    work = max(explanation.multiply_adds, 1)
    if batch is None:
        few = 1 if work > _LARGE_WORK else 2  # batch norm of single values needs two
        batch = max(few, min(64, int(_TIMED_WORK // work)))
    iterations = max(3, min(20, int(10 * _TIMED_WORK // (work * batch))))
    try:
        measured = time_layers(copy.deepcopy(model), explanation.input_shape, batch, iterations)
    except (NotImplementedError, MemoryError, ValueError, TypeError) as error:
        return replace(explanation, note=f"not measured: {error}")
    times = {row.name: row for row in measured.layers}
    rows = tuple(
        replace(
            row,
            forward_ms=times[row.name].forward_seconds * 1e3,
            backward_ms=times[row.name].backward_seconds * 1e3 or None,
        )
        if row.name in times
        else row
        for row in explanation.rows
    )
    return replace(
        explanation,
        rows=rows,
        batch=measured.batch,
        threads=measured.threads,
        forward_ms=measured.forward_seconds * 1e3,
        backward_ms=measured.backward_seconds * 1e3,
    )


# ---- text ----------------------------------------------------------------------------------------


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _size_of(count: int) -> str:
    """Return a number of bytes in a readable unit."""
    if count < 1024:
        return f"{count} bytes"
    units = ("KiB", "MiB", "GiB", "TiB", "PiB")
    power = min((count.bit_length() - 1) // 10, len(units))
    return f"{count / 1024**power:.1f} {units[power - 1]}"


def _ms(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.3f}"


def _network_text(explained: Explanation) -> str:
    timed = explained.batch is not None
    head = ("layer", "output", "size", "parameters", "multiply-adds", "sees", "memory")
    lines = [
        (
            f"{row.name} {row.layer}".strip(),
            _by(row.output_shape),
            row.size or "-",
            row.parameters,
            row.multiply_adds,
            _by(row.receptive_field) or "-",
            _size_of(row.memory_bytes) if row.memory_bytes else "-",
            *((_ms(row.forward_ms), _ms(row.backward_ms)) if timed else ()),
        )
        for row in explained.rows
    ]
    total = (
        "in all",
        _by(explained.output_shape),
        "",
        f"{explained.parameters:,}",
        f"{explained.multiply_adds:,}",
        "",
        _size_of(explained.activation_bytes),
        *((_ms(explained.forward_ms), _ms(explained.backward_ms)) if timed else ()),
    )
    times = ("forward ms", "backward ms") if timed else ()
    text = table((*head, *times), lines, left=(0, 1, 2, 3, 4), closing=[total])
    return f"{text}\n{_closing(explained)}"


def _closing(explained: Explanation) -> str:
    text = (
        f"input {_by(explained.input_shape)}; parameters take "
        f"{_size_of(explained.parameter_bytes)}, the outputs of all layers "
        f"{_size_of(explained.activation_bytes)} per image"
    )
    if explained.batch is not None:
        text += f"; times of a batch of {explained.batch}, threads: {explained.threads}"
    return text


def _details(explained: Explanation) -> str:
    (row,) = explained.rows
    facts = [
        ("input", _by(row.input_shape)),
        ("size", row.size),
        ("output", _by(row.output_shape)),
        ("parameters", row.parameters),
        ("multiply-adds", row.multiply_adds),
        ("sees", _by(row.receptive_field)),
        ("memory", f"{_size_of(row.memory_bytes)} of output per image"),
    ]
    if explained.forward_ms is not None:
        times = f"{_ms(explained.forward_ms)} ms, backward {_ms(explained.backward_ms)} ms"
        facts.append(
            ("forward", f"{times} (batch of {explained.batch}, threads: {explained.threads})")
        )
    width = max(len(name) for name, _ in facts)
    lines = [f"  {name:<{width}}  {value}" for name, value in facts if value]
    return "\n".join([f"{row.name} {row.layer}".strip(), *lines])

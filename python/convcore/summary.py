"""What a network does to a shape: found by sending an empty batch through it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from convcore._arrays import device_of_module, to_device
from convcore._table import table
from convcore.functional._arguments import FloatArray, to_int
from convcore.nn.module import Module, observe

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One layer of a `Summary`.

    Attributes
    ----------
    name : str
        As in the state_dict, ``"4.body.0"``.
    layer : str
        The class.
    output_shape : tuple of int
        Without the batch.
    parameters : int
    multiply_adds : int
        Per sample, forward; convolutions and dense layers only.
    receptive_field : tuple of int
        Pixels of the input that one output value sees, per spatial axis.
    """

    name: str
    layer: str
    output_shape: Shape
    parameters: int
    multiply_adds: int
    receptive_field: Shape


@dataclass(frozen=True, repr=False)
class Summary:
    """The layers of a network in the order in which they run, and the totals.

    ``str(summary)`` is the table that `Model.summary` prints.
    """

    input_shape: Shape
    output_shape: Shape
    rows: tuple[Row, ...]
    parameters: int
    trainable_parameters: int
    multiply_adds: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything in forms that JSON knows."""
        return asdict(self)

    def __repr__(self) -> str:
        return (
            f"Summary({len(self.rows)} layers, {self.parameters:,} parameters, "
            f"{self.multiply_adds:,} multiply-adds per sample)"
        )

    def __str__(self) -> str:
        head = ("layer", "", "output shape", "parameters", "multiply-adds", "receptive field")
        lines = [
            (
                row.name,
                row.layer,
                " x ".join(map(str, row.output_shape)),
                f"{row.parameters:,}",
                f"{row.multiply_adds:,}",
                " x ".join(map(str, row.receptive_field)),
            )
            for row in self.rows
        ]
        text = table(head, lines, left=(0, 1, 2))
        return "\n".join(
            [
                text,
                text.split("\n", 2)[1],  # the rule below the head once more
                f"input {' x '.join(map(str, self.input_shape))}, "
                f"output {' x '.join(map(str, self.output_shape))}; "
                f"{self.parameters:,} parameters ({self.trainable_parameters:,} trainable), "
                f"{self.multiply_adds:,} multiply-adds per sample",
            ]
        )


@dataclass(frozen=True)
class _Field:
    """What one value of an array sees of the input, and the distance of two neighbours there."""

    extent: Shape
    step: Shape

    def through(self, window: Any, size: Shape) -> _Field:
        """Return the field behind a layer with `window`; `size` is that of the input."""
        if window is None or not self.extent:
            return self
        if window == "all":
            return _Field(tuple(map(max, self.extent, size)), self.step)
        extent = tuple(
            e + (k - 1) * s for e, s, (k, _) in zip(self.extent, self.step, window, strict=False)
        )
        step = tuple(s * stride for s, (_, stride) in zip(self.step, window, strict=False))
        return _Field(extent, step)

    def joined(self, other: _Field) -> _Field:
        """Return the field of a value that is made of both."""
        return _Field(
            tuple(map(max, self.extent, other.extent)), tuple(map(max, self.step, other.step))
        )


class _Tracer:
    """Writes a row for each leaf that is called, and says which one fails."""

    def __init__(self, owner: str, model: Module, x: FloatArray) -> None:
        self.owner = owner
        self.names = {id(module): name for name, module in model.named_modules()}
        self.rows: list[Row] = []
        self.size = x.shape[2:]
        axes = len(self.size)
        # The field of each array seen, by identity; the array is held so that the id stays its own.
        self.fields = {id(x): (x, _Field((1,) * axes, (1,) * axes))}
        # Of each module that is running: its input, and how many arrays had been seen before.
        self.running: list[tuple[FloatArray, int]] = []
        self.failed = False

    def __call__(self, module: Module, x: FloatArray) -> FloatArray:
        self.running.append((x, len(self.fields)))
        try:
            y = module.forward(x)
        except (TypeError, ValueError) as error:
            if self.failed:  # an inner layer has said it
                raise
            self.failed = True
            kind = TypeError if isinstance(error, TypeError) else ValueError
            # The 0 of the empty batch says nothing: the batch may have any size.
            what = re.sub(r"\bshape \(0(?=[,)])", "shape (N", str(error))
            raise kind(f"{self.owner}: {self._place(module, x)}: {what}") from error
        if next(module.children(), None) is None:
            self.running.pop()
            self._leaf(module, x, y)
        else:
            field = self._field(y)
            self.running.pop()
            self.fields[id(y)] = (y, field)
        return y

    def _field(self, array: FloatArray) -> _Field:
        """Return the field of an array; of one that no layer made, as a sum, that of all around."""
        if id(array) in self.fields:
            return self.fields[id(array)][1]
        field = _Field((), ())
        if self.running:
            x, before = self.running[-1]
            field = self.fields[id(x)][1] if id(x) in self.fields else field
            for _, other in list(self.fields.values())[before:]:
                field = field.joined(other) if field.extent else other
        return field

    def _leaf(self, module: Module, x: FloatArray, y: FloatArray) -> None:
        field = self._field(x).through(module.window(), self.size)
        self.fields[id(y)] = (y, field)
        row = Row(
            name=self.names.get(id(module), ""),
            layer=type(module).__name__,
            output_shape=y.shape[1:],
            parameters=sum(p.numel() for p in module.parameters()),
            multiply_adds=module.multiply_adds(x.shape[1:], y.shape[1:]),
            receptive_field=field.extent,
        )
        self.rows.append(row)

    def _place(self, module: Module, x: FloatArray) -> str:
        name = self.names.get(id(module), "")
        place = f"layer {name!r} ({type(module).__name__})" if name else type(module).__name__
        shape = ", ".join(["N", *map(str, x.shape[1:])])
        return f"{place} does not fit its input of shape ({shape}); tried with an empty batch"


def trace(owner: str, model: Module, input_shape: Shape) -> tuple[Shape, list[Row]]:
    """Send an empty batch through `model` in evaluation mode.

    Parameters
    ----------
    owner : str
        For the error message.
    model : Module
    input_shape : tuple of int
        Without the batch.

    Returns
    -------
    output_shape : tuple of int
        With the batch, which is 0.
    rows : list of Row

    Raises
    ------
    TypeError, ValueError
        Names the layer that does not fit its input, what it expects and what it gets.
    """
    x = to_device(np.zeros((0, *input_shape), np.float32), device_of_module(model))
    tracer = _Tracer(owner, model, x)
    with in_mode(model, training=False), observe(tracer):
        y = model(x)
    return y.shape, tracer.rows


class in_mode:
    """Within a ``with`` block, all modules are in training or evaluation mode; then as before."""

    def __init__(self, model: Module, training: bool) -> None:
        self._model = model
        self._training = training

    def __enter__(self) -> None:
        self._before = [(module, module.training) for module in self._model.modules()]
        self._model.train(self._training)

    def __exit__(self, *exception: object) -> None:
        for module, training in self._before:
            module.training = training


def summarize(
    model: Module, input_shape: Shape, print_fn: Callable[[str], Any] | None = print
) -> Summary:
    """Make a `Summary`, and print it with `print_fn`."""
    shape = tuple(to_int("summary", "input_shape", size) for size in input_shape)
    if any(size < 0 for size in shape):
        raise ValueError(
            f"summary: input_shape has a negative size: expected sizes of at least 0, got {shape}"
        )
    output_shape, rows = trace("summary", model, shape)
    parameters = list(model.parameters())
    summary = Summary(
        input_shape=shape,
        output_shape=output_shape[1:],
        rows=tuple(rows),
        parameters=sum(p.numel() for p in parameters),
        trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        multiply_adds=sum(row.multiply_adds for row in rows),
    )
    if print_fn is not None:
        print_fn(str(summary))
    return summary

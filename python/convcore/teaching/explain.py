"""`explain`: a network with the arithmetic of the lectures written out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from convcore._names import did_you_mean
from convcore.functional._arguments import FloatArray, to_int
from convcore.nn.module import Module, observe
from convcore.summary import in_mode, trace
from convcore.teaching.arithmetic import SUMS, VIEWS, Formula, Shape, formula_of
from convcore.teaching.explanation import Explanation, Row, make_row, totals
from convcore.teaching.explanation import measure as timed
from convcore.teaching.single import KINDS, explain_layer


def explain(
    model: Module | str,
    input_shape: Sequence[int] | None = None,
    *,
    measure: bool = False,
    batch: int | None = None,
    **settings: Any,
) -> Explanation:
    """Write out how sizes, parameters and multiply-adds of a network come about.

    Parameters
    ----------
    model : Module or str
        A network; the name of one (`convcore.models`); the file of one; or a single layer by kind:
        'conv', 'pool', 'avg_pool', 'linear'.
    input_shape : sequence of int, optional
        Of one image, (C, H, W). For a name the default is the network's usual input, for a file
        what the file says.
    measure : bool, default False
        Measure how long each layer takes, forward and backward. The model itself stays as it is.
    batch : int, optional
        Images per batch when measuring; by default as many as take some milliseconds.
    **settings
        Of a single layer: see `explain_layer`.

    Returns
    -------
    Explanation

    Raises
    ------
    TypeError, ValueError
        For unknown names (the nearest is named) and layers that do not fit their input.

    See Also
    --------
    convcore.teaching.arithmetic : The formulas, and the quiz questions of the lectures.

    Notes
    -----
    The formulas are those of CS 725, lecture 16, "Convolution Layers: Summary".

    Examples
    --------
    The first quiz of that lecture, whose answer is 12 x 12 x 10, and the second one (1950):

    >>> import convcore
    >>> from convcore import nn
    >>> network = nn.Sequential(
    ...     nn.Conv2d(3, 6, 5, bias=False), nn.Conv2d(6, 10, 5, bias=False), nn.MaxPool2d(2)
    ... )
    >>> explanation = convcore.explain(network, (3, 32, 32))
    >>> explanation.output_shape, explanation.parameters
    ((10, 12, 12), 1950)
    >>> for row in explanation.rows:
    ...     print(row.size)
    (32 + 2*0 - 5)/1 + 1 = 28
    (28 + 2*0 - 5)/1 + 1 = 24
    (24 - 2)/2 + 1 = 12

    The homework of the UPC lecture:

    >>> homework = convcore.explain("conv", (3, 64, 64), filters=8, kernel=5, stride=2)
    >>> homework.rows[0].parameters, homework.output_shape
    ('(5*5*3 + 1)*8 = 608', (8, 30, 30))
    """
    if isinstance(model, str) and model in KINDS:
        return explain_layer(model, input_shape, measure=measure, batch=batch, **settings)
    if settings:
        raise TypeError(
            f"explain: {next(iter(settings))} is for single layers: expected a model of "
            f"{', '.join(map(repr, KINDS))}, got {model!r}"
        )
    name = type(model).__name__
    if isinstance(model, str):
        name = model
        model, input_shape = _named(model, input_shape)
    if not isinstance(model, Module):
        raise TypeError(
            "explain: model has the wrong type: expected a Module or a str, "
            f"got {type(model).__name__}"
        )
    if input_shape is None:
        raise ValueError("explain: input_shape is missing: expected one as (1, 28, 28), got None")
    shape = tuple(to_int("explain", "input_shape", size) for size in input_shape)
    explanation = _explain_network(name, model, shape)
    return timed(explanation, model, batch) if measure else explanation


def _named(name: str, input_shape: Sequence[int] | None) -> tuple[Module, Shape]:
    from convcore.cli import _network
    from convcore.cli._parser import UsageError

    try:
        return _network.create_or_read(name, tuple(input_shape) if input_shape else None)
    except UsageError as error:
        hint = did_you_mean(name, KINDS) if not os.path.exists(name) else ""
        raise ValueError(f"explain: {error}{hint}") from None


class _Shapes:
    """Observes a forward: the shapes around each leaf, and where the sums of residual blocks are.

    Its entries come in the order of the rows of `trace`.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[Module, Shape, Shape]] = []

    def __call__(self, module: Module, x: FloatArray) -> FloatArray:
        begin = len(self.entries)
        y = module.forward(x)
        if next(module.children(), None) is None:
            self.entries.append((module, x.shape[1:], y.shape[1:]))
        elif isinstance(module, SUMS):
            end = len(self.entries)
            after = module.activation
            if after is not None and end > begin and self.entries[-1][0] is after:
                end -= 1  # the activation takes the sum
            self.entries.insert(end, (module, x.shape[1:], y.shape[1:]))
        return y


def _explain_network(name: str, model: Module, input_shape: Shape) -> Explanation:
    output_shape, leaves = trace("explain", model, input_shape)
    shapes = _Shapes()
    with in_mode(model, training=False), observe(shapes):
        model(np.zeros((0, *input_shape), np.float32))
    names = {id(module): path for path, module in model.named_modules()}
    remaining = iter(leaves)
    rows: list[Row] = []
    for module, x_shape, y_shape in shapes.entries:
        if isinstance(module, SUMS):
            rows.append(_sum_row(names[id(module)], y_shape, rows))
            continue
        leaf = next(remaining)
        rows.append(
            make_row(
                leaf.name,
                leaf.layer,
                x_shape,
                y_shape,
                formula_of(module, x_shape, y_shape, leaf.parameters, leaf.multiply_adds),
                leaf.parameters,
                leaf.multiply_adds,
                leaf.receptive_field,
                is_view=isinstance(module, VIEWS),
            )
        )
    return totals(name, input_shape, output_shape[1:], rows)


def _sum_row(path: str, shape: Shape, rows: Sequence[Row]) -> Row:
    inside = [
        row.receptive_field for row in rows if row.name.startswith(f"{path}." if path else "")
    ]
    field = tuple(map(max, *inside)) if len(inside) > 1 else inside[0] if inside else ()
    return make_row(f"{path}.sum" if path else "sum", "+", shape, shape, Formula(), 0, 0, field)

"""Connection tables: which input channels each output channel of a convolution sees.

``nn.Conv2d(6, 16, 5, connections=nn.connections.LENET5_C3)`` is the layer C3 of LeNet-5, with 60 of
96 connections: 60 * 25 weights and 16 biases, 1,516 parameters.

References
----------
LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE, 1998, section II.B and table I.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convcore.nn.module import AnyArray

Connections = AnyArray | Sequence[Sequence[bool]]
Table = tuple[tuple[bool, ...], ...]


def from_inputs(inputs: Sequence[Sequence[int]], in_channels: int) -> Table:
    """Return the table in which output channel k sees the input channels ``inputs[k]``.

    Examples
    --------
    >>> from convcore import nn
    >>> nn.connections.from_inputs([[0, 1], [2]], in_channels=3)
    ((True, True, False), (False, False, True))
    """
    for channel in (c for channels in inputs for c in channels):
        if not 0 <= channel < in_channels:
            raise ValueError(
                f"from_inputs: inputs has a channel that is out of range: expected 0 to "
                f"{in_channels - 1}, got {channel}"
            )
    return tuple(tuple(c in channels for c in range(in_channels)) for channels in inputs)


#: Table I of LeCun et al.: six maps see three neighbouring inputs (in a ring), six see four, three
#: see four with a gap, and the last sees all.
LENET5_C3 = from_inputs(
    [
        *([c % 6 for c in range(k, k + 3)] for k in range(6)),
        *([c % 6 for c in range(k, k + 4)] for k in range(6)),
        [0, 1, 3, 4],
        [1, 2, 4, 5],
        [0, 2, 3, 5],
        [0, 1, 2, 3, 4, 5],
    ],
    in_channels=6,
)


def connection_table(layer: str, connections: object, shape: tuple[int, ...]) -> Table:
    """Return `connections` as tuples of bool, which JSON knows, or raise."""
    table = np.asarray(connections)
    if table.dtype != bool and not np.isin(table, (0, 1)).all():
        raise ValueError(
            f"{layer}: connections has values that are no truth values: expected True or False, "
            f"got an array of {table.dtype}"
        )
    if table.shape != shape:
        raise ValueError(
            f"{layer}: connections has the wrong shape: expected {shape} (outputs, inputs of a "
            f"group), got {table.shape}"
        )
    alone = np.flatnonzero(~table.astype(bool).any(axis=1))
    if len(alone):
        raise ValueError(
            f"{layer}: connections leaves an output without input: expected at least one each, "
            f"got none for output {alone[0]}"
        )
    return tuple(tuple(bool(v) for v in row) for row in table)

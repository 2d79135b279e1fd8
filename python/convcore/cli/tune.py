"""``convcore tune``: measure which algorithms are the fastest for a network, and keep that."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from convcore.cli import _network
from convcore.cli._files import expect_writable
from convcore.cli._parser import (
    Args,
    Verbs,
    add_threads_option,
    add_verb,
    integer,
    real,
    shape,
    use_threads,
)
from convcore.cli._result import Result, table

if TYPE_CHECKING:
    from convcore.bench.tune import Tuned

_EPILOG = """\
By default the algorithm of a convolution follows from its shape alone. This verb measures all that
can compute it, forward and both gradients, and writes the fastest into a file. Programs that run
with CONVCORE_ALGORITHMS=FILE take these algorithms for convolutions of exactly these shapes, batch
included; all others go by the shape as before. Another algorithm gives other last bits: with one
file they are the same from run to run, with another file they may differ. Each convolution is
measured alone: whether the whole network gains is for you to measure.

examples:
  convcore tune resnet20 --batch 128 --output resnet20.json
  CONVCORE_ALGORITHMS=resnet20.json convcore train resnet20 --data cifar10
  CONVCORE_ALGORITHMS=resnet20.json CONVCORE_VERBOSE=1 convcore time resnet20
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    parser = add_verb(
        verbs, run, "tune", "measure the fastest algorithms for a network and save them", _EPILOG
    )
    parser.add_argument(
        "network",
        metavar="NAME|FILE",
        help="lenet5, resnet20, ... (all: convcore train --help), or a file of convcore train",
    )
    parser.add_argument(
        "--input",
        type=shape,
        metavar="CxHxW",
        help="size of one input (default: what the file says, else that of the network)",
    )
    parser.add_argument("--batch", type=integer(1), default=64, metavar="N", help="default: 64")
    parser.add_argument(
        "--output", metavar="FILE", required=True, help="where the choices go (JSON)"
    )
    add_threads_option(parser)
    parser.add_argument("--rounds", type=integer(1), default=7, metavar="N", help="default: 7")
    parser.add_argument(
        "--seconds",
        type=real(1e-4),
        default=0.02,
        metavar="S",
        help="of one algorithm in a round (default: 0.02)",
    )


def run(args: Args) -> Result:
    """Measure, save, and say what was chosen."""
    import convcore
    from convcore import _core
    from convcore._algorithms import VARIABLE, to_json
    from convcore.bench.machine import machine
    from convcore.bench.tune import tune
    from convcore.serialization import write_atomically

    use_threads(args)
    output = Path(args.output)
    expect_writable(args.output)  # before the minutes of measuring
    model, input_shape = _network.create_or_read(args.network, args.input)
    _core.set_conv2d_choices([])  # what is called "by the shape" shall be that
    tuned = tune(model, input_shape, args.batch, args.rounds, args.seconds)
    facts = {
        "network": args.network,
        "batch": args.batch,
        "threads": convcore.num_threads(),
        "machine": machine(),
    }
    text = to_json(((row.key, row.fastest, row.seconds) for row in tuned), facts)
    write_atomically(output, text.encode())
    document = {
        **facts,
        "output": args.output,
        "choices": [
            {
                **row.key._asdict(),
                "algorithm": row.fastest,
                "automatic": row.automatic,
                "seconds": row.seconds,
            }
            for row in tuned
        ],
    }
    closing = f"saved: {args.output}; use it with {VARIABLE}={shlex.quote(args.output)}"
    return Result(document, "\n".join([_table(tuned), closing]))


def _table(tuned: list[Tuned]) -> str:
    lines = [
        (
            f"{_by(row.key.x)} -> {row.key.w[0]}, {_by(row.key.w[2:])}"
            + (f", stride {_by(row.key.stride)}" if max(row.key.stride) > 1 else ""),
            row.key.which,
            row.fastest,
            f"{row.seconds[row.fastest] * 1e3:.3f}",
            row.automatic,
            f"{row.seconds[row.automatic] * 1e3:.3f}",
        )
        for row in tuned
    ]
    return table(("convolution", "pass", "fastest", "ms", "by the shape", "ms"), lines)


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))

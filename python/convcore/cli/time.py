"""``convcore time``: how long each layer of a network takes, forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convcore.cli import _network
from convcore.cli._parser import (
    Args,
    Verbs,
    add_threads_option,
    add_verb,
    integer,
    shape,
    use_threads,
)
from convcore.cli._result import Result, table

if TYPE_CHECKING:
    from convcore.bench.layers import NetworkTime

_EPILOG = """\
The network runs forward and backward on random numbers, as in training, without an optimizer. The
times are medians; the rates count two operations per multiply-add, and the share is that of the
multiply-adds that this machine reached in a loop without memory, just before and after. An
algorithm that needs fewer multiplications than the formula can get above 100 %.

examples:
  convcore time lenet5
  convcore time lenet5 --batch 256 --threads 1
  convcore time lenet5.safetensors --json
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    parser = add_verb(verbs, run, "time", "show how long each layer of a network takes", _EPILOG)
    parser.add_argument(
        "network",
        metavar="NAME|FILE",
        help="lenet5, resnet20, ... (all: convcore train --help), or a file of convcore train",
    )
    parser.add_argument(
        "--input",
        type=shape,
        metavar="CxHxW",
        help="size of one input (default: what the file says, or of the network's paper)",
    )
    parser.add_argument("--batch", type=integer(1), default=64, metavar="N", help="default: 64")
    add_threads_option(parser)
    parser.add_argument(
        "--iterations", type=integer(1), default=30, metavar="N", help="default: 30"
    )


def run(args: Args) -> Result:
    """Make the network and time it."""
    from convcore.bench.layers import time_layers

    use_threads(args)
    model, input_shape = _network.create_or_read(args.network, args.input)
    measured = time_layers(model, input_shape, args.batch, args.iterations)
    return Result({"network": args.network, **measured.to_dict()}, _text(measured))


def _text(measured: NetworkTime) -> str:
    peak = measured.peak_flops
    lines = [
        (
            f"{row.name} {row.layer}".strip(),
            " x ".join(map(str, row.output_shape)),
            row.algorithm or "-",
            *_direction(row.forward_seconds, row.forward_flops, peak),
            *_direction(row.backward_seconds, row.backward_flops, peak),
        )
        for row in measured.layers
    ]
    forward_flops = sum(row.forward_flops for row in measured.layers)
    backward_flops = sum(row.backward_flops for row in measured.layers)
    total = (
        "whole network",
        "",
        "",
        *_direction(measured.forward_seconds, forward_flops, peak),
        *_direction(measured.backward_seconds, backward_flops, peak),
    )
    head = (
        "layer", "output shape", "algorithm", "forward ms", "GFLOP/s", "share",
        "backward ms", "GFLOP/s", "share",
    )  # fmt: skip
    images = measured.batch / (measured.forward_seconds + measured.backward_seconds)
    return "\n".join(
        [
            table(head, [*lines, total]),
            f"batch {measured.batch}, threads: {measured.threads}, peak {peak * 1e-9:.0f} GFLOP/s; "
            f"{images:,.0f} images/s forward and backward",
        ]
    )


def _direction(seconds: float, flops: int, peak: float) -> tuple[str, str, str]:
    """Return milliseconds, rate, and share of the peak."""
    if seconds == 0:
        return "-", "-", "-"
    milliseconds = f"{seconds * 1e3:.3f}"
    if flops == 0:
        return milliseconds, "-", "-"
    return milliseconds, f"{flops / seconds * 1e-9:.1f}", f"{flops / seconds / peak:.0%}"

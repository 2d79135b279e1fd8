"""``convcore explain``: a network, or a layer, with the arithmetic written out."""

from __future__ import annotations

import argparse
import os
from typing import Any

from convcore.cli._parser import (
    Args,
    UsageError,
    Verbs,
    add_threads_option,
    add_verb,
    integer,
    nearest,
    shape,
    use_threads,
)
from convcore.cli._result import Result

_EPILOG = """\
The formulas are those of the lectures: (W - F + 2P)/S + 1 for a size, (F*F*D + 1)*K for parameters.
The times are medians of a batch with random numbers. Instead of a network a layer can be named:

  conv            --input, --filters, --kernel; --stride, --padding, --dilation, --groups, --no-bias
  pool, avg_pool  --input, --kernel; --stride (default: the kernel), --padding
  linear          --input, --filters (number of units); --no-bias

Small ones are done step by step as well, with the numbers of --image and --filter if given (rows
are separated by semicolons).

examples:
  convcore explain lenet5 --input 1x28x28
  convcore explain resnet20 --no-time
  convcore explain lenet5.safetensors --json
  convcore explain conv --input 3x64x64 --filters 8 --kernel 5 --stride 2 --padding 0
  convcore explain conv --image "1 2 3 4 5 6" --filter "1 2"
  convcore explain pool --image "1 2 3; 4 5 6; 7 8 9" --kernel 2 --stride 1
  convcore explain linear --input 1x28x28 --filters 30
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    parser = add_verb(
        verbs, run, "explain", "write out the arithmetic of a network or a layer", _EPILOG
    )
    parser.add_argument(
        "network",
        metavar="NAME|FILE|KIND",
        help="lenet5, resnet20, ..., a file of convcore train, or conv, pool, avg_pool, linear",
    )
    parser.add_argument(
        "--input",
        type=shape,
        metavar="CxHxW",
        help="size of one input (default: what the file says, else that of the network)",
    )
    layer = parser.add_argument_group("a single layer")
    layer.add_argument(
        "--filters", "--units", type=integer(1), metavar="K", help="filters, or units"
    )
    layer.add_argument("--kernel", type=shape, metavar="F", help="size of the filter: 5 or 3x5")
    layer.add_argument("--stride", type=shape, metavar="S", help="2, or 2x1")
    layer.add_argument("--padding", type=_padding, metavar="P", help="2, 2x1, same or valid")
    layer.add_argument("--dilation", type=shape, metavar="D", help="2, or 2x1")
    layer.add_argument("--groups", type=integer(1), metavar="G", help="default: 1")
    layer.add_argument("--no-bias", dest="bias", action="store_false", default=None)
    layer.add_argument("--image", type=_numbers, metavar="ROWS", help='numbers: "1 2; 3 4"')
    layer.add_argument("--filter", type=_numbers, metavar="ROWS", help="one filter for --image")
    layer.add_argument(
        "--steps",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show each value by hand (default: when there are few)",
    )
    times = parser.add_argument_group("times")
    times.add_argument(
        "--time", action=argparse.BooleanOptionalAction, default=True, help="default: --time"
    )
    times.add_argument(
        "--batch", type=integer(1), metavar="N", help="default: what takes some milliseconds"
    )
    add_threads_option(parser)


Settings = dict[str, Any]

_SETTINGS = (
    "filters", "kernel", "stride", "padding", "dilation", "groups", "bias", "image", "filter",
    "steps",
)  # fmt: skip

#: What the kinds of layer need, and what they have no use for.
_NEEDS = {
    "conv": ("input", "filters", "kernel"),
    "pool": ("input", "kernel"),
    "avg_pool": ("input", "kernel"),
    "linear": ("input", "filters"),
}
_UNUSED = {
    "conv": (),
    "pool": ("filters", "groups", "bias", "filter"),
    "avg_pool": ("filters", "groups", "bias", "filter"),
    "linear": ("kernel", "stride", "padding", "dilation", "groups", "filter"),
}
_EXAMPLES = {"input": "--input 3x64x64", "filters": "--filters 8", "kernel": "--kernel 5"}


def run(args: Args) -> Result:
    """Explain the network, or the layer."""
    from convcore.teaching.explain import explain
    from convcore.teaching.single import KINDS

    use_threads(args)
    settings: Settings = {
        name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None
    }
    input_shape = args.input
    is_kind = args.network in KINDS and not os.path.exists(args.network)
    if settings and not is_kind:
        raise UsageError(
            f"--{_option(next(iter(settings)))} is for a single layer: "
            f"expected one of {', '.join(KINDS)}, got {args.network}"
        )
    if not is_kind:
        from convcore import models
        from convcore.cli import _network

        known = (*models.names(), *KINDS)
        if args.network not in known and not os.path.exists(args.network):
            raise UsageError(f"{args.network!r} is not known: {nearest(args.network, known)}")
        model, input_shape = _network.create_or_read(args.network, args.input)
        explained = explain(model, input_shape, measure=args.time, batch=args.batch)
        note = ""
    else:
        _expect_options(args.network, input_shape, settings)
        explained = explain(
            args.network, input_shape, measure=args.time, batch=args.batch, **settings
        )
        note = _note(args.network, input_shape, settings)
    return Result({"network": args.network, **explained.to_dict()}, f"{explained}{note}")


def _expect_options(kind: str, input_shape: tuple[int, ...] | None, settings: Settings) -> None:
    """Raise when an option is missing, or has no meaning for that kind of layer."""
    for name in _UNUSED[kind]:
        if name in settings:
            raise UsageError(
                f"--{_option(name)} has no meaning for {kind} (see convcore explain --help)"
            )
    given = {*settings, *(["input"] if input_shape else [])}
    if "image" in settings:
        given.add("input")
    if "filter" in settings:
        given |= {"filters", "kernel"}
    missing = [name for name in _NEEDS[kind] if name not in given]
    if missing:
        options = ", ".join(f"--{name}" for name in missing)
        example = " ".join(_EXAMPLES[name] for name in missing)
        raise UsageError(f"{kind} needs {options}: expected for example {example}")


def _option(name: str) -> str:
    return "no-bias" if name == "bias" else name


def _note(kind: str, input_shape: tuple[int, ...] | None, settings: Settings) -> str:
    """Return a line for an input of two sizes that looks like a picture."""
    if kind == "linear" or "image" in settings or input_shape is None:
        return ""
    if len(input_shape) != 2 or input_shape[0] == 1:
        return ""
    grey = "x".join(map(str, (1, *input_shape)))
    return f"\n\ntaken as a sequence of {input_shape[0]} channels; a grey picture is {grey}"


def _padding(text: str) -> int | str | tuple[int, ...]:
    if text in ("same", "valid"):
        return text
    try:
        sizes = tuple(int(size) for size in text.lower().split("x"))
    except ValueError:
        sizes = (-1,)
    if min(sizes) < 0:
        raise argparse.ArgumentTypeError(f"expected 2, 2x1, same or valid, got {text!r}")
    return sizes if len(sizes) > 1 else sizes[0]


def _numbers(text: str) -> list[Any]:
    """Convert rows of numbers; one row is a sequence, not an image."""
    try:
        rows = [[float(v) for v in row.replace(",", " ").split()] for row in text.split(";")]
    except ValueError:
        rows = [[]]
    if not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        raise argparse.ArgumentTypeError(
            f'expected rows of equal length, as in "1 2; 3 4", got {text!r}'
        )
    return rows[0] if len(rows) == 1 else rows

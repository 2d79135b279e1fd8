"""``convcore summary``: what each layer of a network does to the shape of its input."""

from __future__ import annotations

from convcore.cli import _network
from convcore.cli._parser import Args, Verbs, add_verb, shape
from convcore.cli._result import Result

_EPILOG = """\
examples:
  convcore summary lenet5
  convcore summary lenet5 --input 3x32x32
  convcore summary lenet5.safetensors --json
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    parser = add_verb(
        verbs, run, "summary", "show a network's layers, parameters and multiply-adds", _EPILOG
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
        help="size of one input (default: what the file says, or of the network's paper)",
    )


def run(args: Args) -> Result:
    """Make the network, and send an empty batch through it."""
    model, input_shape = _network.create_or_read(args.network, args.input)
    summary = model.summary(input_shape, print_fn=None)
    return Result({"network": args.network, **summary.to_dict()}, str(summary))

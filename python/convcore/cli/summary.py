"""``convcore summary``: what each layer of a network does to the shape of its input."""

from __future__ import annotations

import os

from convcore.cli import _network
from convcore.cli._parser import Args, UsageError, Verbs, add_verb, shape
from convcore.cli._result import Result

_EPILOG = """\
examples:
  convcore summary lenet5
  convcore summary lenet5 --input 3x32x32
  convcore summary lenet5.safetensors --json
"""
_INPUT = (1, 28, 28)
_CLASSES = 10


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    parser = add_verb(
        verbs, run, "summary", "show a network's layers, parameters and multiply-adds", _EPILOG
    )
    parser.add_argument("network", metavar="NAME|FILE", help="lenet5, or a file of convcore train")
    parser.add_argument(
        "--input",
        type=shape,
        metavar="CxHxW",
        help="size of one input (default: what the file says, else 1x28x28)",
    )


def run(args: Args) -> Result:
    """Make the network, and send an empty batch through it."""
    if os.path.exists(args.network):
        model, card = _network.read(args.network)
        input_shape = args.input or (card.input_shape if card else _INPUT)
    else:
        _network.expect_model(args.network)
        input_shape = args.input or _INPUT
        if len(input_shape) != 3 or input_shape[1] != input_shape[2]:
            raise UsageError(
                f"--input does not fit {args.network}: expected a square picture, as in 1x28x28, "
                f"got {'x'.join(map(str, input_shape))}"
            )
        model = _network.create(args.network, input_shape, _CLASSES)
    summary = model.summary(input_shape, print_fn=None)
    return Result({"network": args.network, **summary.to_dict()}, str(summary))

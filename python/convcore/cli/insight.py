"""``convcore insight``: what a network does, where it errs, and what its units look for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from convcore.cli import _insight as looks
from convcore.cli._network import add_invert_option
from convcore.cli._parser import (
    Args,
    Parser,
    Verbs,
    add_data_options,
    add_threads_option,
    add_verb,
    integer,
    nearest,
    real,
    shape,
)
from convcore.cli._recipes import DATA
from convcore.cli._result import Result

_EPILOG = """\
Each prints numbers; -o FILE draws them, too (PNG, PDF or SVG; pip install 'convcore[plot]'), and
--json prints one JSON document. convcore insight WHAT --help says more.

examples:
  convcore insight confusion lenet5.safetensors -o confusion.png
  convcore insight gradcam lenet5.safetensors digit.png -o cam.png
  convcore insight patches lenet5.safetensors --layer 1 -o patches.png
  convcore insight receptive-field lenet5 --layer 3
  convcore insight curves lenet5.history.json -o curves.png
"""

#: What there is, in the order of the help.
TOPICS = (
    "confusion",
    "errors",
    "curves",
    "adversarial",
    "filters",
    "features",
    "patches",
    "dissect",
    "receptive-field",
    "statistics",
    "saliency",
    "gradcam",
)


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    what = "show what a network does, where it errs, and what its units look for"
    parser = verbs.add_parser(
        "insight", help=what, description=what[0].upper() + what[1:] + ".", epilog=_EPILOG
    )
    topics = parser.add_subparsers(
        dest="what", metavar="WHAT", required=True, title="what to look at"
    )
    _add_errors(topics)
    _add_units(topics)
    _add_decisions(topics)


def expect_known(parser: Parser, words: Sequence[str]) -> None:
    """Leave with an error when the first word is nothing to look at; names the nearest."""
    if words and words[0] not in TOPICS:
        parser.error(f"{words[0]!r} is nothing to look at: {nearest(words[0], TOPICS)}")


# ---- the arguments -------------------------------------------------------------------------------


def _add_errors(topics: Verbs) -> None:
    """Declare what looks at right and wrong answers."""
    parser = _add(
        topics, looks.confusion, "confusion", "count which class is taken for which",
        "lenet5.safetensors -o confusion.png",
    )  # fmt: skip
    _take_test_images(parser)
    parser = _add(
        topics, looks.errors, "errors", "list precision, recall and F1 of each class and group",
        "lenet5.safetensors", "lenet5.safetensors --groups groups.npy -o errors.png",
    )  # fmt: skip
    _take_test_images(parser)
    parser.add_argument(
        "--groups",
        metavar="FILE",
        help="array (.npy) with the group of each test image: numbers or names",
    )
    parser = _add(
        topics, looks.curves, "curves", "compare trainings epoch by epoch",
        "lenet5.history.json -o curves.png", "first.history.json second.history.json",
    )  # fmt: skip
    parser.add_argument(
        "histories", metavar="HISTORY", nargs="+", help="written by convcore train, beside the file"
    )
    parser = _add(
        topics, looks.adversarial, "adversarial", "attack with the fast gradient sign method",
        "lenet5.safetensors --epsilon 0.1 -o examples.png",
        "lenet5.safetensors --epsilon 0 0.05 0.1 0.2 -o curve.png",
    )  # fmt: skip
    _take_test_images(parser, limit=True)
    parser.add_argument(
        "--epsilon",
        type=real(0, 1),
        nargs="+",
        default=[0.1],
        metavar="E",
        help="how far a pixel may move, black being 0 and white 1 (default 0.1); with one the "
        "picture shows examples, with several the accuracy over epsilon",
    )


def _add_units(topics: Verbs) -> None:
    """Declare what looks at layers and their units."""
    parser = _add(
        topics, looks.filters, "filters", "show the filters of a layer",
        "lenet5.safetensors -o filters.png", "lenet5.safetensors --layer 3",
    )  # fmt: skip
    parser.add_argument("file", metavar="FILE", help="written by convcore train")
    _take_layer(parser, "the first with filters")
    parser = _add(
        topics, looks.features, "features", "show what every layer makes of a picture",
        "lenet5.safetensors digit.png -o features.png", "lenet5.safetensors --index 3",
    )  # fmt: skip
    _take_pictures(parser, several=False)
    parser.add_argument(
        "--layers", metavar="NAME", nargs="+", help="default: all, as convcore summary names them"
    )
    parser = _add(
        topics, looks.patches, "patches", "find the patches that excite units most",
        "lenet5.safetensors --layer 1 -o patches.png", "lenet5.safetensors --units 0 3 --top 5",
    )  # fmt: skip
    _take_test_images(parser, limit=True)
    _take_layer(parser, "what follows the last convolution")
    _take_units(parser)
    parser.add_argument(
        "--top", type=integer(1), default=9, metavar="T", help="patches of a unit (default 9)"
    )
    parser = _add(
        topics, looks.dissect, "dissect", "compare where units are active with edges, strokes, ...",
        "lenet5.safetensors -o dissection.png", "lenet5.safetensors --layer 1 --share 0.1",
    )  # fmt: skip
    _take_test_images(parser, limit=True)
    _take_layer(parser, "what follows the last convolution")
    _take_units(parser)
    parser.add_argument(
        "--share",
        type=real(1e-6, 0.999999),
        default=0.05,
        metavar="S",
        help="the share of a unit's activations that count as active (default 0.05)",
    )
    parser = _add(
        topics, looks.receptive_field, "receptive-field", "compute which pixels a unit sees",
        "lenet5 --layer 3", "resnet20 --layer layer1.2 --unit 0 0 -o field.png",
    )  # fmt: skip
    parser.add_argument("network", metavar="NAME|FILE", help="lenet5, ..., or a file of train")
    parser.add_argument(
        "--layer", metavar="NAME", required=True, help="as convcore summary names it"
    )
    parser.add_argument(
        "--unit",
        type=integer(0),
        nargs=2,
        metavar=("ROW", "COLUMN"),
        help="in the layer's map (default: the middle)",
    )
    parser.add_argument(
        "--input",
        type=shape,
        metavar="CxHxW",
        help="size of one input (default: what the file says, else that of the network)",
    )
    parser = _add(
        topics, looks.statistics, "statistics", "measure mean, spread and zeros of every layer",
        "lenet5.safetensors -o statistics.png",
    )  # fmt: skip
    _take_test_images(parser, limit=True)
    parser.add_argument("--layers", metavar="NAME", nargs="+", help="default: all")


def _add_decisions(topics: Verbs) -> None:
    """Declare what looks at single decisions."""
    parser = _add(
        topics, looks.saliency, "saliency", "show how much each pixel moves the score of a class",
        "lenet5.safetensors digit.png -o saliency.png", "lenet5.safetensors --index 0 1 --class 3",
    )  # fmt: skip
    _take_pictures(parser, several=True)
    _take_class(parser)
    parser = _add(
        topics, looks.gradcam, "gradcam", "show where a layer sees a class",
        "lenet5.safetensors digit.png -o cam.png", "lenet5.safetensors --index 0 1 2 --layer 1",
    )  # fmt: skip
    _take_pictures(parser, several=True)
    _take_class(parser)
    _take_layer(parser, "what follows the last convolution")


def _add(
    topics: Verbs, run: Callable[[Args], Result], name: str, what: str, *examples: str
) -> argparse.ArgumentParser:
    lines = "".join(f"  convcore insight {name} {example}\n" for example in examples)
    parser = add_verb(topics, run, name, what, f"examples:\n{lines}")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="draw a picture: .png, .pdf or .svg (matplotlib)"
    )
    return parser


def _take_test_images(parser: argparse.ArgumentParser, limit: bool = False) -> None:
    parser.add_argument("file", metavar="FILE", help="written by convcore train")
    add_data_options(parser, DATA, default="the one that the network was trained on")
    if limit:
        parser.add_argument(
            "--images",
            type=integer(1),
            default=1000,
            metavar="N",
            help="take the first N test images (default 1000)",
        )
    add_threads_option(parser)


def _take_pictures(parser: argparse.ArgumentParser, several: bool) -> None:
    parser.add_argument("file", metavar="FILE", help="written by convcore train")
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="*" if several else "?",
        help="picture, or array (.npy); default: test images",
    )
    parser.add_argument(
        "--index",
        type=integer(0),
        nargs="+" if several else None,
        metavar="I",
        help="of the test image, counted from 0 (default: " + ("the first 8)" if several else "0)"),
    )
    add_data_options(parser, DATA, default="the one that the network was trained on")
    add_invert_option(parser)
    add_threads_option(parser)


def _take_layer(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--layer", metavar="NAME", help=f"as convcore summary names it (default: {default})"
    )


def _take_units(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--units", type=integer(0), nargs="+", metavar="K", help="channels (default: all)"
    )


def _take_class(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--class", dest="target", metavar="NAME", help="default: the predicted one")

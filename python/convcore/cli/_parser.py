"""What the argument parsers of all verbs share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from convcore._names import did_you_mean

#: What `add_subparsers` returns.
Verbs = Any
Args = argparse.Namespace


class UsageError(Exception):
    """The command line makes no sense; exit code 2, as for errors that argparse finds."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and takes examples in the epilog as they are."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Leave with an error for unknown words; the parser of the verb names its own help."""
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return known, rest

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def add_verb(
    verbs: Verbs,
    run: Callable[[Args], Any],
    name: str,
    what: str,
    epilog: str,
    *,
    json_file: bool = False,
) -> argparse.ArgumentParser:
    """Add the parser of a verb, with the options that every verb has.

    With `json_file`, ``--json FILE`` writes a file; ``--json`` alone is True, as for all verbs.
    """
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=what, description=what[0].upper() + what[1:] + ".", epilog=epilog
    )
    parser.set_defaults(run=run)
    if json_file:
        parser.add_argument(
            "--json",
            nargs="?",
            const=True,
            default=False,
            metavar="FILE",
            help="write one JSON document to FILE, or print it on stdout",
        )
    else:
        parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    return parser


def add_data_options(parser: argparse.ArgumentParser, names: Iterable[str], default: str) -> None:
    """Add --data and --data-dir."""
    names = tuple(names)
    parser.add_argument(
        "--data", type=one_of(names), metavar="NAME", help=f"{', '.join(names)} (default {default})"
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder with the data set's files (default: $CONVCORE_DATA, then the cache folder, "
        "into which missing files are downloaded; with --data-dir there is no download)",
    )


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    """Add --threads; `use_threads` obeys it."""
    parser.add_argument("--threads", type=integer(1), metavar="N", help="default: all cores")


def use_threads(args: Args) -> None:
    """Obey --threads."""
    import convcore

    if args.threads is not None:
        convcore.set_num_threads(args.threads)


# ---- kinds of arguments --------------------------------------------------------------------------


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``expected one of a, b (did you mean 'a'?)``."""
    names = list(known)
    return f"expected one of {', '.join(names)}{did_you_mean(word, names)}"


def one_of(known: Iterable[str]) -> Callable[[str], str]:
    """Return the converter of a name."""
    names = tuple(known)

    def convert(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is not known: {nearest(text, names)}")
        return text

    return convert


def integer(low: int) -> Callable[[str], int]:
    """Return the converter of an integer of at least `low`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {low}, got {text!r}")
        return value

    return convert


def real(low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return the converter of a finite number in [low, high]."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high and math.isfinite(value)):
            bounds = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"expected a number {bounds}, got {text!r}")
        return value

    return convert


def shape(text: str) -> tuple[int, ...]:
    """Convert ``1x28x28``."""
    try:
        sizes = tuple(int(size) for size in text.lower().split("x"))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"expected sizes of at least 1, as in 1x28x28, got {text!r}"
        )
    return sizes

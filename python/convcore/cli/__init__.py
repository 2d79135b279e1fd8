"""The command line, ``convcore VERB ...``: one module per verb.

A verb's module has ``add_parser(verbs)``, which declares its arguments, and ``run(args)``, which
returns a `Result`. Nothing heavy is imported before `run`, so that ``convcore --help`` is quick.

Exit codes: 0 done, 1 an error (or what the verb's help says), 2 a wrong command line, 130 ended by
Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import convcore
from convcore.cli import (
    bench,
    check,
    explain,
    filter,
    info,
    insight,
    lab,
    predict,
    summary,
    test,
    time,
    train,
    tune,
)
from convcore.cli._parser import Args, Parser, UsageError, nearest
from convcore.cli._result import Interrupted, Result, describe, to_json

_VERBS = (
    train, test, predict, insight, summary, explain, check, lab, time, tune, bench, filter, info,
)  # fmt: skip

_EXAMPLES = """\
examples:
  convcore train lenet5                       train on the digits that come with the package
  convcore test lenet5.safetensors            accuracy on the test images
  convcore predict lenet5.safetensors a.png   which digit is it?
  convcore insight gradcam lenet5.safetensors a.png -o cam.png
                                              where does it look?
  convcore summary lenet5                     the layers
  convcore explain lenet5                     the same with the arithmetic written out
  convcore check layers.py                    what is wrong with a student's layers
  convcore time lenet5                        how long each layer takes
  convcore tune lenet5 --output lenet5.json   the fastest algorithms on this machine
  convcore bench                              the layers of known networks, beside torch
  convcore bench --train                      whole networks, beside torch
  convcore filter sharpen photo.png           a kernel of the lectures on a picture
  convcore lab fashion                        an experiment of the lectures, with a report
  convcore info                               what this installation uses

convcore VERB --help says more. Every verb has --json: one JSON document on stdout.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The command line without the program's name; by default that of the process.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    SystemExit
        From argparse: after ``--help`` and for a wrong command line.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    command = "convcore"
    try:
        args = _parse(argv)
        command += f" {args.verb}"
        result: Result = args.run(args)
        # A verb whose --json takes a file's name has written that file: the text is for stdout.
        text = to_json(result.document) if args.json is True else result.text
        if text:
            print(text, flush=True)
        for error in result.errors:
            _print_error(command, error)
        return 1 if result.errors else result.code
    except KeyboardInterrupt as interrupt:
        message = "interrupted"
        if isinstance(interrupt, Interrupted):
            message += f"; {interrupt}"
            if args.json is True:
                print(to_json(interrupt.document), flush=True)
        print(f"{command}: {message}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has gone: nothing to say, and no one to hear
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("CONVCORE_TRACEBACK") == "1":
            raise
        _print_error(command, error)
        return 2 if isinstance(error, UsageError) else 1


def _print_error(command: str, error: Exception) -> None:
    print(f"{command}: error: {describe(error)}", file=sys.stderr)


def _parse(argv: list[str]) -> Args:
    parser = Parser(
        prog="convcore",
        description="Small, fast, readable convolutional networks.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"convcore {convcore.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    for verb in _VERBS:
        verb.add_parser(verbs)
    if not argv:
        parser.exit(2, parser.format_help())
    words = [word for word in argv if not word.startswith("-")]
    if words and words[0] not in verbs.choices:
        parser.error(f"{words[0]!r} is no verb: {nearest(words[0], verbs.choices)}")
    if words[:1] == ["insight"]:
        insight.expect_known(verbs.choices["insight"], words[1:])
    return parser.parse_args(argv)

"""``convcore lab``: the experiments of the lectures, with the outcome that is expected."""

from __future__ import annotations

from pathlib import Path

from convcore.cli._parser import (
    Args,
    UsageError,
    Verbs,
    add_threads_option,
    add_verb,
    integer,
    use_threads,
)
from convcore.cli._result import Result, facts

_EPILOG = """\
Each lab trains from a seed, compares its numbers with the bands that were measured beforehand, says
whether they are inside and what that teaches, and writes a report with pictures: one HTML file (the
pictures need matplotlib: pip install 'convcore[plot]'). The exit code does not depend on the bands.

examples:
  convcore lab --list
  convcore lab fashion
  convcore lab fashion --quick                on the embedded digits, in seconds
  convcore lab depth --data-dir ~/data --output depth.html
  convcore lab shift --seed 1 --json
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    parser = add_verb(verbs, run, "lab", "run an experiment of the lectures", _EPILOG)
    parser.add_argument("name", metavar="NAME", nargs="?", help="as in --list")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--quick", action="store_true", help="on the embedded digits, in seconds")
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder with the data set's files (default: $CONVCORE_DATA, then the cache folder, "
        "into which missing files are downloaded; with --data-dir there is no download)",
    )
    parser.add_argument(
        "--seed", type=integer(0), default=0, metavar="N", help="of the random numbers (default 0)"
    )
    parser.add_argument(
        "--epochs", type=integer(1), metavar="N", help="default: those of the bands"
    )
    add_threads_option(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="of the report (default lab-NAME.html)"
    )
    parser.add_argument("--no-report", action="store_true", help="write no report")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(args: Args) -> Result:
    """Run the experiment, write the report."""
    from convcore import lab
    from convcore.cli._files import expect_writable
    from convcore.cli._parser import nearest
    from convcore.serialization import write_atomically

    if args.list:
        rows = [(name, lab.describe(name)) for name in lab.names()]
        document = {"labs": [{"name": n, "title": d.title, "claim": d.claim} for n, d in rows]}
        return Result(document, facts((name, found.title) for name, found in rows))
    if args.name is None:
        raise UsageError(f"NAME is missing: {nearest('', lab.names())}")
    if args.name not in lab.names():
        raise UsageError(f"{args.name!r} is no lab: {nearest(args.name, lab.names())}")
    if args.no_report and args.output is not None:
        raise UsageError("--no-report does not fit --output: expected one of them")
    output = (
        None
        if args.no_report
        else Path(f"lab-{args.name}.html" if args.output is None else args.output)
    )
    if output is not None:  # before the minutes of training
        expect_writable(output)
    use_threads(args)
    result = lab.run(
        args.name,
        quick=args.quick,
        data_dir=args.data_dir,
        seed=args.seed,
        epochs=args.epochs,
        verbose=0 if args.quiet else 1,
    )
    text = str(result)
    if output is not None:
        write_atomically(output, result.to_html().encode())
        text += f"\n\nreport: {output}"
    report = None if output is None else str(output)
    return Result({**result.to_dict(), "report": report}, text)

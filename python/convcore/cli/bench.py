"""``convcore bench``: the layers of known networks, beside torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convcore.cli._parser import (
    Args,
    UsageError,
    Verbs,
    add_threads_option,
    add_verb,
    integer,
    nearest,
    real,
)
from convcore.cli._result import Document, Result, table, to_json

if TYPE_CHECKING:
    from convcore.bench.compare import Comparison

_EPILOG = """\
Both sides compute the same numbers, each in a process of its own, in turns. A round's figure is the
median of its calls; the table shows the median of the rounds. The ratio is that of torch's faster
memory format to convcore: above 1, convcore is faster. Without torch, convcore is measured alone.
The exit code is 1 when --compare finds a row that has become slower beyond the spread.

examples:
  convcore bench
  convcore bench --op conv --json today.json
  convcore bench --case lenet5_conv1 lenet5_conv2 --threads 2 --rounds 15
  convcore bench --compare yesterday.json
  convcore bench --plot roofline.png
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    from convcore.bench.cases import OPS

    parser = add_verb(
        verbs,
        run,
        "bench",
        "measure layers of known networks, beside torch when it is installed",
        _EPILOG,
        json_file=True,
    )
    parser.add_argument("--op", choices=OPS, nargs="+", help="only these (default: all)")
    parser.add_argument("--case", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--list", action="store_true", help="list the cases and measure nothing")
    parser.add_argument(
        "--caches", choices=("warm", "cold", "both"), default="both", help="default: both"
    )
    add_threads_option(parser)
    parser.add_argument("--rounds", type=integer(1), default=7, metavar="N", help="default: 7")
    parser.add_argument(
        "--seconds", type=real(1e-3), default=0.05, metavar="S", help="of a round (default: 0.05)"
    )
    parser.add_argument(
        "--torch",
        action=argparse.BooleanOptionalAction,
        help="measure torch as well (default: when it is installed)",
    )
    parser.add_argument("--compare", metavar="FILE", help="compare with the --json FILE of a run")
    parser.add_argument("--plot", metavar="FILE", help="draw the roofline into this picture")


def run(args: Args) -> Result:
    """Measure, and say what came out."""
    from convcore.bench import compare, report
    from convcore.bench.run import CACHES, has_torch, measure

    names = _names(args)
    if args.list:
        return _list(names)
    if args.torch and not has_torch():
        raise UsageError("--torch needs torch, which is not installed")
    old = compare.read(args.compare) if args.compare else None  # before the minutes of measuring
    if args.plot:
        _expect_matplotlib()
    measured = measure(
        names,
        threads=args.threads,
        rounds=args.rounds,
        seconds=args.seconds,
        caches=CACHES if args.caches == "both" else (args.caches,),
        with_torch=args.torch,
        progress=_progress if sys.stderr.isatty() else None,
    )
    document: Document = {"command": _command(), **report.complete(measured)}
    if isinstance(args.json, str):
        Path(args.json).write_text(to_json(document) + "\n", "utf-8")
    if args.plot:
        from convcore.bench.plot import roofline

        roofline(document, args.plot)
    text = [table(report.head(document), report.lines(document)), *report.closing(document)]
    if old is None:
        return Result(document, "\n".join(text))
    rows = compare.compare(old, document)
    document["compared"] = [row._asdict() | {"ratio": row.ratio._asdict()} for row in rows]
    text += ["", *_comparison(rows, compare.differences(old, document), args.compare)]
    return Result(document, "\n".join(text), code=int(any(row.slower for row in rows)))


def _names(args: Args) -> list[str]:
    from convcore.bench import cases

    of_ops = cases.names(args.op or cases.OPS)
    for name in args.case or ():
        if name not in of_ops:
            raise UsageError(f"{name!r} is no case{_of(args.op)}: {nearest(name, of_ops)}")
    return args.case or of_ops


def _of(ops: list[str] | None) -> str:
    return f" of {', '.join(ops)}" if ops else ""


def _list(names: list[str]) -> Result:
    from convcore.bench import cases

    found = [(name, *cases.find(name)) for name in names]
    document = {"cases": [{"op": op, "case": name, **case._asdict()} for name, op, case in found]}
    lines = [
        (name, op, ", ".join(f"{k} {v}" for k, v in case._asdict().items()))
        for name, op, case in found
    ]
    return Result(document, "\n".join("  ".join(line) for line in lines))


def _expect_matplotlib() -> None:
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install 'convcore[plot]'")


def _progress(name: str, number: int, count: int) -> None:
    end = "\n" if number + 1 == count else ""
    print(f"\r\033[K[{number + 1}/{count}] {name}", end=end, file=sys.stderr, flush=True)


def _command() -> str:
    return " ".join(["convcore", *sys.argv[1:]])


def _comparison(rows: list[Comparison], differences: list[str], path: str) -> list[str]:
    lines = [
        (
            row.case,
            row.which,
            row.caches,
            f"{row.ratio.median:.2f}",
            f"{row.ratio.low:.2f} .. {row.ratio.high:.2f}",
            "slower" if row.slower else "",
        )
        for row in rows
    ]
    head = ("case", "pass", "caches", "speed", "spread", "")
    slower = sum(row.slower for row in rows)
    return [
        f"against {path} (above 1: faster than then)",
        table(head, lines),
        *(f"not the same: {difference}" for difference in differences),
        f"{slower} of {len(rows)} rows are slower beyond the spread",
    ]

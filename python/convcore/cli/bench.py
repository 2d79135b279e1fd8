"""``convcore bench``: the layers of known networks, or whole networks, beside torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from convcore.cli import _bench_networks
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
median of its calls, or the mean of its epochs; the table shows the median of the rounds. The ratio
is that of torch's fastest way to convcore: above 1, convcore is faster. Without torch, convcore is
measured alone. The exit code is 1 when --compare finds a row that has become slower beyond the
spread.

examples:
  convcore bench
  convcore bench --op conv --json today.json
  convcore bench --case lenet5_conv1 lenet5_conv2 --threads 2 --rounds 15
  convcore bench --compare yesterday.json
  convcore bench --plot roofline.png
  convcore bench --train --json train.json --plot train.png
  convcore bench --train --networks lenet5 --batch 1 8 64 512 --task train --no-compile
  convcore bench --scaling --plot scaling.png
"""

#: The options that belong to some kinds of run only.
_ONLY = {
    "op": ("layers",),
    "case": ("layers",),
    "list": ("layers",),
    "caches": ("layers",),
    "networks": ("--train",),
    "task": ("--train",),
    "batch": ("--train",),
    "compile": ("--train",),
    "torch": ("layers", "--train"),
    "busy": ("--train", "--scaling"),
}


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    from convcore.bench.cases import OPS

    parser = add_verb(
        verbs,
        run,
        "bench",
        "measure layers or whole networks, beside torch when it is installed",
        _EPILOG,
        json_file=True,
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--train", action="store_true", help="whole networks: training, inference, memory"
    )
    kinds.add_argument(
        "--scaling",
        action="store_true",
        help="how the cost of a training grows with batch and depth (convcore alone)",
    )
    add_threads_option(parser)
    parser.add_argument("--rounds", type=integer(1), default=7, metavar="N", help="default: 7")
    parser.add_argument(
        "--seconds",
        type=real(1e-3),
        metavar="S",
        help="of a round (default: 0.05; of networks 0.5)",
    )
    parser.add_argument(
        "--torch",
        action=argparse.BooleanOptionalAction,
        help="measure torch as well (default: when it is installed)",
    )
    parser.add_argument("--compare", metavar="FILE", help="compare with the --json FILE of a run")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the roofline, or the networks, into this picture"
    )
    layers = parser.add_argument_group("layers")
    layers.add_argument("--op", choices=OPS, nargs="+", help="only these (default: all)")
    layers.add_argument("--case", nargs="+", metavar="NAME", help="only these (default: all)")
    layers.add_argument(
        "--list", action="store_true", default=None, help="list the cases and measure nothing"
    )
    layers.add_argument("--caches", choices=("warm", "cold", "both"), help="default: both")
    networks = parser.add_argument_group("whole networks")
    networks.add_argument(
        "--networks", nargs="+", metavar="NAME", help="lenet5, resnet20, vgg, odd, fashion, ..."
    )
    networks.add_argument(
        "--task", choices=("train", "predict", "memory"), nargs="+", help="default: all"
    )
    networks.add_argument(
        "--batch", type=integer(1), nargs="+", metavar="N", help="default: chosen per network"
    )
    networks.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="measure torch.compile as well (the default; it compiles for a while)",
    )
    networks.add_argument(
        "--busy", type=integer(0), metavar="N", help="beside N busy processes (default: 0)"
    )


def run(args: Args) -> Result:
    """Measure, and say what came out."""
    from convcore.bench import compare
    from convcore.bench.run import has_torch

    kind = "--train" if args.train else "--scaling" if args.scaling else "layers"
    _expect_options_of(kind, args)
    names = _names(args)
    if args.list:
        return _list(names)
    if args.torch and not has_torch():
        raise UsageError("--torch needs torch, which is not installed")
    old = compare.read(args.compare) if args.compare else None  # before the minutes of measuring
    if args.plot:
        _expect_matplotlib()
    progress = _progress if sys.stderr.isatty() else None
    if kind == "--train":
        measured, text = _bench_networks.train(args, progress)
    elif kind == "--scaling":
        measured, text = _bench_networks.scaling(args)
    else:
        measured, text = _measure_layers(args, names, progress)
    document: Document = {"command": _command(), **measured}
    if isinstance(args.json, str):
        Path(args.json).write_text(to_json(document) + "\n", "utf-8")
    if args.plot:
        _draw(kind, document, args.plot)
    if old is None:
        return Result(document, "\n".join(text))
    rows = compare.compare(old, document)
    document["compared"] = [row._asdict() | {"ratio": row.ratio._asdict()} for row in rows]
    text += ["", *_comparison(rows, compare.differences(old, document), args.compare)]
    return Result(document, "\n".join(text), code=int(any(row.slower for row in rows)))


def _expect_options_of(kind: str, args: Args) -> None:
    for name, kinds in _ONLY.items():
        if kind not in kinds and getattr(args, name) is not None:
            option = f"--{'' if getattr(args, name) is not False else 'no-'}{name}"
            raise UsageError(f"{option} is for {' and '.join(kinds)}, not for {kind}")


def _measure_layers(
    args: Args, names: list[str], progress: Callable[[str, int, int], None] | None
) -> tuple[Document, list[str]]:
    from convcore.bench import report
    from convcore.bench.run import CACHES, measure

    measured = measure(
        names,
        threads=args.threads,
        rounds=args.rounds,
        seconds=args.seconds or 0.05,
        caches=(args.caches,) if args.caches in CACHES else CACHES,
        with_torch=args.torch,
        progress=progress,
    )
    lines = [table(report.head(measured), report.lines(measured)), *report.closing(measured)]
    return report.complete(measured), lines


def _draw(kind: str, document: Document, path: str) -> None:
    from convcore.bench import plot

    draw = {"layers": plot.roofline, "--train": plot.networks, "--scaling": plot.scaling}
    draw[kind](document, path)


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
            row.setting,
            f"{row.ratio.median:.2f}",
            f"{row.ratio.low:.2f} .. {row.ratio.high:.2f}",
            "slower" if row.slower else "",
        )
        for row in rows
    ]
    head = ("case", "pass", "setting", "speed", "spread", "")
    slower = sum(row.slower for row in rows)
    return [
        f"against {path} (above 1: faster than then)",
        table(head, lines),
        *(f"not the same: {difference}" for difference in differences),
        f"{slower} of {len(rows)} rows are slower beyond the spread",
    ]

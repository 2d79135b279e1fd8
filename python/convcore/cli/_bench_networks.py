"""``convcore bench --train`` and ``--scaling``: whole networks."""

from __future__ import annotations

from collections.abc import Callable

from convcore.cli._parser import Args, UsageError, nearest
from convcore.cli._result import Document, table

Measured = tuple[Document, list[str]]


def train(args: Args, progress: Callable[[str, int, int], None] | None) -> Measured:
    """Measure networks beside torch; return the document and the text's lines."""
    from convcore.bench import network_report as report
    from convcore.bench.network_run import cells, measure
    from convcore.bench.networks import NETWORKS, TASKS, USUAL

    for name in args.networks or ():
        if name not in NETWORKS:
            raise UsageError(f"{name!r} is no network: {nearest(name, NETWORKS)}")
    chosen = cells(args.networks or USUAL, args.task or TASKS, args.batch)
    if not chosen:
        raise UsageError("nothing to measure: the memory is measured of resnet20 only")
    document = report.complete(
        measure(
            chosen,
            threads=args.threads,
            rounds=args.rounds,
            seconds=args.seconds or 0.5,
            with_torch=args.torch,
            compiled=args.compile is not False,
            busy=args.busy or 0,
            progress=progress,
        )
    )
    lines = [table(report.head(document), report.lines(document))] if document["rows"] else []
    return document, lines + report.closing(document)


def scaling(args: Args) -> Measured:
    """Measure how the cost grows; return the document and the text's lines."""
    from convcore.bench import network_report as report
    from convcore.bench.network_run import measure_scaling

    document = report.complete(
        measure_scaling(
            threads=args.threads,
            rounds=args.rounds,
            seconds=args.seconds or 0.5,
            busy=args.busy or 0,
        )
    )
    lines: list[str] = []
    for name in document["scaling"]:
        found = table(report.scaling_head(), report.scaling_lines(document, name))
        lines += [found, report.worst(document, name), ""]
    return document, lines + report.closing(document)

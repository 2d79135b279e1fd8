"""Tables of text, for terminals."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Collection[int] = (0,),
    closing: Iterable[Sequence[str]] = (),
) -> str:
    """Return a table; the columns `left` are aligned to the left, the others to the right.

    The rows of `closing` stand below a second rule.
    """
    body, end = list(rows), list(closing)
    lines = [head, *body, *end]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(aligned).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    below = [rule, *map(line, end)] if end else []
    return "\n".join([line(head), rule, *map(line, body), *below])

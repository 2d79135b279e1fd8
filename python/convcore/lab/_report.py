"""A result as text for the terminal, and as one HTML page."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from typing import TYPE_CHECKING

import convcore
from convcore._table import table

if TYPE_CHECKING:
    from convcore.lab._frame import Result

_STYLE = """\
body { font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: left }
img { max-width: 100%; height: auto }
figure { margin: 1.5rem 0 } figcaption { color: #555 }
.verdict { padding: .8rem 1rem; border-left: .4rem solid #999; background: #f4f4f4 }
.inside { border-color: #0072B2 } .outside { border-color: #D55E00 }
footer { margin-top: 3rem; color: #555; font-size: .85rem }
"""
_WORDS = {True: "inside", False: "OUTSIDE", None: "no band"}
_NUMBERS = ("number", "measured", "band", "", "when the band was set (seeds 0, 1, ...)")


def to_text(result: Result) -> str:
    """Return the numbers and the verdict."""
    rows = [
        (number.what, number.shown(number.value), number.band, _WORDS[number.inside])
        for number in result.numbers
    ]
    parts = [f"{result.lab.title}\n{_setting(result)}"]
    parts.append(table(("number", "measured", "band", ""), rows, left=(0, 2, 3)))
    parts += [f"{extra.title}\n{table(extra.head, extra.rows)}" for extra in result.tables]
    parts.append(f"{result.verdict}: {result.teaching}")
    if result.full_run:
        parts.append(f"{_full_run(result)}\n{result.full_run}")
    if result.missing:
        parts.append(result.missing)
    return "\n\n".join(parts)


def to_html(result: Result) -> str:
    """Return the page, with the pictures in it."""
    lab = result.lab
    numbers = [
        (
            number.what,
            number.shown(number.value),
            number.band,
            _WORDS[number.inside],
            number.measured or "-",
        )
        for number in result.numbers
    ]
    kind = result.verdict if result.verdict in ("inside", "outside") else ""
    body = [
        f"<h1>{html.escape(lab.title)}</h1>",
        f"<p><strong>The lecture.</strong> {html.escape(lab.claim)}</p>",
        f"<p><strong>The experiment.</strong> {html.escape(lab.how)}</p>",
        f'<p class="verdict {kind}"><strong>{html.escape(result.verdict)}.</strong> '
        f"{html.escape(result.teaching)}</p>",
    ]
    if result.full_run:
        title = html.escape(_full_run(result))
        body.append(f"<h2>{title}</h2>\n<p>{html.escape(result.full_run)}</p>")
    body += [
        "<h2>Numbers</h2>",
        _table(_NUMBERS, numbers),
    ]
    for extra in result.tables:
        body += [f"<h2>{html.escape(extra.title)}</h2>", _table(extra.head, extra.rows)]
    for picture in result.pictures:
        source = base64.b64encode(picture.png).decode("ascii")
        body.append(
            f"<h2>{html.escape(picture.title)}</h2>\n<figure>"
            f'<img alt="{html.escape(picture.title)}" src="data:image/png;base64,{source}">'
            f"<figcaption>{html.escape(picture.caption)}</figcaption></figure>"
        )
    if result.missing:
        body.append(f"<p>{html.escape(result.missing)}</p>")
    command = f"convcore lab {result.name}" + " --quick" * bool(result.setting["quick"])
    command += f" --seed {result.setting['seed']} --epochs {result.setting['epochs']}"
    body.append(
        f"<footer><code>{html.escape(command)}</code><br>{html.escape(_setting(result))}; "
        f"convcore {convcore.__version__}</footer>"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<title>{html.escape(lab.title)}</title>\n<style>\n{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _full_run(result: Result) -> str:
    return f"What the full run shows ({result.lab.data}, epochs: {result.lab.epochs})"


def _setting(result: Result) -> str:
    setting = result.setting
    return (
        f"{setting['data']}{', quick' if setting['quick'] else ''}, seed {setting['seed']}, "
        f"epochs: {setting['epochs']}, threads: {setting['threads']}, {setting['seconds']:.1f} s"
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "\n".join(["<table>", line(head, "th"), *(line(row, "td") for row in rows), "</table>"])

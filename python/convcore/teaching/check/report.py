"""What `check` returns, and its text."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any

#: Lines of a file's own output that the text shows.
_PRINTED_LINES = 20


@dataclass(frozen=True)
class Check:
    """One output or gradient of a layer.

    Attributes
    ----------
    part : str
        ``"out"``, ``"dx"``, ...; ``"inputs"``: whether they are left alone; ``"cache"``: whether
        backward belongs to its own forward; ``"call"``: whether there are results at all.
    passed : bool
    calls, wrong : int
    message : str
        What is wrong, in one line.
    case : str
        Shapes and settings of the first wrong call.
    index : tuple of int or None
        The first wrong place, in the order of memory, of that call.
    expected, got : float or None
        What stands there.
    only_with : tuple of str
        What all wrong calls have and all right ones lack.
    cause : str
        The known mistake that gives these very numbers, ``""`` when none does.
    advice : str
    finite_differences : str
        For gradients: 'agree' or 'differ', with those of the student's own forward.
    """

    part: str
    passed: bool
    calls: int
    wrong: int = 0
    message: str = ""
    case: str = ""
    index: tuple[int, ...] | None = None
    expected: float | None = None
    got: float | None = None
    only_with: tuple[str, ...] = ()
    cause: str = ""
    advice: str = ""
    finite_differences: str = ""


@dataclass(frozen=True)
class LayerReport:
    """All checks of one layer.

    Attributes
    ----------
    layer : str
        The exercise: 'conv', 'max_pool', ...
    names : tuple of str
        The functions, or the class.
    checks : tuple of Check
    missing : tuple of str
        Functions that are not in the file, so that nothing is said about them.
    printed : str
        What the code printed.
    """

    layer: str
    names: tuple[str, ...]
    checks: tuple[Check, ...]
    missing: tuple[str, ...] = ()
    printed: str = ""

    @property
    def passed(self) -> bool:
        """Whether all checks did."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, repr=False)
class Report:
    """What is right and wrong in a file; ``str`` gives the text.

    Attributes
    ----------
    file : str
    layers : tuple of LayerReport
    error : str
        Why there is nothing to check: the file does not load, or has no known layer.
    printed : str
        What the file printed while it was loaded.
    """

    file: str
    layers: tuple[LayerReport, ...] = ()
    error: str = ""
    printed: str = ""
    required: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether everything is right."""
        return not self.error and not self.lacking and all(layer.passed for layer in self.layers)

    @property
    def lacking(self) -> tuple[str, ...]:
        """The required layers that are not there, or not whole."""
        whole = {layer.layer for layer in self.layers if not layer.missing}
        return tuple(name for name in self.required if name not in whole)

    @property
    def score(self) -> tuple[int, int]:
        """How many checks passed, out of how many; a required layer that is lacking counts as 1."""
        checks = [check for layer in self.layers for check in layer.checks]
        return sum(check.passed for check in checks), len(checks) + len(self.lacking)

    def to_dict(self) -> dict[str, Any]:
        """Return everything in forms that JSON knows."""
        passed, total = self.score
        return {
            "file": self.file,
            "passed": self.passed,
            "score": {"passed": passed, "total": total},
            "error": self.error or None,
            "lacking": list(self.lacking),
            "layers": [
                {
                    "layer": layer.layer,
                    "names": list(layer.names),
                    "passed": layer.passed,
                    "missing": list(layer.missing),
                    "checks": [asdict(check) for check in layer.checks],
                    "printed": layer.printed,
                }
                for layer in self.layers
            ],
            "printed": self.printed,
        }

    def __repr__(self) -> str:
        passed, total = self.score
        return f"Report({self.file!r}, {passed} of {total} checks passed)"

    def __str__(self) -> str:
        parts = [_layer_text(layer) for layer in self.layers]
        if self.printed:
            parts.insert(0, _printed("printed while it was loaded", self.printed))
        if self.lacking:
            parts.append(f"required, but not (wholly) there: {', '.join(self.lacking)}")
        if self.error:
            parts.append(f"error: {self.error}")
        else:
            passed, total = self.score
            whole = not any(layer.missing for layer in self.layers)
            what = "everything" if whole else "everything that is there"
            parts.append(
                f"{passed} of {total} checks passed" + (f": {what} is right" if self.passed else "")
            )
        return "\n\n".join(parts)


def _layer_text(layer: LayerReport) -> str:
    lines = [f"{layer.layer}: {', '.join(layer.names)}"]
    for check in layer.checks:
        lines += [f"  {line}" for line in _check_lines(check)]
    if layer.missing:
        lines.append(f"  not in the file: {', '.join(layer.missing)}")
    if layer.printed:
        lines.append(textwrap.indent(_printed("printed", layer.printed), "  "))
    return "\n".join(lines)


def _check_lines(check: Check) -> list[str]:
    if check.passed:
        note = f" ({check.message})" if check.message else ""
        return [f"ok     {check.part}{note}"]
    count = f" in {check.wrong} of {check.calls} calls" if check.calls > 1 else ""
    lines = [f"WRONG  {check.part}{count}: {check.message}"]
    detail: list[tuple[str, str]] = []
    if check.case:
        detail.append(("first", check.case))
    if check.only_with:
        detail.append(("only with", " and ".join(check.only_with)))
    if check.finite_differences:
        verdict = {"agree": "right there", "differ": "wrong"}[check.finite_differences]
        detail.append(("by finite differences", f"{verdict} (of your own forward, first call)"))
    if check.cause:
        detail.append(("likely", f"{check.cause}: {check.advice}"))
    for name, text in detail:
        wrapped = textwrap.wrap(text, 84)
        lines.append(f"         {name}: {wrapped[0]}")
        lines += [" " * 11 + line for line in wrapped[1:]]
    return lines


def _printed(title: str, text: str) -> str:
    lines = text.rstrip("\n").split("\n")
    if len(lines) > _PRINTED_LINES:
        lines[_PRINTED_LINES:] = [f"... and {len(lines) - _PRINTED_LINES} lines more"]
    return f"{title}:\n" + "\n".join(f"  | {line}" for line in lines)

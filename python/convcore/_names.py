"""The hint in the errors for unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'adam'?)"`` when a known name is near, else nothing."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.7)
    return f" (did you mean {near[0]!r}?)" if near else ""

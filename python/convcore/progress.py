"""Progress bars on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

#: Seconds between two updates of the numbers beside the bar.
INTERVAL = 0.1


class _Stderr:
    """sys.stderr until the first time it fails, silence from then on: no training ends for it."""

    def __init__(self) -> None:
        self._file: Any = sys.stderr  # None in a program without a console

    def write(self, text: str) -> None:
        self._try("write", text)

    def flush(self) -> None:
        self._try("flush")

    def isatty(self) -> bool:
        return bool(self._try("isatty"))

    def fileno(self) -> int:
        return int(self._file.fileno())  # tqdm, which asks for the width, is content with an error

    @property
    def encoding(self) -> Any:
        return getattr(self._file, "encoding", None)

    def _try(self, name: str, *arguments: Any) -> Any:
        if self._file is None:
            return None
        try:
            return getattr(self._file, name)(*arguments)
        except Exception:  # closed, a broken pipe, a full disk, a stream that somebody wrote
            self._file = None
            return None


class Progress:
    """One progress bar at a time on stderr, and a line that stays for each finished epoch.

    The bar shows on a terminal only; the lines always. Nothing at all when not `enabled`, or when
    stderr is missing or fails.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._stderr = _Stderr()
        self._bar: Any = None
        self._waiting = 0
        self._next_update = 0.0

    def start(self, title: str, images: int) -> None:
        """Show a new bar for `images` images."""
        if not self.enabled:
            return
        from tqdm import tqdm

        self.close()
        self._bar = tqdm(
            total=images,
            desc=title,
            unit=" images",
            unit_scale=True,
            file=self._stderr,
            disable=None,  # only on a terminal
            leave=False,
            dynamic_ncols=True,
        )
        self._waiting = 0
        self._next_update = 0.0

    def advance(self, images: int, logs: dict[str, float]) -> None:
        """Add finished images; the bar is drawn a few times a second only."""
        if self._bar is None:
            return
        self._waiting += images
        now = time.perf_counter()
        if now >= self._next_update:
            self._next_update = now + INTERVAL
            self._bar.set_postfix_str(numbers(logs), refresh=False)
            self._bar.update(self._waiting)
            self._waiting = 0

    def line(self, text: str) -> None:
        """Replace the bar by a line that stays."""
        if self.enabled:
            self.close()
            print(text, file=self._stderr, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def numbers(logs: dict[str, float]) -> str:
    """Return ``loss 0.1234  accuracy 0.9876``."""
    return "  ".join(f"{name} {value:.4f}" for name, value in logs.items())

"""A process for a student's file, with limits of time and memory.

This keeps accidents away from the one who checks: loops without an end, crashes, ``exit()``, pages
of output, all the memory. It is no protection against malice; for files of strangers use a
container besides.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt

from convcore.teaching.check._child import LOADED, decode, encode, read

Array = npt.NDArray[Any]

#: What is kept of the output of a file; the rest is counted.
PRINTED_LIMIT = 8_000


class Failed(Exception):
    """The student's code did not return anything.

    Attributes
    ----------
    kind : str
        'raised', 'unusable', 'time', 'memory', 'exit', 'crashed'.
    line : int or None
        Of the student's file.
    """

    def __init__(self, kind: str, message: str, line: int | None = None, code: str = "") -> None:
        where = f" (line {line}: {code})" if line is not None and code else ""
        super().__init__(message + where)
        self.kind = kind
        self.line = line


class _Output:
    """The beginning of what was printed, and how much it was."""

    def __init__(self) -> None:
        self.count = 0
        self._begin = b""

    def add(self, chunk: bytes) -> None:
        self.count += len(chunk)
        self._begin += chunk[: max(0, PRINTED_LIMIT - len(self._begin))]

    def text(self) -> str:
        left_out = self.count - len(self._begin)
        more = f"\n... and {left_out:,} bytes more" if left_out else ""
        return self._begin.decode(errors="replace") + more


class Sandbox:
    """Loads a file in a process of its own and calls its functions there.

    Parameters
    ----------
    path : Path
    time_limit : float
        Seconds for everything that is asked of this process.
    memory_limit : int
        Bytes of address space.
    """

    def __init__(self, path: Path, time_limit: float, memory_limit: int) -> None:
        self._time_limit = time_limit
        self._memory_limit = memory_limit
        self._closed = False
        self._loading = _Output()
        self._later = _Output()
        one_thread = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-u", _child_path(), str(path), str(memory_limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=path.parent,
            env={
                **os.environ,
                **one_thread,
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONHASHSEED": "0",
                "MPLBACKEND": "Agg",
            },
            start_new_session=True,
        )
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._collect_answers, daemon=True),
            threading.Thread(target=self._collect_output, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._deadline = time.monotonic() + time_limit

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and all that it started."""
        if self._closed:
            return
        self._closed = True
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:  # pragma: no cover (Windows)
            self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(timeout=5)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()

    def printed(self) -> tuple[str, str]:
        """Return what the file printed while it was loaded, and later; complete after `close`."""
        return self._loading.text(), self._later.text()

    def ask(
        self, do: str, arrays: list[Array], **request: Any
    ) -> tuple[dict[str, Any], list[Array]]:
        """Have something done there.

        Raises
        ------
        Failed
            When there is no result.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode({"do": do, **request}, arrays))
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None
        try:
            content = self._answers.get(timeout=max(0.0, self._deadline - time.monotonic()))
        except queue.Empty:
            self.close()
            message = f"did not finish within {self._time_limit:g} s (an endless loop?)"
            printed = self._loading.count + self._later.count
            if printed > PRINTED_LIMIT:
                message += f"; printed {printed:,} bytes meanwhile"
            raise Failed("time", message) from None
        if content is None:
            raise self._ended()
        try:
            meta, results = decode(content)
        except Exception:
            raise Failed("crashed", "wrote into the answers of the checker") from None
        if "problem" in meta:
            raise self._failure(meta)
        return meta, results

    def _failure(self, meta: dict[str, Any]) -> Failed:
        place = meta.get("line"), str(meta.get("code", ""))
        kind, message = str(meta["problem"]), str(meta.get("message", ""))
        if kind == "unusable":
            return Failed(kind, message)
        if kind == "exit":
            return Failed(kind, f"called exit({message})", *place)
        if kind == "memory":
            limit = f"the limit of {self._memory_limit >> 20} MB"
            return Failed(kind, f"needs more memory than {limit}: {message}".rstrip(": "), *place)
        return Failed(kind, f"raised {meta.get('type')}: {message}", *place)

    def _ended(self) -> Failed:
        """Return what ended the process."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        if code is None:
            return Failed("crashed", "closed the connection to the checker")
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            return Failed("crashed", f"crashed the Python process ({name})")
        return Failed("exit", f"ended the Python process (exit code {code})")

    def _collect_answers(self) -> None:
        stream: Any = self._process.stdout
        with contextlib.suppress(OSError, ValueError):
            while (content := read(stream)) is not None:
                self._answers.put(content)
        self._answers.put(None)

    def _collect_output(self) -> None:
        stream: Any = self._process.stderr
        output, rest = self._loading, b""
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(stream.fileno(), 1 << 16):
                rest += chunk
                before, mark, after = rest.partition(LOADED)
                if mark and output is self._loading:
                    output.add(before)
                    output, rest = self._later, after
                keep = len(LOADED) if output is self._loading else 0  # half a mark may be there
                output.add(rest[: max(0, len(rest) - keep)])
                rest = rest[max(0, len(rest) - keep) :]
        output.add(rest)


def _child_path() -> str:
    return str(Path(__file__).with_name("_child.py"))

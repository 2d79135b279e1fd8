"""Processes that take turns: each answers one line on its stdin with one line on its stdout.

What is compared runs in processes of its own, so that no library changes the threads, the memory or
the settings of the other; and in turns, so that all see the same machine. A worker that waits
sleeps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any


def serve(answer: Callable[[Any], Any]) -> None:
    """Answer requests until stdin ends; the body of a worker.

    Parameters
    ----------
    answer : callable
        Takes a request and returns the answer, both in forms that JSON knows.
    """
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # what a library prints goes to stderr, not between the answers
        print(json.dumps("ready"), file=out, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line))), file=out, flush=True)


class Worker(AbstractContextManager["Worker"]):
    """A process that runs `serve`.

    Parameters
    ----------
    name : str
        For the error messages.
    command : sequence of str
    environment : mapping, optional
        By default that of this process.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        # A session of its own: Ctrl-C reaches this process alone, which then closes the workers.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            start_new_session=True,
        )
        self._ready = False

    def wait_until_ready(self) -> None:
        """Wait until it serves."""
        if not self._ready:
            self._receive()
            self._ready = True

    def ask(self, request: Any) -> Any:
        """Send a request and return the answer.

        Raises
        ------
        RuntimeError
            When the process has ended; it has written the reason to stderr.
        """
        self.send(request)
        return self.receive()

    def send(self, request: Any) -> None:
        """Send a request and do not wait: several workers can get ready at the same time."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # receive says it
            print(json.dumps(request), file=self._process.stdin, flush=True)

    def receive(self) -> Any:
        """Return the answer to a request that was sent; raises as `ask`."""
        self.wait_until_ready()
        return self._receive()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the worker of {self.name} has ended with exit status {self._process.wait()}"
            )
        return json.loads(line)

    def close(self) -> None:
        """End the process; one that is in the middle of an answer is killed."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def __exit__(self, *exception: object) -> None:
        self.close()


def take_turns(workers: Mapping[str, tuple[Worker, Any]], rounds: int) -> dict[str, list[Any]]:
    """Ask each worker once per round, one after the other.

    Parameters
    ----------
    workers : mapping
        For each name a worker and what it is asked.
    rounds : int

    Returns
    -------
    dict
        For each name the answers, one per round.
    """
    answers: dict[str, list[Any]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, (worker, request) in workers.items():
            answers[name].append(worker.ask(request))
    return answers

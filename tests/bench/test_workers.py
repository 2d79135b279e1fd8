"""Workers: processes that answer in turns."""

from __future__ import annotations

import sys

import pytest

from convcore.bench.workers import Worker, take_turns

ECHO = """
import sys
from convcore.bench.workers import serve

def answer(request):
    print("noise of a library")
    if request == "fail":
        sys.exit(3)
    return [sys.argv[1], request]

serve(answer)
"""


def worker(name, program=ECHO):
    return Worker(name, [sys.executable, "-c", program, name])


def test_workers_answer_in_turns_and_noise_does_not_disturb():
    with worker("a") as a, worker("b") as b:
        answers = take_turns({"first": (a, 1), "second": (b, {"x": None})}, rounds=2)
    assert answers == {"first": [["a", 1]] * 2, "second": [["b", {"x": None}]] * 2}


def test_worker_that_ends_is_named():
    with (
        worker("torch") as w,
        pytest.raises(RuntimeError, match="torch has ended with exit status 3"),
    ):
        w.ask("fail")


def test_worker_that_does_not_start_is_named():
    with worker("torch", "raise SystemExit(5)") as w, pytest.raises(RuntimeError, match="status 5"):
        w.wait_until_ready()


def test_close_ends_a_worker_that_does_not_answer():
    with worker("stuck", "import time; time.sleep(600)") as w:
        pass
    assert w._process.returncode is not None

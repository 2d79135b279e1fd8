"""Measuring cases: convcore beside torch, in turns."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from convcore.bench import cases
from convcore.bench.machine import machine
from convcore.bench.workers import Worker, take_turns

Document = dict[str, Any]
Progress = Callable[[str, int, int], object]

OURS = "convcore"
LAYOUTS = {"contiguous": "torch NCHW", "channels_last": "torch NHWC"}
CACHES = ("warm", "cold")
PEAKS = ("fma", "fma_broadcast", "l2_read", "l2_copy", "memory_read", "memory_copy")
PEAK_TURNS = 6  # a ceiling is measured for that many turns

# Two sums of the same numbers in another order, and Winograd's rounding errors, are much nearer.
SAME = 1e-3


def commands(what: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the commands of the workers that serve "layers" or "networks": ours and torch's.

    torch is imported first, so that its OpenMP starts as if convcore were not there.
    """
    program = "from convcore.bench import {side}; {side}.serve_" + what + "()"
    return (
        (sys.executable, "-c", program.format(side="convcore_side")),
        (sys.executable, "-c", "import torch; " + program.format(side="torch_side")),
    )


def has_torch() -> bool:
    """Return whether torch is installed; it is not imported."""
    return importlib.util.find_spec("torch") is not None


def measure(
    names: Iterable[str],
    *,
    threads: int | None = None,
    rounds: int = 7,
    seconds: float = 0.05,
    caches: Iterable[str] = CACHES,
    with_torch: bool | None = None,
    progress: Progress | None = None,
) -> Document:
    """Measure cases, pass by pass.

    Parameters
    ----------
    names : iterable of str
        Of cases.
    threads : int, optional
        Of both sides; by default as many as convcore takes.
    rounds : int, default 7
        How often each side has its turn. A round gives one figure, the median of its calls.
    seconds : float, default 0.05
        Length of a turn.
    caches : iterable of str
        'warm': call after call; 'cold': the caches are overwritten before each call.
    with_torch : bool, optional
        By default, when torch is installed.
    progress : callable, optional
        Called with the name of a case, its number and the number of all, before it is measured.

    Returns
    -------
    dict
        ``machine``, ``threads``, ``rounds``, ``peaks`` (FLOP/s and bytes/s) and ``rows``: for each
        case, pass and state of the caches the seconds of each round of each side.
    """
    where = machine()  # now: later the load is our own
    chosen = [(name, *cases.find(name)) for name in names]
    if with_torch is None:
        with_torch = has_torch()
    our_command, torch_command = commands("layers")
    with ExitStack() as stack:
        ours = stack.enter_context(Worker(OURS, our_command, environment()))
        theirs = (
            stack.enter_context(Worker("torch", torch_command, environment()))
            if with_torch
            else None
        )
        threads = ours.ask({"do": "start", "threads": threads})["threads"]
        about = theirs.ask({"do": "start", "threads": threads}) if theirs else None
        peaks = {name: _peak(ours, name, PEAK_TURNS * seconds) for name in PEAKS}
        rows = []
        for number, (name, op, case) in enumerate(chosen):
            if progress is not None:
                progress(name, number, len(chosen))
            for which in case.passes:
                sides = _sides(ours, theirs, op, case, which)
                algorithm = _expect_same_results(name, which, sides)
                for state in caches:
                    turns = {
                        side: (worker, request | _timing(state, seconds))
                        for side, (worker, request) in sides.items()
                    }
                    answers = take_turns(turns, rounds)
                    cost = case.cost(which)
                    rows.append(
                        {
                            "op": op,
                            "case": name,
                            "pass": which,
                            "caches": state,
                            "algorithm": algorithm,
                            "flops": cost.flops,
                            "bytes": cost.bytes,
                            "seconds": {
                                side: [answer["seconds"] for answer in given]
                                for side, given in answers.items()
                            },
                        }
                    )
            # The machine may have been busy: a ceiling is the best of the whole run.
            peaks["fma"] = max(peaks["fma"], _peak(ours, "fma", seconds))
        for name in PEAKS:
            peaks[name] = max(peaks[name], _peak(ours, name, PEAK_TURNS * seconds))
    return {
        "machine": where | {"torch": about["version"] if about else None},
        "threads": threads,
        "rounds": rounds,
        "seconds_per_turn": seconds,
        "peaks": peaks,
        "rows": rows,
    }


def environment() -> dict[str, str]:
    """Return the environment of a worker: poisoned results would be timed."""
    return {name: value for name, value in os.environ.items() if name != "CONVCORE_POISON"}


def _peak(ours: Worker, name: str, seconds: float) -> float:
    return ours.ask({"do": "peak", "name": name, "seconds": seconds})  # type: ignore[no-any-return]


def _sides(
    ours: Worker, theirs: Worker | None, op: str, case: cases.Case, which: str
) -> dict[str, tuple[Worker, dict[str, Any]]]:
    """Return who is asked for what."""
    request = {"op": op, "fields": list(case), "which": which}
    sides = {OURS: (ours, request | {"layout": "contiguous"})}
    if theirs is not None:
        for layout, name in LAYOUTS.items():
            if op != "dense" or layout == "contiguous":  # a matrix has one layout
                sides[name] = (theirs, request | {"layout": layout})
    return sides


def _timing(state: str, seconds: float) -> dict[str, Any]:
    return {"do": "time", "seconds": seconds, "cold": state == "cold"}


def _expect_same_results(
    name: str, which: str, sides: dict[str, tuple[Worker, dict[str, Any]]]
) -> str | None:
    """Raise when the sides do not compute the same; finite and not zero they are (`sample`).

    Returns the algorithm that convcore takes, where it tells.
    """
    samples = {
        side: worker.ask(request | {"do": "sample"}) for side, (worker, request) in sides.items()
    }
    want = samples[OURS]
    for side, got in samples.items():
        pairs = zip(want["elements"], got["elements"], strict=True)
        worst = max(abs(a - b) for a, b in pairs)
        if not worst <= SAME * want["rms"]:
            raise RuntimeError(
                f"{name}, {which}: {OURS} and {side} compute different results: {worst:.3g} apart, "
                f"where the root of the mean square is {want['rms']:.3g}"
            )
    algorithm: str | None = want["algorithm"]
    return algorithm

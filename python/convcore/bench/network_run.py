"""Measuring networks: training steps, inference and memory, convcore beside torch, in turns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from convcore.bench.machine import machine
from convcore.bench.networks import NETWORKS, SCALING_BATCHES, SCALING_DEPTHS, TASKS
from convcore.bench.run import LAYOUTS, OURS, SAME, Progress, commands, environment, has_torch
from convcore.bench.workers import Worker, take_turns

Document = dict[str, Any]
Mode = dict[str, Any]

#: How each side runs; convcore has one way.
OUR_MODE: dict[str, Mode] = {OURS: {}}
TORCH_MODES: dict[str, Mode] = {
    name.replace("torch", f"torch {how}"): {"compile": how == "compile", "layout": layout}
    for how in ("eager", "compile")
    for layout, name in LAYOUTS.items()
}

#: How often the memory is measured, at most.
MEMORY_RUNS = 3

# Spins, until whoever started it is gone.
_BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""


class Cell(NamedTuple):
    """What is measured: a network, a task and a batch size."""

    network: str
    task: str
    batch: int


def cells(
    names: Iterable[str], tasks: Iterable[str] = TASKS, batches: Iterable[int] | None = None
) -> list[Cell]:
    """Return the cells of networks; `batches` stand in for a task's own ones, where it has any."""
    tasks = list(tasks)
    chosen = None if batches is None else list(batches)
    return [
        Cell(name, task, batch)
        for name in names
        for task in tasks
        if (own := NETWORKS[name].batches[task])
        for batch in (own if chosen is None else chosen)
    ]


def measure(
    chosen: Iterable[Cell],
    *,
    threads: int | None = None,
    rounds: int = 7,
    seconds: float = 0.5,
    with_torch: bool | None = None,
    compiled: bool = True,
    busy: int = 0,
    progress: Progress | None = None,
) -> Document:
    """Measure networks.

    Parameters
    ----------
    chosen : iterable of Cell
    threads : int, optional
        Of both sides; by default as many as convcore takes.
    rounds : int, default 7
        How often each side has its turn, after one turn that does not count.
    seconds : float, default 0.5
        Length of a turn, at least an epoch.
    with_torch : bool, optional
        By default, when torch is installed.
    compiled : bool, default True
        Measure ``torch.compile`` as well.
    busy : int, default 0
        How many other processes keep the machine busy meanwhile.
    progress : callable, optional
        Called with the name of a cell, its number and the number of all, before it is measured.

    Returns
    -------
    dict
        ``machine``, ``threads``, ``rounds``, ``busy``; ``rows``: for each network, task and batch
        the seconds per batch of each round of each side; ``memory``: the bytes of each run of each
        side.
    """
    where = machine()  # now: later the load is our own
    chosen = list(chosen)
    threads = _threads(threads)
    if with_torch is None:
        with_torch = has_torch()
    modes = OUR_MODE | (TORCH_MODES if with_torch else {})
    if not compiled:
        modes = {side: mode for side, mode in modes.items() if not mode.get("compile")}
    rows, memory = [], []
    version = None
    with keep_busy(busy):
        for number, cell in enumerate(chosen):
            if progress is not None:
                progress(_title(cell), number, len(chosen))
            # The memory is that of fresh processes: one run is one figure.
            runs = min(rounds, MEMORY_RUNS) if cell.task == "memory" else 1
            answers: dict[str, list[Any]] = {}
            for _ in range(runs):
                with ExitStack() as stack:
                    workers, about = _prepare(stack, cell, threads, _fitting(cell, modes))
                    version = about.get("version", version)
                    for side, given in _take_turns(cell, workers, rounds, seconds).items():
                        answers.setdefault(side, []).extend(given)
            if cell.task == "memory":
                memory.append({"case": cell.network, "batch": cell.batch, "bytes": answers})
            else:
                rows.append(_row(cell, answers))
    return {
        "machine": where | {"torch": version},
        "threads": threads,
        "rounds": rounds,
        "seconds_per_turn": seconds,
        "busy": busy,
        "rows": rows,
        "memory": memory,
    }


def measure_scaling(
    *,
    threads: int | None = None,
    rounds: int = 7,
    seconds: float = 0.5,
    busy: int = 0,
    batches: Iterable[int] = SCALING_BATCHES,
    depths: Iterable[int] = SCALING_DEPTHS,
) -> Document:
    """Measure how the cost of a training of convcore grows, all sizes in turns.

    Parameters
    ----------
    threads, rounds, seconds, busy
        As in `measure`.
    batches : iterable of int
        Of ResNet-20.
    depths : iterable of int
        Of ResNets at the smallest batch.

    Returns
    -------
    dict
        As `measure`, without ``memory``, and ``scaling``: the rows' places, by batch and by depth.
    """
    where = machine()
    batches, depths = sorted(batches), sorted(depths)
    threads = _threads(threads)
    by_batch = [Cell("resnet20", "train", batch) for batch in batches]
    by_depth = [Cell(f"resnet{depth}", "train", batches[0]) for depth in depths]
    every = list(dict.fromkeys(by_batch + by_depth))
    with keep_busy(busy), ExitStack() as stack:
        turns = {}
        for cell in every:
            workers, _ = _prepare(stack, cell, threads, OUR_MODE)
            turns[_title(cell)] = (workers[OURS], {"do": "train", "seconds": seconds})
        take_turns(turns, 1)
        answers = take_turns(turns, rounds)
    return {
        "machine": where | {"torch": None},
        "threads": threads,
        "rounds": rounds,
        "seconds_per_turn": seconds,
        "busy": busy,
        "rows": [_row(cell, {OURS: answers[_title(cell)]}) for cell in every],
        "scaling": {
            "batch": [every.index(cell) for cell in by_batch],
            "depth": [every.index(cell) for cell in by_depth],
        },
    }


@contextmanager
def keep_busy(count: int) -> Iterator[None]:
    """Let so many processes compute in vain."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", _BUSY]))
            stack.callback(process.kill)
        yield


def _take_turns(
    cell: Cell, workers: Mapping[str, Worker], rounds: int, seconds: float
) -> dict[str, list[Any]]:
    """Return what each side measured in each round; the memory is measured once."""
    turns = {side: (w, {"do": cell.task, "seconds": seconds}) for side, w in workers.items()}
    if cell.task == "memory":
        return take_turns(turns, 1)
    take_turns(turns, 1)  # warm up
    return take_turns(turns, rounds)


def _threads(threads: int | None) -> int:
    import convcore

    return convcore.num_threads() if threads is None else threads


def _title(cell: Cell) -> str:
    return f"{cell.network} {cell.task}, batch {cell.batch}"


def _fitting(cell: Cell, modes: Mapping[str, Mode]) -> Mapping[str, Mode]:
    """Return the modes of a task: what a compiler takes is not the memory of a training."""
    if cell.task != "memory":
        return modes
    return {side: mode for side, mode in modes.items() if not mode.get("compile")}


def _prepare(
    stack: ExitStack, cell: Cell, threads: int, modes: Mapping[str, Mode]
) -> tuple[dict[str, Worker], dict[str, Any]]:
    """Start the sides of a cell, all at the same time: some compile for a while.

    Returns the workers, and what the last of them told.
    """
    ours, theirs = commands("networks")
    workers = {}
    for side, mode in modes.items():
        command = ours if side == OURS else theirs
        workers[side] = stack.enter_context(Worker(side, command, environment()))
        request = {"name": cell.network, "task": cell.task, "batch": cell.batch}
        workers[side].send({"do": "prepare", **request, "threads": threads, "mode": mode})
    answers = {side: worker.receive() for side, worker in workers.items()}
    expect_same(_title(cell), {side: answer["check"] for side, answer in answers.items()})
    return workers, next(reversed(answers.values()))


def expect_same(title: str, checks: Mapping[str, list[float]]) -> None:
    """Raise when the sides do not compute the same: the first losses, or the first output."""
    want = checks[OURS]
    scale = max((abs(value) for value in want), default=0.0)
    for side, got in checks.items():
        if not all(abs(a - b) <= SAME * scale for a, b in zip(want, got, strict=True)):
            raise RuntimeError(
                f"{title}: {OURS} and {side} compute different results: {want} and {got}"
            )


def _row(cell: Cell, rates: Mapping[str, list[float]]) -> dict[str, Any]:
    return {
        "case": cell.network,
        "pass": cell.task,
        "batch": cell.batch,
        "seconds": {side: [cell.batch / r for r in given] for side, given in rates.items()},
    }

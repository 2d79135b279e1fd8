"""LeNet-5 training speed, convcore beside torch: images per second of whole training steps.

    python bench/train_lenet5.py [--batch 32 64 256] [--threads 2] [--rounds 7] [--json out.json]

Each side runs in a process of its own; the processes take turns, one round each, so that both see the same machine. A
round trains for about half a second on the same resident images: gather a shuffled batch, forward, loss, backward, SGD
with momentum. convcore goes through `model.fit`, which also counts the accuracy; torch runs a bare loop with its fused
optimiser, in every mode it has (eager and torch.compile, NCHW and channels_last), and is given its best one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

IMAGES = 4096
ROUND_SECONDS = 0.5
TORCH_MODES = ("eager", "eager channels_last", "compile", "compile channels_last")


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((IMAGES, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, IMAGES)


def convcore_epoch(batch: int, threads: int) -> Callable[[], None]:
    """Return a function that trains one epoch."""
    import convcore
    from convcore import models, optim

    convcore.set_num_threads(threads)
    x, y = data()
    model = models.lenet5()
    model.compile(
        optimizer=optim.SGD(model.parameters(), lr=0.01, momentum=0.9), loss="cross_entropy"
    )
    return lambda: model.fit(x, y, epochs=1, batch_size=batch, verbose=0)


def torch_epoch(batch: int, threads: int, mode: str) -> Callable[[], None]:
    """Return a function that trains one epoch."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    images, labels = data()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    if "channels_last" in mode:
        model, x = (a.to(memory_format=torch.channels_last) for a in (model, x))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    criterion = nn.CrossEntropyLoss()
    forward = torch.compile(model) if "compile" in mode else model

    def epoch() -> None:
        order = torch.randperm(IMAGES)
        for i in range(0, IMAGES, batch):
            index = order[i : i + batch]
            optimizer.zero_grad(set_to_none=True)
            criterion(forward(x[index]), y[index]).backward()
            optimizer.step()

    return epoch


def worker(side: str, batch: int, threads: int) -> None:
    """Answer each request with the images per second of one round."""
    if side == "convcore":
        epoch = convcore_epoch(batch, threads)
    else:
        epoch = torch_epoch(batch, threads, side)  # before anything of convcore is imported
    epoch()

    def train(request: object) -> float:
        start, images = time.perf_counter(), 0
        while time.perf_counter() - start < ROUND_SECONDS:
            epoch()
            images += IMAGES
        return images / (time.perf_counter() - start)

    from convcore.bench.workers import serve

    serve(train)


def compare(
    batch: int, threads: int, rounds: int, sides: tuple[str, ...]
) -> dict[str, list[float]]:
    """Let the sides take turns; return images per second of each round."""
    from convcore.bench.workers import Worker, take_turns

    settings = ["--batch", str(batch), "--threads", str(threads)]
    with ExitStack() as stack:
        workers = {
            side: stack.enter_context(
                Worker(side, [sys.executable, __file__, "--worker", side, *settings])
            )
            for side in sides
        }
        for started in workers.values():  # some compile first
            started.wait_until_ready()
        return take_turns({side: (started, None) for side, started in workers.items()}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 64, 256])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch-modes", nargs="*", default=list(TORCH_MODES))
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.batch[0], args.threads)
        return

    from convcore.bench.machine import machine

    report = {"command": " ".join(["python", *sys.argv]), "machine": machine(), "rows": []}
    print(
        f"LeNet-5 training, {args.threads} threads, images/s (median of {args.rounds} rounds, min .. max)"
    )
    for batch in args.batch:
        rates = compare(batch, args.threads, args.rounds, ("convcore", *args.torch_modes))
        medians = {side: statistics.median(r) for side, r in rates.items()}
        for side, r in rates.items():
            print(
                f"  batch {batch:4d}  {side:22s} {medians[side]:9.0f}  ({min(r):.0f} .. {max(r):.0f})"
            )
        best = max((m for m in medians if m != "convcore"), key=medians.get, default=None)
        if best:
            print(
                f"  batch {batch:4d}  convcore / torch's best ({best}): {medians['convcore'] / medians[best]:.2f}"
            )
        report["rows"].append(
            {"batch": batch, "threads": args.threads, "images_per_second": rates, "best": best}
        )
    if args.json:
        with open(args.json, "w") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()

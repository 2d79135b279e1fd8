"""The parts of gpu_suite.sh that train and time: python bench/gpu_suite.py PART --out FILE.

Everything is offline, on random images; figures are medians of epochs or calls, written as JSON
with where they come from. A part that compares (losses, determinism, nodes) exits with 1 when a
bound is broken. torch runs in processes of its own, one per way of running it, so that one that
fails leaves the others; what failed has its error in the place of figures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Document = dict[str, Any]

CLASSES = 10
NETWORKS = {"lenet5": (1, 28, 28), "resnet20": (3, 32, 32)}
PRECISIONS = ("fp32", "tf32x3", "tf32", "bf16")

# Of the mean over all steps of |loss on the GPU - loss on the CPU| / loss on the CPU. float32
# differs in the order of its sums alone; the others round the operands of products (docs/cuda.md),
# and a training carries each difference on. Set before any was measured: to be looked at then.
LOSS_BOUNDS = {"fp32": 0.01, "tf32x3": 0.01, "tf32": 0.05, "bf16": 0.15}
MOST_NODES = {"resnet20": 60}  # kernels of a training step

EPOCHS, WARM_UP_EPOCHS = 9, 2
SECONDS_PER_CELL = 0.3  # of a timed layer
FLOAT = 4


def about() -> Document:
    """Say where figures come from."""
    import convcore
    from convcore import cuda

    def said(*command: str) -> str:
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except OSError:
            return ""
        return result.stdout.strip()

    where: Document = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "convcore": convcore.__version__,
        "commit": said("git", "rev-parse", "HEAD"),
        "changed": bool(said("git", "status", "--porcelain", "--untracked-files=no")),
        "python": sys.version.split()[0],
        "plug-in": cuda.architectures(),
        "clocks": said("nvidia-smi", "--query-gpu=clocks.sm,clocks.mem,power.draw", "--format=csv"),
    }
    if cuda.is_available():
        where |= {"device": cuda.get_device_name(), **cuda.get_device_properties()._asdict()}
    return where


def write(path: str, document: Document) -> None:
    """Write a result, with where it comes from."""
    text = json.dumps({"about": about(), **document}, indent=1) + "\n"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    print(text)


# ---- the same network and data for every side


def images(name: str, count: int) -> tuple[Any, Any]:
    """Return images of ten classes that can be told apart, and their labels."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, CLASSES, count)
    shape = NETWORKS[name]
    means = rng.random((CLASSES, *shape), np.float32) - 0.5
    x = rng.random((count, *shape), np.float32)
    x -= 0.5
    x += means[labels]
    return x, labels


def our_network(name: str, precision: str, learning_rate: float = 0.02) -> Any:
    """Return a compiled network of convcore."""
    import convcore
    from convcore import optim
    from convcore.bench import convcore_side, networks

    convcore.manual_seed(0)
    model = convcore_side.network(networks.NETWORKS[name].build)
    optimizer = optim.SGD(model.parameters(), lr=learning_rate, momentum=networks.MOMENTUM)
    model.compile(optimizer=optimizer, loss="cross_entropy", precision=precision)
    return model


def losses_of(name: str, device: str, precision: str, steps: int, batch: int) -> list[float]:
    """Return the loss of each step of a training."""
    from convcore.callbacks import Callback

    class Losses(Callback):
        averages: list[float]

        def on_train_begin(self) -> None:
            self.averages = []

        def on_batch_end(self, batch: int, logs: dict[str, float]) -> None:
            self.averages.append(logs["loss"])  # of the epoch so far

    x, y = images(name, steps * batch)
    model, losses = our_network(name, precision), Losses()
    model.fit(x, y, batch_size=batch, verbose=0, device=device, callbacks=losses)
    sums = [average * (i + 1) for i, average in enumerate(losses.averages)]
    return [after - before for before, after in zip([0.0, *sums], sums, strict=False)]


# ---- parts that compare


def losses(args: argparse.Namespace) -> bool:
    """50 steps on the CPU and on the GPU in each precision."""
    rows, fine = [], True
    for name in NETWORKS:
        want = losses_of(name, "cpu", "fp32", args.steps, args.batch)
        row: Document = {"network": name, "batch": args.batch, "cpu": want, "cuda": {}, "error": {}}
        for precision in PRECISIONS:
            got = losses_of(name, args.device, precision, args.steps, args.batch)
            error = float(np.mean(np.abs(np.subtract(got, want)) / np.abs(want)))
            row["cuda"][precision], row["error"][precision] = got, error
            fine &= error <= LOSS_BOUNDS[precision] and got[-1] < got[0]
        rows.append(row)
    write(args.out, {"part": "losses", "bounds": LOSS_BOUNDS, "passed": fine, "rows": rows})
    return fine


def determinism(args: argparse.Namespace) -> bool:
    """Train twice from the same seed: the same bits in every parameter."""
    rows, fine = [], True
    for name in NETWORKS:
        x, y = images(name, args.steps * args.batch)
        for precision in PRECISIONS:
            states = []
            for _ in range(2):
                model = our_network(name, precision)
                model.fit(x, y, batch_size=args.batch, verbose=0, device=args.device)
                states.append(model.to("cpu").state_dict())
            first, second = states
            different = [k for k in first if first[k].tobytes() != second[k].tobytes()]
            finite = all(np.isfinite(value).all() for value in first.values())
            rows.append({"network": name, "precision": precision, "different": different})
            fine &= not different and finite
    write(args.out, {"part": "determinism", "passed": fine, "rows": rows})
    return fine


def nodes(args: argparse.Namespace) -> bool:
    """Count the kernels of a recorded training step."""
    rows, fine = [], True
    for name in NETWORKS:
        for precision in PRECISIONS:
            x, y = images(name, 2 * args.batch)
            model = our_network(name, precision)
            model.fit(x, y, batch_size=args.batch, verbose=0, device=args.device)
            count = model._planned.plan.kernel_nodes(args.batch, True)
            rows.append({"network": name, "precision": precision, "kernels": count})
            fine &= 0 < count <= MOST_NODES.get(name, count)
    write(args.out, {"part": "nodes", "bounds": MOST_NODES, "passed": fine, "rows": rows})
    return fine


def small(args: argparse.Namespace) -> bool:
    """Train on small batches in every way there is: what compute-sanitizer looks at."""
    from convcore import _plan

    for name in NETWORKS:
        for precision in PRECISIONS:
            for planned in (True, False) if precision == "fp32" else (True,):
                _plan.planning.enabled = planned
                got = losses_of(name, args.device, precision, 2, 3)
                print(name, precision, "planned" if planned else "layer by layer", got)
    return True


# ---- training, beside torch


def our_seconds(args: argparse.Namespace) -> list[float]:
    """Return the seconds of each epoch of convcore."""
    x, y = images(args.network, args.batch * args.steps)
    model = our_network(args.network, args.precision, learning_rate=1e-3)
    epochs = args.warm_up + args.epochs
    history = model.fit(x, y, epochs=epochs, batch_size=args.batch, verbose=0, device=args.device)
    return [float(s) for s in history.history["seconds"]]


def torch_seconds(args: argparse.Namespace, how: str, layout: str) -> list[float]:
    """Return the seconds of each epoch of torch, run in one of its ways."""
    import torch

    from convcore.bench import networks, torch_side

    torch.backends.cuda.matmul.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    torch.backends.cudnn.benchmark = True  # cuDNN may try what is fastest
    device = torch.device(args.device)
    model = torch_side.network(networks.NETWORKS[args.network].build).to(device)
    xs, ys = images(args.network, args.batch * args.steps)
    x, y = torch.from_numpy(xs).to(device), torch.from_numpy(ys).to(device)
    if layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=True)
    bf16 = args.precision == "bf16"

    def forward(x: Any, y: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return criterion(model(x), y)

    compiled = torch.compile(forward, mode="max-autotune") if how == "compile" else forward
    total = torch.zeros((), device=device)

    def step(index: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = compiled(x[index], y[index])
        loss.backward()
        optimizer.step()
        total.add_(loss.detach())

    if how == "graph":
        step = recorded(step, torch.arange(args.batch, device=device))

    def epoch() -> float:
        order = torch.randperm(len(x), device=device)
        total.zero_()
        start = time.perf_counter()
        for index in order.split(args.batch):
            step(index)
        if not np.isfinite(total.item()):  # waits, as convcore does at the end of an epoch
            raise RuntimeError("the loss is not finite")
        return time.perf_counter() - start

    return [epoch() for _ in range(args.warm_up + args.epochs)]


def recorded(step: Callable[[Any], None], index: Any) -> Callable[[Any], None]:
    """Return `step` as one CUDA graph that is run anew for each batch of indices."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(index)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(index)

    def run(now: Any) -> None:
        index.copy_(now)
        graph.replay()

    return run


WAYS = [
    (how, layout) for how in ("eager", "compile", "graph") for layout in ("plain", "channels_last")
]


def networks_part(args: argparse.Namespace) -> bool:
    """Time the training of a network; ours and torch's ways in turns."""
    if args.side:  # one of the processes that this starts
        how, _, layout = args.side.partition("+")
        seconds = our_seconds(args) if how == "convcore" else torch_seconds(args, how, layout)
        print(json.dumps(seconds))
        return True
    sides = ["convcore"] + [f"{how}+{layout}" for how, layout in WAYS]
    rows: Document = {}
    for turn in range(args.turns):
        for side in sides:
            if turn and "seconds" not in rows[side]:
                continue  # it failed before
            answer = side_of(args, side)
            rows.setdefault(side, {}).update({k: v for k, v in answer.items() if k != "seconds"})
            if "seconds" in answer:
                rows[side].setdefault("seconds", []).extend(answer["seconds"][args.warm_up :])
    count = args.batch * args.steps
    for row in rows.values():
        if "seconds" in row:
            row["images_per_second"] = count / statistics.median(row["seconds"])
    rates = {side: row.get("images_per_second") for side, row in rows.items()}
    theirs = [rate for side, rate in rates.items() if side != "convcore" and rate]
    ours = rates["convcore"]
    eager = [rates[side] for side in rates if side.startswith("eager") and rates[side]]
    summary = {
        "images_per_second": rates,
        "times_eager": ours / rates["eager+plain"] if ours and rates.get("eager+plain") else None,
        "times_best_eager": ours / max(eager) if ours and eager else None,
        "times_best": ours / max(theirs) if ours and theirs else None,
    }
    what = {key: getattr(args, key) for key in ("network", "batch", "precision", "steps")}
    write(args.out, {"part": "training", **what, "summary": summary, "rows": rows})
    return bool(ours)


def side_of(args: argparse.Namespace, side: str) -> Document:
    """Return what a process of one side answers, or its error."""
    command = [sys.executable, __file__, "training", "--side", side, "--out", "-"]
    for key in ("network", "batch", "precision", "steps", "epochs", "warm_up", "device"):
        command += [f"--{key.replace('_', '-')}", str(getattr(args, key))]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=args.limit)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {args.limit} s"}
    if result.returncode:
        return {"error": result.stderr[-2000:]}
    seconds: list[float] = json.loads(result.stdout.splitlines()[-1])
    return {"seconds": seconds}


# ---- layers, beside torch


def seconds_per_call(call: Callable[[], Any], wait: Callable[[], None], limit: float) -> float:
    """Return the median over rounds of the time of a call, with many calls under way at once."""
    call()
    wait()
    start = time.perf_counter()
    call()
    wait()
    calls = max(3, min(200, int(0.02 / max(time.perf_counter() - start, 1e-6))))
    rounds: list[float] = []
    stop = time.perf_counter() + limit
    while len(rounds) < 3 or time.perf_counter() < stop:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        rounds.append((time.perf_counter() - start) / calls)
    return statistics.median(rounds)


def conv_cases(batch: int) -> Iterator[tuple[str, Any]]:
    """Yield the convolutions of ResNet-20."""
    from convcore.bench import cases

    for name, case in cases.table()["conv"].items():
        if name.startswith("resnet20"):
            yield name, case._replace(batch=batch)


def our_layers(args: argparse.Namespace) -> Document:
    """Return the seconds of layers of convcore: arrays on the device, channels-last."""
    import convcore.functional as F
    from convcore import cuda, to_device

    rng = np.random.default_rng(1)

    def array(*shape: int) -> Any:
        values = rng.random(shape, np.float32) - 0.5
        if len(shape) == 4:
            values = F.channels_last(values)
        return to_device(values, args.device)

    def seconds(call: Callable[[], Any]) -> float:
        return seconds_per_call(call, cuda.synchronize, args.seconds)

    found: Document = {}
    for name, case in conv_cases(args.batch):
        x, w, dy = array(*case.x_shape), array(*case.w_shape), array(*case.y_shape)
        options = (case.stride, case.padding)

        def backward(dx: bool, dy: Any = dy, x: Any = x, w: Any = w, options: Any = options) -> Any:
            return F.conv2d_backward(
                dy, x, w, None, *options, need_dx=dx, need_dw=not dx, need_db=False
            )

        found[name] = {
            "forward": seconds(lambda x=x, w=w, o=options: F.conv2d(x, w, None, *o)),
            "backward_input": seconds(lambda b=backward: b(True)),
            "backward_weight": seconds(lambda b=backward: b(False)),
        }
    x, dy = array(args.batch, 64, 64, 64), array(args.batch, 64, 32, 32)
    found["max_pool 2x2"] = {
        "forward": seconds(lambda: F.max_pool2d(x, 2)),
        "backward": seconds(lambda: F.max_pool2d_backward(dy, x, 2)),
    }
    found["avg_pool 2x2"] = {
        "forward": seconds(lambda: F.avg_pool2d(x, 2)),
        "backward": seconds(lambda: F.avg_pool2d_backward(dy, x, 2)),
    }
    weight, bias, big = array(64), array(64), array(args.batch, 64, 64, 64)
    found["batch_norm"] = {
        "forward": seconds(lambda: F.batch_norm(x, None, None, weight, bias, training=True)),
        "backward": seconds(
            lambda: F.batch_norm_backward(big, x, None, None, weight, bias, training=True)
        ),
    }
    found["sgd momentum"] = {"step": seconds(our_sgd(args))}
    return found


def our_sgd(args: argparse.Namespace) -> Callable[[], None]:
    """Return a step of SGD with momentum for one large parameter."""
    from convcore import nn, optim, to_device

    parameter = nn.Parameter(np.zeros(sgd_elements(args), np.float32))
    parameter.data = to_device(parameter.data, args.device)
    parameter.grad = to_device(np.ones(sgd_elements(args), np.float32), args.device)
    return optim.SGD([parameter], lr=0.1, momentum=0.9).step


def sgd_elements(args: argparse.Namespace) -> int:
    """Return the size of the large parameter."""
    batch: int = args.batch
    return batch * 64 * 1024


def torch_layers(args: argparse.Namespace, layout: str) -> Document:
    """Return the seconds of the same layers of torch."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    aten = torch.ops.aten

    def array(*shape: int) -> Any:
        values = torch.rand(shape, device=args.device) - 0.5
        if len(shape) == 4 and layout == "channels_last":
            values = values.contiguous(memory_format=torch.channels_last)
        return values

    def seconds(call: Callable[[], Any]) -> float:
        return seconds_per_call(call, torch.cuda.synchronize, args.seconds)

    found: Document = {}
    with torch.inference_mode():
        for name, case in conv_cases(args.batch):
            x, w, dy = array(*case.x_shape), array(*case.w_shape), array(*case.y_shape)
            pair = ([case.stride] * 2, [case.padding] * 2, [1, 1])

            def backward(dx: bool, dy: Any = dy, x: Any = x, w: Any = w, pair: Any = pair) -> Any:
                wanted = [dx, not dx, False]
                return aten.convolution_backward(dy, x, w, None, *pair, False, [0, 0], 1, wanted)

            found[name] = {
                "forward": seconds(
                    lambda x=x, w=w, p=pair: torch.nn.functional.conv2d(x, w, None, *p)
                ),
                "backward_input": seconds(lambda b=backward: b(True)),
                "backward_weight": seconds(lambda b=backward: b(False)),
            }
        x, dy = array(args.batch, 64, 64, 64), array(args.batch, 64, 32, 32)
        window = ([2, 2], [2, 2], [0, 0])
        indices = aten.max_pool2d_with_indices(x, *window, [1, 1], False)[1]
        found["max_pool 2x2"] = {
            "forward": seconds(lambda: aten.max_pool2d_with_indices(x, *window, [1, 1], False)),
            "backward": seconds(
                lambda: aten.max_pool2d_with_indices_backward(
                    dy, x, *window, [1, 1], False, indices
                )
            ),
        }
        found["avg_pool 2x2"] = {
            "forward": seconds(lambda: aten.avg_pool2d(x, *window)),
            "backward": seconds(
                lambda: aten.avg_pool2d_backward(dy, x, *window, False, True, None)
            ),
        }
        weight, bias, big = array(64), array(64), array(args.batch, 64, 64, 64)

        def norm() -> Any:
            return aten.native_batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5)

        _, mean, rstd = norm()
        found["batch_norm"] = {
            "forward": seconds(norm),
            "backward": seconds(
                lambda: aten.native_batch_norm_backward(
                    big, x, weight, None, None, mean, rstd, True, 1e-5, [True, True, True]
                )
            ),
        }
    parameter = torch.zeros(sgd_elements(args), device=args.device, requires_grad=True)
    parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, fused=True)
    found["sgd momentum"] = {"step": seconds(optimizer.step)}
    return found


def costs(args: argparse.Namespace) -> Document:
    """Return the FLOPs and the least bytes of what `our_layers` times."""
    found: Document = {}
    for name, case in conv_cases(args.batch):
        found[name] = {which: case.cost(which)._asdict() for which in case.passes}
    image = args.batch * 64 * 64 * 64
    pooled = image // 4
    # A batch norm in training goes over its input twice: its sums must be known before its output.
    for name, passes in {
        "max_pool 2x2": {"forward": image + pooled, "backward": 2 * image + pooled},
        "avg_pool 2x2": {"forward": image + pooled, "backward": image + pooled},
        "batch_norm": {"forward": 3 * image, "backward": 5 * image},
        "sgd momentum": {"step": 5 * sgd_elements(args)},
    }.items():
        found[name] = {which: {"bytes": FLOAT * count} for which, count in passes.items()}
    return found


def layers(args: argparse.Namespace) -> bool:
    """Time layers at large sizes, and hold them against the ceilings."""
    if args.side:
        how, _, layout = args.side.partition("+")
        print(json.dumps(our_layers(args) if how == "convcore" else torch_layers(args, layout)))
        return True
    ceilings = json.loads(Path(args.ceilings).read_text()) if args.ceilings else {}
    answers: Document = {}
    for side in ("convcore", "torch+plain", "torch+channels_last"):
        command = [sys.executable, __file__, "layers", "--side", side, "--out", "-"]
        command += ["--batch", str(args.batch), "--device", args.device]
        command += ["--seconds", str(args.seconds)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            answers[side] = {"error": result.stderr[-2000:]}
        else:
            answers[side] = json.loads(result.stdout.splitlines()[-1])
    rows = []
    for name, passes in costs(args).items():
        for which, cost in passes.items():
            seconds = {
                side: found[name][which] for side, found in answers.items() if "error" not in found
            }
            row: Document = {"case": name, "pass": which, "seconds": seconds, **cost}
            if ours := seconds.get("convcore"):
                row["bytes_per_second"] = cost["bytes"] / ours
                if "flops" in cost:
                    row["flops_per_second"] = cost["flops"] / ours
                    if ceilings:
                        row["of_fma_peak"] = row["flops_per_second"] / ceilings["fma_flops"]
                if ceilings:
                    copy = ceilings["copy_bytes_per_second"]["2048 MiB"]
                    row["of_copy_bandwidth"] = row["bytes_per_second"] / copy
                theirs = [s for side, s in seconds.items() if side != "convcore"]
                row["times_torch"] = min(theirs) / ours if theirs else None
            rows.append(row)
    errors = {side: found["error"] for side, found in answers.items() if "error" in found}
    write(
        args.out,
        {"part": "layers", "batch": args.batch, "precision": "fp32", "ceilings": ceilings}
        | {"errors": errors, "rows": rows},
    )
    return "convcore" not in errors


PARTS = {
    "losses": losses,
    "determinism": determinism,
    "nodes": nodes,
    "small": small,
    "training": networks_part,
    "layers": layers,
}


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--out", required=True, help="the JSON file to write")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=50, help="batches of an epoch")
    parser.add_argument("--network", choices=NETWORKS, default="resnet20")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--warm-up", type=int, default=WARM_UP_EPOCHS)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--limit", type=float, default=180, help="seconds of one side's process")
    parser.add_argument("--seconds", type=float, default=SECONDS_PER_CELL)
    parser.add_argument("--ceilings", help="the JSON file of gpu_peak")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.exit(not PARTS[args.part](args))


if __name__ == "__main__":
    main()

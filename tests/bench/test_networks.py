"""Whole networks: the same ones on both sides, what is printed, never how fast anything is."""

from __future__ import annotations

import json
import re
import subprocess

import numpy as np
import pytest

from convcore import models, nn
from convcore.bench import convcore_side, network_report, networks
from convcore.bench.network_run import Cell, cells, expect_same, keep_busy
from convcore.bench.networks import NETWORKS, USUAL
from convcore.bench.timing import memory_growth
from convcore.cli import main

SIDES = {"convcore", "torch eager NCHW", "torch eager NHWC"}
SMALL = ("--rounds", "1", "--seconds", "0.001", "--threads", "1")


def run(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def parameters(model):
    return sum(p.data.size for p in model.parameters())


# ---- the networks --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_network_takes_its_images(name):
    chosen = NETWORKS[name]
    model = chosen.build(nn)
    assert model.predict(np.zeros((1, *chosen.input_shape), np.float32)).shape == (1, 10)
    assert chosen.batches.keys() == set(networks.TASKS)


def test_lenet5_is_that_of_the_package():
    assert repr(networks.lenet5(nn)) == repr(models.lenet5())


@pytest.mark.parametrize("depth", networks.SCALING_DEPTHS)
def test_resnet_is_that_of_the_package(depth):
    """The shapes of all parameters and buffers, in order; the names differ."""
    ours = networks.resnet(nn, depth).state_dict().values()
    theirs = models.create(f"resnet{depth}", shortcut="B").state_dict().values()
    assert [a.shape for a in ours] == [a.shape for a in theirs]


@pytest.mark.parametrize("name", USUAL)
def test_networks_run_as_a_plan(name):
    """What falls back to single layers would not show what fit can do."""
    chosen = NETWORKS[name]
    model = chosen.build(nn)
    model.compile(optimizer="sgd", loss="cross_entropy")
    assert model.plan(chosen.input_shape, batch_size=2)


@pytest.mark.torch
@pytest.mark.parametrize("name", USUAL)
def test_torch_has_the_same_network(torch, name):
    """The parameters by name, and loss and gradients of a batch."""
    from convcore.bench import torch_side

    chosen = NETWORKS[name]
    ours, theirs = convcore_side.network(chosen.build), torch_side.network(chosen.build)
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert parameters(ours) == sum(p.numel() for p in theirs.parameters())
    x, y = (a[:4] for a in networks.data(chosen, 4))
    criterion = nn.CrossEntropyLoss()
    loss = criterion(ours(x), y)
    ours.backward(criterion.backward(), need_dx=False)
    wanted = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), rel=1e-5)
    gradients = dict(theirs.named_parameters())
    for key, parameter in ours.named_parameters():
        want = gradients[key].grad.numpy()
        error = np.linalg.norm(parameter.grad - want)
        assert error <= 3e-2 * np.linalg.norm(want), key


@pytest.mark.torch
def test_torch_works_in_place(torch):
    """It takes less memory so; with its own copies torch would be an easier opponent."""
    from convcore.bench import torch_side

    model = torch_side.network(NETWORKS["resnet20"].build)
    relus = [module for module in model.modules() if isinstance(module, torch.nn.ReLU)]
    assert len(relus) == 19
    assert all(relu.inplace for relu in relus)


@pytest.mark.parametrize("batch", [1, 7, 64, 100_000])
def test_data_are_whole_batches(batch):
    chosen = NETWORKS["fashion"]._replace(input_shape=(1, 1, 1))
    x, y = networks.data(chosen, batch)
    assert len(x) == len(y) >= batch
    assert len(x) % batch == 0
    assert len(x) <= max(batch, chosen.images)
    again, _ = networks.data(chosen, batch)
    np.testing.assert_array_equal(x, again)


# ---- what is measured ----------------------------------------------------------------------------


def test_cells_are_those_of_the_network():
    assert cells(["lenet5"]) == [
        *(Cell("lenet5", "train", batch) for batch in (1, 32, 64, 256)),
        *(Cell("lenet5", "predict", batch) for batch in (1, 256)),
    ]
    assert Cell("resnet20", "memory", 128) in cells(["resnet20"])
    assert cells(["vgg", "resnet20"], ["train", "memory"], [3]) == [
        Cell("vgg", "train", 3), Cell("resnet20", "train", 3), Cell("resnet20", "memory", 3)
    ]  # fmt: skip


@pytest.mark.parametrize("other", [[2.3, 2.4], [2.3, float("nan")]])
def test_different_results_end_the_run(other):
    expect_same("lenet5", {"convcore": [2.3, 2.2], "torch": [2.3, 2.2001]})
    expect_same("lenet5", {"convcore": [], "torch": []})
    with pytest.raises(RuntimeError, match="lenet5: convcore and torch compute different results"):
        expect_same("lenet5", {"convcore": [2.3, 2.2], "torch": other})


def test_memory_growth_is_what_the_work_touches():
    size = 64 << 20
    found = memory_growth(lambda: np.ones(size, np.uint8))
    assert found == pytest.approx(size, rel=0.1)


def test_busy_processes_end(monkeypatch):
    started = []
    popen = subprocess.Popen

    def start(*arguments):
        started.append(popen(*arguments))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with keep_busy(2):
        assert [process.poll() for process in started] == [None, None]
    assert all(process.returncode is not None for process in started)


# ---- the commands --------------------------------------------------------------------------------


def test_train_alone_writes_json_and_prints_a_table(capsys, tmp_path):
    file = tmp_path / "out.json"
    options = ("--networks", "lenet5", "--batch", 2, 4, "--no-torch", "--busy", 1)
    code, out, err = run(capsys, "bench", "--train", *SMALL, *options, "--json", file)
    assert code == 0, err
    document = json.loads(file.read_text())
    assert (document["threads"], document["rounds"], document["busy"]) == (1, 1, 1)
    assert document["machine"]["torch"] is None
    assert [(r["case"], r["pass"], r["batch"]) for r in document["rows"]] == [
        ("lenet5", task, batch) for task in ("train", "predict") for batch in (2, 4)
    ]
    for row in document["rows"]:
        assert row["ratio"] is None
        (seconds,) = row["seconds"]["convcore"]
        rates = row["images_per_second"]["convcore"]
        assert rates["low"] == rates["median"] == rates["high"]
        assert rates["median"] == pytest.approx(row["batch"] / seconds)
    assert out.splitlines()[0].split() == [
        "network",
        "task",
        "batch",
        "images/s",
        "min",
        "..",
        "max",
    ]
    assert "torch was not measured" in out
    assert "beside 1 busy processes" in out


def test_train_measures_memory(capsys):
    options = ("--networks", "resnet20", "--task", "memory", "--batch", 2, "--no-torch")
    code, out, err = run(capsys, "bench", "--train", *SMALL, *options, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["rows"] == []
    (row,) = document["memory"]
    assert (row["case"], row["batch"], row["ratio"]) == ("resnet20", 2, None)
    (size,) = row["bytes"]["convcore"]
    assert size > 0


@pytest.mark.torch
def test_train_measures_torch_in_its_modes(torch, capsys):
    options = ("--networks", "lenet5", "--batch", 16, "--no-compile")
    code, out, err = run(capsys, "bench", "--train", *SMALL, *options, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["machine"]["torch"] == torch.__version__
    assert [row["pass"] for row in document["rows"]] == ["train", "predict"]
    for row in document["rows"]:
        assert row["seconds"].keys() == SIDES
        assert row["best_peer"] in SIDES - {"convcore"}
        assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]


@pytest.mark.torch
def test_train_measures_the_memory_of_torch_without_its_compiler(torch, capsys):
    options = ("--networks", "resnet20", "--batch", 2, "--task", "memory")
    code, out, err = run(capsys, "bench", "--train", *SMALL, *options, "--json")
    assert code == 0, err
    (row,) = json.loads(out)["memory"]
    assert row["bytes"].keys() == SIDES
    assert row["ratio"] > 0


def test_train_compares_with_a_file(capsys, tmp_path):
    file = tmp_path / "old.json"
    options = ("--train", "--networks", "lenet5", "--task", "train", "--batch", 2, "--no-torch")
    code, out, _ = run(capsys, "bench", *SMALL, *options, "--json")
    assert code == 0
    old = json.loads(out)
    old["rows"][0]["seconds"]["convcore"] = [1e-9] * 3
    file.write_text(json.dumps(old))
    code, out, _ = run(
        capsys, "bench", *SMALL, *options, "--rounds", 3, "--busy", 1, "--compare", file
    )
    assert code == 1
    assert re.search(r"^lenet5 +train +batch 2 .* slower$", out, re.MULTILINE)
    assert "not the same: busy: 0 then, 1 now" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train", "--networks", "lenet"], "'lenet' is no network: .*did you mean 'lenet5'"),
        (["--train", "--networks", "vgg", "--task", "memory"], "nothing to measure: "),
        (["--train", "--op", "conv"], "--op is for layers, not for --train"),
        (["--no-compile"], "--no-compile is for --train, not for layers"),
        (["--scaling", "--no-torch"], "--no-torch is for layers and --train, not for --scaling"),
        (["--busy", "1"], "--busy is for --train and --scaling, not for layers"),
    ],
)
def test_bench_refuses_what_does_not_fit(capsys, words, message):
    code, out, err = run(capsys, "bench", *words)
    assert (code, out) == (2, "")
    assert re.search(message, err), err


def test_train_with_torch_missing_says_so(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, err = run(capsys, "bench", "--train", "--torch")
    assert (code, out) == (2, "")
    assert "--torch needs torch, which is not installed" in err


# ---- what follows from the seconds, on made-up ones ----------------------------------------------

MACHINE = {
    "date": "2026-01-01T00:00:00+00:00", "cpu": "a CPU", "cpus": 2, "load": 0.0,
    "instruction_set": "avx2", "compiler": "GNU 12", "commit": None, "torch": "2.13.0",
}  # fmt: skip


def row(case, task, batch, ours, **peers):
    sides = {"convcore": ours} | {name.replace("_", " "): times for name, times in peers.items()}
    return {"case": case, "pass": task, "batch": batch, "seconds": sides}


def document(*rows, memory=(), **others):
    return {
        "machine": MACHINE, "threads": 2, "rounds": 3, "busy": 0, "rows": list(rows),
        "memory": list(memory), **others,
    }  # fmt: skip


def canned():
    mebibytes = {
        "convcore": [60, 59, 70], "torch eager NCHW": [150, 151, 90], "torch eager NHWC": [120] * 3
    }  # fmt: skip
    sizes = {side: [size << 20 for size in found] for side, found in mebibytes.items()}
    return document(
        row("lenet5", "train", 32, [0.001, 0.002, 0.004], torch_eager_NCHW=[0.008, 0.016, 0.016],
            torch_compile_NHWC=[0.002, 0.008, 0.004]),
        row("lenet5", "train", 64, [0.002, 0.002, 0.002], torch_eager_NCHW=[0.008, 0.016, 0.016]),
        row("lenet5", "predict", 1, [1e-5] * 3, torch_eager_NCHW=[5e-5] * 3),
        memory=[{"case": "resnet20", "batch": 128, "bytes": sizes}],
    )  # fmt: skip


def test_table_of_known_seconds():
    assert network_report.head(canned()) == (
        "network", "task", "batch", "images/s", "min .. max",
        "torch's best", "min .. max", "mode", "ratio", "spread",
    )  # fmt: skip
    assert network_report.lines(canned())[0] == (
        "lenet5", "train", "32", "16,000", "8,000 .. 32,000",
        "8,000", "4,000 .. 16,000", "compile NHWC", "2.00", "1.00 .. 4.00",
    )  # fmt: skip


def test_lines_have_a_cell_for_each_head():
    alone = document(row("lenet5", "train", 32, [1.0]))
    for d in (canned(), alone):
        assert {len(line) for line in network_report.lines(d)} == {len(network_report.head(d))}


def test_closing_gives_memory_and_means():
    text = "\n".join(network_report.closing(canned()))
    assert (
        "resnet20 train, batch 128: memory grows by 60.0 MiB, torch eager NHWC's by 120.0 MiB: "
        "0.50 of it" in text
    )
    assert "train: 4.00 times torch 2.13.0 (geometric mean of 2; lowest 2.00)" in text
    assert "busy" not in text


def scaled(by_batch, by_depth):
    """Return a document in which an image takes so long at each batch and depth."""
    rows = [row("resnet20", "train", b, [b * cost]) for b, cost in by_batch.items()]
    first = len(rows)
    rows += [row(f"resnet{d}", "train", 32, [32 * cost]) for d, cost in by_depth.items()]
    places = {"batch": list(range(first)), "depth": list(range(first, len(rows)))}
    return document(*rows, scaling=places)


def test_linear_cost_does_not_deviate():
    found = scaled({32: 2.0, 64: 2.0, 512: 2.0}, {20: 1.5, 56: 3.3, 110: 6.0})
    for name in ("batch", "depth"):
        np.testing.assert_allclose(network_report.deviations(found, name), 0, atol=1e-9)


def test_deviation_from_linear_is_found():
    found = scaled({32: 1.0, 64: 1.0, 128: 1.3}, {20: 1.0, 56: 1.0, 110: 2.0})
    assert network_report.worst(found, "batch").endswith("at batch 128")
    assert np.abs(network_report.deviations(found, "depth")).max() > 0.1
    completed = network_report.complete(found)
    assert completed["scaling"]["batch"]["deviation"][2] > 0.1
    assert network_report.scaling_lines(completed, "depth") == network_report.scaling_lines(
        found, "depth"
    )
    for name in ("batch", "depth"):
        for line in network_report.scaling_lines(found, name):
            assert len(line) == len(network_report.scaling_head())


# ---- the pictures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "drawn"),
    [
        ("networks", canned()),
        ("networks", document(row("lenet5", "train", 32, [1.0]))),
        ("scaling", scaled({32: 1.0, 64: 1.0}, {20: 1.0, 56: 2.0, 110: 4.0})),
    ],
)
def test_plot_draws(tmp_path, draw, drawn):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from convcore.bench import plot

    file = tmp_path / "picture.png"
    getattr(plot, draw)(network_report.complete(drawn), file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_scaling_measures_every_size():
    from convcore.bench.network_run import measure_scaling

    found = measure_scaling(threads=1, rounds=1, seconds=0.001, batches=[256, 128], depths=[20])
    assert [(r["case"], r["batch"]) for r in found["rows"]] == [
        ("resnet20", 128),
        ("resnet20", 256),
    ]
    assert found["scaling"] == {"batch": [0, 1], "depth": [0]}
    assert found["rows"][0]["seconds"].keys() == {"convcore"}

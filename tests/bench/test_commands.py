"""``convcore bench`` and ``convcore time``: what they print, never how fast anything is."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from convcore import _core, models, nn
from convcore.bench import cases, convcore_side
from convcore.bench.layers import time_layers
from convcore.cli import main

SMALL = ("--rounds", "1", "--seconds", "0.001", "--threads", "2")
CASE = ("--case", "lenet5_conv1")


def run(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


# ---- the ceilings --------------------------------------------------------------------------------

PEAKS = ("fma", "fma_broadcast", "l2_read", "l2_copy")  # those of the memory take 256 MiB


@pytest.mark.parametrize("name", PEAKS)
def test_peak_is_a_rate(name):
    rate = _core.peak(name, 0.0)
    assert np.isfinite(rate)
    assert rate > 0


def test_peak_refuses_other_names():
    message = "peak: name is not known: expected one of fma, fma_broadcast, l2_read, .*, got 'l5'"
    with pytest.raises(ValueError, match=message):
        _core.peak("l5", 0.0)


# ---- bench ---------------------------------------------------------------------------------------


def test_bench_alone_writes_json_and_prints_a_table(capsys, tmp_path):
    file = tmp_path / "out.json"
    code, out, _ = run(capsys, "bench", *SMALL, *CASE, "--no-torch", "--json", file)
    assert code == 0
    document = json.loads(file.read_text())
    assert document["threads"] == 2
    assert document["machine"]["torch"] is None
    assert {(r["pass"], r["caches"]) for r in document["rows"]} == {
        (p, c) for p in cases.find("lenet5_conv1")[1].passes for c in ("warm", "cold")
    }
    for row in document["rows"]:
        assert row["case"] == "lenet5_conv1"
        assert row["ratio"] is None
        assert row["algorithm"] == "planar"  # one image plane in, six out
        assert len(row["seconds"]["convcore"]) == 1
        assert row["peak_share"] > 0
    assert out.splitlines()[0].split() == [
        "case", "pass", "caches", "algorithm", "convcore", "rate", "share"
    ]  # fmt: skip
    assert "torch was not measured" in out


def test_bench_compares_with_a_file(capsys, tmp_path):
    file = tmp_path / "old.json"
    options = (*SMALL, *CASE, "--no-torch", "--caches", "warm")
    code, out, _ = run(capsys, "bench", *options, "--json")
    assert code == 0
    old = json.loads(out)
    for row in old["rows"]:  # in the old run each call took a nanosecond
        row["seconds"]["convcore"] = [1e-9] * 3
    file.write_text(json.dumps(old))
    code, out, _ = run(capsys, "bench", *options, "--rounds", "3", "--compare", file)
    assert code == 1
    assert out.splitlines()[-1] == "3 of 3 rows are slower beyond the spread"
    for row in old["rows"]:
        row["seconds"]["convcore"] = [1e9] * 3
    file.write_text(json.dumps(old))
    code, out, _ = run(capsys, "bench", *options, "--rounds", "3", "--compare", file, "--json")
    assert code == 0
    assert [row["slower"] for row in json.loads(out)["compared"]] == [False] * 3


@pytest.mark.torch
@pytest.mark.parametrize("name", ["lenet5_conv1", "lenet5_fc3", "lenet5_pool2", "resnet20_pool"])
def test_bench_measures_torch_on_the_same_numbers(torch, capsys, name):
    """It raises when the results differ."""
    code, out, err = run(capsys, "bench", *SMALL, "--case", name, "--caches", "warm", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["machine"]["torch"] == torch.__version__
    layouts = {"torch NCHW"} if name == "lenet5_fc3" else {"torch NCHW", "torch NHWC"}
    for row in document["rows"]:
        assert row["seconds"].keys() == {"convcore"} | layouts
        assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]


@pytest.mark.torch
@pytest.mark.parametrize(("op", "name"), [(op, cases.names([op])[-1]) for op in cases.OPS])
def test_both_sides_have_the_same_passes(torch, op, name):
    from convcore.bench import torch_side

    case = cases.find(name)[1]._replace(batch=2)
    ours = convcore_side.calls(op, list(case))
    for layout in ("contiguous", "channels_last"):
        with torch.inference_mode():
            theirs = torch_side.calls(op, list(case), layout)
            assert ours.keys() == theirs.keys() == set(case.passes)
            for which in case.passes:
                a, b = ours[which](), theirs[which]().numpy()
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * np.abs(b).max())


def test_bench_lists_cases(capsys):
    code, out, _ = run(capsys, "bench", "--list", "--op", "dense", "--json")
    assert code == 0
    listed = json.loads(out)["cases"]
    assert [c["case"] for c in listed] == cases.names(["dense"])
    assert listed[0] == {
        "op": "dense", "case": "lenet5_fc1", "batch": 64, "in_features": 400, "out_features": 120
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--case", "lenet5_conv9"], r"'lenet5_conv9' is no case: .*did you mean 'lenet5_conv\d'"),
        (["--op", "pool", "--case", "lenet5_conv1"], "'lenet5_conv1' is no case of pool: "),
    ],
)
def test_bench_refuses_unknown_cases(capsys, words, message):
    code, out, err = run(capsys, "bench", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(message, err), err


def test_bench_reads_the_old_run_before_it_measures(capsys, tmp_path):
    (tmp_path / "old.json").write_text("{}")
    code, _, err = run(capsys, "bench", "--compare", tmp_path / "old.json")
    assert code == 1
    assert "is no result of convcore bench --json FILE" in err


def test_bench_plot_without_matplotlib_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, err = run(capsys, "bench", *CASE, "--no-torch", "--plot", "roofline.png")
    assert (code, out) == (2, "")
    assert "--plot needs matplotlib: pip install 'convcore[plot]'" in err


def test_bench_plot_draws(capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    file = tmp_path / "roofline.png"
    code, _, err = run(capsys, "bench", *SMALL, *CASE, "--no-torch", "--plot", file)
    assert code == 0, err
    assert file.read_bytes().startswith(b"\x89PNG")


def test_bench_package_is_not_imported_with_convcore():
    program = "import sys, convcore; print([m for m in sys.modules if 'convcore.bench' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# ---- time ----------------------------------------------------------------------------------------


def test_time_shows_every_layer(capsys):
    code, out, _ = run(capsys, "time", "lenet5", "--batch", 2, "--iterations", 1)
    assert code == 0
    layers = [line.split()[1] for line in out.splitlines()[2:14]]
    assert layers == [type(layer).__name__ for layer in models.lenet5()]
    assert out.splitlines()[14].startswith("whole network")


def test_time_json_counts_the_operations(capsys):
    words = ("time", "lenet5", "--input", "1x28x28", "--batch", 3, "--threads", 1)
    code, out, _ = run(capsys, *words, "--iterations", 1, "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["batch"], document["threads"]) == (3, 1)
    rows = {row["name"]: row for row in document["layers"]}
    summary = models.lenet5().summary((1, 28, 28), print_fn=None)
    for expected in summary.rows:
        row = rows[expected.name]
        assert (row["layer"], tuple(row["output_shape"])) == (expected.layer, expected.output_shape)
        assert row["forward_flops"] == 2 * 3 * expected.multiply_adds
        # The gradient of the network's input is not computed.
        assert row["backward_flops"] == (1 if row["name"] == "0" else 2) * row["forward_flops"]
        assert row["forward_seconds"] > 0
        assert row["backward_seconds"] > 0


def test_time_layers_looks_into_branches_and_leaves_the_network_as_it_was():
    body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model = nn.Sequential(nn.ReLU(), nn.Residual(body), nn.Linear(4, 2))
    measured = time_layers(model, (4,), batch=5, iterations=2)
    assert [row.name for row in measured.layers] == ["0", "1.body.0", "1.body.1", "2"]
    assert measured.layers[0].backward_seconds == 0  # nothing before it has parameters
    assert not any("backward" in vars(module) for module in model.modules())


def test_time_layers_names_the_algorithms_of_a_convolution():
    measured = time_layers(nn.Sequential(nn.Conv2d(1, 2, 3, padding="same")), (1, 6, 6), 1, 1)
    names = measured.layers[0].algorithm.split()
    assert len(names) == 3
    assert set(names) <= {"planar", "direct", "gemm", "winograd", "winograd2x2"}


def test_conv2d_algorithm_refuses_other_passes():
    window = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
    with pytest.raises(
        ValueError, match=r"conv2d: pass is not known: expected 'forward', .* got 'b'"
    ):
        _core.conv2d_algorithm("b", (1, 1, 5, 5), (1, 1, 3, 3), *window)

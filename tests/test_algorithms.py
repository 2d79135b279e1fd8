"""Which algorithm computes a convolution: CONVCORE_VERBOSE, CONVCORE_ALGORITHMS, ``convcore tune``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import convcore.functional as F
from convcore import _algorithms, _core, nn
from convcore._algorithms import Pass
from convcore.bench.tune import PASSES, tune
from convcore.cli import main
from helpers import floats

X, W = (2, 16, 32, 32), (16, 16, 3, 3)
KEYS = [Pass(which, X, W, (1, 1), (1, 1, 1, 1), (1, 1), 1) for which in PASSES]


@pytest.fixture
def choices():
    """Leave no measured choices behind."""
    yield _core.set_conv2d_choices
    _core.set_conv2d_choices([])


def run(program, **environment):
    keep = {
        k: v for k, v in os.environ.items() if k not in ("CONVCORE_ALGORITHMS", "CONVCORE_VERBOSE")
    }
    return subprocess.run(
        [sys.executable, "-c", program], env=keep | environment, capture_output=True, text=True
    )


# ---- CONVCORE_VERBOSE ----------------------------------------------------------------------------

PROGRAM = """
import numpy as np
import convcore.functional as F
x, w = np.ones((2, 16, 32, 32), np.float32), np.ones((16, 16, 3, 3), np.float32)
for _ in range(2):
    y = F.conv2d(x, w, padding=1)
    F.conv2d(x, w[:, :8], None, 2, ((0, 1), (2, 3)), (1, 2), 2, algo="planar")
F.conv2d_backward(y, x, w, padding=1)
F.conv2d(x[:0], w)  # nothing runs
F.conv1d(x[:, :, 0], w[:, :, 0])
F.conv2d_relu_max_pool2d(x, w)
"""
LINES = [
    "conv2d forward 2x16x32x32 -> 16, 3x3, padding 1,1,1,1: winograd (automatic)",
    "conv2d forward 2x16x32x32 -> 16, 3x3, stride 2x2, padding 0,1,2,3, dilation 1x2, groups 2: "
    "planar (asked)",
    "conv2d backward_input 2x16x32x32 -> 16, 3x3, padding 1,1,1,1: winograd (automatic)",
    "conv2d backward_weight 2x16x32x32 -> 16, 3x3, padding 1,1,1,1: winograd (automatic)",
    "conv1d forward 2x16x1x32 -> 16, 1x3: direct (automatic)",
    "conv2d_relu_max_pool2d all passes 2x16x32x32 -> 16, 3x3: "
    "pooled, with ReLU and max pooling (the only one)",
]


def test_verbose_says_each_choice_once():
    done = run(PROGRAM, CONVCORE_VERBOSE="1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"convcore: {line}" for line in LINES]


@pytest.mark.parametrize("value", ["", "0"])
def test_verbose_is_off(value):
    assert run(PROGRAM, CONVCORE_VERBOSE=value).stderr == ""


# ---- measured choices ----------------------------------------------------------------------------


def test_measured_choice_is_taken_for_its_shape_alone(choices):
    assert [_core.conv2d_algorithm(*key) for key in KEYS] == ["winograd"] * 3
    choices([(*KEYS[0], "direct"), (*KEYS[2], "planar")])
    assert [_core.conv2d_algorithm(*key) for key in KEYS] == ["direct", "winograd", "planar"]
    other = KEYS[0]._replace(x=(3, *KEYS[0].x[1:]))
    assert _core.conv2d_algorithm(*other) == "winograd"
    choices([])
    assert _core.conv2d_algorithm(*KEYS[0]) == "winograd"


def test_measured_choice_has_the_bits_of_its_algorithm(choices, rng):
    x, w = floats(rng, *KEYS[0].x), floats(rng, *KEYS[0].w)
    direct, automatic = (F.conv2d(x, w, padding=1, algo=a) for a in ("direct", "auto"))
    assert (direct != automatic).any()
    choices([(*KEYS[0], "direct")])
    np.testing.assert_array_equal(F.conv2d(x, w, padding=1), direct)
    asked = F.conv2d(x, w, padding=1, algo="winograd")  # stands above the file
    np.testing.assert_array_equal(asked, automatic)


def test_choices_that_are_wrong_change_nothing(choices):
    choices([(*KEYS[0], "direct")])
    with pytest.raises(ValueError, match="the algorithm cannot compute this convolution"):
        choices([(*KEYS[1], "planar"), (*KEYS[0], "gemm")])
    assert _core.conv2d_algorithm(*KEYS[0]) == "direct"
    assert _core.conv2d_algorithm(*KEYS[1]) == "winograd"


@pytest.fixture
def file(tmp_path):
    """A file that takes the direct algorithm for all three passes."""
    path = tmp_path / "choices.json"
    path.write_text(
        _algorithms.to_json([(key, "direct", {"direct": 1.0}) for key in KEYS], {"a": 1})
    )
    return path


def test_file_is_read_at_import(file):
    program = """
import sys
import numpy as np
import convcore.functional as F
rng = np.random.default_rng(1)
x, w = (rng.standard_normal(s).astype(np.float32) for s in ((2, 16, 32, 32), (16, 16, 3, 3)))
y = F.conv2d(x, w, padding=1)
dx, dw, _ = F.conv2d_backward(y, x, w, padding=1)
sys.stdout.write(str(hash((y.tobytes(), dx.tobytes(), dw.tobytes()))))
"""
    environment = {"CONVCORE_ALGORITHMS": str(file), "PYTHONHASHSEED": "0"}
    first = run(program, **environment, CONVCORE_VERBOSE="1")
    assert first.returncode == 0, first.stderr
    assert re.findall(r": (\w+) \((\w+)\)", first.stderr) == [("direct", "measured")] * 3
    assert run(program, **environment).stdout == first.stdout
    assert run(program, PYTHONHASHSEED="0").stdout != first.stdout


def test_file_has_a_line_for_each_choice(file):
    document = json.loads(file.read_text())
    assert (document["format"], document["version"], document["a"]) == (_algorithms.FORMAT, 1, 1)
    assert len(document["choices"]) == 3
    assert sum('"pass"' in line for line in file.read_text().splitlines()) == 3


def changed(**fields):
    def change(document):
        document["choices"][1].update(fields)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="x"), "is no file of convcore tune: expected an object"),
        (lambda d: d.update(version=2), "by another version of convcore: expected version 1"),
        (lambda d: d.update(choices={}), "expected a list 'choices', got {}"),
        (lambda d: d["choices"].append(1), "choice 3: expected an object, got 1"),
        (changed(x=[1, 2, 3]), "choice 1: x: expected 4 integers, got [1, 2, 3]"),
        (changed(stride=[1, 1.0]), "choice 1: stride: expected 2 integers, got [1, 1.0]"),
        (changed(stride=[1, 2**70]), "choice 1: stride: expected 2 integers"),
        (changed(groups=None), "choice 1: groups: expected 1 integer, got [None]"),
        (changed(groups=2), "choice 1: conv2d: x has the wrong number of channels: expected 32"),
        (changed(**{"pass": "up"}), "choice 1: conv2d: pass is not known: expected 'forward', "),
        (
            changed(algorithm="windograd"),
            "choice 1: algorithm is not known or cannot compute this convolution: expected one of "
            "planar, direct, winograd, winograd2x2",
        ),
        (changed(algorithm="windograd"), "got 'windograd' (did you mean 'winograd'?)"),
        (changed(algorithm="gemm"), "got 'gemm'"),
        (changed(**{"pass": "backward_weight", "algorithm": "winograd2x2"}), "got 'winograd2x2'"),
        (changed(w=[16, 16, 5, 3], algorithm="winograd"), "one of planar, direct, got 'winograd'"),
    ],
)
def test_files_that_are_wrong(file, choices, change, message):
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        _algorithms.use(str(file))
    assert str(file) in str(caught.value)
    assert _core.conv2d_algorithm(*KEYS[0]) == "winograd"


def test_file_that_is_no_json(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"a\.json is no file of convcore tune: "):
        _algorithms.use(str(tmp_path / "a.json"))


def test_file_that_is_not_there_is_an_error_at_import():
    done = run("import convcore", CONVCORE_ALGORITHMS="missing.json")
    assert done.returncode == 1
    message = (
        "CONVCORE_ALGORITHMS names a file that cannot be read: expected one of `convcore tune`"
    )
    assert f"{message}, got 'missing.json'" in done.stderr.splitlines()[-1]


# ---- convcore tune -------------------------------------------------------------------------------


def test_tune_measures_every_algorithm_of_every_pass():
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Residual(nn.Conv2d(16, 16, 3, padding="same")),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.Conv2d(16, 8, 1, stride=2, bias=False),
        nn.Flatten(),
    )
    tuned = tune(network, (3, 6, 6), batch=2, rounds=1, seconds=0.0)
    keys = [row.key for row in tuned]
    assert len(set(keys)) == len(keys) == 9  # the second and the third are alike
    assert [key.which for key in keys] == list(PASSES) * 3
    for row in tuned:
        assert set(row.seconds) == set(_core.conv2d_algorithms(*row.key))
        assert row.automatic == _core.conv2d_algorithm(*row.key)
        assert row.seconds[row.fastest] == min(row.seconds.values())
    assert "gemm" in tuned[-1].seconds
    assert not any("backward" in vars(module) for module in network.modules())


def test_tune_writes_a_file_that_is_used(capsys, tmp_path, choices):
    file = tmp_path / "lenet5.json"
    words = ["tune", "lenet5", "--batch", "2", "--rounds", "1", "--seconds", "0.0001", "--json"]
    assert main([*words, "--output", str(file)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["batch"], document["network"], len(document["choices"])) == (2, "lenet5", 6)
    saved = json.loads(file.read_text())
    assert saved["machine"]["cpus"] == os.cpu_count()
    _algorithms.use(str(file))
    for entry, choice in zip(saved["choices"], document["choices"], strict=True):
        window = [entry[name] for name in ("x", "w", "stride", "padding", "dilation", "groups")]
        assert _core.conv2d_algorithm(entry["pass"], *window) == choice["algorithm"]


def test_tune_says_what_it_chose(capsys, tmp_path, choices):
    file = tmp_path / "a b.json"
    words = ["tune", "lenet5", "--batch", "2", "--rounds", "1", "--seconds", "0.0001"]
    assert main([*words, "--output", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["convolution", "pass", "fastest"]
    assert lines[2].startswith("2x1x28x28 -> 6, 5x5  ")
    assert lines[-1] == f"saved: {file}; use it with CONVCORE_ALGORITHMS='{file}'"


def test_tune_refuses_a_folder_that_is_not_there(capsys):
    assert main(["tune", "lenet5", "--output", "no/where.json"]) == 1
    assert "where.json cannot be written: there is no folder no" in capsys.readouterr().err

"""``convcore explain`` and ``convcore check``."""

from __future__ import annotations

import json

import pytest

RIGHT = """
import numpy as np

def relu_forward(x):
    return np.maximum(x, 0), x

def relu_backward(dout, cache):
    return dout * (cache > 0)
"""


def test_explain_a_network(cli):
    done = cli("explain", "lenet5", "--input", "1x28x28", "--batch", 2)
    assert done.code == 0
    assert "(28 + 2*2 - 5)/1 + 1 = 28" in done.out
    assert "(5*5*1 + 1)*6 = 156" in done.out
    assert "forward ms" in done.out
    document = cli("explain", "lenet5", "--no-time", "--json").json
    assert document["parameters"] == 61_706
    assert document["rows"][0]["size"] == "(28 + 2*2 - 5)/1 + 1 = 28"
    assert document["batch"] is None


def test_explain_a_file(cli, trained):
    document = cli("explain", trained.file, "--no-time", "--json").json
    assert document["input_shape"] == [1, 28, 28]
    assert document["parameters"] == 61_706


def test_the_homework(cli):
    words = [
        "--input",
        "3x64x64",
        "--filters",
        "8",
        "--kernel",
        "5",
        "--stride",
        "2",
        "--padding",
        "0",
    ]
    done = cli("explain", "conv", *words)
    assert done.code == 0
    assert "(5*5*3 + 1)*8 = 608" in done.out
    assert "8 x 30 x 30" in done.out
    assert " ms, backward " in done.out
    document = cli("explain", "conv", *words, "--json").json
    assert (document["parameters"], document["output_shape"]) == (608, [8, 30, 30])


def test_explain_step_by_step(cli):
    done = cli("explain", "conv", "--image", "1 2 3 4 5 6", "--filter", "1 2", "--no-time")
    assert done.out.endswith("output[0]\n   5  8 11 14 17\n")
    done = cli(
        "explain", "pool", "--image", "1 2 3; 4 5 6; 7 8 9", "--kernel", 2, "--stride", 1, "--no-time"
    )  # fmt: skip
    assert "max(1, 2, 4, 5) = 5" in done.out
    done = cli("explain", "linear", "--input", "1x28x28", "--units", 30, "--no-time")
    assert "28*28*30 + 30 = 23,550" in done.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("explain", "lenet"), 2, "'lenet' is not known: expected one of lenet5, "),
        (("explain", "avgpool"), 2, "linear (did you mean 'avg_pool'?)"),
        (("explain", "lenet5", "--filters", 3), 2, "--filters is for a single layer"),
        (("explain", "conv", "--image", "1 2; 3"), 2, "expected rows of equal length"),
        (("explain", "conv", "--padding", "-1"), 2, "expected 2, 2x1, same or valid"),
        (("explain", "conv", "--input", "1x5x5", "--kernel", 3), 1, "filters is missing"),
        (("check",), 2, "expected FILE.py or --self"),
        (("check", "a.py", "--self"), 2, "expected FILE.py or --self"),
        (("check", "none.py"), 1, "none.py: No such file"),
        (("check", "a.py", "--require", "convv"), 2, "(did you mean 'conv'?)"),
    ],
)
def test_usage_errors(cli, words, code, message):
    done = cli(*words)
    assert done.code == code
    assert message in done.error


def test_check_a_right_file(cli):
    (cli.folder / "layers.py").write_text(RIGHT)
    done = cli("check", "layers.py", "--require", "relu")
    assert (done.code, done.err) == (0, "")
    assert "3 of 3 checks passed: everything is right" in done.out


def test_check_a_wrong_file(cli):
    (cli.folder / "layers.py").write_text(RIGHT.replace("cache > 0", "dout > 0"))
    done = cli("check", "layers.py")
    assert (done.code, done.err) == (1, "")
    assert "mask of dout" in done.out
    done = cli("check", "layers.py", "--json")
    assert done.code == 1
    document = json.loads(done.out)
    assert document["score"] == {"passed": 2, "total": 3}
    check = document["layers"][0]["checks"][1]
    assert (check["part"], check["cause"]) == ("dx", "mask of dout")


def test_check_says_why_a_file_cannot_be_checked(cli):
    (cli.folder / "layers.py").write_text("while True: import time; time.sleep(1)")
    done = cli("check", "layers.py", "--time-limit", 1)
    assert done.code == 1
    assert "did not finish within 1 s" in done.out


def test_check_self(cli):
    done = cli("check", "--self", "--json")
    assert done.code == 0
    assert done.json["passed"]

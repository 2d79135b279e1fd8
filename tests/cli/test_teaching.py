"""``convcore explain`` and ``convcore check``: most in this process, since there is much to say."""

from __future__ import annotations

import json

import pytest

from convcore.cli import main
from convcore.teaching.check import self_check

RIGHT = """
import numpy as np

def relu_forward(x):
    return np.maximum(x, 0), x

def relu_backward(dout, cache):
    return dout * (cache > 0)
"""


@pytest.fixture
def run(capsys):
    """Run a command; return its exit code, its output and its errors."""

    def command(*words):
        try:
            code = main(list(map(str, words)))
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return command


def test_explain_a_network(cli):
    done = cli("explain", "lenet5", "--input", "1x28x28", "--batch", 2)
    assert (done.code, done.err) == (0, "")
    assert "(28 + 2*2 - 5)/1 + 1 = 28" in done.out
    assert "(5*5*1 + 1)*6 = 156" in done.out
    assert "forward ms" in done.out
    assert "times of a batch of 2" in done.out


def test_explain_as_json(run):
    _, out, _ = run("explain", "lenet5", "--no-time", "--json")
    document = json.loads(out)
    assert document["parameters"] == 61_706
    assert document["rows"][0]["size"] == "(28 + 2*2 - 5)/1 + 1 = 28"
    assert document["batch"] is None


def test_explain_a_file(run, tmp_path):
    from convcore import models

    models.lenet5().save(tmp_path / "net.safetensors")
    _, out, _ = run("explain", tmp_path / "net.safetensors", "--no-time", "--json")
    document = json.loads(out)
    assert document["input_shape"] == [1, 28, 28]
    assert document["parameters"] == 61_706


def test_the_homework(run):
    words = ["--input", "3x64x64", "--filters", 8, "--kernel", 5, "--stride", 2, "--padding", 0]
    code, out, _ = run("explain", "conv", *words, "--batch", 1)
    assert code == 0
    assert "(5*5*3 + 1)*8 = 608" in out
    assert "8 x 30 x 30" in out
    assert " ms, backward " in out
    _, out, _ = run("explain", "conv", *words, "--json", "--no-time")
    document = json.loads(out)
    assert (document["parameters"], document["output_shape"]) == (608, [8, 30, 30])


def test_explain_step_by_step(run):
    _, out, _ = run("explain", "conv", "--image", "1 2 3 4 5 6", "--filter", "1 2", "--no-time")
    assert out.endswith("output[0]\n   5  8 11 14 17\n")
    image = "1 2 3; 4 5 6; 7 8 9"
    _, out, _ = run("explain", "pool", "--image", image, "--kernel", 2, "--stride", 1, "--no-time")
    assert "max(1, 2, 4, 5) = 5" in out
    _, out, _ = run("explain", "linear", "--input", "1x28x28", "--units", 30, "--no-time")
    assert "28*28*30 + 30 = 23,550" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("explain", "lenet"), 2, "linear (did you mean 'lenet5'?)"),
        (("explain", "avgpool"), 2, "linear (did you mean 'avg_pool'?)"),
        (("explain", "lenet5", "--filters", 3), 2, "--filters is for a single layer"),
        (("explain", "conv", "--image", "1 2; 3"), 2, "expected rows of equal length"),
        (("explain", "conv", "--padding", "-1"), 2, "expected 2, 2x1, same or valid"),
        (("explain", "conv", "--input", "1x5x5", "--kernel", 3), 2, "conv needs --filters:"),
        (("explain", "conv"), 2, "for example --input 3x64x64 --filters 8 --kernel 5"),
        (("explain", "pool", "--filters", 3), 2, "--filters has no meaning for pool"),
        (("explain", "lenet5", "--no-bias"), 2, "--no-bias is for a single layer"),
        (("check",), 2, "expected FILE.py or --self"),
        (("check", "a.py", "--self"), 2, "expected FILE.py or --self"),
        (("check", "none.py"), 2, "none.py: No such file"),
        (("check", "a.py", "--require", "convv"), 2, "(did you mean 'conv'?)"),
    ],
)
def test_usage_errors(run, words, code, message):
    got, out, err = run(*words)
    assert (got, out) == (code, "")
    assert err.count("\n") == 1
    assert message in err


def test_explain_says_that_two_sizes_are_a_sequence(run):
    words = ["--filters", 2, "--kernel", 3, "--no-time"]
    code, out, _ = run("explain", "conv", "--input", "28x28", *words)
    line = "taken as a sequence of 28 channels; a grey picture is 1x28x28\n"
    assert (code, out.endswith(line)) == (0, True)
    _, out, _ = run("explain", "conv", "--input", "1x28", *words)
    assert "sequence" not in out


def test_check_a_right_file(cli):
    (cli.folder / "layers.py").write_text(RIGHT)
    done = cli("check", "layers.py", "--require", "relu")
    assert (done.code, done.err) == (0, "")
    assert "3 of 3 checks passed: everything is right" in done.out


def test_check_a_wrong_file(cli):
    (cli.folder / "layers.py").write_text(RIGHT.replace("cache > 0", "dout > 0"))
    done = cli("check", "layers.py", "--json")
    assert (done.code, done.err) == (1, "")
    document = done.json
    assert document["score"] == {"passed": 2, "total": 3}
    check = document["layers"][0]["checks"][1]
    assert (check["part"], check["cause"]) == ("dx", "mask of dout")


def test_check_says_why_a_file_cannot_be_checked(run, tmp_path):
    (tmp_path / "layers.py").write_text("while True: import time; time.sleep(1)")
    code, out, err = run("check", tmp_path / "layers.py", "--time-limit", 1)
    assert (code, err) == (1, "")
    assert "did not finish within 1 s" in out


@pytest.mark.parametrize(("error", "code"), [(1e-7, 0), (1.0, 1), (float("inf"), 1)])
def test_check_self(run, monkeypatch, error, code):
    monkeypatch.setattr(self_check, "_errors_of", lambda isa, seed: {"relu": error})
    got, out, _ = run("check", "--self", "--json")
    assert got == code
    assert json.loads(out)["passed"] == (code == 0)

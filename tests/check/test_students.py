"""`convcore.check`: right layers pass, and each mistake is recognised."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import convcore
import convcore.teaching.check
from convcore.teaching.check import EXERCISES
from convcore.teaching.check._child import Student
from convcore.teaching.check.bugs import equal, find_cause, variant
from convcore.teaching.check.sandbox import Failed

STUDENTS = Path(__file__).with_name("students")
NAIVE = (STUDENTS / "naive.py").read_text()


def checks_of(report):
    return {(layer.layer, c.part): c for layer in report.layers for c in layer.checks}


class Direct:
    """Stands for a `Sandbox`, without the process: what is asked for is done at once."""

    def __init__(self, path, time_limit, memory_limit):
        self.student = Student(str(path))
        self.student.module = sys.modules["student"] = types.ModuleType("student")
        exec(compile(path.read_text(), path, "exec"), vars(self.student.module))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def ask(self, do, arrays, **request):
        try:
            if do == "load":
                return self.student.contents(), []
            with np.errstate(all="ignore"):
                return getattr(self.student, do)(request, arrays)
        except Exception as error:
            raise Failed("raised", repr(error)) from error

    def printed(self):
        return "", ""

    def close(self):
        pass


@pytest.fixture
def direct(monkeypatch):
    """Let files run in this process: there are many of them."""
    monkeypatch.setattr(convcore.teaching.check, "Sandbox", Direct)


# ---- right layers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "layers"),
    [
        (
            "naive.py",
            "conv max_pool affine relu batchnorm softmax_loss svm_loss",
        ),
        ("vectorised.py", "conv"),
        ("classes.py", "conv max_pool linear relu"),
        ("module.py", "linear"),
    ],
)
def test_right_layers_pass(file, layers):
    report = convcore.check(STUDENTS / file)
    assert report.passed, str(report)
    assert [layer.layer for layer in report.layers] == layers.split()
    assert not any(layer.missing for layer in report.layers)
    passed, total = report.score
    assert passed == total > 0
    assert "everything is right" in str(report)


def test_batchnorm_may_keep_nothing_in_test_mode(tmp_path, direct):
    file = tmp_path / "layers.py"
    file.write_text(
        edited(
            "batchnorm_forward",
            "    return out, (x_hat",
            '    if bn_param["mode"] == "test":\n        return out, None\n    return out, (x_hat',
        )
    )
    report = convcore.check(file)
    assert report.passed, str(report)
    calls = {check.part: check.calls for check in report.layers[0].checks}
    assert (calls["out"], calls["dx"]) == (4, 3)


# ---- one mistake each ----------------------------------------------------------------------------

CONV_LOOP = "        for i in range(H_out):\n                for j in range(W_out):"

# function with the mistake, what stands there, what the student wrote, check, likely cause
MISTAKES = [
    ("conv_forward", "window * w[f])", "window * w[f, :, ::-1, ::-1])", "out", "kernel flipped"),
    ("conv_forward", "np.sum(window * w[f]) + b[f]", "np.sum(window * w[f])", "out", "bias missing"),
    ("conv_forward", "+ b[f]", "+ b[0]", "out", "one bias for all filters"),
    ("conv_forward", "i * stride, j * stride", "i, j", "out", "stride missing in the index"),
    ("conv_forward", 'conv_param["stride"], ', '1, ', "out", "stride ignored"),
    ("conv_forward", 'conv_param["stride"], ', 'conv_param["stride"] + 1, ', "out", "stride off by one"),
    ("conv_forward", 'conv_param["pad"]', "0", "out", "padding ignored"),
    ("conv_forward", 'mode="constant"', 'mode="edge"', "out", "padding not zero"),
    ("conv_forward", "(pad, pad), (pad, pad))", "(2 * pad, 0), (2 * pad, 0))", "out", "padding on one side"),
    ("conv_forward", "1 + (H +", "0 + (H +", "out", ""),
    ("conv_forward", "for i in range(H_out)", "for i in range(H_out - 1)", "out", ""),
    ("conv_forward", "window * w[f]", "window[0] * w[f, 0]", "out", "first channel only"),
    ("conv_forward", "np.sum(", "np.mean(", "out", "mean for the sum"),
    ("conv_forward", "for n in range(N)", "for n in range(1)", "out", "first image only"),
    ("conv_forward", "H_out, W_out))", "H_out, W_out), dtype=int)", "out", "integers"),
    ("conv_forward", "out[n, f, i, j] =", "value =", "out", "never filled"),
    ("conv_backward", "db[f] +=", "db[f] =", "db", "gradient overwritten"),
    ("conv_backward", "dw[f] +=", "dw[f] =", "dw", "gradient overwritten"),
    ("conv_backward", ":, top : top + HH, left : left + WW] +=", ":, top : top + HH, left : left + WW] =", "dx", "gradient overwritten"),
    ("conv_backward", "return dx, dw, db", "return dx, dw, dout.sum(axis=0)", "db", "bias gradient not summed over N, H, W"),
    ("conv_backward", "return dx, dw, db", "return dx, dw, dout.sum(axis=(2, 3))", "db", "bias gradient not summed over N, H, W"),
    ("conv_backward", "return dx, dw, db", "return dx, dw, db / N", "db", "averaged over the batch"),
    ("conv_backward", "return dx, dw, db", "return dx, dw / N, db", "dw", "averaged over the batch"),
    ("conv_backward", "return dx, dw, db", "return -dx, dw, db", "dx", "wrong sign"),
    ("conv_backward", "return dx, dw, db", "return dw, dx, db", "dx", "gradients in another order"),
    ("conv_backward", "pad : pad + H, pad : pad + W", "pad:-pad, pad:-pad", "dx", "dx[pad:-pad] without padding"),
    ("conv_backward", "pad : pad + H, pad : pad + W", ":H, :W", "dx", "padding removed on the wrong side"),
    ("conv_backward", "dx_pad[:, :, pad : pad + H, pad : pad + W]", "dx_pad", "dx", "padding not removed"),
    ("conv_backward", "+= w[f] *", "+= w[f, :, ::-1, ::-1] *", "dx", "kernel flipped"),
    ("conv_backward", "window * dout[n, f, i, j]", "window", "dw", "dout not used"),
    ("conv_backward", "i * stride, j * stride", "i, j", "dw", "stride missing in the index"),
    ("max_pool_forward", "window.max()", "window.mean()", "out", "mean for the maximum"),
    ("max_pool_forward", "window.max()", "max(0, window.max())", "out", "maximum begins at 0"),
    ("max_pool_forward", "j * stride + WW", "j * stride + HH", "out", ""),
    ("max_pool_backward", "+= (window", "= (window", "dx", "gradient overwritten"),
    ("max_pool_backward", "(window == window.max())", "np.ones_like(window)", "dx", "gradient to the whole window"),
    ("max_pool_backward", " * dout[n, c, i, j]", "", "dx", "dout not used"),
    ("affine_forward", ".dot(w) + b", ".dot(w)", "out", "bias missing"),
    ("affine_backward", ".reshape(x.shape)", "", "dx", "not in the shape of x"),
    ("affine_backward", "dout.sum(axis=0)", "dout", "db", "bias gradient not summed over N"),
    ("affine_backward", "dout.sum(axis=0)", "dout.mean(axis=0)", "db", "averaged over the batch"),
    ("relu_forward", "np.maximum(0, x)", "np.abs(x)", "out", "absolute value"),
    ("relu_backward", "(cache > 0)", "(dout > 0)", "dx", "mask of dout"),
    ("relu_backward", "dout * (cache > 0)", "dout", "dx", "no mask"),
    ("softmax_loss", ".sum() / N", ".sum()", "loss", "batch not averaged"),
    ("softmax_loss", "    dx /= N\n", "", "dx", "batch not averaged"),
    ("softmax_loss", "    dx[np.arange(N), y] -= 1\n", "", "dx", "1 not subtracted"),
    ("softmax_loss", "x - x.max(axis=1, keepdims=True)", "x", "loss", "overflow"),
    ("svm_loss", "    margins[np.arange(N), y] = 0\n", "", "loss", "right class counted"),
    ("svm_loss", "    dx[np.arange(N), y] -= (margins > 0).sum(axis=1)\n", "", "dx", "right class left out"),
    ("batchnorm_forward", "x.var(axis=0)", "x.var(axis=0, ddof=1)", "out", "variance with N - 1"),
    ("batchnorm_forward", "np.sqrt(var + eps)", "np.sqrt(var) + eps", "out", "eps outside of the root"),
    ("batchnorm_forward", '== "train"', 'in ("train", "test")', "out", "batch statistics in test mode"),
    ("batchnorm_forward", "momentum * running_mean + (1 - momentum) * mean", "(1 - momentum) * running_mean + momentum * mean", "running_mean", "momentum the other way round"),
    ("batchnorm_backward", 'mode == "train"', "False", "dx", "mean and variance taken as constants"),
    ("batchnorm_backward", "dgamma = (dout * x_hat).sum(axis=0)", "dgamma = dout.sum(axis=0)", "dgamma", "the same as dbeta"),
]  # fmt: skip


def edited(function, old, new):
    """Return the layers of that function with a mistake in it."""
    start = NAIVE.index(f"def {function}")
    end = NAIVE.find("\n\n\n", start) + 1 or len(NAIVE)
    body = NAIVE[start:end]
    assert old in body, (function, old)
    base = function.removesuffix("_forward").removesuffix("_backward")
    whole = NAIVE[:start] + body.replace(old, new) + NAIVE[end:]
    parts = whole.split("\n\n\n")
    return "\n\n\n".join([parts[0], *(p for p in parts if p.startswith(f"def {base}"))])


@pytest.mark.parametrize(
    ("function", "old", "new", "part", "cause"),
    MISTAKES,
    ids=[f"{m[0]}-{m[3]}-{m[4] or 'unnamed'}-{i}" for i, m in enumerate(MISTAKES)],
)
def test_each_mistake_is_recognised(tmp_path, direct, function, old, new, part, cause):
    file = tmp_path / "layers.py"
    file.write_text(edited(function, old, new))
    report = convcore.check(file)
    assert not report.passed
    (layer,) = report.layers
    check = next(check for check in layer.checks if check.part in (part, "call"))
    assert not check.passed
    assert check.cause == cause, str(report)
    if check.part != "call":
        assert check.wrong > 0
        assert check.case
        assert (check.index is None) == ("shape" in check.message)
        if check.index is not None:
            assert not np.isclose(check.expected, check.got, rtol=1e-9)


def test_two_mistakes_at_once_are_recognised_and_their_gradients_are_right():
    report = convcore.check(STUDENTS / "two_mistakes.py")
    found = checks_of(report)
    assert found["conv", "out"].cause == "kernel flipped and padding ignored"
    for part in ("dx", "dw", "db"):
        assert found["conv", part].passed
    assert "belongs to your forward" in found["conv", "dx"].message


def test_an_unknown_mistake_is_located():
    check = checks_of(convcore.check(STUDENTS / "unusual_mistake.py"))["conv", "out"]
    assert (check.cause, check.only_with) == ("", ("padding",))
    assert check.index == (0, 0, 0, 0)  # the corner


def test_gradients_in_another_order():
    found = checks_of(convcore.check(STUDENTS / "swapped_gradients.py"))
    assert found["affine", "dx"].advice == "this is dw: return dx, dw, db"
    assert found["affine", "dw"].advice == "this is dx: return dx, dw, db"
    assert found["affine", "db"].cause == "bias gradient not summed over N"


def test_state_outside_of_the_cache():
    found = checks_of(convcore.check(STUDENTS / "global_state.py"))
    assert found["relu", "dx"].passed
    assert found["relu", "cache"].cause == "state outside of the cache"


def test_changed_inputs_and_cache():
    found = checks_of(convcore.check(STUDENTS / "in_place.py"))
    assert found["relu", "out"].passed
    assert "changes x" in found["relu", "inputs"].message
    assert found["relu", "cache"].cause == "cache changed"


# ---- the known mistakes themselves ---------------------------------------------------------------


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_every_known_mistake_is_one_and_is_found(exercise):
    """Each variant differs from the right answer somewhere, and the search names its cause."""
    cases = exercise.cases(np.random.default_rng(1))
    for part, bugs in exercise.bugs.items():
        right = exercise.right(part)
        wants = [np.asarray(right(case.inputs)) for case in cases]
        for bug in bugs:
            seen = [
                (case.inputs, got, want)
                for case, want in zip(cases, wants, strict=True)
                if (got := variant((bug,), right, case.inputs)) is not None
            ]
            differs = any(not equal(got, want) for _, got, want in seen)
            if not differs:  # transposing a vector, for one: then it cannot be written either
                assert bug.cause in ("transposed", "not in the shape of x"), bug.cause
                continue
            assert find_cause(bugs, right, seen), (part, bug.cause)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_right_answers_agree_with_finite_differences(exercise):
    """The judge is judged as well."""
    case = exercise.cases(np.random.default_rng(1))[0]
    first = next(iter(exercise.outputs))
    names = exercise.differentiated or ("x",)
    parts = list(exercise.gradients) or ["dx"]
    dy = case.inputs.get("dy", 1.0)
    for part, name in zip(parts, names, strict=True):
        want = np.asarray(exercise.right(part)(case.inputs))
        numeric = np.zeros_like(want)
        for place in np.ndindex(want.shape):
            sums = []
            for step in (1e-5, -1e-5):
                moved = case.inputs[name].copy()
                moved[place] += step
                sums.append((exercise.outputs[first]({**case.inputs, name: moved}) * dy).sum())
            numeric[place] = (sums[0] - sums[1]) / 2e-5
        np.testing.assert_allclose(numeric, want, rtol=1e-6, atol=1e-7)


# ---- files that misbehave ------------------------------------------------------------------------

FORWARD = "import numpy as np\nimport os\nimport time\n\ndef relu_forward(x):\n    {}\n\ndef relu_backward(dout, cache):\n    return dout * (cache > 0)\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("while True: print('x' * 10_000); time.sleep(0.01)", "bytes meanwhile"),
        ("raise KeyError('a')", "raised KeyError: 'a' (line 6: raise KeyError('a'))"),
        ("return undefined, x", "raised NameError: name 'undefined' is not defined"),
        ("exit(3)", "called exit(3)"),
        ("os._exit(4)", "ended the Python process (exit code 4)"),
        ("os.kill(os.getpid(), 11)", "crashed the Python process (SIGSEGV)"),
        ("np.zeros(1 << 33)", "needs more memory than the limit of 600 MB"),
        ("a = []\n    while True: a.append(np.ones(1 << 20))", "needs more memory than"),
        ("return relu_forward(x)", "raised RecursionError"),
        ("return None, x", "relu_forward: out is None: is it not computed yet?"),
        ("np.maximum(x, 0)", "returned None: is a return missing?"),
        ("return 'text', x", "expected real numbers"),
        ("return [[1], [2, 3]], x", "expected real numbers"),
        ("return np.zeros(1 << 24), x", "far too much"),
        ("input()", "raised EOFError"),
        ("raise SystemExit", "called exit()"),
        ("os.close(1); os.close(2); return 'x'", "expected real numbers"),
        ("[os.close(i) for i in range(20)]", ""),
    ],
)  # fmt: skip
def test_a_function_that_misbehaves_gets_a_verdict(tmp_path, body, message):
    file = tmp_path / "layers.py"
    file.write_text(FORWARD.format(body))
    seconds = 2 if "while True" in body and "append" not in body else 60
    report = convcore.check(file, time_limit=seconds, memory_limit=600 << 20)
    assert not report.passed
    (layer,) = report.layers
    (check,) = layer.checks
    assert check.part == "call"
    assert not check.passed
    assert message in check.message, str(report)


@pytest.mark.parametrize(
    ("function", "line", "array", "passed"),
    [
        ("relu_forward", "    return out", "x", []),
        ("relu_backward", "    return dx", "dout", ["out"]),
    ],
)
def test_what_is_not_computed_in_some_calls_has_not_passed(
    tmp_path, direct, function, line, array, passed
):
    file = tmp_path / "layers.py"
    file.write_text(edited(function, line, f"    assert {array}.ndim == 2\n{line}"))
    (layer,) = convcore.check(file).layers
    assert [check.part for check in layer.checks] == ["call", "out", "dx"]
    assert [check.part for check in layer.checks if check.passed] == passed
    for check in layer.checks:
        assert check.passed or 0 < check.wrong < check.calls
    assert "not computed there" in layer.checks[2].message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import time\nwhile True: time.sleep(1)", "the file did not finish within 1 s"),
        ("def f(:", "the file raised SyntaxError"),
        ("1 / 0", "the file raised ZeroDivisionError: division by zero (line 1: 1 / 0)"),
        ("import no_such_module", "the file raised ModuleNotFoundError"),
        ("raise SystemExit(1)", "the file called exit(1)"),
        ("import os; os._exit(0)", "the file ended the Python process (exit code 0)"),
        ("import os; os.abort()", "the file crashed the Python process (SIGABRT)"),
        ("", "no layer that is known"),
        ("def conv_foward_naive(x, w, b, conv_param): pass", "did you mean 'conv_forward'?"),
    ],
)
def test_a_file_that_misbehaves_gets_a_verdict(tmp_path, text, message):
    file = tmp_path / "layers.py"
    file.write_text(text)
    report = convcore.check(file, time_limit=1 if "while True" in text else 60)
    assert not report.passed
    assert message in report.error
    assert message in str(report)
    json.dumps(report.to_dict())


def test_what_the_file_prints_stands_apart(tmp_path):
    file = tmp_path / "layers.py"
    text = "import sys\nprint('loading', file=sys.stderr)\n" + FORWARD.format(
        "print('in forward'); return np.maximum(x, 0), x"
    )
    file.write_text(text)
    report = convcore.check(file)
    assert report.passed
    assert report.printed == "loading\n"
    assert report.layers[0].printed.startswith("in forward\n")
    file.write_text("print('y' * 100_000)")
    assert "bytes more" in convcore.check(file).printed


def test_one_layer_that_loops_does_not_keep_the_others_from_being_checked(tmp_path):
    file = tmp_path / "layers.py"
    loop = "import time\n    while True: time.sleep(1)"
    file.write_text(FORWARD.format(loop) + NAIVE[NAIVE.index("def softmax_loss") :])
    report = convcore.check(file, time_limit=5)
    assert "did not finish within 5 s" in str(report)
    assert {layer.layer: layer.passed for layer in report.layers} == {
        "relu": False,
        "batchnorm": True,
        "softmax_loss": True,
        "svm_loss": True,
    }


def test_no_backward_is_no_mistake_unless_required(tmp_path):
    file = tmp_path / "layers.py"
    file.write_text("import numpy as np\ndef relu_forward(x): return np.maximum(x, 0), x\n")
    report = convcore.check(file)
    assert report.passed
    assert report.layers[0].missing == ("relu_backward",)
    assert str(report).endswith("1 of 1 checks passed: everything that is there is right")
    report = convcore.check(file, require=["relu", "conv"])
    assert not report.passed
    assert report.lacking == ("relu", "conv")
    assert report.score == (1, 3)


def test_unknown_requirement_and_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"got 'convv' \(did you mean 'conv'\?\)"):
        convcore.check(STUDENTS / "naive.py", require=["convv"])
    with pytest.raises(FileNotFoundError):
        convcore.check(tmp_path / "none.py")


def test_a_class_with_an_unknown_parameter(tmp_path):
    file = tmp_path / "layers.py"
    file.write_text(
        "class Conv2d:\n    def __init__(self, colour): pass\n    def forward(self, x): return x\n"
    )
    (check,) = convcore.check(file).layers[0].checks
    assert "the parameter 'colour'" in check.message


def test_functions_from_a_file_beside(tmp_path):
    (tmp_path / "mine.py").write_text(FORWARD.format("return np.maximum(x, 0), x"))
    file = tmp_path / "layers.txt"  # whatever it is called
    file.write_text("from mine import *\nfrom numpy import maximum as relu_forward_fast\n")
    (layer,) = convcore.check(file).layers
    assert layer.passed
    assert layer.names == ("relu_forward", "relu_backward")


def test_settings_by_name_instead_of_the_dictionary(tmp_path, direct):
    file = tmp_path / "layers.py"
    text = edited(
        "max_pool_forward", "naive(x, pool_param)", "naive(x, pool_height, pool_width, stride)"
    )
    old = (
        'HH, WW, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]'
    )
    kept = "pool_param = dict(pool_height=pool_height, pool_width=pool_width, stride=stride)"
    file.write_text(text.replace(old, f"{kept}\n    {old}", 1))
    assert convcore.check(file).passed


def test_a_function_that_is_called_in_another_way(tmp_path):
    file = tmp_path / "layers.py"
    file.write_text("def affine_forward(x): return x, None\n")
    (check,) = convcore.check(file).layers[0].checks
    assert "raised TypeError" in check.message
    assert "affine_forward(x, w, b) -> out, cache" in check.advice


def test_other_seeds_give_the_same_verdict(direct):
    for seed in (1, 2):
        assert convcore.check(STUDENTS / "naive.py", seed=seed).passed
        found = checks_of(convcore.check(STUDENTS / "two_mistakes.py", seed=seed))
        assert found["conv", "out"].cause == "kernel flipped and padding ignored"

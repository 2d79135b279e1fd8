"""``convcore insight``: each word prints its numbers, and draws them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from convcore import cli as command_line
from convcore import data
from convcore.cli.insight import TOPICS


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run ``convcore insight ...`` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        try:
            code = command_line.main(["insight", *map(str, words)])
        except SystemExit as left:
            code = left.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


ARGUMENTS = {
    "confusion": ("FILE",),
    "errors": ("FILE",),
    "curves": ("HISTORY",),
    "filters": ("FILE",),
    "features": ("FILE", "--index", "3", "--layers", "1", "4"),
    "patches": ("FILE", "--layer", "1", "--units", "0", "2", "--top", "3", "--images", "50"),
    "dissect": ("FILE", "--images", "50"),
    "saliency": ("FILE", "--index", "0", "1", "--class", "3"),
    "gradcam": ("FILE", "digit.npy"),
    "receptive-field": ("FILE", "--layer", "4", "--unit", "0", "9"),
    "adversarial": ("FILE", "--images", "50"),
    "statistics": ("FILE", "--images", "50"),
}


def words_of(what, trained):
    history = trained.folder / "lenet5.history.json"
    return [{"FILE": trained.file, "HISTORY": history}.get(word, word) for word in ARGUMENTS[what]]


@pytest.mark.parametrize("what", TOPICS)
def test_insight_prints_and_draws(run, trained, tmp_path, what):
    np.save("digit.npy", data.load_uint8("digits", "test")[0][0] * 15)
    words = words_of(what, trained)
    code, out, err = run(what, *words)
    assert (code, err) == (0, "")
    assert "\n-----" in out
    code, out, err = run(what, *words, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["picture"] is None
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    code, out, err = run(what, *words, "-o", "picture.png")
    assert (code, err) == (0, "")
    assert out.endswith("\nsaved: picture.png\n")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_insight_takes_networks_by_name(run):
    code, out, _ = run("receptive-field", "resnet20", "--layer", "layer1.0.activation")
    assert code == 0
    assert "sees rows 13 to 19 and columns 13 to 19" in out


def test_insight_compares_epsilons_and_groups(run, trained):
    np.save("groups.npy", np.array(["left", "right"])[data.load("digits", "test").y % 2])
    code, out, _ = run("errors", trained.file, "--groups", "groups.npy", "--json")
    assert code == 0
    assert [group["name"] for group in json.loads(out)["groups"]] == ["left", "right"]
    code, out, _ = run(
        "adversarial", trained.file, "--epsilon", "0", "0.2", "--images", "60", "--json"
    )
    assert code == 0
    accuracy = json.loads(out)["accuracy"]
    assert accuracy[0] > accuracy[1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("confuson", "FILE"), 2, "'confuson' is nothing to look at: expected one of confusion, "),
        (("confuson", "FILE"), 2, "(did you mean 'confusion'?)"),
        ((), 2, "the following arguments are required: WHAT"),
        (("gradcam", "none.safetensors"), 1, "none.safetensors"),
        (("gradcam", "FILE", "--layer", "44"), 1, "layer is not known: expected one of '0', '1',"),
        (("gradcam", "FILE", "--class", "ten"), 2, "'ten' is no class: expected one of 0, 1, 2"),
        (("gradcam", "FILE", "--index", "355"), 2, "expected less than 355, got 355"),
        (("gradcam", "FILE", "a.npy", "--index", "1"), 2, "--index does not go with pictures"),
        (("saliency", "FILE", "bad.npy"), 1, "bad.npy cannot be read: expected a .npy file of"),
        (("saliency", "FILE", "none.npy"), 1, "none.npy: No such file or directory"),
        (("curves", "bad.npy"), 1, "bad.npy is no history: expected a file of convcore train"),
        (("errors", "FILE", "--groups", "few.npy"), 1, "expected one group for each of 355 test"),
        (
            ("patches", "FILE", "--units", "16"),
            1,
            "units is out of range: expected indices below 16",
        ),
        (
            ("filters", "FILE", "-o", "a.bmp"),
            2,
            "-o: expected a file ending in .png, .pdf, .svg, got",
        ),
        (("filters", "FILE", "-o", "none/a.png"), 1, "a.png cannot be written: there is no folder"),
        (
            ("filters", "FILE", "--layer", "1"),
            1,
            "layer has no filters: expected one of '0', '3', ",
        ),
        (("adversarial", "FILE", "a.png"), 2, "(see convcore insight adversarial --help)"),
        (("adversarial", "FILE", "--epsilon", "2"), 2, "expected a number from 0 to 1, got '2'"),
        (("receptive-field", "lenet", "--layer", "1"), 2, "'lenet' is no network: expected one of"),
        (("receptive-field", "lenet5", "--layer", "0", "--unit", "9", "28"), 1, "below (28, 28)"),
    ],
)
def test_insight_errors(run, trained, tmp_path, words, code, message):
    if any(str(word).endswith("png") for word in words):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    (tmp_path / "bad.npy").write_bytes(b"no numbers")
    np.save(tmp_path / "few.npy", np.zeros(3))
    got, out, err = run(*(trained.file if word == "FILE" else word for word in words))
    assert (got, out) == (code, "")
    assert message in err
    assert re.fullmatch(r"convcore insight( [a-z-]+)?: error: .*\n", err)

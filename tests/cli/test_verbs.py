"""``convcore test``, ``predict``, ``summary``, ``info``, and what all verbs share."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import convcore
import convcore.cli
from convcore import cuda, data, models, serialization
from data_files import mnist_files, write

VERBS = (
    "train", "test", "predict", "insight", "summary", "explain", "check", "lab", "time", "tune", "bench", "filter", "info",
)  # fmt: skip


@pytest.fixture
def pil():
    return pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def digits(count):
    """Return the first test images, 8 x 8 values from 0 to 255, and their labels."""
    images, labels = data.load_uint8("digits", "test")
    return (images[:count, 0] * 255.0 / 16).round().astype(np.uint8), labels[:count]


# ---- all verbs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples(cli, verb):
    done = cli(verb, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"\nexamples:\n  convcore {verb}" in done.out
    assert "--json" in done.out


def test_help_names_every_verb(cli):
    done = cli("--help")
    assert done.code == 0
    for verb in VERBS:
        assert f"\n  convcore {verb} " in done.out


def test_version(cli):
    assert cli("--version").out == f"convcore {convcore.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--json",), "convcore: error: the following arguments are required: VERB"),
        (("trian", "lenet5"), "convcore: error: 'trian' is no verb: expected one of train, test, "),
        (("trian", "lenet5"), "(did you mean 'train'?)"),
        (("info", "--jsn"), "convcore info: error: unrecognized arguments: --jsn"),
        (("summary", "lenet"), "'lenet' is no network: expected one of mlp, lenet5, "),
        (
            ("summary", "lenet5", "--input", "28"),
            "expected a square picture, as in 1x28x28, got 28",
        ),
        (("summary", "lenet5", "--input", "1xax2"), "expected sizes of at least 1, as in 1x28x28"),
        (("predict", "a.safetensors"), "the following arguments are required: IMAGE"),
        (("predict", "a", "b", "--top", "0"), "argument --top: expected an integer of at least 1"),
    ],
)
def test_usage_errors(cli, words, message):
    done = cli(*words)
    assert done.code == 2
    assert message in done.error


def test_no_word_at_all_prints_the_help(cli):
    done = cli()
    assert (done.code, done.out) == (2, "")
    assert done.err == cli("--help").out


def test_no_hint_at_a_name_that_is_not_near(cli):
    assert cli("summary", "transformer").error.endswith("resnet34, resnet50")


def test_interrupted_while_starting(monkeypatch, capsys):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(convcore.cli, "_parse", interrupt)
    assert convcore.cli.main([]) == 130
    assert capsys.readouterr().err == "convcore: interrupted\n"


LIGHT = """
import sys
from convcore.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as exit:
    code = exit.code
heavy = ["convcore.engine", "convcore.nn", "convcore.data", "tqdm", "safetensors", "PIL", "pooch"]
print([name for name in heavy if name in sys.modules], code, file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--help"], ["info"], ["info", "--json"], ["train", "--help"]])
def test_light_commands_import_nothing_heavy(words):
    done = subprocess.run([sys.executable, "-c", LIGHT, *words], capture_output=True, text=True)
    assert done.stderr == "[] 0\n"


# ---- test ----------------------------------------------------------------------------------------


def test_test_agrees_with_the_training(cli, trained):
    document = cli("test", trained.file, "--json").json
    history = convcore.History.from_json((trained.folder / "lenet5.history.json").read_text())
    assert document["data"] == "digits"
    assert document["images"] == 355
    assert document["accuracy"] == history.history["val_accuracy"][-1]
    assert sum(row["images"] for row in document["classes"]) == 355
    right = sum(row["correct"] for row in document["classes"])
    assert right / 355 == document["accuracy"]
    assert [row["class"] for row in document["classes"]] == list("0123456789")
    for row in document["classes"]:
        assert row["accuracy"] == row["correct"] / row["images"]


def test_test_prints_a_table_of_classes(cli, trained):
    done = cli("test", trained.file)
    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[0] == "data      digits, 355 test images"
    assert lines[4].split() == ["class", "images", "right", "accuracy"]
    assert len(lines) == 6 + 10


def test_test_on_another_data_set(cli, trained, tmp_path):
    files, _ = mnist_files(7)
    write(tmp_path / "mnist", files)
    document = cli("test", trained.file, "--data", "mnist", "--data-dir", tmp_path, "--json").json
    assert document["images"] == 7
    empty = [row for row in document["classes"] if row["images"] == 0]
    assert empty
    assert all(row["accuracy"] is None for row in empty)


def test_test_without_knowing_the_data(cli, tmp_path):
    models.lenet5().save(tmp_path / "bare.safetensors")
    done = cli("test", "bare.safetensors")
    assert done.code == 2
    assert "bare.safetensors does not say what it was trained on: expected --data" in done.error
    assert cli("test", "bare.safetensors", "--data", "digits").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("test", "none.safetensors"), "test: error: there is no file 'none.safetensors'"),
        (("test", "broken"), "test: error: 'broken' cannot be read: expected a whole"),
        (("predict", "broken", "a.png"), "predict: error: 'broken' cannot be read"),
        (("summary", "broken"), "summary: error: 'broken' cannot be read"),
        (("test", "two", "--data", "digits"), "expected 10 values per image, got an output of"),
        (("test", "colour", "--data", "digits"), "does not fit digits: expected images of 3 x"),
        (("test", "colou"), "error: there is no file 'colou' (did you mean 'colou.safetensors'?)"),
    ],
)
def test_errors_of_files(cli, tmp_path, words, message):
    (tmp_path / "broken").write_bytes(b"\x10\0\0\0\0\0\0\0not json")
    models.lenet5().save(tmp_path / "bare")
    models.lenet5(num_classes=2).save(tmp_path / "two")
    card = {
        "model": "lenet5",
        "data": "cifar10",
        "input_shape": [3, 32, 32],
        "classes": list("0123456789"),
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    models.lenet5(in_channels=3, image_size=32).save(tmp_path / "colour", extra=card)
    (tmp_path / "colou.safetensors").touch()
    done = cli(*words)
    assert done.code == 1
    assert message in done.error


# ---- predict -------------------------------------------------------------------------------------


def test_predict_a_batch(cli, trained, tmp_path):
    images, labels = digits(20)
    np.save(tmp_path / "batch.npy", images[:, None])
    document = cli("predict", trained.file, "batch.npy", "--top", 10, "--json").json
    rows = document["predictions"]
    assert [row["index"] for row in rows] == list(range(20))
    best = [row["top"][0]["class"] for row in rows]
    assert np.mean([int(b) == label for b, label in zip(best, labels, strict=True)]) >= 0.9
    for row in rows:
        probabilities = [guess["probability"] for guess in row["top"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)


def test_predict_a_picture_and_an_array(cli, trained, tmp_path, pil):
    images, _ = digits(1)
    np.save(tmp_path / "a.npy", images[0])
    pil.fromarray(images[0]).save(tmp_path / "a.png")
    pil.fromarray(255 - images[0]).save(tmp_path / "black-on-white.png")
    names = ["a.npy", "a.png", "black-on-white.png"]
    document = cli("predict", trained.file, *names, "--json").json
    rows = document["predictions"]
    assert [row["image"] for row in rows] == names
    assert [len(row["top"]) for row in rows] == [3, 3, 3]
    assert rows[0]["top"] == rows[1]["top"]
    assert rows[2]["top"][0]["class"] == rows[1]["top"][0]["class"]  # turned by itself


def test_predict_inverts_as_told(cli, trained, tmp_path):
    images, _ = digits(1)
    np.save(tmp_path / "a.npy", images[0])
    np.save(tmp_path / "b.npy", 255 - images[0])

    def top(name, invert):
        done = cli("predict", trained.file, name, "--invert", invert, "--json")
        guesses = done.json["predictions"][0]["top"]
        return {guess["class"]: guess["probability"] for guess in guesses}

    right = top("a.npy", "no")
    assert top("a.npy", "auto") == right
    assert top("b.npy", "auto") == top("b.npy", "yes") == pytest.approx(right, abs=1e-4)
    assert top("a.npy", "yes") == pytest.approx(top("b.npy", "no"), abs=1e-4)
    assert top("b.npy", "no") != pytest.approx(right, abs=1e-4)


def test_predict_prints_a_table(cli, trained, tmp_path):
    images, _ = digits(2)
    np.save(tmp_path / "one.npy", images[0])
    np.save(tmp_path / "two.npy", images[:, :, :, None])
    done = cli("predict", trained.file, "one.npy", "two.npy", "--top", 1)
    lines = done.out.splitlines()
    assert done.code == 0
    assert [line.split()[0] for line in lines[2:]] == ["one.npy", "two.npy[0]", "two.npy[1]"]
    assert all(line.endswith("%") for line in lines[2:])


def test_predict_an_empty_batch(cli, trained, tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 1, 28, 28), np.float32))
    assert cli("predict", trained.file, "none.npy").out == "no images\n"


def test_predict_with_a_network_that_does_not_know_its_data(cli, trained, tmp_path):
    convcore.load(trained.file).save(tmp_path / "bare.safetensors")
    images, _ = digits(3)
    np.save(tmp_path / "a.npy", images[:, None])
    done = cli("predict", "bare.safetensors", "a.npy")
    assert done.code == 2
    assert "bare.safetensors does not say what its input and its classes are" in done.error
    assert "expected --data NAME" in done.error
    named = cli("predict", "bare.safetensors", "a.npy", "--data", "digits", "--json").json
    known = cli("predict", trained.file, "a.npy", "--data", "digits", "--json").json
    assert named["predictions"] == known["predictions"]
    done = cli("predict", trained.file, "a.npy", "--data", "mnist")
    assert done.code == 2
    assert "expected digits, on which it was trained (leave it out), got mnist" in done.error


def test_predict_does_what_it_can(cli, trained, tmp_path):
    np.save(tmp_path / "good.npy", digits(1)[0][0])
    np.save(tmp_path / "bright.npy", np.full((8, 8), 255.0))
    names = ("none.npy", "good.npy", "bright.npy")
    done = cli("predict", trained.file, *names)
    assert done.code == 1
    assert [line.split()[0] for line in done.out.splitlines()[2:]] == ["good.npy"]
    first, second = done.err.splitlines()
    assert first == "convcore predict: error: none.npy: No such file or directory"
    assert second.startswith("convcore predict: error: bright.npy has values out of range")
    done = cli("predict", trained.file, *names, "--json")
    assert done.code == 1
    assert [row["image"] for row in done.json["predictions"]] == ["good.npy"]
    assert [row["image"] for row in done.json["errors"]] == ["none.npy", "bright.npy"]


@pytest.mark.parametrize("name", ["none.png", "text.png", "none.npy", "text.npy"])
def test_predict_errors(cli, trained, tmp_path, name, pil):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.npy").write_text("no array")
    done = cli("predict", trained.file, name)
    assert done.code == 1
    assert done.error.startswith("convcore predict: error: ")
    assert name in done.error


# ---- summary -------------------------------------------------------------------------------------


def test_summary_of_a_name(cli):
    document = cli("summary", "lenet5", "--json").json
    assert document["parameters"] == 61706
    assert document["input_shape"] == [1, 28, 28]
    assert document["output_shape"] == [10]
    assert [row["layer"] for row in document["rows"]][:3] == ["Conv2d", "ReLU", "MaxPool2d"]


def test_summary_of_a_residual_network(cli):
    document = cli("summary", "resnet20", "--json").json
    assert document["input_shape"] == [3, 32, 32]
    assert document["parameters"] == 269722
    assert cli("summary", "resnet20", "--input", "1x28x28", "--json").json["output_shape"] == [10]


def test_summary_of_a_network_for_imagenet(cli):
    document = cli("summary", "resnet18", "--json").json
    assert document["input_shape"] == [3, 224, 224]
    assert document["parameters"] == 11689512
    assert document["output_shape"] == [1000]


def test_a_network_name_that_is_nearly_right(cli):
    assert cli("summary", "alxnet").error.endswith("(did you mean 'alexnet'?)")


def test_summary_of_a_file_prints_the_table(cli, trained):
    done = cli("summary", trained.file)
    assert done.code == 0
    assert "61,706 parameters" in done.out
    assert done.out == cli("summary", "lenet5").out


def test_summary_of_another_input(cli):
    document = cli("summary", "lenet5", "--input", "3x32x32", "--json").json
    assert document["rows"][0]["parameters"] == 6 * (3 * 25 + 1)


def test_summary_names_the_layer_that_does_not_fit(cli, trained):
    done = cli("summary", trained.file, "--input", "3x28x28")
    assert done.code == 1
    assert "summary: error: layer '0' (Conv2d) does not fit its input" in done.error


# ---- info ----------------------------------------------------------------------------------------


def test_info_json(cli):
    document = cli("info", "--json", CONVCORE_NUM_THREADS="3").json
    assert document["version"] == convcore.__version__
    assert document["numpy"] == np.__version__
    assert document["threads"] == 3
    assert document["instruction_set"] in document["reachable_instruction_sets"]
    assert document["cuda"]["available"] == (document["cuda"]["reason"] is None)
    assert document["cuda"]["available"] == (document["cuda"]["device"] is not None)


def test_info_tells_why_cuda_cannot_be_used(cli):
    if cuda.is_available():
        pytest.skip("it can be used here")
    assert f"not available: {cuda.reason()}" in cli("info").out


def test_info_says_which_instruction_set_is_in_use(cli):
    assert cli("info", "--json", CONVCORE_ISA="baseline").json["instruction_set"] == "baseline"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_info_names_the_openmp_library(cli):
    (runtime,) = cli("info", "--json").json["openmp"]["runtimes"]
    assert "omp" in runtime
    assert runtime in cli("info").out


def test_info_where_the_system_does_not_tell(monkeypatch, capsys):
    from pathlib import Path

    from convcore.cli import main

    def fail(self, *args, **kwargs):
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", fail)
    assert main(["info"]) == 0
    assert "libraries not known on this system" in capsys.readouterr().out


def test_extra_of_a_file_without_any(tmp_path):
    models.lenet5().save(tmp_path / "a")
    assert serialization.load_extra(tmp_path / "a") == {}

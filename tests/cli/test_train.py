"""``convcore train``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import convcore
from convcore import serialization
from convcore.cli import main
from convcore.cli._recipes import DATA, MODELS, family, rate_factor
from convcore.data import _cifar10
from data_files import write


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def weights(folder, name="lenet5.safetensors"):
    return {k: v.tobytes() for k, v in convcore.load(folder / name).state_dict().items()}


SHORT = ("train", "lenet5", "--batch-size", 128, "--quiet", "--json")


# ---- the command of the README -------------------------------------------------------------------


def test_train_learns_the_digits(trained):
    assert trained.done.code == 0, trained.done.err
    history = convcore.History.from_json((trained.folder / "lenet5.history.json").read_text())
    assert history.epoch == list(range(family("lenet5").recipes["digits"].epochs))
    assert history.history["val_accuracy"][-1] >= 0.98


def test_train_prints_a_table_and_progress_on_stderr(trained):
    table = dict(line.split("  ", 1) for line in trained.done.out.splitlines())
    table = {name: value.strip() for name, value in table.items()}
    assert list(table) == [
        "network", "data", "epochs", "test accuracy", "test loss", "time", "saved"
    ]  # fmt: skip
    assert table["network"] == "lenet5, 61,706 parameters"
    assert table["data"] == "digits, 1,442 training images, 355 test images"
    assert float(table["test accuracy"].rstrip("%")) >= 98
    assert table["test loss"].endswith(" (the losses per epoch include label smoothing 0.1)")
    assert table["saved"] == "lenet5.safetensors, lenet5.history.json"
    epochs = family("lenet5").recipes["digits"].epochs
    assert trained.done.err.startswith(
        "convcore train: lenet5 on digits: 1,442 training images, validation = test split of 355; "
        f"adam, learning rate 0.003, batches of 32; epochs 1 to {epochs}\nepoch 1/{epochs}: "
    )
    for epoch in (1, epochs):
        assert f"epoch {epoch}/{epochs}: loss " in trained.done.err


def test_train_leaves_weights_and_history_only(trained):
    assert files(trained.folder) == ["lenet5.history.json", "lenet5.safetensors"]


def test_train_saves_what_a_prediction_needs(trained):
    extra = serialization.load_extra(trained.file)
    data = convcore.data.load("digits", "test")
    assert extra["data"] == "digits"
    assert extra["input_shape"] == [1, 28, 28]
    assert extra["classes"] == list(data.classes)
    assert (extra["mean"], extra["std"]) == (list(data.mean), list(data.std))


# ---- options -------------------------------------------------------------------------------------


def test_train_json_is_one_document(cli):
    done = cli("train", "lenet5", "--epochs", 1, "--json")
    document = done.json
    assert done.code == 0
    assert "\nepoch 1/1: " in done.err
    assert document["parameters"] == 61706
    assert (document["train_images"], document["test_images"]) == (1442, 355)
    assert document["output"] == "lenet5.safetensors"
    assert document["interrupted"] is False
    assert document["test_accuracy"] == document["history"]["val_accuracy"][-1]


def test_train_quiet_says_nothing_on_stderr(cli):
    done = cli("train", "lenet5", "--epochs", 1, "--batch-size", 128, "--quiet")
    assert (done.code, done.err) == (0, "")


def test_train_same_seed_same_bits_at_any_number_of_threads(cli, tmp_path):
    for name, seed, threads in (("a", 3, 1), ("b", 3, 3), ("c", 4, 1)):
        words = ("--epochs", 2, "--seed", seed, "--threads", threads, "--output", name)
        assert cli(*SHORT, *words).code == 0
    assert weights(tmp_path, "a") == weights(tmp_path, "b")
    assert weights(tmp_path, "a") != weights(tmp_path, "c")


@pytest.mark.parametrize(
    "words",
    [
        ("--optimizer", "sgd"),
        ("--optimizer", "sgd", "--lr", "0.05", "--momentum", "0.8", "--weight-decay", "1e-4"),
        ("--optimizer", "adamw", "--weight-decay", "0.1", "--lr-decay", "0.9"),
    ],
)
def test_train_optimizers_learn(cli, words):
    done = cli("train", "lenet5", "--epochs", 4, "--quiet", "--json", *words)
    assert done.json["test_accuracy"] > 0.85


def test_train_diverging_gives_null_for_nan(cli):
    done = cli(*SHORT, "--epochs", 1, "--optimizer", "sgd", "--lr", "1e30")
    assert done.json["test_loss"] is None
    assert done.json["history"]["loss"] == [None]
    assert done.err.startswith(
        "convcore train: warning: the loss became NaN or infinite in epoch 1, batch "
    )
    assert done.err.count("\n") == 1


def test_train_diverging_leaves_an_older_file_alone(cli, tmp_path):
    assert cli(*SHORT, "--epochs", 1).code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = cli(*SHORT, "--epochs", 1, "--optimizer", "sgd", "--lr", "1e30")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1] == (
        "convcore train: error: the training diverged: the weights have become NaN or infinite, so "
        "lenet5.safetensors stays as it was (try a smaller --lr)"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_train_patience_stops_when_the_validation_loss_stays(cli):
    document = cli(*SHORT, "--epochs", 9, "--lr", 0, "--patience", 2).json
    assert document["epochs"] == 3


def test_train_output_elsewhere(cli, tmp_path):
    (tmp_path / "models").mkdir()
    done = cli(*SHORT, "--epochs", 1, "--output", "models/a.safetensors")
    assert done.json["history_file"] == "models/a.history.json"
    assert files(tmp_path) == ["models"]
    assert files(tmp_path / "models") == ["a.history.json", "a.safetensors"]


# ---- Ctrl-C and going on -------------------------------------------------------------------------

# A shell gives a process in the background an ignored SIGINT; a test must not depend on that.
ON_A_TERMINAL = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from convcore.cli import main; sys.exit(main())"
)


def interrupt(cli, words, after):
    """Run a training, press Ctrl-C when a line on stderr begins with `after`, return the rest."""
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *map(str, words)],
        cwd=cli.folder,
        env=cli.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        for line in process.stderr:
            if line.startswith(after):
                break
        else:
            pytest.fail("the training ended by itself")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    return process.returncode, out, err


needs_signals = pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")


@needs_signals
def test_train_interrupted_and_resumed_gives_the_same_bits(cli, tmp_path):
    words = ("train", "lenet5", "--epochs", 12, "--batch-size", 16, "--seed", 5)
    whole = cli(*words, "--output", "whole.safetensors", "--json", "--quiet").json

    # The line of epoch 2 comes after the checkpoint of epoch 1 is complete.
    code, out, err = interrupt(cli, words, after="epoch 2/12")
    assert (code, out) == (130, "")
    last = err.splitlines()[-1]
    assert last.startswith("convcore train: interrupted; ")
    assert last.endswith(
        "kept in lenet5.ckpt; go on with: convcore train lenet5 --resume lenet5.ckpt"
    )
    kept = int(last.split()[3])
    assert 1 <= kept < 12
    assert not (tmp_path / "lenet5.safetensors").exists()
    assert files(tmp_path / "lenet5.ckpt") == ["checkpoint.safetensors"]

    done = cli("train", "lenet5", "--resume", "lenet5.ckpt", "--json", "--threads", 1)
    assert done.code == 0, done.err
    assert done.err.splitlines()[1].startswith(f"epoch {kept + 1}/12: ")
    resumed = done.json
    assert weights(tmp_path) == weights(tmp_path, "whole.safetensors")
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert resumed["history"][name] == whole["history"][name]
    assert resumed["test_loss"] == whole["test_loss"]
    saved = json.loads((tmp_path / "lenet5.history.json").read_text())
    assert saved["epoch"] == list(range(12))
    assert not (tmp_path / "lenet5.ckpt").exists()  # served


@needs_signals
def test_train_interrupted_with_json_and_a_folder_of_ones_own(cli, tmp_path):
    words = ("train", "lenet5", "--epochs", 12, "--batch-size", 16, "--checkpoint", "my folder")
    code, out, err = interrupt(cli, (*words, "--json"), after="epoch 2/12")
    document = json.loads(out)
    assert code == 130
    assert document["interrupted"] is True
    assert document["checkpoint"] == "my folder"
    assert 1 <= document["epochs"] < 12
    assert "--resume 'my folder'" in err
    done = cli("train", "lenet5", "--resume", "my folder", "--epochs", 3, "--json", "--quiet")
    assert done.json["epochs"] == max(3, document["epochs"])
    assert (tmp_path / "my folder" / "checkpoint.safetensors").exists()  # kept: it was named


def raise_interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def test_train_interrupted_in_the_first_epoch(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(convcore.Model, "fit", raise_interrupt)
    assert main(["train", "lenet5", "--json", "--quiet"]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out) == {"interrupted": True, "epochs": 0, "checkpoint": None}
    assert err == (
        "convcore train: interrupted; "
        "the first epoch was not complete, so there is nothing to go on from\n"
    )
    assert files(tmp_path) == []


def test_train_interrupted_right_after_a_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*map(str, SHORT), "--epochs", "1", "--checkpoint", "c"]) == 0
    monkeypatch.setattr(convcore.Model, "fit", raise_interrupt)
    assert main(["train", "lenet5", "--resume", "c"]) == 130
    assert "interrupted; 1 complete epoch is kept in c; go on with: " in capsys.readouterr().err


def test_train_interrupted_while_reading_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(convcore.data, "load", raise_interrupt)
    assert main(["train", "lenet5"]) == 130
    assert capsys.readouterr().err == "convcore train: interrupted\n"


def test_train_resume_goes_further_and_may_not_change_what_was(cli, tmp_path):
    assert cli(*SHORT, "--epochs", 4, "--patience", 9, "--output", "whole").code == 0
    assert cli(*SHORT, "--epochs", 2, "--patience", 9, "--checkpoint", "c").code == 0
    error = cli("train", "lenet5", "--resume", "c", "--lr", "0.5").error
    assert error.startswith("convcore train: error: --lr does not fit the training in c: expected")
    assert "got 0.5" in error
    done = cli("train", "lenet5", "--resume", "c", "--epochs", 4, "--quiet")
    assert done.code == 0, done.err
    assert weights(tmp_path) == weights(tmp_path, "whole")


def test_train_resume_of_a_complete_training_saves_again(cli, tmp_path):
    first = cli(*SHORT, "--epochs", 2, "--checkpoint", "c").json
    before = weights(tmp_path)
    (tmp_path / "lenet5.safetensors").unlink()
    done = cli("train", "lenet5", "--resume", "c", "--json")
    assert done.err == "convcore train: 2 epochs are done already: nothing left to do\n"
    again = done.json
    assert again["epochs"] == 2
    assert again["test_loss"] == first["test_loss"]
    assert weights(tmp_path) == before


def test_train_resume_remembers_the_patience(cli):
    words = ("--lr", 0, "--patience", 3, "--checkpoint", "c")
    assert cli(*SHORT, "--epochs", 2, *words).json["epochs"] == 2
    assert cli("train", "lenet5", "--resume", "c", "--epochs", 9, "--json").json["epochs"] == 4
    # It had ended: one more resume trains no further.
    assert cli("train", "lenet5", "--resume", "c", "--epochs", 9, "--json").json["epochs"] == 4


def test_train_says_that_a_checkpoint_will_be_replaced(cli):
    assert cli(*SHORT, "--epochs", 1, "--checkpoint", "c").err == ""
    done = cli(*SHORT, "--epochs", 1, "--checkpoint", "c")
    assert done.code == 0
    assert done.err == (
        "convcore train: c holds another training (see --resume); the first epoch will replace it\n"
    )


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lenet4",), "'lenet4' is no network: expected one of mlp, lenet5, "),
        (("lenet4",), "(did you mean 'lenet5'?)"),
        (("lenet5", "--schedule", "cos"), "expected one of exponential, cosine, steps"),
        (
            ("resnet20", "--lr-decay", "0.5"),
            "--lr-decay does not fit the cosine schedule: expected --schedule exponential",
        ),
        (("lenet5", "--data", "minst"), "'minst' is not known: expected one of digits, mnist, "),
        (("lenet5", "--data", "minst"), "(did you mean 'mnist'?)"),
        (("lenet5", "--optimizer", "adamm"), "expected one of adam, adamw, sgd (did you mean"),
        (("lenet5", "--epochs", "0"), "argument --epochs: expected an integer of at least 1"),
        (("lenet5", "--epochs", "two"), "expected an integer of at least 1, got 'two'"),
        (("lenet5", "--lr", "nan"), "argument --lr: expected a number of at least 0, got 'nan'"),
        (("lenet5", "--lr-decay", "2"), "--lr-decay: expected a number from 0 to 1, got '2'"),
        (("lenet5", "--momentum", "0.9"), "--momentum does not fit adam: expected --optimizer sgd"),
        (("lenet5", "--epoch", "3"), "unrecognized arguments: --epoch 3"),
        ((), "the following arguments are required: MODEL"),
    ],
)
def test_train_usage_errors(cli, tmp_path, words, message):
    done = cli("train", *words)
    assert done.code == 2
    assert done.error.startswith("convcore")
    assert message in done.error
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output", "none/a.safetensors"), "cannot be written: there is no folder none"),
        (("--output", "folder"), "folder cannot be written: it is a folder"),
        (("--output", "file/a"), "file/a cannot be written: there is no folder file"),
        (("--checkpoint", "file/c"), "file/c cannot be written: file is not a folder"),
        (("--resume", "none"), "error: there is no file"),
        (("--resume", "broken"), "cannot be read: expected a whole safetensors file"),
        (("--data", "mnist", "--data-dir", "none"), "error: data_dir is not a folder"),
    ],
)
def test_train_errors_before_the_first_step(cli, tmp_path, words, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "checkpoint.safetensors").write_text("broken")
    before = files(tmp_path)
    done = cli("train", "lenet5", *words)
    assert done.code == 1
    assert done.error.startswith("convcore train: error: ")
    assert message in done.error
    assert files(tmp_path) == before


@pytest.mark.skipif(
    os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="permissions do not bind this user",
)
def test_train_read_only_folder(cli, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    done = cli("train", "lenet5", "--output", "locked/a.safetensors")
    assert done.code == 1
    assert "locked/a.safetensors cannot be written: locked: Permission denied" in done.error


def test_train_resume_of_something_else(cli, tmp_path):
    from convcore import nn, optim

    model = nn.Sequential(nn.Linear(2, 2))
    serialization.save_checkpoint(
        tmp_path / "c", model, optim.SGD(model.parameters()), 1, convcore.History()
    )
    done = cli("train", "lenet5", "--resume", "c")
    assert (done.code, done.error) == (
        1,
        "convcore train: error: c is no checkpoint of convcore train",
    )


def test_train_failing_downloads_leave_nothing(cli, tmp_path):
    pytest.importorskip("pooch")
    missing = "http://127.0.0.1:9/nothing"  # the discard port: refused at once
    done = cli("train", "lenet5", "--data", "mnist", CONVCORE_MIRRORS=missing)
    assert done.code == 1
    assert "\nconvcore train: error: mnist could not be downloaded: expected train-" in done.err
    assert f"  {missing}/mnist/train-images-idx3-ubyte.gz: no connection\nTo do it" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "lenet5.safetensors").exists()


def test_train_traceback_on_request(cli):
    done = cli("train", "lenet5", "--output", "none/a", CONVCORE_TRACEBACK="1")
    assert done.code == 1
    assert "Traceback (most recent call last)" in done.err


# ---- other data sets -----------------------------------------------------------------------------


def test_train_recipes_are_the_data_sets():
    assert convcore.data.NAMES == DATA
    assert tuple(convcore.models.names()) == MODELS
    for model in MODELS:
        assert tuple(family(model).recipes) == DATA


@pytest.mark.parametrize(
    ("schedule", "epochs", "want"),
    [
        ("exponential", 4, [1, 0.5, 0.25, 0.125]),
        ("cosine", 4, [1, (1 + np.sqrt(0.5)) / 2, 0.5, (1 - np.sqrt(0.5)) / 2]),
        ("steps", 8, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("steps", 5, [1, 1, 1, 0.1, 0.01]),
    ],
)
def test_train_schedules(schedule, epochs, want):
    got = [rate_factor(schedule, 0.5, epoch, epochs) for epoch in range(epochs)]
    assert got == pytest.approx(want)


@pytest.fixture
def colours(tmp_path, monkeypatch, capsys):
    """Give what runs a command in this process, where the batches of CIFAR-10 can be small."""
    monkeypatch.setattr(_cifar10, "RECORDS", 40)
    monkeypatch.chdir(tmp_path)
    records = np.random.default_rng(0).integers(0, 256, (40, 3073), np.uint8)
    records[:, 0] %= 10
    for record in records:  # bright where the label says, so that there is something to learn
        record[1:].reshape(3, 32, 32)[:, 3 * record[0] : 3 * record[0] + 3] = 255
    names = (*_cifar10.BATCHES["train"], *_cifar10.BATCHES["test"])
    write(tmp_path / "cifar10", {name: records.tobytes() for name in names})

    def run(*words):
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


RESNET = ("train", "resnet20", "--data", "cifar10", "--data-dir", ".", "--quiet")


def test_train_resnet_has_the_recipe_of_the_paper(colours):
    trained = colours(*RESNET, "--epochs", 1)
    assert trained["parameters"] == 269722
    want = {
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "batch_size": 128,
        "schedule": "cosine",
        "lr_decay": None,
        "augment": True,
        "label_smoothing": 0.0,
    }
    assert {name: trained[name] for name in want} == want
    tested = colours("test", "resnet20.safetensors", "--data-dir", ".")
    assert tested["accuracy"] == trained["test_accuracy"]


def test_train_resnet_learns(colours):
    trained = colours(*RESNET, "--epochs", 6, "--batch-size", 20, "--no-augment")
    assert trained["history"]["loss"][-1] < 1.0 < trained["history"]["loss"][0]
    assert trained["augment"] is False


def test_train_resnet_resumed_gives_the_same_bits(colours, tmp_path, monkeypatch):
    words = (*RESNET, "--epochs", 3, "--batch-size", 64, "--seed", 4)
    colours(*words, "--output", "whole")
    fit = convcore.Model.fit

    def fit_one(self, *args, **kwargs):
        fit(self, *args, **{**kwargs, "epochs": 1})
        raise KeyboardInterrupt

    monkeypatch.setattr(convcore.Model, "fit", fit_one)
    assert main([*map(str, words)]) == 130
    monkeypatch.setattr(convcore.Model, "fit", fit)
    assert colours("train", "resnet20", "--resume", "resnet20.ckpt", "--quiet")["epochs"] == 3
    assert weights(tmp_path, "resnet20.safetensors") == weights(tmp_path, "whole")


def test_train_resnet_on_the_digits(cli):
    done = cli("train", "resnet20", "--epochs", 1, "--quiet", "--json")
    assert done.code == 0, done.err
    assert np.isfinite(done.json["test_loss"])


def test_train_colour_images(colours, tmp_path):
    run = colours
    trained = run(*SHORT, "--data", "cifar10", "--data-dir", tmp_path, "--epochs", 1)
    assert trained["train_images"] == 200
    tested = run("test", "lenet5.safetensors", "--data-dir", tmp_path)
    assert tested["loss"] == trained["test_loss"]
    assert run("test", "lenet5.safetensors")["loss"] == tested["loss"]  # it knows the folder
    assert run("summary", "lenet5.safetensors")["input_shape"] == [3, 32, 32]


def test_train_does_not_download_when_a_folder_is_named(cli, tmp_path):
    (tmp_path / "folder").mkdir()
    done = cli("train", "lenet5", "--data", "mnist", "--data-dir", "folder")
    assert (done.code, done.out) == (1, "")
    assert "Downloading" not in done.err
    assert "\n  folder: missing train-images-idx3-ubyte[.gz], train-labels-" in done.err
    assert "\nWithout data_dir (--data-dir) they are downloaded.\n" in done.err


@pytest.mark.slow
def test_train_reaches_989_permille_on_mnist_within_five_epochs(cli, real_data):
    done = cli("train", "lenet5", "--data", "mnist", "--json", CONVCORE_DATA=str(real_data))
    document = done.json
    assert document["epochs"] <= 5
    assert document["test_accuracy"] >= 0.989
    tested = cli("test", "lenet5.safetensors", "--json", CONVCORE_DATA=str(real_data)).json
    assert tested["accuracy"] == document["test_accuracy"]
    assert tested["loss"] == document["test_loss"]

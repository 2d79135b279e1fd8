"""Files: models, weights, checkpoints; whole or not at all."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import convcore
from convcore import History, models, nn, optim, serialization
from helpers import floats


def network():
    return nn.Sequential(
        {
            "body": nn.Sequential(
                nn.Conv2d(
                    2, 4, (3, 2), stride=(1, 2), padding=((1, 0), (2, 1)), groups=2, bias=False
                ),
                nn.BatchNorm2d(4, momentum=None),
                nn.LeakyReLU(0.2),
                nn.Residual(nn.Conv2d(4, 4, 3, padding="same"), nn.Identity()),
                nn.AdaptiveAvgPool2d((2, None)),
            ),
            "flatten": nn.Flatten(),
            "head": nn.Linear(40, 3),
        }
    )


X = np.random.default_rng(0).standard_normal((6, 2, 7, 8)).astype(np.float32)


def test_save_and_load_give_the_same_network(tmp_path):
    model = network()
    model(X)  # moves the running statistics
    path = tmp_path / "model.safetensors"
    model.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    state = convcore.get_rng_state()
    again = convcore.load(path)
    assert convcore.get_rng_state() == state
    assert repr(again) == repr(model)
    assert not again.training
    assert list(again.state_dict()) == list(model.state_dict())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)
        assert again.state_dict()[name].dtype == array.dtype
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_saved_file_has_the_keys_of_the_state_dict(tmp_path):
    model = models.lenet5()
    model.save(str(tmp_path / "lenet5.safetensors"))
    tensors = load_file(tmp_path / "lenet5.safetensors")
    assert tensors.keys() == model.state_dict().keys()
    assert tensors["0.weight"].shape == (6, 1, 5, 5)


def test_extra_is_kept_in_models_and_checkpoints(tmp_path):
    extra = {"classes": ["a", "b"], "mean": [0.1], "none": None}
    model = nn.Sequential(nn.Linear(2, 2))
    model.save(tmp_path / "model", extra=extra)
    assert serialization.load_extra(tmp_path / "model") == extra
    optimizer = optim.SGD(model.parameters())
    for given, want in ((extra, extra), (None, {})):
        serialization.save_checkpoint(
            tmp_path / "folder", model, optimizer, 1, convcore.History(), given
        )
        assert serialization.load_extra(tmp_path / "folder") == want
    model.save(tmp_path / "model")
    assert serialization.load_extra(tmp_path / "model") == {}


def test_save_keeps_scalars_and_strided_parameters(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[0].weight.data = np.arange(12, dtype=np.float32).reshape(3, 4).T
    model.save(tmp_path / "m")
    again = convcore.load(tmp_path / "m")
    np.testing.assert_array_equal(again[0].weight.data, np.arange(12).reshape(3, 4).T)
    assert again[1].num_batches_tracked.shape == ()


def test_load_weights_reads_files_without_architecture(tmp_path):
    model, path = network(), tmp_path / "weights.safetensors"
    save_file(model.state_dict(), path)
    other = network()
    assert other.load_weights(path) == ([], [])
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    message = f"load: {str(path)!r} holds no architecture: expected a file written by model.save()"
    with pytest.raises(ValueError, match=re.escape(message)):
        convcore.load(path)


def test_load_weights_names_what_does_not_fit(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"weight": np.zeros((2, 2), np.float32)}, path)
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(
        ValueError, match=r"(?s)load_weights: .*missing keys: expected '0.weight'"
    ) as caught:
        model.load_weights(path)
    assert str(path) in str(caught.value)
    assert "unexpected keys: got 'weight'" in str(caught.value)
    assert model.load_weights(path, strict=False).unexpected_keys == ["weight"]


def test_save_of_a_class_of_ones_own_keeps_the_weights(tmp_path):
    class Mine(nn.ReLU):
        pass

    model = nn.Sequential(nn.Linear(2, 2), Mine())
    model.save(tmp_path / "m")
    with pytest.raises(ValueError, match="holds no architecture"):
        convcore.load(tmp_path / "m")
    assert nn.Sequential(nn.Linear(2, 2)).load_weights(tmp_path / "m") == ([], [])


@pytest.mark.parametrize("read", ["load", "load_weights", "load_checkpoint"])
@pytest.mark.parametrize("damage", ["truncated", "header", "empty", "text", "no_json", "no_object"])
def test_damaged_files_are_named(tmp_path, read, damage):
    path = tmp_path / serialization.CHECKPOINT_NAME
    model = nn.Sequential(nn.Linear(8, 8))
    model.save(path)
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[:-1])
    elif damage == "header":
        path.write_bytes(data[:20])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_bytes(b"<html>404 not found</html>" * 20)
    else:
        content = "{" if damage == "no_json" else "[1]"
        save_file(model.state_dict(), path, metadata={"convcore": content})
    before = model[0].weight.data.copy()
    readers = {
        "load": lambda: convcore.load(path),
        "load_weights": lambda: model.load_weights(path),
        "load_checkpoint": lambda: serialization.load_checkpoint(
            tmp_path, model, optim.SGD(list(model.parameters()), lr=0.1)
        ),
    }
    message = f"{read}: {str(path)!r} cannot be read: expected a whole safetensors file, got"
    with pytest.raises(ValueError, match=re.escape(message)):
        readers[read]()
    np.testing.assert_array_equal(model[0].weight.data, before)


def test_missing_files_are_named(tmp_path):
    path = tmp_path / "none.safetensors"
    with pytest.raises(FileNotFoundError, match=re.escape(f"load: there is no file {str(path)!r}")):
        convcore.load(path)
    with pytest.raises(FileNotFoundError, match="load_checkpoint: there is no file"):
        serialization.load_checkpoint(tmp_path, network(), None)
    with pytest.raises(FileNotFoundError, match=r"save: the folder of .* does not exist"):
        network().save(tmp_path / "no" / "where")


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            {"class": "Evil", "arguments": {}},
            "the class of a layer is not known: expected one of ELU",
        ),
        ({"class": "Linear", "arguments": {"size": 3}}, "unexpected keyword argument"),
        (
            {"class": "Linear", "arguments": {"in_features": 0, "out_features": 1}},
            "in_features is out of range",
        ),
        ({"arguments": {}}, "'class'"),
        ("Sequential", "holds an architecture that cannot be built"),
        ({"class": "Sequential", "arguments": {"layers": {}}}, "unexpected keys: got '0.weight'"),
    ],
)
def test_load_rejects_architectures_that_cannot_be_built(tmp_path, architecture, message):
    path = tmp_path / "m"
    content = json.dumps({"format": 1, "architecture": architecture})
    save_file({"0.weight": np.zeros((2, 2), np.float32)}, path, metadata={"convcore": content})
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        convcore.load(path)
    assert f"load: {str(path)!r} holds an architecture that cannot be built" in str(caught.value)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "m"
    model = nn.Sequential(nn.Linear(2, 2))
    model.save(path)
    before = path.read_bytes()
    model[0].weight.data[...] = 1

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are those of POSIX")
def test_save_keeps_the_permissions_of_the_file_it_replaces(tmp_path):
    path, model = tmp_path / "m", nn.Sequential(nn.Linear(2, 2))
    model.save(path)
    path.chmod(0o640)
    model.save(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_save_goes_through_a_symbolic_link(tmp_path):
    (tmp_path / "store").mkdir()
    real, link = tmp_path / "store" / "real", tmp_path / "link"
    link.symlink_to(real)
    for value in (1.0, 2.0):  # a link to nothing yet, and to a file
        model = nn.Sequential(nn.Linear(2, 2))
        model[0].weight.data[...] = value
        model.save(link)
        assert link.is_symlink()
        assert load_file(real)["0.weight"][0, 0] == value


def test_paths_may_be_bytes(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2))
    path = os.fsencode(tmp_path / "m")
    model.save(path)
    assert repr(convcore.load(path)) == repr(model)
    optimizer = optim.SGD(model.parameters())
    folder = os.fsencode(tmp_path / "folder")
    serialization.save_checkpoint(folder, model, optimizer, 1, History(), {"a": 1})
    assert serialization.load_checkpoint(folder, model, optimizer).epoch == 1
    assert serialization.load_extra(folder) == {"a": 1}


def test_paths_that_name_no_file_are_rejected(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2))
    message = re.escape(f"load: {str(tmp_path)!r} is a folder: expected a file")
    with pytest.raises(ValueError, match=message):
        convcore.load(tmp_path)
    message = re.escape(f"save: {str(tmp_path)!r} is a folder: expected the name of a file")
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path)
    with pytest.raises(
        ValueError, match="save: path is empty: expected the name of a file, got ''"
    ):
        model.save("")
    assert list(tmp_path.iterdir()) == []


def nested(depth):
    description = {"class": "ReLU", "arguments": {}}
    for _ in range(depth):
        layers = {"0": description}
        description = {"class": "Sequential", "arguments": {"layers": layers}}
    return description


@pytest.mark.parametrize(
    "architecture",
    [
        nested(200),
        {"class": "Linear", "arguments": {"in_features": 2**40, "out_features": 2**15}},
        {"class": "Linear", "arguments": {"in_features": 2**62, "out_features": 2**62}},
    ],
    ids=["nested", "large", "overflow"],
)
def test_load_rejects_hostile_architectures(tmp_path, architecture):
    content = json.dumps({"format": 1, "architecture": architecture})
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "m", metadata={"convcore": content})
    with pytest.raises(ValueError, match=r"load: .* holds an architecture that cannot be built"):
        convcore.load(tmp_path / "m")


def test_load_rejects_endless_nesting_in_the_metadata(tmp_path):
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "m", metadata={"convcore": "[" * 100_000})
    with pytest.raises(ValueError, match=r"load: .* cannot be read"):
        convcore.load(tmp_path / "m")


@pytest.mark.torch
def test_load_weights_names_bfloat16(torch, tmp_path):
    from safetensors.torch import save_file as save_torch

    save_torch({"0.weight": torch.zeros(2, 2, dtype=torch.bfloat16)}, tmp_path / "m")
    with pytest.raises(ValueError, match="bfloat16 is not supported: expected float32"):
        nn.Sequential(nn.Linear(2, 2)).load_weights(tmp_path / "m")


# ---- checkpoints ---------------------------------------------------------------------------------


def compiled(optimizer=optim.Adam):
    convcore.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(120, 3),
    )
    model.compile(optimizer=lambda p: optimizer(p, lr=0.01))
    return model


LABELS = np.arange(6) % 3


@pytest.mark.parametrize(
    "optimizer",
    [optim.Adam, optim.AdamW, lambda p, lr: optim.SGD(p, lr=lr, momentum=0.9, nesterov=True)],
    ids=["adam", "adamw", "sgd"],
)
def test_resume_gives_the_same_bits(tmp_path, optimizer):
    whole = compiled(optimizer)
    whole.fit(X, LABELS, epochs=4, batch_size=4, verbose=0)

    first = compiled(optimizer)
    history = first.fit(X, LABELS, epochs=2, batch_size=4, verbose=0)
    path = serialization.save_checkpoint(tmp_path, first, first.optimizer, 2, history)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]

    convcore.manual_seed(99)
    second = compiled(optimizer)
    convcore.random.next_key()
    checkpoint = serialization.load_checkpoint(tmp_path, second, second.optimizer)
    assert checkpoint.epoch == 2
    assert checkpoint.history.history == history.history
    second.fit(X, LABELS, epochs=4, initial_epoch=checkpoint.epoch, batch_size=4, verbose=0)
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(second.state_dict()[name], array, err_msg=name)


def test_checkpoint_that_does_not_fit_changes_nothing(tmp_path):
    model = compiled()
    model.fit(X, LABELS, epochs=1, batch_size=4, verbose=0)
    serialization.save_checkpoint(tmp_path, model, model.optimizer, 1, model.history)

    other = nn.Sequential(nn.Linear(3, 2))
    before, rng_state = other[0].weight.data.copy(), convcore.get_rng_state()
    optimizer = optim.Adam(list(other.parameters()))
    with pytest.raises(
        ValueError, match="is no fitting checkpoint: load_state_dict: the state does not fit"
    ):
        serialization.load_checkpoint(tmp_path, other, optimizer)
    np.testing.assert_array_equal(other[0].weight.data, before)

    # The weights fit, the optimizer does not.
    same = compiled()
    before = {name: array.copy() for name, array in same.state_dict().items()}
    half = optim.Adam(list(same[0].parameters()))
    with pytest.raises(ValueError, match="is no fitting checkpoint: Adam: "):
        serialization.load_checkpoint(tmp_path, same, half)
    for name, array in same.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    convcore.set_rng_state(rng_state)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("epoch", -1),
        ("epoch", 1.5),
        ("epoch", True),
        ("epoch", "1"),
        ("rng_state", [0, -1]),
        ("rng_state", [2**64, 0]),
        ("rng_state", [0.5, 0]),
        ("rng_state", [0]),
        ("rng_state", None),
    ],
)
def test_checkpoint_with_wrong_numbers_changes_nothing(tmp_path, entry, value):
    model = compiled()
    model.fit(X, LABELS, epochs=1, batch_size=4, verbose=0)
    path = serialization.save_checkpoint(tmp_path, model, model.optimizer, 1, model.history)
    with safe_open(path, framework="numpy") as file:
        content = json.loads(file.metadata()["convcore"])
    content["checkpoint"][entry] = value
    save_file(load_file(path), path, metadata={"convcore": json.dumps(content)})

    other = compiled()
    before, rng_state = other[0].weight.data.copy(), convcore.get_rng_state()
    with pytest.raises(ValueError, match=f"is no fitting checkpoint: checkpoint: {entry} "):
        serialization.load_checkpoint(tmp_path, other, other.optimizer)
    np.testing.assert_array_equal(other[0].weight.data, before)
    assert other.optimizer.state == {}
    assert convcore.get_rng_state() == rng_state


@pytest.mark.parametrize(
    ("epoch", "error"), [(-1, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_save_checkpoint_rejects_a_wrong_epoch(tmp_path, epoch, error):
    model = compiled()
    with pytest.raises(error, match="save_checkpoint: epoch "):
        serialization.save_checkpoint(tmp_path, model, model.optimizer, epoch, History())
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_keeps_a_history_with_nan(tmp_path):
    model, history = compiled(), History()
    history.record(0, {"loss": float("nan")})
    serialization.save_checkpoint(tmp_path, model, model.optimizer, 1, history)
    again = serialization.load_checkpoint(tmp_path, model, model.optimizer).history
    assert np.isnan(again.history["loss"][0])


def test_a_model_file_is_no_checkpoint(tmp_path):
    model = compiled()
    model.save(tmp_path / serialization.CHECKPOINT_NAME)
    with pytest.raises(ValueError, match="is no fitting checkpoint: it has no 'checkpoint'"):
        serialization.load_checkpoint(tmp_path, model, model.optimizer)


def test_checkpoint_makes_its_folder(tmp_path):
    model = compiled()
    path = serialization.save_checkpoint(tmp_path / "a" / "b", model, model.optimizer, 0, History())
    assert path == tmp_path / "a" / "b" / "checkpoint.safetensors"


# ---- torch ---------------------------------------------------------------------------------------


@pytest.mark.torch
def test_weights_go_to_torch_and_back(torch, tmp_path, rng):
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(120, 3),
    )
    theirs(torch.tensor(X))
    theirs.eval()
    save_torch(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(120, 3))
    ours.load_weights(tmp_path / "theirs.safetensors")
    want = theirs(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(ours.predict(X), want, rtol=1e-4, atol=1e-5)

    ours[0].weight.data[...] = floats(rng, 4, 2, 3, 3)
    ours.save(tmp_path / "ours.safetensors")
    theirs.load_state_dict(load_torch(tmp_path / "ours.safetensors"))
    want = theirs(torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(ours.predict(X), want, rtol=1e-4, atol=1e-5)
    ours.load_state_dict(theirs.state_dict())


def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="is no regular file"):
        serialization.write_atomically(pipe, b"text")
    assert pipe.is_fifo()
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("a" * 250 + ".json")
    serialization.write_atomically(path, b"text")
    assert path.read_bytes() == b"text"

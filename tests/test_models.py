"""The networks by name, and LeNet-5 against torch."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import convcore
from convcore import models, nn
from helpers import floats


def test_lenet5_has_the_parameters_of_the_paper_with_ten_classes():
    model = models.lenet5()
    summary = model.summary((1, 28, 28), print_fn=None)
    assert summary.parameters == 61706
    assert summary.output_shape == (10,)
    assert summary.multiply_adds == 416520
    assert [row.receptive_field[0] for row in summary.rows][:6] == [5, 5, 6, 14, 14, 16]


@pytest.mark.parametrize(
    ("size", "channels", "classes"), [(28, 1, 10), (32, 3, 100), (12, 1, 2), (29, 2, 3)]
)
def test_lenet5_fits_its_images(rng, size, channels, classes):
    model = models.lenet5(num_classes=classes, in_channels=channels, image_size=size)
    assert model.predict(floats(rng, 2, channels, size, size)).shape == (2, classes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 11}, "lenet5: image_size is out of range: expected at least 12, got 11"),
        ({"num_classes": 0}, "lenet5: num_classes is out of range: expected at least 1, got 0"),
        ({"in_channels": 0}, "lenet5: in_channels is out of range: expected at least 1, got 0"),
    ],
)
def test_lenet5_rejects(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        models.lenet5(**arguments)


def test_models_are_created_by_name():
    assert models.names() == ["lenet5"]
    assert repr(models.create("lenet5", num_classes=3)) == repr(models.lenet5(3))
    with pytest.raises(ValueError, match=re.escape("got 'lenet' (did you mean 'lenet5'?)")):
        models.create("lenet")
    with pytest.raises(
        ValueError, match="create: name is not known: expected one of 'lenet5', got 'vgg'"
    ):
        models.create("vgg")


def test_a_model_saves_and_loads(tmp_path, rng):
    model, x = models.lenet5(), floats(rng, 4, 1, 28, 28)
    model.save(tmp_path / "lenet5.safetensors")
    np.testing.assert_array_equal(
        convcore.load(tmp_path / "lenet5.safetensors").predict(x), model.predict(x)
    )


@pytest.mark.torch
def test_lenet5_gradients_match_torch_by_name(torch, rng):
    t = torch.nn
    theirs = t.Sequential(
        t.Conv2d(1, 6, 5, padding=2),
        t.ReLU(),
        t.MaxPool2d(2),
        t.Conv2d(6, 16, 5),
        t.ReLU(),
        t.MaxPool2d(2),
        t.Flatten(),
        t.Linear(400, 120),
        t.ReLU(),
        t.Linear(120, 84),
        t.ReLU(),
        t.Linear(84, 10),
    )
    ours, criterion = models.lenet5(), nn.CrossEntropyLoss()
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    x, y = floats(rng, 16, 1, 28, 28), rng.integers(0, 10, 16)
    tx = torch.tensor(x, requires_grad=True)
    logits = theirs(tx)
    loss = t.functional.cross_entropy(logits, torch.tensor(y))
    loss.backward()
    got = ours(x)
    np.testing.assert_allclose(got, logits.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert criterion(got, y) == pytest.approx(loss.item(), rel=1e-5)
    dx = ours.backward(criterion.backward())
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-3, atol=1e-6)
    for name, parameter in theirs.named_parameters():
        gradient = dict(ours.named_parameters())[name].grad
        scale = parameter.grad.abs().max().item()
        np.testing.assert_allclose(
            gradient, parameter.grad.numpy(), rtol=1e-3, atol=1e-4 * scale, err_msg=name
        )


def test_import_of_convcore_imports_nothing_heavy():
    code = (
        "import sys, convcore; "
        "print([m for m in ('tqdm', 'safetensors', 'convcore.nn', 'convcore.engine') if m in "
        "sys.modules]); "
        "print(convcore.nn.Linear.__name__, convcore.Model.__name__, convcore.load.__name__); "
        "print('lenet5' in dir(convcore.models), 'load' in dir(convcore))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n")[:3] == ["[]", "Linear Model load", "True True"]


def test_convcore_names_what_it_does_not_have():
    with pytest.raises(AttributeError, match="module 'convcore' has no attribute 'resnet'"):
        _ = convcore.resnet


def test_convcore_lists_public_names_only():
    assert dir(convcore) == sorted([*convcore.__all__, "__version__"])

"""The networks by name, and against torch."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import convcore
from convcore import models, nn, optim
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


# Parameters, (C, H, W), output shape of some layers.
SMALL = {
    "mlp": (669_706, (1, 28, 28), {"1": (512,), "5": (10,)}),
    "lenet5_small": (99_874, (1, 28, 28), {"0": (6, 28, 28), "2": (6, 14, 14), "6": (10,)}),
    "fashion_cnn": (104_250, (1, 28, 28), {"2": (16, 14, 14), "5": (16, 7, 7), "9": (10,)}),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_have_their_parameters_and_sizes(name, rng):
    parameters, input_shape, shapes = SMALL[name]
    model = models.create(name)
    summary = model.summary(input_shape, print_fn=None)
    assert summary.parameters == parameters
    assert {row.name: row.output_shape for row in summary.rows}.items() >= shapes.items()
    assert models.input_shape(name) == input_shape
    model.compile("adam")
    assert "phase" in model.plan(input_shape, 8)
    x, y = floats(rng, 8, *input_shape), rng.integers(0, 10, 8)
    losses = model.fit(x, y, epochs=8, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


# Layer: parameters and connections, as section II.B of the paper has them.
LENET5_1998 = {
    "c1": (156, 122_304),
    "s2": (12, 5_880),
    "c3": (1_516, 151_600),
    "s4": (32, 2_000),
    "c5": (48_120, 48_120),
    "f6": (10_164, 10_164),
    "output": (0, 840),
}


def test_lenet5_1998_has_the_parameters_and_connections_of_the_paper():
    model = models.lenet5_1998()
    summary = model.summary((1, 32, 32), print_fn=None)
    assert summary.parameters == summary.trainable_parameters == 60_000
    rows = {row.name: row for row in summary.rows}
    connections = 0
    for name, (parameters, want) in LENET5_1998.items():
        assert rows[name].parameters == parameters
        layer, positions = getattr(model, name), np.prod(rows[name].output_shape[1:], dtype=int)
        if name.startswith(
            "s"
        ):  # a coefficient and a bias for all, four inputs and a bias for each
            connections = positions * layer.num_channels * (4 + 1)
        elif name == "output":
            connections = layer.weight.size
        else:
            connections = parameters * positions
        assert connections == want, name
    assert sum(count for _, count in LENET5_1998.values()) == 340_908
    shapes = [rows[name].output_shape for name in LENET5_1998]
    assert shapes == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1), (84,), (10,)]


def test_lenet5_1998_answers_with_the_nearest_code(rng):
    model = models.lenet5_1998()
    x = floats(rng, 5, 1, 32, 32)
    f6 = model[:-1].eval()(x)
    codes = np.array(models.lenet1998.digit_codes())
    distances = ((f6[:, None, :].astype(np.float64) - codes) ** 2).sum(axis=2)
    got = model.predict(x)
    want = (f6.astype(np.float64) ** 2).sum(axis=1, keepdims=True) - distances
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
    assert (got.argmax(axis=1) == distances.argmin(axis=1)).all()
    least = min(np.count_nonzero(a != b) for i, a in enumerate(codes) for b in codes[:i])
    assert least >= 10  # pictures that are not easily taken for each other


@pytest.mark.parametrize("size", [28, 32])
def test_lenet5_1998_learns_and_keeps_its_codes(tmp_path, rng, size):
    model = models.lenet5_1998(image_size=size)
    model.compile(lambda p: optim.Adam(p, lr=2e-3))
    assert "subsampling2d" in model.plan((1, size, size), 16)
    codes = model.output.weight.copy()
    x, y = floats(rng, 16, 1, size, size), rng.integers(0, 10, 16)
    losses = model.fit(x, y, epochs=30, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    np.testing.assert_array_equal(model.output.weight, codes)
    model.save(tmp_path / "model.safetensors")
    loaded = convcore.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    assert sum(p.numel() for p in loaded.parameters()) == 60_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 11}, "lenet5_1998: num_classes is out of range: expected at most 10"),
        ({"image_size": 30}, "lenet5_1998: image_size is not known: expected 32 or 28, got 30"),
    ],
)
def test_lenet5_1998_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.lenet5_1998(**arguments)


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_fit_their_images(name, rng):
    model = models.create(name, num_classes=3, in_channels=2, image_size=9)
    assert model.predict(floats(rng, 2, 2, 9, 9)).shape == (2, 3)
    with pytest.raises(ValueError, match=f"{name}: image_size is out of range"):
        models.create(name, image_size=0)


def test_the_mlp_has_any_hidden_layers(rng):
    model = models.mlp(hidden=(128, 128))  # of the lecture's comparison on Fashion-MNIST
    assert sum(p.data.size for p in model.parameters()) == 118_282
    assert models.mlp(hidden=()).predict(floats(rng, 2, 1, 28, 28)).shape == (2, 10)


# In the paper's table 6, in millions: 0.27, 0.46, 0.66, 0.85, 1.7.
@pytest.mark.parametrize(
    ("name", "layers", "with_a", "with_b"),
    [
        ("resnet20", 20, 269722, 272474),
        ("resnet32", 32, 464154, 466906),
        ("resnet44", 44, 658586, 661338),
        ("resnet56", 56, 853018, 855770),
        ("resnet110", 110, 1727962, 1730714),
    ],
)
def test_resnets_have_the_parameters_of_the_paper(name, layers, with_a, with_b):
    for shortcut, parameters in (("A", with_a), ("B", with_b)):
        model = models.create(name, shortcut=shortcut)
        summary = model.summary((3, 32, 32), print_fn=None)
        assert summary.parameters == parameters
        assert summary.output_shape == (10,)
        of_branch = [row for row in summary.rows if "shortcut" not in row.name]
        assert sum(row.layer in ("Conv2d", "Linear") for row in of_branch) == layers


def test_resnet20_has_the_sizes_of_the_paper():
    summary = models.resnet20().summary((3, 32, 32), print_fn=None)
    shapes = {row.name: row.output_shape for row in summary.rows}
    assert shapes["layer1.2.activation"] == (16, 32, 32)
    assert shapes["layer2.0.shortcut"] == (32, 16, 16)
    assert shapes["layer3.2.activation"] == (64, 8, 8)
    assert shapes["pool"] == (64, 1, 1)
    assert summary.multiply_adds == 40551040


def test_resnet_begins_with_weights_that_keep_the_variance_of_the_gradients():
    for name, parameter in models.resnet20().named_parameters():
        if "conv" in name:
            fan_out = parameter.shape[0] * 9
            assert parameter.data.std() == pytest.approx(np.sqrt(2 / fan_out), rel=0.15), name
            assert abs(parameter.data.mean()) < 0.15 * parameter.data.std(), name


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize(("size", "channels", "classes"), [(32, 1, 10), (9, 3, 100), (1, 2, 3)])
def test_resnet_takes_images_of_any_size(rng, shortcut, size, channels, classes):
    model = models.resnet20(classes, channels, shortcut=shortcut)
    assert model.predict(floats(rng, 2, channels, size, size)).shape == (2, classes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shortcut": "C"}, "resnet20: shortcut is not known: expected 'A', 'B', got 'C'"),
        ({"num_classes": 0}, "resnet20: num_classes is out of range: expected at least 1, got 0"),
        ({"in_channels": 0}, "resnet20: in_channels is out of range: expected at least 1, got 0"),
    ],
)
def test_resnet_rejects(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        models.resnet20(**arguments)


def test_models_are_created_by_name():
    assert {"lenet5", "resnet20", "mlp", "vgg16", "resnet50"} <= set(models.names())
    assert set(models.names()) <= set(models.__all__)
    assert repr(models.create("lenet5", num_classes=3)) == repr(models.lenet5(3))
    with pytest.raises(ValueError, match=re.escape("got 'lenet' (did you mean 'lenet5'?)")):
        models.create("lenet")
    with pytest.raises(
        ValueError,
        match=r"create: name is not known: expected one of 'mlp', .*, got 'transformer'$",
    ):
        models.create("transformer")


@pytest.mark.parametrize(
    ("make", "channels"),
    [
        pytest.param(models.lenet5, 1, id="lenet5"),
        pytest.param(lambda: models.resnet20(shortcut="A"), 3, id="resnet20_a"),
        pytest.param(lambda: models.resnet20(shortcut="B"), 3, id="resnet20_b"),
        pytest.param(lambda: models.resnet18(num_classes=3), 3, id="resnet18"),
    ],
)
def test_a_model_saves_and_loads(tmp_path, rng, make, channels):
    model, x = make(), floats(rng, 4, channels, 28, 28)
    model.save(tmp_path / "model.safetensors")
    loaded = convcore.load(tmp_path / "model.safetensors")
    assert repr(loaded) == repr(model)
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))


# ---- against torch -------------------------------------------------------------------------------


def torch_lenet5(torch):
    t = torch.nn
    return t.Sequential(
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


def torch_resnet20(torch, shortcut):
    """Build the network as the well-known implementation for CIFAR does, names included."""
    t = torch.nn

    class Block(t.Module):
        def __init__(self, channels, width):
            super().__init__()
            self.stride = 1 if channels == width else 2
            self.conv1 = t.Conv2d(channels, width, 3, self.stride, 1, bias=False)
            self.bn1 = t.BatchNorm2d(width)
            self.conv2 = t.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = t.BatchNorm2d(width)
            self.pad = (width - channels) // 2
            if shortcut == "B" and self.stride != 1:
                conv = t.Conv2d(channels, width, 1, 2, bias=False)
                self.shortcut = t.Sequential(conv, t.BatchNorm2d(width))

        def forward(self, x):
            y = self.bn2(self.conv2(t.functional.relu(self.bn1(self.conv1(x)))))
            if hasattr(self, "shortcut"):
                x = self.shortcut(x)
            elif self.stride != 1:
                x = t.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
            return t.functional.relu(y + x)

    class ResNet(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = t.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.bn1 = t.BatchNorm2d(16)
            self.layer1 = t.Sequential(Block(16, 16), Block(16, 16), Block(16, 16))
            self.layer2 = t.Sequential(Block(16, 32), Block(32, 32), Block(32, 32))
            self.layer3 = t.Sequential(Block(32, 64), Block(64, 64), Block(64, 64))
            self.linear = t.Linear(64, 10)

        def forward(self, x):
            y = t.functional.relu(self.bn1(self.conv1(x)))
            y = self.layer3(self.layer2(self.layer1(y)))
            return self.linear(y.mean(dim=(2, 3)))

    return ResNet()


def our_name(name):
    """Return convcore's name of a parameter of torch: the blocks have a body."""
    return re.sub(r"^(layer\d\.\d+)\.(conv|bn)", r"\1.body.\2", name)


NETWORKS = {
    "lenet5": (models.lenet5, torch_lenet5, (16, 1, 28, 28)),
    "resnet20_a": (
        lambda: models.resnet20(shortcut="A"),
        lambda torch: torch_resnet20(torch, "A"),
        (16, 3, 32, 32),
    ),
    "resnet20_b": (
        lambda: models.resnet20(shortcut="B"),
        lambda torch: torch_resnet20(torch, "B"),
        (16, 3, 32, 32),
    ),
}


@pytest.fixture(params=NETWORKS)
def twins(request, torch):
    """Give the name, our network and torch's with the same weights, and the shape of a batch."""
    make, make_torch, shape = NETWORKS[request.param]
    torch.manual_seed(0)
    ours, theirs = make(), make_torch(torch)
    load_from_torch(ours, theirs)
    return request.param, ours, theirs, shape


# How far losses and gradients may be from torch's, relative: after one step from the same weights,
# and when each goes its own way for ten steps. LeNet-5 stays within rounding. A ResNet-20 on these
# few images has millions of inputs to ReLUs, of which some lie within rounding of 0 and fall on
# either side; ten steps make more of it. torch in float32 is as far from torch in float64.
ONE_STEP = {"lenet5": (1e-6, 1e-5), "resnet20_a": (1e-5, 3e-2), "resnet20_b": (1e-5, 3e-2)}
TEN_STEPS = {"lenet5": (1e-6, 1e-5), "resnet20_a": (1e-3, 0.3), "resnet20_b": (1e-3, 0.5)}


def load_from_torch(ours, theirs):
    state = {our_name(name): value for name, value in theirs.state_dict().items()}
    ours.load_state_dict(state)


def assert_same_step(torch, ours, theirs, bounds, x, y):
    """Send a batch forward and back through both; hold loss and gradients against each other."""
    theirs.zero_grad()
    want = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
    want.backward()
    ours.zero_grad()
    criterion = nn.CrossEntropyLoss()
    got = criterion(ours(x), y)
    ours.backward(criterion.backward(), need_dx=False)
    assert got == pytest.approx(want.item(), rel=bounds[0])
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert len(gradients) == sum(1 for _ in theirs.parameters())
    for name, parameter in theirs.named_parameters():
        want = parameter.grad.numpy().astype(np.float64)
        error = np.linalg.norm(gradients[our_name(name)] - want) / np.linalg.norm(want)
        assert error <= bounds[1], f"{name}: {error:.2g} > {bounds[1]:g}"


@pytest.mark.torch
def test_lenet5_reads_as_in_torch(torch):
    assert repr(models.lenet5()) == repr(torch_lenet5(torch))


@pytest.mark.torch
def test_outputs_match_torch(torch, twins, rng):
    _, ours, theirs, shape = twins
    x = floats(rng, *shape)
    want = theirs(torch.tensor(x)).detach().numpy()  # with the statistics of the batch, and kept
    np.testing.assert_allclose(ours(x), want, rtol=1e-4, atol=1e-4)
    theirs.eval()
    with torch.no_grad():
        want = theirs(torch.tensor(x)).numpy()
    np.testing.assert_allclose(ours.predict(x), want, rtol=1e-4, atol=1e-4)


@pytest.mark.torch
def test_input_gradients_match_torch(torch, twins, rng):
    name, ours, theirs, shape = twins
    x, dy = torch.tensor(floats(rng, *shape), requires_grad=True), floats(rng, shape[0], 10)
    theirs(x).backward(torch.tensor(dy))
    want = x.grad.numpy()
    ours(x.detach().numpy())
    assert np.linalg.norm(ours.backward(dy) - want) <= ONE_STEP[name][1] * np.linalg.norm(want)


@pytest.mark.torch
@pytest.mark.parametrize("own_way", [False, True], ids=["from_torchs_weights", "own_way"])
def test_ten_training_steps_match_torch(torch, twins, rng, own_way):
    name, ours, theirs, shape = twins
    settings = {"lr": 1e-3 if own_way else 0.05, "momentum": 0.9, "weight_decay": 1e-4}
    optimizer = optim.SGD(list(ours.parameters()), **settings)
    torch_optimizer = torch.optim.SGD(theirs.parameters(), **settings)
    bounds = (TEN_STEPS if own_way else ONE_STEP)[name]
    for _ in range(10):
        if not own_way:
            load_from_torch(ours, theirs)
        x, y = floats(rng, *shape), rng.integers(0, 10, shape[0])
        assert_same_step(torch, ours, theirs, bounds, x, y)
        torch_optimizer.step()
        optimizer.step()


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

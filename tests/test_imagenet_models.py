"""AlexNet, VGG and the residual networks for ImageNet: torchvision's keys, sizes and outputs."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

import convcore
from convcore import init, models, nn
from helpers import floats

#: Parameters, and the begin of the SHA-256 of the lines "key shape" of torchvision 0.29's state_dict.
TORCHVISION = {
    "alexnet": (61_100_840, "9c198ebdae1863e4"),
    "vgg16": (138_357_544, "35c4623e0cd4a39d"),
    "vgg19": (143_667_240, "4723255af8f6c485"),
    "resnet18": (11_689_512, "84fb10d9c6905a1c"),
    "resnet34": (21_797_672, "28f9096d51307499"),
    "resnet50": (25_557_032, "d7e4f8bb0a536344"),
}

#: Multiply-adds of one image, convolutions and dense layers. In the papers: 1.8e9, 3.6e9 and 3.8e9
#: (ResNet, table 1; torchvision's stride in the 3x3 convolution makes it 4.1e9), 15.3e9 and 19.6e9 (VGG).
MULTIPLY_ADDS = {
    "alexnet": 714_188_480,
    "vgg16": 15_470_264_320,
    "vgg19": 19_632_062_464,
    "resnet18": 1_814_073_344,
    "resnet34": 3_663_761_408,
    "resnet50": 4_089_184_256,
}


@pytest.fixture
def untouched(monkeypatch):
    """Leave the memory of new weights alone: 570 MB for VGG-19 that nobody reads."""
    for name in ("kaiming_uniform_", "kaiming_normal_", "normal_", "uniform_"):
        monkeypatch.setattr(init, name, lambda target, *args, **kwargs: target)


@pytest.mark.parametrize("name", TORCHVISION)
def test_keys_and_shapes_are_those_of_torchvision(name, untouched):
    model = models.create(name)
    lines = [f"{key} {array.shape}" for key, array in model.state_dict().items()]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    parameters = sum(p.data.size for p in model.parameters())
    assert (parameters, digest) == TORCHVISION[name], lines


@pytest.mark.parametrize("name", TORCHVISION)
def test_sizes_are_those_of_the_paper(name, untouched):
    summary = models.create(name).summary(models.input_shape(name), print_fn=None)
    assert summary.output_shape == (1000,)
    assert summary.multiply_adds == MULTIPLY_ADDS[name]
    shapes = {row.name: row.output_shape for row in summary.rows}
    if name == "alexnet":
        assert shapes["features.0"] == (64, 55, 55)
        assert shapes["features.12"] == (256, 6, 6)
    elif name.startswith("vgg"):
        assert shapes["features.4"] == (64, 112, 112)
        assert [row.layer for row in summary.rows].count("Conv2d") == int(name[3:]) - 3
        assert list(shapes.values())[-9] == (512, 7, 7)
    else:
        assert shapes["maxpool"] == (64, 56, 56)
        assert shapes["avgpool"] == (2048 if name == "resnet50" else 512, 1, 1)
        weights = [row for row in summary.rows if row.layer in ("Conv2d", "Linear")]
        assert sum("downsample" not in row.name for row in weights) == int(name[6:])


SMALL = {  # with images as small as they may be
    "alexnet": (3, 63, 63),
    "vgg16": (3, 32, 32),
    "vgg19": (3, 32, 32),
    "resnet18": (3, 33, 40),
    "resnet34": (1, 32, 32),
    "resnet50": (3, 40, 33),
}


def without_the_large_layers(name, shape):
    """Return the network; of AlexNet and VGG with dense layers of 16 instead of 4096 units."""
    model = models.create(name, num_classes=5, in_channels=shape[0])
    if "classifier" in dict(model.named_children()):
        for index, layer in enumerate(model.classifier):
            if isinstance(layer, nn.Linear):
                units = [256 * 36 if name == "alexnet" else 512 * 49, 16][layer.in_features == 4096]
                model.classifier[index] = nn.Linear(units, min(layer.out_features, 16))
    return model


@pytest.mark.parametrize("name", SMALL)
def test_the_engine_plans_it_and_it_trains(name, rng, monkeypatch):
    shape = SMALL[name]
    normal = init.kaiming_normal_
    with monkeypatch.context() as patch:  # the large layers are thrown away
        for key in ("kaiming_uniform_", "normal_"):
            patch.setattr(init, key, lambda target, *args, **kwargs: target)
        model = without_the_large_layers(name, shape)
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            normal(layer.weight)
            if layer.bias is not None:
                init.zeros_(layer.bias)
    x, y = floats(rng, 2, *shape), np.array([1, 3])
    model.compile(lambda p: convcore.optim.SGD(p, lr=1e-3, momentum=0.9))
    assert "conv2d" in model.plan(shape, 2)
    before = {key: array.copy() for key, array in model.state_dict().items()}
    history = model.fit(x, y, epochs=1, batch_size=2, verbose=0)
    assert math.isfinite(history.history["loss"][0])
    changed = [key for key, array in model.state_dict().items() if (array != before[key]).any()]
    moving = [key for key, p in model.named_parameters() if key.endswith("weight")]
    assert set(moving) <= set(changed)
    assert model.predict(x).shape == (2, 5)


@pytest.mark.parametrize("name", ["vgg11", "resnet52", "alxnet"])
def test_a_name_that_is_nearly_right(name):
    with pytest.raises(ValueError, match=r"got '.*' \(did you mean '.*'\?\)"):
        models.create(name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.alexnet(0), "alexnet: num_classes is out of range"),
        (lambda: models.vgg16(10, 0), "vgg16: in_channels is out of range"),
        (lambda: models.resnet50(in_channels=0), "resnet50: in_channels is out of range"),
    ],
)
def test_models_reject(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- against torch -------------------------------------------------------------------------------


def torch_block(torch, channels, width, stride, bottleneck):
    """Return torchvision's block, in torchvision's words."""
    t = torch.nn
    out = 4 * width if bottleneck else width

    class Block(t.Module):
        def __init__(self):
            super().__init__()
            if bottleneck:
                self.conv1 = t.Conv2d(channels, width, 1, bias=False)
                self.bn1 = t.BatchNorm2d(width)
                self.conv2 = t.Conv2d(width, width, 3, stride, 1, bias=False)
                self.bn2 = t.BatchNorm2d(width)
                self.conv3 = t.Conv2d(width, out, 1, bias=False)
                self.bn3 = t.BatchNorm2d(out)
            else:
                self.conv1 = t.Conv2d(channels, width, 3, stride, 1, bias=False)
                self.bn1 = t.BatchNorm2d(width)
                self.conv2 = t.Conv2d(width, width, 3, 1, 1, bias=False)
                self.bn2 = t.BatchNorm2d(width)
            self.relu = t.ReLU(inplace=True)
            self.downsample = None
            if stride != 1 or channels != out:
                conv = t.Conv2d(channels, out, 1, stride, bias=False)
                self.downsample = t.Sequential(conv, t.BatchNorm2d(out))

        def forward(self, x):
            identity = x if self.downsample is None else self.downsample(x)
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            if bottleneck:
                y = self.bn3(self.conv3(self.relu(y)))
            return self.relu(y + identity)

    return Block()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "block", "channels", "width", "stride"),
    [
        ("resnet18", "layer1.1", 64, 64, 1),
        ("resnet18", "layer2.0", 64, 128, 2),
        ("resnet50", "layer1.0", 64, 64, 1),
        ("resnet50", "layer1.2", 256, 64, 1),
        ("resnet50", "layer2.0", 256, 128, 2),
    ],
)
def test_blocks_match_torch(torch, rng, untouched, name, block, channels, width, stride):
    torch.manual_seed(0)
    theirs = torch_block(torch, channels, width, stride, name == "resnet50")
    for module in theirs.modules():  # not the 1 and 0 of the beginning
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    ours = dict(models.create(name, num_classes=2).named_modules())[block]
    ours.load_state_dict(theirs.state_dict())
    x = torch.tensor(floats(rng, 3, channels, 9, 7), requires_grad=True)
    want = theirs(x)
    dy = floats(rng, *want.shape)
    want.backward(torch.tensor(dy))
    got = ours(x.detach().numpy())
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-4, atol=1e-4)
    dx = ours.backward(dy)
    error = np.linalg.norm(dx - x.grad.numpy()) / np.linalg.norm(x.grad.numpy())
    assert error < 1e-3
    theirs.eval()
    with torch.no_grad():
        want = theirs(x).numpy()
    np.testing.assert_allclose(ours.predict(x.detach().numpy()), want, rtol=1e-4, atol=1e-4)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["alexnet", "resnet18", "resnet50"])
def test_weights_of_torchvision_load_and_give_the_same(torch, name, rng):
    torchvision = pytest.importorskip("torchvision", reason="compares with torchvision's networks")
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(num_classes=7).eval()
    ours = models.create(name, num_classes=7)
    ours.load_state_dict(theirs.state_dict())
    x = floats(rng, 2, 3, 96, 96)
    with torch.no_grad():
        want = theirs(torch.tensor(x)).numpy()
    np.testing.assert_allclose(ours.predict(x), want, rtol=1e-4, atol=1e-4)

"""The same training on the CPU and on the GPU, and checkpoints that move between them."""

from __future__ import annotations

import numpy as np
import pytest

import convcore
import convcore.functional as F
from convcore import DeviceArray, _plan, data, models, nn, optim, to_device
from convcore.serialization import load_checkpoint, save_checkpoint
from helpers import floats

pytestmark = pytest.mark.usefixtures("cuda")

CLASSES = 10


@pytest.fixture(params=["layer by layer", "planned"])
def engine(request, monkeypatch):
    monkeypatch.setattr(_plan.planning, "enabled", request.param == "planned")


def tiny_resnet():
    def convolution(c_in, c_out, stride=1):
        return nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)

    return nn.Sequential(
        *convolution(3, 8),
        nn.ReLU(),
        nn.Residual(
            nn.Sequential(*convolution(8, 8), nn.ReLU(), *convolution(8, 8)), activation=nn.ReLU()
        ),
        nn.Residual(
            nn.Sequential(*convolution(8, 16, 2), nn.ReLU(), *convolution(16, 16)),
            shortcut=nn.PadChannels(4, stride=2),
            activation=nn.ReLU(),
        ),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


def digits(count=20):
    rng = np.random.default_rng(5)
    return floats(rng, count, 1, 28, 28), rng.integers(0, CLASSES, count)


def colours(count=20):
    rng = np.random.default_rng(6)
    pixels = rng.integers(0, 256, (count, 3, 10, 10), dtype=np.uint8)
    return data.Images(pixels, mean=0.5, std=0.25), rng.integers(0, CLASSES, count)


class Losses(convcore.callbacks.Callback):
    def on_train_begin(self):
        self.values = []

    def on_batch_end(self, batch, logs):
        self.values.append(logs["loss"])


def sgd(parameters):
    return optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3)


def train(make, x, y, device, optimizer=sgd, **options):
    """Train for five steps; return the model and the losses so far after each."""
    convcore.manual_seed(3)
    model = make()
    model.compile(optimizer=optimizer, **options.pop("compile", {}))
    losses = Losses()
    model.fit(x, y, batch_size=len(x) // 5, verbose=0, device=device, callbacks=losses, **options)
    return model, losses.values


def assert_same_training(make, x, y, **options):
    want_model, want = train(make, x, y, "cpu", **options)
    model, losses = train(make, x, y, "cuda", **options)
    assert len(losses) == 5
    np.testing.assert_allclose(losses, want, rtol=1e-4)
    assert all(p.device == "cuda" for p in model.parameters())
    prediction = model.predict(x)
    assert type(prediction) is np.ndarray
    np.testing.assert_allclose(prediction, want_model.predict(x), rtol=1e-2, atol=2e-3)
    got, expected = model.evaluate(x, y), want_model.evaluate(x, y)
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    return model, want_model


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("optimizer", [sgd, optim.Adam])
def test_lenet5_has_the_same_losses_on_both_devices(optimizer):
    assert_same_training(models.lenet5, *digits(), optimizer=optimizer)


@pytest.mark.usefixtures("engine")
def test_a_resnet_has_the_same_losses_on_both_devices():
    x, y = colours()
    model, want = assert_same_training(
        tiny_resnet,
        x,
        y,
        augment=data.Augment(pad=2, flip=True),
        validation_data=(x, y),
        compile={"clip_grad_norm": 1.0},
    )
    for (name, got), expected in zip(
        model.state_dict().items(), want.state_dict().values(), strict=True
    ):
        assert type(got) is np.ndarray
        np.testing.assert_allclose(got, expected, rtol=1e-2, atol=1e-3, err_msg=name)
    assert model[1].num_batches_tracked == 5


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: optim.SGD(p, lr=0.1),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, l1=1e-3, max_norm=0.5),
        lambda p: optim.AdamW(p, lr=0.01),
        lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
        lambda p: optim.Adagrad(p, lr=0.05),
    ],
)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "hinge"])
def test_every_optimizer_and_loss(optimizer, loss):
    rng = np.random.default_rng(1)
    x = floats(rng, 20, 6)
    y = floats(rng, 20, 4) if loss == "mse" else rng.integers(0, 4, 20)
    assert_same_training(
        lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)),
        x,
        y,
        optimizer=optimizer,
        compile={"loss": loss},
    )


def test_connections_and_gradients_that_add_up(rng):
    """A masked weight, and two backward passes before a step."""
    x = floats(rng, 2, 3, 6, 6)

    def gradients(device):
        convcore.manual_seed(1)
        layer = nn.Conv2d(3, 2, 3, connections=[[1, 0, 1], [0, 1, 0]]).to(device)
        for scale in (1, 2):
            y = layer(to_device(x, device))
            layer.backward(to_device(np.full(y.shape, scale, np.float32), device))
        optimizer = optim.SGD(layer.parameters(), lr=0.1)
        optimizer.step()
        assert layer.weight.device == device
        layer.to("cpu")
        return layer.weight.grad, layer.bias.grad, layer.weight.data

    for got, want in zip(gradients("cuda"), gradients("cpu"), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(got == 0, want == 0)


def test_a_network_moves_with_gradients_and_buffers(rng):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    x = floats(rng, 2, 1, 5, 5)
    y = model(x)
    model.backward(floats(rng, *y.shape))
    parameters = list(model.parameters())
    before = {name: array.copy() for name, array in model.state_dict().items()}
    gradients = [p.grad for p in parameters]
    assert model.cuda() is model
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert isinstance(model[0].weight.data, DeviceArray)
    assert isinstance(model[1].running_mean, DeviceArray)
    for p, gradient in zip(parameters, gradients, strict=True):
        assert p.device == "cuda"
        np.testing.assert_array_equal(p.grad.numpy(), gradient)
    for name, array in model.state_dict().items():
        assert type(array) is np.ndarray
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(ValueError, match="different devices"):
        model(x)
    assert isinstance(model(to_device(x, "cuda")), DeviceArray)
    model.cpu()
    assert isinstance(model(x), np.ndarray)


def test_checkpoints_move_between_the_devices(tmp_path):
    x, y = digits()
    trained, _ = train(models.lenet5, x, y, "cuda", optimizer=optim.Adam)
    save_checkpoint(tmp_path, trained, trained.optimizer, 1, trained.history)
    trained.save(tmp_path / "weights.safetensors")
    again = convcore.load(tmp_path / "weights.safetensors")
    assert all(p.device == "cpu" for p in again.parameters())
    results = []
    for device in ("cpu", "cuda"):
        model = models.lenet5()
        model.compile(optimizer=optim.Adam)
        model.to(device)
        checkpoint = load_checkpoint(tmp_path, model, model.optimizer)
        assert checkpoint.epoch == 1
        assert {p.device for p in model.parameters()} == {device}
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(array, trained.state_dict()[name], err_msg=name)
        model.fit(x, y, epochs=2, initial_epoch=1, batch_size=4, verbose=0)
        assert {p.device for p in model.parameters()} == {device}
        results.append(model.state_dict())
    for name, array in results[0].items():
        np.testing.assert_allclose(results[1][name], array, rtol=1e-2, atol=2e-4, err_msg=name)


def test_an_optimizer_follows_its_network():
    x, y = digits(8)
    model, _ = train(models.lenet5, x[:5], y[:5], "cpu", optimizer=optim.Adam)
    model.fit(x, y, epochs=1, verbose=0, device="cuda")
    state = model.optimizer.state[next(model.parameters())]
    assert isinstance(state["exp_avg"], DeviceArray)
    saved = model.optimizer.state_dict()["state"][0]
    assert type(saved["exp_avg"]) is np.ndarray
    assert model.optimizer.penalty() == 0
    model.fit(x, y, epochs=1, verbose=0, device="cpu")
    assert isinstance(state["exp_avg"], np.ndarray)


def test_data_may_lie_on_either_device(rng):
    x, y = digits()
    model, want = train(models.lenet5, x, y, "cuda")
    for there in (to_device(x, "cuda"), x):
        _, losses = train(models.lenet5, there, y, "cuda")
        np.testing.assert_array_equal(losses, want)
    images, labels = colours()
    kept, _ = train(tiny_resnet, images, labels, "cuda")
    np.testing.assert_array_equal(kept.predict(images), kept.predict(images.to("cuda")))
    np.testing.assert_array_equal(images.to("cuda")[2:4].numpy(), images[2:4])
    np.testing.assert_array_equal(model.predict(to_device(x, "cuda")), model.predict(x))


def test_transforms_of_the_cpu_before_training_on_the_gpu():
    x, y = colours()
    turn = convcore.transforms.Compose([convcore.transforms.RandomRotation(10)])
    assert_same_training(tiny_resnet, x, y, augment=turn)


def test_initialisation_and_loading_in_place(rng):
    layer = nn.Linear(4, 3).cuda()
    convcore.manual_seed(2)
    convcore.init.kaiming_normal_(layer.weight)
    other = nn.Linear(4, 3)
    convcore.manual_seed(2)
    convcore.init.kaiming_normal_(other.weight)
    np.testing.assert_array_equal(layer.weight.data.numpy(), other.weight.data)
    state = {"weight": floats(rng, 3, 4), "bias": floats(rng, 3)}
    layer.load_state_dict(state)
    assert layer.weight.device == "cuda"
    np.testing.assert_array_equal(layer.weight.data.numpy(), state["weight"])
    with pytest.raises(ValueError, match="wrong shapes"):
        layer.load_state_dict({"weight": floats(rng, 4, 3), "bias": floats(rng, 3)})


def test_losses_as_functions_and_layers(rng):
    x, target = floats(rng, 4, 5), rng.integers(0, 5, 4)
    x_there, target_there = to_device(x, "cuda"), to_device(target, "cuda")
    want, dx = F.cross_entropy(x, target, return_gradient=True)
    loss, gradient = F.cross_entropy(x_there, target_there, return_gradient=True)
    assert float(loss) == pytest.approx(float(want), rel=1e-6)
    np.testing.assert_allclose(gradient.numpy(), dx, rtol=1e-5, atol=1e-7)
    scaled = F.cross_entropy_backward(2.0, x_there, target_there)
    np.testing.assert_allclose(scaled.numpy(), 2 * dx, rtol=1e-5, atol=1e-7)
    criterion = nn.CrossEntropyLoss()
    assert criterion.count_right(x_there, target_there) == criterion.count_right(x, target)
    assert isinstance(criterion(x_there, target_there), float)
    assert isinstance(criterion.backward(), DeviceArray)

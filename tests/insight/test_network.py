"""Outputs of layers, and gradients in evaluation mode."""

from __future__ import annotations

import re

import numpy as np
import pytest

import reference_network
from convcore import data, insight, models, nn
from helpers import assert_same_bits_at_any_thread_count, floats, numeric_gradient

# ---- activations ---------------------------------------------------------------------------------


def test_activations_are_what_the_first_layers_return(rng):
    model, x = models.lenet5(), floats(rng, 5, 1, 28, 28)
    found = insight.activations(model, x, batch_size=2)
    assert list(found) == [str(i) for i in range(12)]
    model.eval()
    for i in range(12):
        np.testing.assert_allclose(found[str(i)], model[: i + 1](x), rtol=1e-5, atol=1e-5)


def test_activations_of_containers_are_there_once(rng):
    block = nn.Residual(nn.Sequential(nn.Linear(4, 4)))
    with_activation = nn.Residual(nn.Sequential(nn.Linear(4, 4)), activation=nn.ReLU())
    model, x = nn.Sequential(block, with_activation), floats(rng, 3, 4)
    found = insight.activations(model, x)
    assert list(found) == ["0.body.0", "0", "1.body.0", "1.activation"]
    np.testing.assert_array_equal(found["0"], found["0.body.0"] + x)
    assert list(insight.activations(model, x, ["1"])) == ["1"]


def test_activations_take_images_in_bytes_and_empty_batches(rng):
    images = data.Images(rng.integers(0, 256, (5, 3, 8, 8), np.uint8), mean=0.5, std=0.2)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    got, want = (insight.activations(model, x, ["1"], 2)["1"] for x in (images, images[:]))
    np.testing.assert_array_equal(got, want)
    assert insight.activations(model, images[:0])["0"].shape == (0, 2, 6, 6)


def test_activations_do_not_change_the_mode():
    model = nn.Sequential(nn.Dropout(0.5), nn.Flatten())
    model[1].eval()
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(insight.activations(model, x)["0"], x)
    assert [module.training for module in model.modules()] == [True, True, False]


def test_unknown_layers_are_named():
    x = np.zeros((1, 3, 32, 32), np.float32)
    with pytest.raises(ValueError, match=r"expected one of 'conv1', .*, got 'conv2'.*'conv1'\?\)"):
        insight.activations(models.resnet20(), x, ["conv2"])


# ---- gradients -----------------------------------------------------------------------------------


def test_input_gradient_matches_finite_differences_in_evaluation_mode(rng):
    model = reference_network.small_network(rng)
    x, dy = floats(rng, 3, 2, 6, 6), floats(rng, 3, 4)
    want = numeric_gradient(lambda x: reference_network.forward(model, x), x, dy)
    got = insight.input_gradient(model, x, dy, batch_size=2)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    doubled = insight.input_gradient(model, x, lambda y: 2 * dy[: len(y)], batch_size=3)
    np.testing.assert_allclose(doubled, 2 * want, rtol=1e-4, atol=1e-5)


LAYERS = {
    "Linear": (lambda: nn.Linear(4, 3), (4,)),
    "Conv1d": (lambda: nn.Conv1d(2, 3, 3, padding=1), (2, 6)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3, stride=2, bias=False), (2, 6, 7)),
    "MaxPool1d": (lambda: nn.MaxPool1d(2), (2, 6)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1), (2, 6, 7)),
    "AvgPool1d": (lambda: nn.AvgPool1d(2), (2, 6)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (2, 6, 7)),
    "LPPool2d": (lambda: nn.LPPool2d(2, 2), (2, 6, 7)),
    "StochasticPool2d": (lambda: nn.Sequential(nn.Sigmoid(), nn.StochasticPool2d(2)), (2, 6, 7)),
    "Subsampling2d": (lambda: nn.Subsampling2d(2, 2), (2, 6, 6)),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(2), (2, 5, 5)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(2), (2, 5, 5)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), (4,)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2), (2, 3, 3)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (4, 3, 3)),
    "LayerNorm": (lambda: nn.LayerNorm(4), (4,)),
    "EuclideanRBF": (lambda: nn.EuclideanRBF([[1, -1, 1, 1], [-1, 1, 1, -1]]), (4,)),
    "Dropout2d": (lambda: nn.Dropout2d(0.5), (2, 3, 3)),
    "Dropout": (lambda: nn.Dropout(0.5), (4,)),
    "Flatten": (nn.Flatten, (2, 3, 3)),
    "Identity": (nn.Identity, (4,)),
    "PadChannels": (lambda: nn.PadChannels(1, stride=2), (2, 5, 5)),
    "ReLU": (nn.ReLU, (4,)),
    "LeakyReLU": (nn.LeakyReLU, (4,)),
    "ELU": (nn.ELU, (4,)),
    "GELU": (nn.GELU, (4,)),
    "SiLU": (nn.SiLU, (4,)),
    "Tanh": (nn.Tanh, (4,)),
    "ScaledTanh": (nn.ScaledTanh, (4,)),
    "Sigmoid": (nn.Sigmoid, (4,)),
    "Softmax": (nn.Softmax, (4,)),
    "LogSoftmax": (nn.LogSoftmax, (4,)),
}


def test_every_layer_is_in_the_list():
    public = (getattr(nn, name) for name in nn.__all__)
    layers = {item.__name__ for item in public if isinstance(item, type)} - {"Module", "Parameter"}
    losses = {name for name in layers if issubclass(getattr(nn, name), nn.Loss)}
    assert layers - losses - {"Sequential", "Residual", "ResidualBlock"} == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_a_gradient_in_evaluation_mode(rng, name):
    make, shape = LAYERS[name]
    layer, x, way = make(), floats(rng, 5, *shape), floats(rng, 5, *shape)
    if hasattr(layer, "running_mean"):
        layer.running_mean[:] = 3
        layer.running_var[:] = 4
    dy = floats(rng, *insight.activations(layer, x, [""])[""].shape)
    step = np.float32(1e-3)
    high, low = (insight.activations(layer, x + s * way, [""])[""] for s in (step, -step))
    want = (((high - low) / (2 * step)) * dy).sum(dtype=np.float64)
    got = (insight.input_gradient(layer, x, dy) * way).sum(dtype=np.float64)
    assert got == pytest.approx(want, rel=0.02, abs=0.02)


def test_batch_norm_without_running_statistics_takes_those_of_the_batch(rng):
    model = nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False), nn.Tanh())
    x, dy = floats(rng, 3, 2, 2, 2), floats(rng, 3, 2, 2, 2)
    got = insight.input_gradient(model, x, dy)

    def forward(x):
        mean = x.mean(axis=(0, 2, 3), keepdims=True)
        return np.tanh(
            (x - mean) / np.sqrt(((x - mean) ** 2).mean((0, 2, 3), keepdims=True) + 1e-5)
        )

    np.testing.assert_allclose(got, numeric_gradient(forward, x, dy), rtol=1e-3, atol=1e-5)


def test_input_gradient_leaves_the_network_as_it_is(rng):
    model = reference_network.small_network(rng)
    x = floats(rng, 2, 2, 6, 6)
    model(x)
    model.backward(np.ones((2, 4), np.float32))
    model[0].bias.requires_grad = False
    before = [(p, p.grad, p.requires_grad) for p in model.parameters()]
    state = {name: array.copy() for name, array in model.state_dict().items()}
    insight.input_gradient(model, x, np.ones((2, 4), np.float32))
    assert all(p.grad is grad and p.requires_grad is r for p, grad, r in before)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    assert all(module.training and module._kept is None for module in model.modules())
    assert all("backward" not in vars(module) for module in model.modules())


def test_after_an_error_the_network_is_as_before(rng):
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="dy"):
        insight.input_gradient(model, floats(rng, 2, 3), np.ones((2, 5), np.float32))
    assert all(p.requires_grad for p in model.parameters())
    assert model.training
    model.eval()(floats(rng, 1, 3))
    with pytest.raises(RuntimeError, match="backward called before forward"):
        model.backward(np.ones((1, 2), np.float32))


def test_gradients_have_the_same_bits_at_any_number_of_threads(rng):
    model, x = models.resnet20(), floats(rng, 3, 3, 16, 16)
    dy = floats(rng, 3, 10)
    assert_same_bits_at_any_thread_count(lambda: insight.input_gradient(model, x, dy))


@pytest.mark.parametrize(
    ("x", "dy", "message"),
    [
        ((2, 3), (1, 2), "input_gradient: dy has the wrong length: expected 2 (that of x), got 1"),
        ((3,), (1, 2), "expected a batch (N, ...), got x of shape (3,)"),
        ((2, 4), (2, 2), "layer '0' (Linear) does not fit its input"),
    ],
)
def test_input_gradient_rejects(x, dy, message):
    model = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match=re.escape(message)):
        insight.input_gradient(model, np.zeros(x, np.float32), np.zeros(dy, np.float32))

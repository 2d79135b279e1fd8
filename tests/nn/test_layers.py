"""All layers through one table: shapes, gradients, modes; and what is special to each."""

from __future__ import annotations

import re

import numpy as np
import pytest

import convcore
import convcore.functional as F
from convcore import nn, serialization
from helpers import floats


def residual(**_):
    return nn.Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()))


def projected(**_):
    return nn.Residual(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.Conv2d(4, 6, 1, stride=2))


def padded(**_):
    body = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6))
    return nn.Residual(body, nn.PadChannels(1, stride=2), nn.ReLU())


# name: layer, shape of the input, shape of the output
LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (3, 7), (3, 5)),
    "linear_no_bias": (lambda: nn.Linear(7, 5, bias=False), (3, 7), (3, 5)),
    "linear_leading": (lambda: nn.Linear(7, 5), (3, 2, 7), (3, 2, 5)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, padding="same"), (3, 4, 9), (3, 6, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3), (3, 4, 9, 8), (3, 6, 7, 6)),
    "conv2d_grouped": (
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2),
        (3, 4, 9, 8),
        (3, 6, 5, 8),
    ),
    "conv2d_pairs": (
        lambda: nn.Conv2d(4, 6, 3, padding=((1, 0), (2, 1))),
        (3, 4, 9, 8),
        (3, 6, 8, 9),
    ),
    "conv2d_no_bias": (
        lambda: nn.Conv2d(4, 6, 3, bias=False, padding="same"),
        (3, 4, 9, 8),
        (3, 6, 9, 8),
    ),
    "conv2d_connections": (
        lambda: nn.Conv2d(6, 16, 3, connections=nn.connections.LENET5_C3),
        (3, 6, 5, 6),
        (3, 16, 3, 4),
    ),
    "conv2d_reflect": (
        lambda: nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect"),
        (3, 4, 5, 6),
        (3, 6, 7, 8),
    ),
    "conv2d_circular_same": (
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), "same", padding_mode="circular"),
        (3, 4, 5, 6),
        (3, 6, 3, 6),
    ),
    "conv1d_replicate": (
        lambda: nn.Conv1d(4, 6, 3, padding=((2, 1),), padding_mode="replicate"),
        (3, 4, 5),
        (3, 6, 6),
    ),
    "max_pool1d": (lambda: nn.MaxPool1d(2), (3, 4, 9), (3, 4, 4)),
    "max_pool2d": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (3, 4, 9, 8), (3, 4, 5, 5)),
    "avg_pool1d": (lambda: nn.AvgPool1d(2), (3, 4, 9), (3, 4, 4)),
    "avg_pool2d": (lambda: nn.AvgPool2d((3, 2), divisor_override=4), (3, 4, 9, 8), (3, 4, 3, 4)),
    "adaptive_avg_pool2d": (lambda: nn.AdaptiveAvgPool2d((2, None)), (3, 4, 9, 8), (3, 4, 2, 8)),
    "adaptive_max_pool2d": (lambda: nn.AdaptiveMaxPool2d((2, None)), (3, 4, 9, 8), (3, 4, 2, 8)),
    "stochastic_pool2d": (lambda: nn.StochasticPool2d(3, 2), (3, 4, 9, 8), (3, 4, 4, 3)),
    "lp_pool2d": (lambda: nn.LPPool2d(2, (2, 3)), (3, 4, 9, 8), (3, 4, 4, 2)),
    "subsampling2d": (lambda: nn.Subsampling2d(4), (3, 4, 9, 8), (3, 4, 4, 4)),
    "subsampling2d_overlapping": (
        lambda: nn.Subsampling2d(4, (3, 2), 1, bias=False),
        (3, 4, 9, 8),
        (3, 4, 7, 7),
    ),
    "batch_norm1d": (lambda: nn.BatchNorm1d(4), (3, 4), (3, 4)),
    "batch_norm1d_sequence": (lambda: nn.BatchNorm1d(4), (3, 4, 5), (3, 4, 5)),
    "batch_norm2d": (lambda: nn.BatchNorm2d(4), (3, 4, 5, 6), (3, 4, 5, 6)),
    "batch_norm2d_plain": (
        lambda: nn.BatchNorm2d(4, affine=False, track_running_stats=False),
        (3, 4, 5, 6),
        (3, 4, 5, 6),
    ),
    "group_norm": (lambda: nn.GroupNorm(2, 4), (3, 4, 5, 6), (3, 4, 5, 6)),
    "group_norm_plain": (lambda: nn.GroupNorm(4, 4, affine=False), (3, 4, 5), (3, 4, 5)),
    "layer_norm": (lambda: nn.LayerNorm(6), (3, 4, 6), (3, 4, 6)),
    "layer_norm_no_bias": (lambda: nn.LayerNorm((4, 6), bias=False), (3, 4, 6), (3, 4, 6)),
    "layer_norm_plain": (
        lambda: nn.LayerNorm([4, 6], elementwise_affine=False),
        (3, 4, 6),
        (3, 4, 6),
    ),
    "relu": (lambda: nn.ReLU(), (3, 4, 5), (3, 4, 5)),
    "leaky_relu": (lambda: nn.LeakyReLU(0.2), (3, 4, 5), (3, 4, 5)),
    "tanh": (lambda: nn.Tanh(), (3, 4), (3, 4)),
    "sigmoid": (lambda: nn.Sigmoid(), (3, 4), (3, 4)),
    "scaled_tanh": (lambda: nn.ScaledTanh(2.0), (3, 4), (3, 4)),
    "elu": (lambda: nn.ELU(0.5), (3, 4), (3, 4)),
    "gelu": (lambda: nn.GELU("tanh"), (3, 4), (3, 4)),
    "silu": (lambda: nn.SiLU(), (3, 4), (3, 4)),
    "softmax": (lambda: nn.Softmax(1), (3, 4), (3, 4)),
    "log_softmax": (lambda: nn.LogSoftmax(1), (3, 4), (3, 4)),
    "dropout": (lambda: nn.Dropout(0.5), (3, 40), (3, 40)),
    "dropout2d": (lambda: nn.Dropout2d(0.5), (3, 40, 2, 2), (3, 40, 2, 2)),
    "flatten": (lambda: nn.Flatten(), (3, 4, 5, 6), (3, 120)),
    "identity": (lambda: nn.Identity(), (3, 4), (3, 4)),
    "residual": (residual, (3, 4, 6, 5), (3, 4, 6, 5)),
    "residual_projected": (projected, (3, 4, 6, 5), (3, 6, 3, 3)),
    "residual_padded": (padded, (3, 4, 7, 5), (3, 6, 4, 3)),
    "pad_channels": (lambda: nn.PadChannels((1, 0), (2, 1)), (3, 4, 7, 5), (3, 5, 4, 5)),
    "sequential": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(20, 3), nn.Sequential(nn.ReLU())),
        (3, 4, 5),
        (3, 3),
    ),
}


@pytest.fixture(params=LAYERS, ids=list(LAYERS))
def case(request, rng):
    make, x_shape, y_shape = LAYERS[request.param]
    return make(), floats(rng, *x_shape), y_shape


def test_layer_has_the_shapes_of_outputs_and_gradients(case, rng):
    layer, x, y_shape = case
    y = layer(x)
    assert y.shape == y_shape
    assert y.dtype == np.float32
    dx = layer.backward(floats(rng, *y_shape))
    assert dx.shape == x.shape
    assert dx.dtype == np.float32
    for name, parameter in layer.named_parameters():
        assert parameter.grad.shape == parameter.shape, name
        assert parameter.grad.dtype == np.float32, name


def test_layer_backward_goes_once_with_each_forward(case, rng):
    layer, x, y_shape = case
    dy = floats(rng, *y_shape)
    with pytest.raises(RuntimeError, match="backward called before forward: expected one forward"):
        layer.backward(dy)
    layer(x)
    layer.backward(dy)
    with pytest.raises(RuntimeError, match="backward called before forward: expected one forward"):
        layer.backward(dy)


def test_layer_in_evaluation_keeps_nothing(case, rng):
    layer, x, y_shape = case
    layer(x)
    layer.eval()
    assert layer(x).shape == y_shape
    assert all(module._kept is None for module in layer.modules())
    with pytest.raises(RuntimeError, match="backward called before forward"):
        layer.backward(floats(rng, *y_shape))


def test_layer_without_dx_has_the_same_parameter_gradients(case, rng):
    layer, x, y_shape = case
    dy = floats(rng, *y_shape)
    convcore.manual_seed(1)
    layer(x)
    layer.backward(dy)
    want = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    convcore.manual_seed(1)
    layer(x)
    assert layer.backward(dy, need_dx=False) is None
    for got, expected in zip(layer.parameters(), want, strict=True):
        np.testing.assert_array_equal(got.grad, expected)
    assert all(module._kept is None for module in layer.modules())


def test_layer_gradients_accumulate_until_zero_grad(case, rng):
    layer, x, y_shape = case
    dy = floats(rng, *y_shape)
    layer(x)
    layer.backward(dy)
    once = [p.grad.copy() for p in layer.parameters()]
    layer(x)
    layer.backward(dy)
    for parameter, single in zip(layer.parameters(), once, strict=True):
        np.testing.assert_array_equal(parameter.grad, single + single)
    layer.zero_grad()
    assert all(p.grad is None for p in layer.parameters())


def test_layer_accepts_an_empty_batch(case):
    layer, x, y_shape = case
    layer.eval()
    assert layer(x[:0]).shape == (0, *y_shape[1:])


def test_layer_frozen_parameters_get_no_gradient(case, rng):
    layer, x, y_shape = case
    for parameter in layer.parameters():
        parameter.requires_grad = False
    layer(x)
    assert layer.backward(floats(rng, *y_shape)).shape == x.shape
    assert all(p.grad is None for p in layer.parameters())


def test_layer_is_rebuilt_from_its_description(case):
    layer, x, _ = case
    again = serialization.build(serialization.describe(layer))
    assert repr(again) == repr(layer)
    assert again.state_dict().keys() == layer.state_dict().keys()
    again.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(again.eval()(x), layer.eval()(x))


# ---- against the functions -----------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layer_is_the_function(rng, bias):
    layer = nn.Linear(7, 5, bias=bias)
    x, dy = floats(rng, 3, 7), floats(rng, 3, 5)
    w, b = layer.weight.data, layer.bias.data if bias else None
    np.testing.assert_array_equal(layer(x), F.linear(x, w, b))
    dx, dw, db = F.linear_backward(dy, x, w, b)
    np.testing.assert_array_equal(layer.backward(dy), dx)
    np.testing.assert_array_equal(layer.weight.grad, dw)
    if bias:
        np.testing.assert_array_equal(layer.bias.grad, db)


def test_conv2d_layer_is_the_function(rng):
    layer = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2)
    x, dy = floats(rng, 3, 4, 9, 8), floats(rng, 3, 6, 5, 8)
    arguments = (x, layer.weight.data, layer.bias.data, (2, 1), 1, (1, 2), 2)
    np.testing.assert_array_equal(layer(x), F.conv2d(*arguments))
    dx, dw, db = F.conv2d_backward(dy, *arguments)
    np.testing.assert_array_equal(layer.backward(dy), dx)
    np.testing.assert_array_equal(layer.weight.grad, dw)
    np.testing.assert_array_equal(layer.bias.grad, db)


def test_conv1d_layer_is_the_function(rng):
    layer = nn.Conv1d(4, 6, 3, padding="same")
    x, dy = floats(rng, 3, 4, 9), floats(rng, 3, 6, 9)
    arguments = (x, layer.weight.data, layer.bias.data, 1, "same")
    np.testing.assert_array_equal(layer(x), F.conv1d(*arguments))
    dx, dw, db = F.conv1d_backward(dy, *arguments)
    np.testing.assert_array_equal(layer.backward(dy), dx)
    np.testing.assert_array_equal(layer.weight.grad, dw)
    np.testing.assert_array_equal(layer.bias.grad, db)


PLAIN = {
    "max_pool1d": (lambda: nn.MaxPool1d(3, 2, 1), (3, 2, 1), (3, 4, 9)),
    "max_pool2d": (lambda: nn.MaxPool2d(3, 2, 1, 2), (3, 2, 1, 2), (3, 4, 9, 8)),
    "avg_pool1d": (lambda: nn.AvgPool1d(3, 2, 1, True, False), (3, 2, 1, True, False), (3, 4, 9)),
    "avg_pool2d": (
        lambda: nn.AvgPool2d(3, 2, 1, True, False, 5),
        (3, 2, 1, True, False, 5),
        (3, 4, 9, 8),
    ),
    "adaptive_avg_pool2d": (lambda: nn.AdaptiveAvgPool2d((2, 3)), ((2, 3),), (3, 4, 9, 8)),
    "adaptive_max_pool2d": (lambda: nn.AdaptiveMaxPool2d((2, 3)), ((2, 3),), (3, 4, 9, 8)),
    "lp_pool2d": (lambda: nn.LPPool2d(2, 3, 2, True), (2, 3, 2, True), (3, 4, 9, 8)),
    "group_norm": (lambda: nn.GroupNorm(2, 4, 1e-3, False), (2, None, None, 1e-3), (3, 4, 9)),
    "layer_norm": (
        lambda: nn.LayerNorm((4, 9), 1e-3, False),
        ((4, 9), None, None, 1e-3),
        (3, 4, 9),
    ),
    "relu": (lambda: nn.ReLU(), (), (3, 9)),
    "leaky_relu": (lambda: nn.LeakyReLU(-0.3), (-0.3,), (3, 9)),
    "tanh": (lambda: nn.Tanh(), (), (3, 9)),
    "sigmoid": (lambda: nn.Sigmoid(), (), (3, 9)),
    "scaled_tanh": (lambda: nn.ScaledTanh(2.0, 0.5), (2.0, 0.5), (3, 9)),
    "elu": (lambda: nn.ELU(0.5), (0.5,), (3, 9)),
    "gelu": (lambda: nn.GELU("tanh"), ("tanh",), (3, 9)),
    "silu": (lambda: nn.SiLU(), (), (3, 9)),
    "softmax": (lambda: nn.Softmax(1), (1,), (3, 4, 5)),
    "log_softmax": (lambda: nn.LogSoftmax(1), (1,), (3, 4, 5)),
    "flatten": (lambda: nn.Flatten(1, 2), (1, 2), (3, 4, 5, 6)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_layer_without_parameters_is_the_function(name, rng):
    make, arguments, shape = PLAIN[name]
    layer, x = make(), floats(rng, *shape)
    y = layer(x)
    np.testing.assert_array_equal(y, getattr(F, name)(x, *arguments))
    dy = floats(rng, *y.shape)
    want = getattr(F, f"{name}_backward")(dy, x, *arguments)
    want = want[0] if isinstance(want, tuple) else want
    np.testing.assert_array_equal(layer.backward(dy), want)


def test_batch_norm_layer_is_the_function(rng):
    layer = nn.BatchNorm2d(4, eps=1e-3, momentum=0.3)
    layer.weight.data[...] = rng.uniform(0.5, 2, 4)
    layer.bias.data[...] = rng.uniform(-1, 1, 4)
    mean, var = np.zeros(4, np.float32), np.ones(4, np.float32)
    x, dy = floats(rng, 5, 4, 3, 2), floats(rng, 5, 4, 3, 2)
    arguments = (mean, var, layer.weight.data, layer.bias.data, True, 0.3, 1e-3)
    np.testing.assert_array_equal(layer(x), F.batch_norm(x, *arguments))
    np.testing.assert_array_equal(layer.running_mean, mean)
    np.testing.assert_array_equal(layer.running_var, var)
    assert layer.num_batches_tracked == 1
    dx, dweight, dbias = F.batch_norm_backward(dy, x, *arguments)
    np.testing.assert_allclose(layer.backward(dy), dx, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.weight.grad, dweight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.bias.grad, dbias, rtol=1e-5, atol=1e-6)
    layer.eval()
    want = F.batch_norm(x, mean, var, layer.weight.data, layer.bias.data, False, 0.0, 1e-3)
    np.testing.assert_array_equal(layer(x), want)


def test_batch_norm_without_momentum_averages_over_all_batches(rng):
    layer = nn.BatchNorm1d(3, momentum=None)
    batches = [floats(rng, 8, 3) for _ in range(4)]
    for x in batches:
        layer(x)
    want = np.mean([x.mean(axis=0) for x in batches], axis=0)
    np.testing.assert_allclose(layer.running_mean, want, rtol=1e-5, atol=1e-6)
    assert layer.num_batches_tracked == 4
    assert layer.num_batches_tracked.dtype == np.int64


def test_batch_norm_without_statistics_uses_the_batch_in_evaluation(rng):
    layer = nn.BatchNorm1d(3, track_running_stats=False).eval()
    y = layer(floats(rng, 200, 3) * 5 + 2)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-3)
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_dropout_draws_a_new_mask_each_time_and_repeats_with_the_seed(rng):
    layer, x = nn.Dropout(0.3), np.ones((4, 50), np.float32)
    convcore.manual_seed(5)
    first, second = layer(x), layer(x)
    assert (first != second).any()
    np.testing.assert_array_equal(layer.backward(x), second)  # the mask of the last forward
    convcore.manual_seed(5)
    np.testing.assert_array_equal(layer(x), first)
    assert layer.eval()(x) is x


def test_inplace_is_accepted_and_writes_nothing(rng):
    x = floats(rng, 3, 4)
    kept = x.copy()
    for layer in (nn.ReLU(inplace=True), nn.LeakyReLU(inplace=True), nn.Dropout(inplace=True)):
        layer(x)
        np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, (2, 0), ((2, 1), (0, 3)), "same"])
def test_conv2d_pads_by_padding_mode_and_convolves(mode, padding, rng):
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=padding, padding_mode=mode)
    x = floats(rng, 3, 4, 8, 9)
    sides = {1: (1, 1, 1, 1), (2, 0): (0, 0, 2, 2), "same": (1, 1, 0, 1)}.get(padding, (0, 3, 2, 1))
    padded = F.pad(x, sides, mode)
    arguments = (layer.weight.data, layer.bias.data, 2)
    y = layer(x)
    np.testing.assert_array_equal(y, F.conv2d(padded, *arguments))
    dy = floats(rng, *y.shape)
    dpadded, dw, db = F.conv2d_backward(dy, padded, *arguments)
    np.testing.assert_array_equal(layer.backward(dy), F.pad_backward(dpadded, x, sides, mode))
    np.testing.assert_array_equal(layer.weight.grad, dw)
    np.testing.assert_array_equal(layer.bias.grad, db)


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size", [7, 8, 12, 13])
def test_same_padding_is_the_rule_of_tensorflow(size, stride, dilation, rng):
    for kernel in (1, 2, 3, 5):
        total = max(0, dilation * (kernel - 1) - (size - 1) % stride)
        sides = (total // 2, total - total // 2)  # the odd one after the image
        x = floats(rng, 1, 1, size, size)
        layer = nn.Conv2d(1, 1, kernel, stride, "same", dilation)
        y = layer(x)
        assert y.shape[2:] == (-(-size // stride),) * 2
        want = F.conv2d(
            np.pad(x, ((0, 0), (0, 0), sides, sides)),
            layer.weight.data,
            layer.bias.data,
            stride,
            dilation=dilation,
        )
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


def test_stochastic_pool2d_layer_draws_anew_and_averages_in_evaluation(rng):
    layer, x = nn.StochasticPool2d(2), abs(floats(rng, 3, 4, 8, 8))
    convcore.manual_seed(5)
    first, second = layer(x), layer(x)
    assert (first != second).any()
    dx = layer.backward(np.ones_like(second))  # of the last forward
    np.testing.assert_array_equal(x[dx == 1].size, second.size)
    np.testing.assert_array_equal(np.sort(x[dx == 1]), np.sort(second.ravel()))
    convcore.manual_seed(5)
    np.testing.assert_array_equal(layer(x), first)
    want = F.stochastic_pool2d(x, 2, training=False)
    np.testing.assert_array_equal(layer.eval()(x), want)


def test_dropout2d_layer_drops_whole_channels(rng):
    layer, x = nn.Dropout2d(0.4), np.ones((5, 20, 3, 4), np.float32)
    y = layer(x)
    assert (y == y[:, :, :1, :1]).all()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.6)}
    np.testing.assert_array_equal(layer.backward(x), y)
    assert layer.eval()(x) is x


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_sample_norm_layers_are_the_functions(kind, rng):
    layer = nn.GroupNorm(2, 4, 1e-3) if kind == "group" else nn.LayerNorm((4, 9), 1e-3)
    over = 2 if kind == "group" else (4, 9)
    shape = layer.weight.shape
    layer.weight.data[...], layer.bias.data[...] = floats(rng, *shape), floats(rng, *shape)
    x, dy = floats(rng, 3, 4, 9), floats(rng, 3, 4, 9)
    arguments = (over, layer.weight.data, layer.bias.data, 1e-3)
    np.testing.assert_array_equal(layer(x), getattr(F, f"{kind}_norm")(x, *arguments))
    dx, dweight, dbias = getattr(F, f"{kind}_norm_backward")(dy, x, *arguments)
    np.testing.assert_array_equal(layer.backward(dy), dx)
    np.testing.assert_array_equal(layer.weight.grad, dweight)
    np.testing.assert_array_equal(layer.bias.grad, dbias)


def test_subsampling2d_layer_is_the_function(rng):
    layer = nn.Subsampling2d(4, (3, 2), 1)
    x, dy = floats(rng, 3, 4, 9, 8), floats(rng, 3, 4, 7, 7)
    np.testing.assert_allclose(layer(x), F.avg_pool2d(x, (3, 2), 1), rtol=1e-5, atol=1e-6)
    layer.weight.data[...], layer.bias.data[...] = floats(rng, 4), floats(rng, 4)
    arguments = (x, layer.weight.data, layer.bias.data, (3, 2), 1)
    np.testing.assert_array_equal(layer(x), F.subsampling2d(*arguments))
    dx, dweight, dbias = F.subsampling2d_backward(dy, *arguments)
    np.testing.assert_array_equal(layer.backward(dy), dx)
    np.testing.assert_array_equal(layer.weight.grad, dweight)
    np.testing.assert_array_equal(layer.bias.grad, dbias)


def test_relu_layer_passes_nan_through():
    layer = nn.ReLU()
    assert np.isnan(layer(np.array([np.nan], np.float32))).all()


# ---- initialisation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "fan_in"),
    [
        pytest.param(lambda: nn.Linear(400, 120), 400, id="linear"),
        pytest.param(lambda: nn.Conv2d(16, 64, 5, groups=2), 200, id="conv2d"),
        pytest.param(lambda: nn.Conv1d(16, 64, 5), 80, id="conv1d"),
    ],
)
def test_layer_initialisation_is_uniform_in_the_bound_of_torch(make, fan_in):
    layer, bound = make(), 1 / np.sqrt(fan_in)
    for parameter in (layer.weight, layer.bias):
        assert np.abs(parameter.data).max() <= bound
        assert np.abs(parameter.data).max() > 0.9 * bound
    # The variance of a uniform distribution is bound**2 / 3; of this many numbers within a tenth.
    assert layer.weight.data.var() == pytest.approx(bound**2 / 3, rel=0.1)
    assert abs(layer.weight.data.mean()) < 0.05 * bound


def test_layer_initialisation_repeats_with_the_seed():
    convcore.manual_seed(3)
    first = nn.Linear(4, 5).weight.data
    other = nn.Linear(4, 5).weight.data
    convcore.manual_seed(3)
    np.testing.assert_array_equal(nn.Linear(4, 5).weight.data, first)
    assert (first != other).all()


# ---- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        pytest.param(
            lambda: nn.Linear(0, 3),
            ValueError,
            "Linear: in_features is out of range: expected at least 1, got 0",
            id="linear_zero",
        ),
        pytest.param(
            lambda: nn.Linear(3, "4"),
            TypeError,
            "Linear: out_features has the wrong type: expected an int, got '4' (str)",
            id="linear_type",
        ),
        pytest.param(
            lambda: nn.Conv2d(1, 6, (3, 3, 3)),
            ValueError,
            "Conv2d: kernel_size has the wrong length: expected an int or 2 ints, got (3, 3, 3)",
            id="conv2d_kernel",
        ),
        pytest.param(
            lambda: nn.Conv2d(1, 6, 3, stride=0),
            ValueError,
            "Conv2d: stride is out of range: expected at least 1, got 0",
            id="conv2d_stride",
        ),
        pytest.param(
            lambda: nn.Conv2d(1, 6, 3, padding=-1),
            ValueError,
            "Conv2d: padding is out of range: expected at least 0, got -1",
            id="conv2d_padding",
        ),
        pytest.param(
            lambda: nn.Conv2d(1, 6, 3, padding="full"),
            ValueError,
            "Conv2d: padding is not known: expected 'valid', 'same', got 'full'",
            id="conv2d_padding_name",
        ),
        pytest.param(
            lambda: nn.Conv2d(1, 6, 3, padding=((1, 2),)),
            ValueError,
            "Conv2d: padding has the wrong length: expected 2 pairs (before, after), got ((1, 2),)",
            id="conv2d_padding_pairs",
        ),
        pytest.param(
            lambda: nn.Conv2d(4, 6, 3, groups=4),
            ValueError,
            "Conv2d: out_channels cannot be divided into groups: expected a multiple of groups "
            "= 4, got 6",
            id="conv2d_groups",
        ),
        pytest.param(
            lambda: nn.Conv1d(1, 6, 3, padding_mode="mirror"),
            ValueError,
            "Conv1d: padding_mode is not known: expected 'zeros', 'reflect', 'replicate', "
            "'circular', got 'mirror'",
            id="conv1d_padding_mode",
        ),
        pytest.param(
            lambda: nn.MaxPool2d(2, padding=-1),
            ValueError,
            "MaxPool2d: padding is out of range: expected at least 0, got -1",
            id="max_pool_padding",
        ),
        pytest.param(
            lambda: nn.MaxPool2d(2, return_indices=True),
            ValueError,
            "MaxPool2d: return_indices is not supported by the layer: expected False, got True",
            id="max_pool_indices",
        ),
        pytest.param(
            lambda: nn.AvgPool2d(2, divisor_override=0),
            ValueError,
            "AvgPool2d: divisor_override is out of range: expected at least 1, got 0",
            id="avg_pool_divisor",
        ),
        pytest.param(
            lambda: nn.AdaptiveAvgPool2d((1, 2, 3)),
            ValueError,
            "AdaptiveAvgPool2d: output_size has the wrong length: expected an int or 2 ints, "
            "got (1, 2, 3)",
            id="adaptive_length",
        ),
        pytest.param(
            lambda: nn.AdaptiveAvgPool2d(0),
            ValueError,
            "AdaptiveAvgPool2d: output_size is out of range: expected at least 1, got 0",
            id="adaptive_zero",
        ),
        pytest.param(
            lambda: nn.BatchNorm2d(4, momentum=2),
            ValueError,
            "BatchNorm2d: momentum is out of range: expected a number from 0 to 1, got 2",
            id="batch_norm_momentum",
        ),
        pytest.param(
            lambda: nn.Dropout(1.5),
            ValueError,
            "Dropout: p is out of range: expected a number from 0 to 1, got 1.5",
            id="dropout_p",
        ),
        pytest.param(
            lambda: nn.Dropout("0.5"),
            TypeError,
            "Dropout: p has the wrong type: expected a number, got '0.5' (str)",
            id="dropout_type",
        ),
        pytest.param(
            lambda: nn.LeakyReLU(None),
            TypeError,
            "LeakyReLU: negative_slope has the wrong type: expected a number, got None (NoneType)",
            id="leaky_relu",
        ),
        pytest.param(
            lambda: nn.GroupNorm(3, 4),
            ValueError,
            "GroupNorm: num_channels cannot be divided into groups: expected a multiple of "
            "num_groups = 3, got 4",
            id="group_norm",
        ),
        pytest.param(
            lambda: nn.GroupNorm(2, 4)(np.zeros((2, 6, 3), np.float32)),
            ValueError,
            "GroupNorm: x has the wrong number of channels: expected 4, got 6",
            id="group_norm_channels",
        ),
        pytest.param(
            lambda: nn.LayerNorm(()),
            ValueError,
            "LayerNorm: normalized_shape is empty: expected at least one size, got ()",
            id="layer_norm",
        ),
        pytest.param(
            lambda: nn.LPPool2d(0, 2),
            ValueError,
            "LPPool2d: norm_type is out of range: expected a finite number above 0, got 0",
            id="lp_pool",
        ),
        pytest.param(
            lambda: nn.AdaptiveMaxPool2d(1, return_indices=True),
            ValueError,
            "AdaptiveMaxPool2d: return_indices is not supported by the layer",
            id="adaptive_max_pool",
        ),
        pytest.param(
            lambda: nn.Dropout2d(-0.1),
            ValueError,
            "Dropout2d: p is out of range: expected a number from 0 to 1, got -0.1",
            id="dropout2d",
        ),
        pytest.param(
            lambda: nn.ScaledTanh(0),
            ValueError,
            "ScaledTanh: alpha is zero: expected a number other than 0, got 0",
            id="scaled_tanh",
        ),
        pytest.param(
            lambda: nn.GELU("erf"),
            ValueError,
            "GELU: approximate is not known: expected 'none', 'tanh', got 'erf'",
            id="gelu",
        ),
        pytest.param(
            lambda: nn.Subsampling2d(4, 0),
            ValueError,
            "Subsampling2d: kernel_size is out of range: expected at least 1, got 0",
            id="subsampling",
        ),
        pytest.param(
            lambda: nn.BatchNorm2d(4)(np.zeros((2, 4), np.float32)),
            ValueError,
            "BatchNorm2d: x has the wrong number of dimensions: expected 4 (N, C, H, W), "
            "got 2 (x has shape (2, 4))",
            id="batch_norm_rank",
        ),
        pytest.param(
            lambda: nn.Conv2d(3, 6, 3)(np.zeros((2, 1, 8, 8), np.float32)),
            ValueError,
            "conv2d: x has the wrong number of channels: expected 3",
            id="conv2d_channels",
        ),
        pytest.param(
            lambda: nn.Residual(nn.Linear(3, 4))(np.zeros((2, 3), np.float32)),
            ValueError,
            "Residual: body and shortcut return different shapes: expected the body's (2, 4), "
            "got (2, 3)",
            id="residual_shapes",
        ),
        pytest.param(
            lambda: nn.Residual(np.tanh),
            TypeError,
            "Residual: body is not a module: expected a convcore.nn.Module, got ufunc",
            id="residual_type",
        ),
        pytest.param(
            lambda: nn.Residual(nn.ReLU(), activation="relu"),
            TypeError,
            "Residual: activation is not a module: expected a convcore.nn.Module, got str",
            id="residual_activation",
        ),
        pytest.param(
            lambda: nn.PadChannels(-1),
            ValueError,
            "PadChannels: padding is out of range: expected at least 0, got -1",
            id="pad_channels",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.ReLU(), np.tanh),
            TypeError,
            "Sequential: layer '1' is not a module: expected a convcore.nn.Module, got ufunc",
            id="sequential_type",
        ),
        pytest.param(
            lambda: nn.Sequential([nn.ReLU(), nn.ReLU()]),
            TypeError,
            "expected a convcore.nn.Module, got list (unpack it: Sequential(*layers))",
            id="sequential_list",
        ),
        pytest.param(
            lambda: nn.Sequential({"forward": nn.ReLU()}),
            ValueError,
            "Sequential: the name of a layer cannot be used: expected a string without dots",
            id="sequential_name",
        ),
        pytest.param(
            lambda: nn.Sequential({"a.b": nn.ReLU()}),
            ValueError,
            "neither taken nor an attribute of Sequential, got 'a.b'",
            id="sequential_dots",
        ),
    ],
)
def test_layer_rejects(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda two: nn.MaxPool2d(two, stride=two),
        lambda two: nn.AvgPool1d(two),
        lambda two: nn.AdaptiveAvgPool2d(two),
        lambda two: nn.Conv2d(two, two, two, padding=two, groups=two),
    ],
)
def test_layer_takes_arrays_without_dimensions_as_ints(make):
    assert repr(make(np.array(2))) == repr(make(2))
    x = np.ones((1, 2, 4) if "1d" in repr(make(2)) else (1, 2, 4, 4), np.float32)
    assert make(np.array(2))(x).shape == make(2)(x).shape


def test_pooling_layer_takes_arrays_of_ints():
    assert repr(nn.MaxPool2d(np.array([2, 3]))) == repr(nn.MaxPool2d((2, 3)))
    assert repr(nn.AdaptiveAvgPool2d(np.array([2, 3]))) == repr(nn.AdaptiveAvgPool2d((2, 3)))


def test_a_failed_forward_keeps_nothing(rng):
    layer = nn.Linear(3, 4)
    with pytest.raises(ValueError, match="linear: x has the wrong number of features"):
        layer(floats(rng, 2, 5))
    with pytest.raises(RuntimeError, match="Linear: backward called before forward"):
        layer.backward(floats(rng, 2, 4))


# ---- torch ---------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize(
    "text",
    [
        "Linear(3, 4)",
        "Linear(3, 4, bias=False)",
        "Conv1d(4, 8, 3, padding=1)",
        "Conv2d(4, 8, 3)",
        "Conv2d(4, 8, (3, 1), 2, (1, 0), 2, 2, False)",
        "Conv2d(4, 8, 3, padding='same')",
        "Conv2d(4, 8, 3, padding=1, bias=False, padding_mode='reflect')",
        "AdaptiveMaxPool2d((1, None))",
        "LPPool2d(2, 3, 2)",
        "LPPool2d(1.5, (3, 2), 1, ceil_mode=True)",
        "Dropout2d(0.2)",
        "GroupNorm(2, 4)",
        "GroupNorm(2, 4, affine=False)",
        "LayerNorm(4, bias=False)",
        "LayerNorm(4)",
        "LayerNorm((3, 4), elementwise_affine=False)",
        "MaxPool1d(2)",
        "MaxPool2d((3, 2), 2, 1, 1, False, True)",
        "AvgPool1d(2, 1)",
        "AvgPool2d(2, padding=1)",
        "AdaptiveAvgPool2d((1, None))",
        "AdaptiveAvgPool2d(7)",
        "ReLU()",
        "ReLU(inplace=True)",
        "LeakyReLU(0.2, True)",
        "Tanh()",
        "Sigmoid()",
        "ELU()",
        "ELU(0.5, True)",
        "GELU()",
        "GELU('tanh')",
        "SiLU()",
        "SiLU(inplace=True)",
        "Softmax(1)",
        "LogSoftmax(-1)",
        "Dropout(0.2)",
        "Flatten()",
        "Identity()",
        "Sequential(Linear(2, 3), Sequential(ReLU(), Linear(3, 2)))",
        "Sequential()",
    ],
)
def test_layer_repr_is_that_of_torch(torch, text):
    assert repr(eval(text, vars(nn).copy())) == repr(eval(text, vars(torch.nn).copy()))


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, (2, 1), "same"])
def test_conv2d_padding_mode_is_that_of_torch(torch, mode, padding, rng):
    arguments = {"padding": padding, "padding_mode": mode, "dilation": (1, 2)}
    ours, theirs = nn.Conv2d(4, 6, 3, **arguments), torch.nn.Conv2d(4, 6, 3, **arguments)
    ours.load_state_dict(theirs.state_dict())
    x = floats(rng, 2, 4, 8, 9)
    tx = torch.tensor(x, requires_grad=True)
    ty = theirs(tx)
    y = ours(x)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-4, atol=1e-5)
    dy = floats(rng, *y.shape)
    ty.backward(torch.tensor(dy))
    np.testing.assert_allclose(ours.backward(dy), tx.grad.numpy(), rtol=1e-4, atol=1e-4)
    want = theirs.weight.grad.numpy()
    np.testing.assert_allclose(ours.weight.grad, want, rtol=1e-3, atol=1e-3)


@pytest.mark.torch
def test_state_dict_and_initial_ranges_are_those_of_torch(torch):
    def build(n):
        return n.Sequential(
            n.GroupNorm(2, 8),
            n.LayerNorm((3, 4)),
            n.LayerNorm(5, bias=False),
            n.Conv2d(3, 80, 5, groups=1),
            n.BatchNorm2d(80),
            n.Sequential(n.Conv1d(8, 40, 3, bias=False), n.BatchNorm1d(40, affine=False)),
            n.Linear(20, 300),
        )

    torch.manual_seed(0)
    ours, theirs = build(nn).state_dict(), build(torch.nn).state_dict()
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        other = theirs[name].numpy()
        assert array.shape == other.shape, name
        assert array.dtype == other.dtype, name
        # Uniform numbers: the largest of many is near the bound.
        assert np.abs(array).max() == pytest.approx(np.abs(other).max(), rel=0.3), name


@pytest.mark.torch
def test_batch_norm_layer_matches_torch_over_several_steps(torch, rng):
    for momentum in (0.1, None):
        ours, theirs = (
            nn.BatchNorm2d(3, momentum=momentum),
            torch.nn.BatchNorm2d(3, momentum=momentum),
        )
        for _ in range(3):
            x, dy = floats(rng, 4, 3, 5, 5), floats(rng, 4, 3, 5, 5)
            tx = torch.tensor(x, requires_grad=True)
            ty = theirs(tx)
            ty.backward(torch.tensor(dy))
            np.testing.assert_allclose(ours(x), ty.detach().numpy(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(ours.backward(dy), tx.grad.numpy(), rtol=1e-4, atol=1e-5)
        for name, array in ours.state_dict().items():
            np.testing.assert_allclose(
                array, theirs.state_dict()[name].numpy(), rtol=1e-5, atol=1e-6
            )
        for name, parameter in ours.named_parameters():
            want = dict(theirs.named_parameters())[name].grad.numpy()
            np.testing.assert_allclose(parameter.grad, want, rtol=1e-4, atol=1e-4)

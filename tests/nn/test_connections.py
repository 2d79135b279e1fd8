"""Connection tables: what is left out stays zero, is not counted, and is no part of the network."""

from __future__ import annotations

import re

import numpy as np
import pytest

import convcore
import convcore.functional as F
from convcore import init, nn, optim, serialization
from convcore._plan import planning
from helpers import floats

C3 = nn.connections.LENET5_C3


def outside(layer):
    table = np.array(layer.connections)
    return layer.weight.data[~table]


def test_lenet5_c3_is_table_1_of_the_paper():
    rows = ["".join("X" if c3[s2] else "." for c3 in C3) for s2 in range(6)]
    assert rows == [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]


def test_convolution_with_connections_is_the_sum_over_what_is_connected(rng):
    layer = nn.Conv2d(6, 16, 3, padding=1, connections=C3)
    x, dy = floats(rng, 2, 6, 7, 8), floats(rng, 2, 16, 7, 8)
    y = layer(x)
    dx = layer.backward(dy)
    w, b = layer.weight.data, layer.bias.data
    want_dx = np.zeros_like(dx)
    for k, row in enumerate(C3):
        seen = np.flatnonzero(row)
        part = (x[:, seen], w[k : k + 1, seen], b[k : k + 1], 1, 1)
        np.testing.assert_allclose(y[:, k : k + 1], F.conv2d(*part), rtol=1e-5, atol=1e-5)
        part_dx, part_dw, _ = F.conv2d_backward(dy[:, k : k + 1], *part)
        want_dx[:, seen] += part_dx
        np.testing.assert_allclose(layer.weight.grad[k, seen], part_dw[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dx, want_dx, rtol=1e-4, atol=1e-5)
    assert (layer.weight.grad[~np.array(C3)] == 0).all()


def test_connections_are_what_is_counted():
    layer = nn.Conv2d(6, 16, 5, connections=C3)
    assert sum(p.numel() for p in layer.parameters()) == 1516
    summary = nn.Sequential(layer).summary((6, 14, 14), print_fn=None)
    assert summary.parameters == summary.trainable_parameters == 1516
    assert summary.multiply_adds == 60 * 25 * 10 * 10
    assert "connections=60 of 96" in repr(layer)


@pytest.mark.parametrize("planned", [False, True], ids=["layer by layer", "planned"])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
        lambda p: optim.RMSprop(p, lr=0.01, weight_decay=0.1, momentum=0.9, centered=True),
        lambda p: optim.Adagrad(p, lr=0.01, weight_decay=0.1, l1=0.01, max_norm=3.0),
    ],
    ids=["sgd", "adamw", "rmsprop", "adagrad"],
)
def test_nothing_moves_what_is_not_connected(planned, clip, make, rng, monkeypatch):
    monkeypatch.setattr(planning, "enabled", planned)
    convcore.manual_seed(0)
    layer = nn.Conv2d(6, 16, 3, connections=C3)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), layer, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)
    )
    model.compile(optimizer=make, clip_grad_norm=clip)
    before = layer.weight.data.copy()
    x, y = floats(rng, 40, 1, 8, 8), rng.integers(0, 3, 40)
    model.fit(x, y, epochs=2, batch_size=8, verbose=0)
    assert (outside(layer) == 0).all()
    assert (layer.weight.data[np.array(C3)] != before[np.array(C3)]).all()
    if planned:
        assert model.plan((1, 8, 8), 8)


def test_planned_training_with_connections_is_training_layer_by_layer(rng, monkeypatch):
    x, y = floats(rng, 32, 6, 8, 8), rng.integers(0, 3, 32)
    weights = []
    for planned in (False, True):
        monkeypatch.setattr(planning, "enabled", planned)
        convcore.manual_seed(0)
        layer = nn.Conv2d(6, 16, 3, connections=C3)
        model = nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.Linear(576, 3))
        model.compile(optimizer=lambda p: optim.SGD(p, lr=0.05, momentum=0.9))
        model.fit(x, y, epochs=2, batch_size=8, verbose=0)
        weights.append(layer.weight.data)
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-3, atol=1e-5)


def test_a_state_or_an_initialisation_leaves_the_mask(rng):
    layer = nn.Conv2d(6, 16, 3, connections=C3)
    state = {"weight": floats(rng, 16, 6, 3, 3), "bias": floats(rng, 16)}
    layer.load_state_dict(state)
    table = np.array(C3)
    assert (outside(layer) == 0).all()
    np.testing.assert_array_equal(layer.weight.data[table], state["weight"][table])
    layer.weight.data = state["weight"].copy()
    assert (outside(layer) == 0).all()
    init.uniform_(layer.weight, 1, 2)  # in place
    layer(floats(rng, 1, 6, 4, 4))
    assert (outside(layer) == 0).all()
    init.uniform_(layer.weight, 1, 2)
    nn.Sequential(layer).predict(floats(rng, 1, 6, 4, 4))
    assert (outside(layer) == 0).all()


def test_connections_of_groups_and_sequences(rng):
    layer = nn.Conv2d(4, 4, 3, groups=2, connections=[[1, 0], [0, 1], [1, 1], [1, 0]])
    assert layer(floats(rng, 2, 4, 5, 5)).shape == (2, 4, 3, 3)
    assert layer.weight.numel() == 5 * 9
    assert nn.Conv1d(2, 2, 5, connections=np.eye(2)).weight.numel() == 10


def test_connections_are_rebuilt_from_their_description(rng):
    layer = nn.Conv2d(6, 16, 3, connections=C3)
    again = serialization.build(serialization.describe(layer))
    assert again.connections == layer.connections
    again.load_state_dict(layer.state_dict())
    x = floats(rng, 2, 6, 5, 5)
    np.testing.assert_array_equal(again(x), layer(x))


def test_fewer_connections_begin_with_larger_weights():
    table = np.zeros((64, 32), bool)
    table[:, :2] = True
    layer = nn.Conv2d(32, 64, 5, connections=table)
    bound = 1 / np.sqrt(2 * 25)
    for values in (layer.weight.data[table], layer.bias.data):
        assert 0.9 * bound < abs(values).max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize(
    ("connections", "message"),
    [
        ([[1, 0]], "connections has the wrong shape: expected (3, 2) (outputs, inputs of a group)"),
        ([[1, 2], [1, 1], [1, 1]], "connections has values that are no truth values"),
        (
            [[1, 0], [0, 0], [1, 1]],
            "connections leaves an output without input: expected at least one each, got none for "
            "output 1",
        ),
    ],
)
def test_conv2d_rejects_connections(connections, message):
    with pytest.raises(ValueError, match=re.escape(f"Conv2d: {message}")):
        nn.Conv2d(2, 3, 3, connections=connections)


def test_from_inputs_rejects_channels_that_are_not_there():
    with pytest.raises(ValueError, match=re.escape("expected 0 to 2, got 3")):
        nn.connections.from_inputs([[0, 3]], in_channels=3)


def test_parameter_rejects_a_mask_of_another_shape():
    with pytest.raises(ValueError, match=re.escape("mask has the wrong shape: expected (3,)")):
        nn.Parameter(np.zeros(3, np.float32), mask=np.ones(4))

"""Names, state and modes of modules and containers."""

from __future__ import annotations

import copy
import pickle
import re
from collections import OrderedDict

import numpy as np
import pytest

from convcore import nn
from convcore.nn.parameter import Parameter
from helpers import floats


def network():
    return nn.Sequential(
        nn.Linear(4, 6),
        nn.BatchNorm1d(6),
        nn.Residual(
            nn.Sequential(nn.Linear(6, 6), nn.ReLU()), shortcut=nn.Linear(6, 6, bias=False)
        ),
        nn.Linear(6, 2),
    )


KEYS = [
    "0.weight",
    "0.bias",
    "1.weight",
    "1.bias",
    "1.running_mean",
    "1.running_var",
    "1.num_batches_tracked",
    "2.body.0.weight",
    "2.body.0.bias",
    "2.shortcut.weight",
    "3.weight",
    "3.bias",
]


def test_state_dict_has_nested_names_in_order():
    model = network()
    assert list(model.state_dict()) == KEYS
    assert [n for n, _ in model.named_parameters()] == [
        k for k in KEYS if "running" not in k and "num" not in k
    ]
    assert [n for n, _ in model.named_buffers()] == KEYS[4:7]
    assert len(list(model.buffers())) == 3
    assert [n for n, _ in model.named_modules()][:4] == ["", "0", "1", "2"]
    assert [n for n, _ in model[2].named_children()] == ["body", "shortcut"]


def test_state_dict_holds_the_arrays_themselves():
    model = network()
    assert model.state_dict()["0.weight"] is model[0].weight.data


def test_a_shared_module_counts_once():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(model.parameters())) == 2
    x = np.ones((2, 3), np.float32)
    model(x)
    with pytest.raises(RuntimeError, match="each layer object once in a network"):
        model.backward(x)


def test_load_state_dict_copies(rng):
    ours, other = network(), network()
    before = ours[0].weight.data
    assert ours.load_state_dict(other.state_dict()) == ([], [])
    assert ours[0].weight.data is before
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, other.state_dict()[name])
        assert not np.shares_memory(array, other.state_dict()[name])
    x = floats(rng, 5, 4)
    np.testing.assert_array_equal(ours(x), other(x))


def test_load_state_dict_takes_floats_of_any_width():
    model = nn.Linear(2, 3)
    model.load_state_dict({"weight": np.full((3, 2), 0.5, np.float16), "bias": np.zeros(3)})
    assert model.weight.data.dtype == np.float32
    assert (model.weight.data == 0.5).all()


def test_load_state_dict_names_everything_wrong_and_changes_nothing():
    model = network()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in model.state_dict().items()}
    del state["0.bias"], state["3.weight"]
    state["9.weight"] = np.zeros(1, np.float32)
    state["extra"] = np.zeros(1, np.float32)
    state["2.body.0.bias"] = np.zeros((2, 3), np.float32)
    state["3.bias"] = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="the state does not fit this Sequential") as caught:
        model.load_state_dict(state)
    text = str(caught.value)
    assert "missing keys: expected '0.bias', '3.weight'" in text
    assert "unexpected keys: got '9.weight', 'extra'" in text
    assert "'2.body.0.bias': expected (6,) of float32, got (2, 3) of float32" in text
    assert "'3.bias': expected (2,) of float32, got (2,) of int64" in text
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_load_state_dict_not_strict_returns_what_did_not_match():
    model = nn.Linear(2, 3)
    keys = model.load_state_dict(
        {"weight": np.ones((3, 2), np.float32), "w": np.ones(1)}, strict=False
    )
    assert keys.missing_keys == ["bias"]
    assert keys.unexpected_keys == ["w"]
    assert (model.weight.data == 1).all()
    with pytest.raises(ValueError, match="wrong shapes or dtypes: 'weight'"):
        model.load_state_dict({"weight": np.ones(2, np.float32)}, strict=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight", np.full(4, 1e39)),
        ("running_mean", np.full(4, -1e300)),
        ("num_batches_tracked", np.array(2**63, np.uint64)),
    ],
)
def test_load_state_dict_rejects_values_that_the_dtype_cannot_hold(name, value):
    model = nn.BatchNorm1d(4)
    state = {key: array + 1 for key, array in model.state_dict().items()}
    before = {key: array.copy() for key, array in model.state_dict().items()}
    message = f"values that the dtype cannot hold: got '{name}'"
    with pytest.raises(ValueError, match=message):
        model.load_state_dict({**state, name: value})
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


def test_load_state_dict_takes_infinities_and_nan():
    layer = nn.Linear(1, 3)
    layer.load_state_dict({"weight": np.zeros((3, 1)), "bias": np.array([np.inf, -np.inf, np.nan])})
    np.testing.assert_array_equal(layer.bias.data, np.float32([np.inf, -np.inf, np.nan]))


def test_load_state_dict_takes_arrays_that_are_its_own():
    layer = nn.BatchNorm1d(2)
    own = layer.state_dict()
    own["running_mean"][...], own["running_var"][...] = [1, 2], [3, 4]
    swapped = {"running_mean": own["running_var"], "running_var": own["running_mean"]}
    layer.load_state_dict({**own, **swapped})
    assert layer.running_mean.tolist() == [3, 4]
    assert layer.running_var.tolist() == [1, 2]


def test_load_state_dict_checks_that_all_can_be_written_before_it_writes():
    layer = nn.BatchNorm1d(2)
    state = {name: array + 1 for name, array in layer.state_dict().items()}
    layer.running_var.flags.writeable = False
    with pytest.raises(ValueError, match="own arrays that are read-only: 'running_var'"):
        layer.load_state_dict(state)
    assert layer.weight.data.tolist() == [1, 1]
    del state["running_var"]
    layer.load_state_dict(state, strict=False)
    assert layer.weight.data.tolist() == [2, 2]


def test_load_state_dict_rejects_what_is_no_mapping():
    message = "load_state_dict: state has the wrong type: expected a mapping of names to arrays, "
    with pytest.raises(TypeError, match=message + "got NoneType"):
        nn.Linear(2, 3).load_state_dict(None)


@pytest.mark.torch
def test_load_state_dict_names_bfloat16(torch):
    layer = nn.Linear(2, 3)
    state = {"weight": torch.zeros(3, 2, dtype=torch.bfloat16), "bias": torch.zeros(3)}
    message = "'weight' has the wrong dtype: expected float32, got bfloat16, which is not supported"
    with pytest.raises(ValueError, match=message):
        layer.load_state_dict(state)


def test_a_parameter_is_not_replaced_by_an_array(rng):
    layer = nn.Linear(2, 3)
    message = "Linear: weight is a parameter: expected a Parameter or None, got ndarray"
    with pytest.raises(TypeError, match=message + r" \(write layer.weight.data = "):
        layer.weight = floats(rng, 3, 2)
    layer.bias = None
    layer.weight = Parameter(floats(rng, 3, 2))
    assert list(layer.state_dict()) == ["weight"]


def test_train_and_eval_reach_all_modules_and_return_the_module():
    model = network()
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    assert model.train() is model
    assert all(m.training for m in model.modules())


def test_forget_drops_what_forward_kept():
    model = network()
    model(np.ones((3, 4), np.float32))
    model.forget()
    assert all(m._kept is None for m in model.modules())


def test_a_module_of_ones_own_is_found_by_its_attributes(rng):
    class Block(nn.Module):
        def __init__(self):
            self.first = nn.Linear(3, 4)
            self.scale = nn.Parameter(np.ones(1, np.float32))
            self.register_buffer("steps", np.zeros((), np.int64))

        def forward(self, x):
            return self.first(x)

        def backward(self, dy, need_dx=True):
            return self.first.backward(dy, need_dx)

    model = nn.Sequential(Block())
    assert list(model.state_dict()) == ["0.scale", "0.steps", "0.first.weight", "0.first.bias"]
    assert model(floats(rng, 2, 3)).shape == (2, 4)


def test_the_base_class_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()(np.zeros(1, np.float32))
    with pytest.raises(NotImplementedError, match="Module has no backward"):
        nn.Module().backward(np.zeros(1, np.float32))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_network_can_be_copied_and_pickled(again, rng):
    model = network()
    other = again(model)
    x = floats(rng, 3, 4)
    np.testing.assert_array_equal(other.eval()(x), model.eval()(x))
    other[0].weight.data[...] = 0
    assert (model[0].weight.data != 0).any()


# ---- Sequential ----------------------------------------------------------------------------------


def test_sequential_is_indexed_sliced_and_iterated():
    layers = [nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)]
    model = nn.Sequential(*layers)
    assert len(model) == 3
    assert list(model) == layers
    assert model[0] is layers[0]
    assert model[-1] is layers[2]
    head = model[1:]
    assert isinstance(head, nn.Sequential)
    assert list(head.state_dict()) == ["2.weight", "2.bias"]
    assert head[1] is layers[2]
    with pytest.raises(IndexError):
        model[3]
    model[1] = nn.Tanh()
    assert [type(m).__name__ for m in model] == ["Linear", "Tanh", "Linear"]


def test_sequential_takes_names_as_torch_does():
    model = nn.Sequential(OrderedDict([("features", nn.Linear(3, 4)), ("head", nn.Linear(4, 2))]))
    assert list(model.state_dict())[::2] == ["features.weight", "head.weight"]
    assert model.head is model[1]


def test_sequential_append_finds_a_free_name():
    model = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU())
    assert model.append(nn.Tanh()) is model
    assert [n for n, _ in model.named_children()] == ["0", "1", "2", "3"]
    tail = model[1:3].append(nn.Tanh())
    assert [n for n, _ in tail.named_children()] == ["1", "2", "3"]


def test_sequential_without_layers_is_the_identity():
    x = np.ones((2, 3), np.float32)
    model = nn.Sequential()
    assert model(x) is x
    assert model.backward(x) is x


def test_sequential_stops_before_layers_without_parameters(rng):
    model = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(6, 2), nn.ReLU())
    model(floats(rng, 3, 2, 3))
    assert model.backward(floats(rng, 3, 2), need_dx=False) is None
    assert model[2].weight.grad is not None
    with pytest.raises(RuntimeError, match="ReLU: backward called before forward"):
        model[1].backward(floats(rng, 3, 6))


# ---- Residual ------------------------------------------------------------------------------------


def test_residual_adds_the_shortcut_in_both_directions(rng):
    body, shortcut = nn.Linear(3, 4), nn.Linear(3, 4)
    x, dy = floats(rng, 5, 3), floats(rng, 5, 4)
    block = nn.Residual(body, shortcut)
    np.testing.assert_array_equal(block(x), body(x) + shortcut(x))
    np.testing.assert_allclose(
        block.backward(dy), dy @ body.weight.data + dy @ shortcut.weight.data, rtol=1e-5, atol=1e-6
    )
    assert list(block.state_dict()) == [
        "body.weight",
        "body.bias",
        "shortcut.weight",
        "shortcut.bias",
    ]


def test_residual_without_shortcut_adds_the_input(rng):
    body = nn.Linear(3, 3)
    x, dy = floats(rng, 5, 3), floats(rng, 5, 3)
    block = nn.Residual(body)
    np.testing.assert_array_equal(block(x), body(x) + x)
    np.testing.assert_allclose(block.backward(dy), dy @ body.weight.data + dy, rtol=1e-5, atol=1e-6)
    assert re.match(r"Residual\(\n  \(body\): Linear", repr(block))

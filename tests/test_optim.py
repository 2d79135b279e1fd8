"""convcore.optim: update rules, parameter groups, saving; and Parameter."""

from __future__ import annotations

import re

import numpy as np
import pytest

import convcore.functional as F
from convcore import reference
from convcore.nn.parameter import Parameter
from convcore.optim import SGD, Adagrad, Adam, AdamW, RMSprop
from helpers import floats

SHAPES = [(3, 4, 5), (17,), ()]
RULES = [
    pytest.param(SGD, {}, id="sgd"),
    pytest.param(SGD, {"lr": 0.1, "weight_decay": 0.1}, id="sgd-decay"),
    pytest.param(SGD, {"lr": 0.1, "momentum": 0.9}, id="sgd-momentum"),
    pytest.param(
        SGD,
        {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.05},
        id="sgd-dampening",
    ),
    pytest.param(
        SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, id="sgd-nesterov"
    ),
    pytest.param(Adam, {}, id="adam"),
    pytest.param(
        Adam, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}, id="adam-decay"
    ),
    pytest.param(AdamW, {}, id="adamw"),
    pytest.param(AdamW, {"lr": 0.02, "weight_decay": 0.5}, id="adamw-decay"),
    pytest.param(RMSprop, {}, id="rmsprop"),
    pytest.param(RMSprop, {"momentum": 0.9, "weight_decay": 0.1}, id="rmsprop-momentum"),
    pytest.param(RMSprop, {"alpha": 0.8, "centered": True, "momentum": 0.5}, id="rmsprop-centered"),
    pytest.param(Adagrad, {}, id="adagrad"),
    pytest.param(
        Adagrad,
        {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5},
        id="adagrad-decay",
    ),
]


def parameters(rng, shapes=SHAPES):
    return [Parameter(np.asarray(floats(rng, *shape), np.float32)) for shape in shapes]


def set_grads(params, rng):
    for p in params:
        p.grad = np.asarray(floats(rng, *p.shape), np.float32)


def reference_steps(kind, options, param, grads):
    """Return the parameter after one step for each gradient, in float64."""
    options = dict(options)
    if kind is AdamW:
        options = {"weight_decay": 1e-2, **options, "decoupled": True}
    state = None
    for t, grad in enumerate(grads, start=1):
        if kind is SGD:
            param, state = reference.sgd_step(param, grad, state, **options)
        elif kind is RMSprop:
            state = [np.zeros_like(param)] * 3 if state is None else state
            param, *state = reference.rmsprop_step(param, grad, *state, **options)
        elif kind is Adagrad:
            begin = options.get("initial_accumulator_value", 0)
            settings = {k: v for k, v in options.items() if k != "initial_accumulator_value"}
            state = np.full_like(param, begin) if state is None else state
            param, state = reference.adagrad_step(param, grad, state, t, **settings)
        else:
            state = (np.zeros_like(param), np.zeros_like(param)) if state is None else state
            param, *state = reference.adam_step(param, grad, *state, t, **options)
    return param


@pytest.mark.parametrize(("kind", "options"), RULES)
def test_ten_steps_match_reference(kind, options, rng):
    params = parameters(rng)
    starts = [p.data.astype(np.float64) for p in params]
    optimizer = kind(params, **options)
    grads = [[] for _ in params]
    for _ in range(10):
        set_grads(params, rng)
        for kept, p in zip(grads, params, strict=True):
            kept.append(p.grad.astype(np.float64))
        optimizer.step()
    for p, start, kept in zip(params, starts, grads, strict=True):
        want = reference_steps(kind, options, start, kept)
        np.testing.assert_allclose(p.data, want, rtol=1e-5, atol=2e-6)


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "options"), RULES)
def test_ten_steps_match_torch(torch, kind, options, rng):
    params = parameters(rng)
    theirs = [torch.nn.Parameter(torch.tensor(p.data)) for p in params]
    optimizer = kind(params, **options)
    oracle = getattr(torch.optim, kind.__name__)(theirs, **options)
    for name in optimizer.defaults.keys() - optimizer._OFF.keys():
        assert optimizer.param_groups[0][name] == oracle.param_groups[0][name], name
    for step in range(10):
        set_grads(params, rng)
        for p, t in zip(params, theirs, strict=True):
            t.grad = torch.tensor(p.grad)
        if step == 5:
            optimizer.param_groups[0]["lr"] *= 0.5
            oracle.param_groups[0]["lr"] *= 0.5
        optimizer.step()
        oracle.step()
    for p, t in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.data, t.detach().numpy(), rtol=1e-5, atol=2e-6)


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "options"), RULES)
def test_state_dict_of_torch_loads(torch, kind, options, rng):
    params = parameters(rng, [(3, 4)])
    theirs = torch.nn.Parameter(torch.tensor(params[0].data))
    oracle = getattr(torch.optim, kind.__name__)([theirs], **options)
    for _ in range(3):
        theirs.grad = torch.tensor(floats(rng, 3, 4))
        oracle.step()
    params[0].data = theirs.detach().numpy().copy()
    optimizer = kind(params)
    optimizer.load_state_dict(oracle.state_dict())
    set_grads(params, rng)
    theirs.grad = torch.tensor(params[0].grad)
    optimizer.step()
    oracle.step()
    np.testing.assert_allclose(params[0].data, theirs.detach().numpy(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, RMSprop, Adagrad])
def test_step_skips_parameters_without_gradient(kind, rng):
    params = parameters(rng)
    before = [p.data.copy() for p in params]
    set_grads(params[1:], rng)
    kind(params).step()
    np.testing.assert_array_equal(params[0].data, before[0])
    assert (params[1].data != before[1]).any()


def test_step_writes_into_the_parameter_itself(rng):
    (p,) = parameters(rng, [(4,)])
    data = p.data
    set_grads([p], rng)
    SGD([p]).step()
    assert p.data is data


def test_zero_grad_sets_none(rng):
    params = parameters(rng)
    set_grads(params, rng)
    SGD(params).zero_grad()
    assert [p.grad for p in params] == [None] * 3


def test_step_that_fails_changes_nothing(rng):
    for kind in (lambda p: SGD(p, momentum=0.9), Adam):
        (p,) = parameters(rng, [(4,)])
        optimizer, before = kind([p]), p.data.copy()
        p.grad = np.zeros(5, np.float32)
        with pytest.raises(ValueError, match=r"_step: grad has the wrong shape: expected \(4,\)"):
            optimizer.step()
        np.testing.assert_array_equal(p.data, before)
        p.grad = np.ones(4, np.float32)
        optimizer.step()
        (fresh,) = parameters(rng, [(4,)])
        fresh.data, fresh.grad = before.copy(), p.grad
        kind([fresh]).step()
        np.testing.assert_array_equal(p.data, fresh.data)


def test_parameter_groups_have_their_own_hyper_parameters():
    a, b = Parameter(np.ones(2, np.float32)), Parameter(np.ones(2, np.float32))
    optimizer = SGD([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.5]
    for p in (a, b):
        p.grad = np.ones(2, np.float32)
    optimizer.step()
    assert a.data.tolist() == [0.75, 0.75]
    assert b.data.tolist() == [0.5, 0.5]
    optimizer.param_groups[1]["lr"] = 0.0
    optimizer.step()
    assert b.data.tolist() == [0.5, 0.5]


def test_parameters_may_come_from_a_generator(rng):
    params = parameters(rng)
    optimizer = Adam(p for p in params)
    assert optimizer.param_groups[0]["params"] == params


def test_add_param_group():
    a, b = Parameter(np.ones(2, np.float32)), Parameter(np.ones(2, np.float32))
    optimizer = SGD([a], lr=0.5)
    optimizer.add_param_group({"params": b, "lr": 0.25})
    b.grad = np.ones(2, np.float32)
    optimizer.step()
    assert b.data.tolist() == [0.75, 0.75]


@pytest.mark.parametrize(("kind", "options"), RULES)
def test_state_dict_resumes_to_the_same_bits(kind, options, rng):
    params = parameters(rng)
    optimizer = kind(params, **options)
    for _ in range(3):
        set_grads(params, rng)
        optimizer.step()
    saved = optimizer.state_dict()
    others = [Parameter(p.data.copy()) for p in params]
    resumed = kind(others)
    resumed.load_state_dict(saved)
    for _ in range(3):
        set_grads(params, rng)
        for p, q in zip(params, others, strict=True):
            q.grad = p.grad
        optimizer.step()
        resumed.step()
    for p, q in zip(params, others, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "options"), RULES)
def test_state_dict_has_the_structure_of_torch(torch, kind, options, rng):
    params = parameters(rng)
    theirs = [torch.nn.Parameter(torch.tensor(p.data)) for p in params]
    optimizer = kind([{"params": params[:1]}, {"params": params[1:]}], **options)
    oracle = getattr(torch.optim, kind.__name__)(
        [{"params": theirs[:1]}, {"params": theirs[1:]}], **options
    )
    set_grads(params, rng)
    for p, t in zip(params, theirs, strict=True):
        t.grad = torch.tensor(p.grad)
    optimizer.step()
    oracle.step()
    got, want = optimizer.state_dict(), oracle.state_dict()
    assert got.keys() == want.keys()
    for group, other in zip(got["param_groups"], want["param_groups"], strict=True):
        assert group.items() <= other.items()
    for i, state in got["state"].items():
        kept = {k: v for k, v in want["state"].get(i, {}).items() if v is not None}
        assert state.keys() == kept.keys()
        for name, value in state.items():
            np.testing.assert_allclose(value, kept[name].numpy(), rtol=1e-6)


def test_state_dict_is_a_copy(rng):
    (p,) = parameters(rng, [(4,)])
    optimizer = Adam([p])
    set_grads([p], rng)
    optimizer.step()
    saved = optimizer.state_dict()
    kept = saved["state"][0]["exp_avg"].copy()
    optimizer.load_state_dict(saved)
    optimizer.step()
    np.testing.assert_array_equal(saved["state"][0]["exp_avg"], kept)
    assert saved["state"][0]["step"] == 1
    assert saved["param_groups"][0]["params"] == [0]


def test_repr_names_the_hyper_parameters(rng):
    text = repr(SGD(parameters(rng), lr=0.5))
    assert text == (
        "SGD(lr=0.5, momentum=0, dampening=0, weight_decay=0, nesterov=False, 3 parameters)"
    )


ALL = [SGD, Adam, AdamW, RMSprop, Adagrad]


# ---- penalties and constraints -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_penalties_are_those_of_the_loss(kind, rng):
    """The gradient with l1 and weight decay is that of loss + decay / 2 |p|^2 + l1 |p|_1."""
    penalized, plain = parameters(rng, [(3, 4), (5,)]), []
    penalized[1].data[2] = 0  # where l1 has no slope
    options = {"weight_decay": 0.0 if kind is AdamW else 0.1}
    optimizer = kind(penalized, l1=0.05, **options)
    plain = [Parameter(p.data.copy()) for p in penalized]
    oracle = kind(plain, weight_decay=0.0)
    for _ in range(3):
        set_grads(penalized, rng)
        for p, q in zip(penalized, plain, strict=True):
            slope = options["weight_decay"] * q.data + 0.05 * np.sign(q.data)
            q.grad = p.grad + slope.astype(np.float32)
        optimizer.step()
        oracle.step()
    for p, q in zip(penalized, plain, strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-5, atol=1e-5)


def test_penalty_is_what_the_options_add_to_the_loss():
    a, b = Parameter(np.array([1, -2], np.float32)), Parameter(np.array([[3, 4]], np.float32))
    optimizer = SGD([{"params": [a], "l1": 0.5}, {"params": [b], "weight_decay": 0.1}])
    assert optimizer.penalty() == pytest.approx(0.5 * 3 + 0.05 * 25)
    step = 1e-3
    slope = optimizer.penalty()
    a.data[0] += step
    assert (optimizer.penalty() - slope) / step == pytest.approx(0.5, rel=1e-3)
    assert AdamW([a], weight_decay=0.1).penalty() == 0


@pytest.mark.parametrize("kind", ALL)
def test_max_norm_holds_for_each_row_of_the_weights(kind, rng):
    params = parameters(rng, [(4, 10), (3, 2, 3, 3), (50,), ()])
    optimizer = kind(params, lr=0.05, max_norm=2.0)
    set_grads(params, rng)
    optimizer.step()
    for p in params[:2]:
        norms = np.linalg.norm(p.data.reshape(len(p.data), -1), axis=1)
        assert (norms <= 2.0001).all()
        assert norms.max() == pytest.approx(2, rel=1e-5)
    assert np.linalg.norm(params[2].data) > 3  # biases and batch norm have no rows


def test_penalties_are_saved_when_they_are_on(rng):
    params = parameters(rng)
    assert not SGD(params).state_dict()["param_groups"][0].keys() & {"l1", "max_norm"}
    saved = SGD(params, l1=0.1, max_norm=3).state_dict()
    optimizer = SGD(params)
    optimizer.load_state_dict(saved)
    assert repr(optimizer).endswith("l1=0.1, max_norm=3, 3 parameters)")
    optimizer.load_state_dict(SGD(params).state_dict())
    assert optimizer.param_groups[0]["l1"] == 0
    assert optimizer.param_groups[0]["max_norm"] is None


def one():
    return [Parameter(np.ones(2, np.float32))]


def twice():
    return one() * 2


REJECTED = {
    "lr": (
        lambda: SGD(one(), lr=-1),
        ValueError,
        "SGD: lr is out of range: expected at least 0, got -1.0",
    ),
    "lr nan": (lambda: Adam(one(), lr=float("nan")), ValueError, "Adam: lr is out of range"),
    "lr type": (
        lambda: SGD(one(), lr="fast"),
        TypeError,
        "SGD: lr has the wrong type: expected a number, got 'fast' (str)",
    ),
    "momentum": (
        lambda: SGD(one(), momentum=-0.1),
        ValueError,
        "SGD: momentum is out of range: expected at least 0, got -0.1",
    ),
    "weight_decay": (
        lambda: AdamW(one(), weight_decay=-1),
        ValueError,
        "AdamW: weight_decay is out of range: expected at least 0, got -1.0",
    ),
    "dampening": (
        lambda: SGD(one(), dampening=None),
        TypeError,
        "SGD: dampening has the wrong type: expected a number, got None (NoneType)",
    ),
    "nesterov": (
        lambda: SGD(one(), nesterov=True),
        ValueError,
        "SGD: nesterov does not fit: expected momentum more than 0 and dampening 0, "
        "got momentum=0, dampening=0",
    ),
    "betas": (
        lambda: Adam(one(), betas=(0.9, 1.0)),
        ValueError,
        "Adam: betas is out of range: expected two numbers of at least 0 and less than 1, "
        "got (0.9, 1.0)",
    ),
    "betas type": (
        lambda: Adam(one(), betas=0.9),
        TypeError,
        "Adam: betas has the wrong type: expected two numbers, got 0.9",
    ),
    "eps": (
        lambda: Adam(one(), eps=-1e-8),
        ValueError,
        "Adam: eps is out of range: expected at least 0, got -1e-08",
    ),
    "l1": (
        lambda: Adagrad(one(), l1=-1),
        ValueError,
        "Adagrad: l1 is out of range: expected at least 0, got -1.0",
    ),
    "max_norm": (
        lambda: RMSprop(one(), max_norm=0),
        ValueError,
        "RMSprop: max_norm is out of range: expected more than 0, or None, got 0",
    ),
    "alpha": (
        lambda: RMSprop(one(), alpha=1.5),
        ValueError,
        "RMSprop: alpha is out of range: expected 0 to 1, got 1.5",
    ),
    "no parameters": (
        lambda: SGD([]),
        ValueError,
        "SGD: params is empty: expected at least one Parameter, got none",
    ),
    "a parameter": (
        lambda: SGD(one()[0]),
        TypeError,
        "SGD: params has the wrong type: expected an iterable of Parameter or of dict, "
        "got Parameter",
    ),
    "an element": (
        lambda: SGD([np.ones(2, np.float32)]),
        TypeError,
        "SGD: params has a wrong element: expected a Parameter, got ndarray",
    ),
    "twice": (
        lambda: SGD(twice()),
        ValueError,
        "SGD: params has a repeated element: expected each Parameter once, got one of shape (2,) "
        "again",
    ),
    "group without params": (
        lambda: SGD([{"lr": 0.1}]),
        ValueError,
        "SGD: a parameter group is incomplete: expected the key 'params', got ['lr']",
    ),
    "group with unknown keys": (
        lambda: SGD([{"params": one(), "rate": 0.1}]),
        ValueError,
        "SGD: a parameter group has unknown keys: expected some of ['dampening', 'l1', 'lr', "
        "'max_norm', 'momentum', 'nesterov', 'weight_decay'], got ['rate']",
    ),
    "group out of range": (
        lambda: SGD([{"params": one(), "lr": -0.1}]),
        ValueError,
        "SGD: lr is out of range: expected at least 0, got -0.1",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REJECTED.values(), ids=REJECTED.keys())
def test_optim_rejects(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def without(name):
    def change(saved):
        del saved["param_groups"][0][name]

    return change


def drop_state(saved):
    del saved["state"]


def add_group(saved):
    saved["param_groups"] *= 2


def add_parameter(saved):
    saved["param_groups"][0]["params"].append(7)


def use_amsgrad(saved):
    saved["param_groups"][0]["amsgrad"] = True


def negative_lr(saved):
    saved["param_groups"][0]["lr"] = -1.0


def unknown_parameter(saved):
    saved["state"][5] = saved["state"][0]


def wrong_shape(saved):
    saved["state"][0]["exp_avg"] = np.zeros(3, np.float32)


def no_step(saved):
    del saved["state"][0]["step"]


REJECTED_STATE = {
    "incomplete": (
        drop_state,
        "Adam: state_dict is incomplete: expected the keys 'state' and 'param_groups', "
        "got ['param_groups']",
    ),
    "groups": (
        add_group,
        "Adam: state_dict has the wrong number of parameter groups: expected 1, got 2",
    ),
    "group keys": (
        without("eps"),
        "Adam: parameter group 0 of state_dict is incomplete: expected the keys "
        "['betas', 'eps', 'lr', 'weight_decay'], got none for ['eps']",
    ),
    "parameters": (
        add_parameter,
        "Adam: parameter group 0 of state_dict has the wrong number of parameters: expected 1, "
        "got 2",
    ),
    "amsgrad": (
        use_amsgrad,
        "Adam: parameter group 0 of state_dict has a setting that convcore does not know: "
        "expected amsgrad=False, got True",
    ),
    "lr": (negative_lr, "Adam: lr is out of range: expected at least 0, got -1.0"),
    "unknown": (
        unknown_parameter,
        "Adam: state_dict has state for an unknown parameter: expected one of [0], got 5",
    ),
    "shape": (
        wrong_shape,
        "Adam: exp_avg of parameter 0 in state_dict has the wrong shape: expected (4,), got (3,)",
    ),
    "state keys": (
        no_step,
        "Adam: state of parameter 0 in state_dict is incomplete: expected 'step', 'exp_avg' and "
        "'exp_avg_sq', got none for ['step']",
    ),
}


def set_step(step):
    def change(saved):
        saved["state"][0]["step"] = step

    return change


def set_array(value):
    def change(saved):
        saved["state"][0]["exp_avg"] = value

    return change


def set_entry(*path, value):
    def change(saved):
        for key in path[:-1]:
            saved = saved[key]
        saved[path[-1]] = value

    return change


NO_STEP = "Adam: step of parameter 0 in state_dict is out of range: expected an int of at least 0, "
REJECTED_STATE |= {
    "negative step": (set_step(-1), NO_STEP + "got -1"),
    "step nan": (set_step(float("nan")), NO_STEP + "got nan"),
    "half a step": (set_step(1.5), NO_STEP + "got 1.5"),
    "step text": (set_step("3"), NO_STEP + "got '3'"),
    "steps": (set_step([1, 2]), NO_STEP + "got [1, 2]"),
    "infinite step": (set_step(float("inf")), NO_STEP + "got inf"),
    "array is None": (
        set_array(None),
        "Adam: state of parameter 0 in state_dict is incomplete: expected 'step', 'exp_avg' and "
        "'exp_avg_sq', got none for ['exp_avg']",
    ),
    "large array": (
        set_array(np.full(4, 1e39)),
        "Adam: exp_avg of parameter 0 in state_dict has a value that float32 cannot hold",
    ),
}


@pytest.mark.parametrize(("change", "message"), REJECTED_STATE.values(), ids=REJECTED_STATE.keys())
def test_load_state_dict_rejects_and_changes_nothing(change, message, rng):
    (p,) = parameters(rng, [(4,)])
    optimizer = Adam([p], lr=0.125)
    set_grads([p], rng)
    optimizer.step()
    saved = optimizer.state_dict()
    change(saved)
    for group in saved.get("param_groups", []):
        group["lr"] = group["lr"] if group["lr"] < 0 else 0.5
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.125
    assert optimizer.state[p]["step"] == 1


REJECTED_TYPES = {
    "group": (
        set_entry("param_groups", 0, value=3),
        "Adam: parameter group 0 of state_dict has the wrong type: expected a mapping, got int",
    ),
    "groups": (
        set_entry("param_groups", value={}),
        "Adam: 'param_groups' of state_dict has the wrong type: expected a sequence, got dict",
    ),
    "params": (
        set_entry("param_groups", 0, "params", value=0),
        "Adam: 'params' of parameter group 0 has the wrong type: expected a sequence, got int",
    ),
    "number": (
        set_entry("param_groups", 0, "params", value=[[]]),
        "Adam: a parameter in state_dict has the wrong type: expected an int, got [] (list)",
    ),
    "state": (
        set_entry("state", value=[]),
        "Adam: 'state' of state_dict has the wrong type: expected a mapping, got list",
    ),
    "state of a parameter": (
        set_entry("state", 0, value="text"),
        "Adam: state of parameter 0 in state_dict has the wrong type: expected a mapping, got str",
    ),
    "array": (
        set_array(["a"] * 4),
        "Adam: exp_avg of parameter 0 in state_dict has the wrong dtype: expected float32, got <U1",
    ),
}


@pytest.mark.parametrize(("change", "message"), REJECTED_TYPES.values(), ids=REJECTED_TYPES.keys())
def test_load_state_dict_rejects_wrong_types_and_changes_nothing(change, message, rng):
    (p,) = parameters(rng, [(4,)])
    optimizer = Adam([p])
    set_grads([p], rng)
    optimizer.step()
    saved = optimizer.state_dict()
    change(saved)
    with pytest.raises(TypeError, match=re.escape(message)):
        optimizer.load_state_dict(saved)
    assert optimizer.state[p]["step"] == 1


def test_load_state_dict_rejects_what_is_no_mapping_and_a_number_twice(rng):
    optimizer = SGD(parameters(rng, [(4,), (4,)]))
    message = "SGD: state_dict has the wrong type: expected a mapping, got NoneType"
    with pytest.raises(TypeError, match=message):
        optimizer.load_state_dict(None)
    saved = optimizer.state_dict()
    saved["param_groups"][0]["params"] = [1, 1]
    message = "SGD: state_dict has a parameter twice: expected each number once, got [1, 1]"
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.load_state_dict(saved)


# ---- Parameter -----------------------------------------------------------------------------------


def test_parameter_accumulates_gradients():
    p = Parameter(np.zeros(2, np.float32))
    assert p.grad is None
    assert p.requires_grad
    assert p.shape == (2,)
    p.accumulate_grad(np.array([1, 2], np.float32))
    p.accumulate_grad(np.array([1, 2], np.float32))
    assert p.grad.tolist() == [2, 4]


def test_parameter_does_not_write_to_the_gradients_it_gets():
    a, b = (Parameter(np.zeros(2, np.float32)) for _ in range(2))
    dy = np.ones(2, np.float32)
    for gradient, parameter in zip(F.add_backward(dy, dy, dy), (a, b), strict=True):
        parameter.accumulate_grad(gradient)
    a.accumulate_grad(dy)
    assert a.grad.tolist() == [2, 2]
    assert b.grad.tolist() == dy.tolist() == [1, 1]


def test_parameter_keeps_its_array_when_it_can(rng):
    data = floats(rng, 3, 4)
    assert Parameter(data).data is data
    strided = Parameter(data.T).data
    assert strided.flags.c_contiguous
    np.testing.assert_array_equal(strided, data.T)
    data.flags.writeable = False
    assert Parameter(data).data.flags.writeable


def test_parameter_data_can_be_replaced_by_the_same_shape(rng):
    p = Parameter(floats(rng, 3, 4))
    p.data = floats(rng, 4, 3).T
    assert p.data.flags.c_contiguous
    message = "Parameter: data has the wrong shape: expected (3, 4), got (4, 3)"
    with pytest.raises(ValueError, match=re.escape(message)):
        p.data = floats(rng, 4, 3)
    message = "Parameter: data has the wrong dtype: expected float32, got float64"
    with pytest.raises(TypeError, match=re.escape(message)):
        p.data = np.zeros((3, 4))
    message = "Parameter: grad has the wrong shape: expected (3, 4), got (4, 3)"
    with pytest.raises(ValueError, match=re.escape(message)):
        p.accumulate_grad(floats(rng, 4, 3))


def test_parameter_rejects_what_is_no_array():
    message = "Parameter: data is not an array: expected a numpy.ndarray of float32, got list"
    with pytest.raises(TypeError, match=re.escape(message)):
        Parameter([1.0])

"""Optimisers with torch's names, arguments, defaults and update rules.

>>> import numpy as np
>>> from convcore.nn.parameter import Parameter
>>> from convcore.optim import SGD
>>> weight = Parameter(np.ones(3, np.float32))
>>> optimizer = SGD([weight], lr=0.5)
>>> weight.accumulate_grad(np.array([0, 1, 2], np.float32))
>>> optimizer.step()
>>> weight.data
array([1. , 0.5, 0. ], dtype=float32)
>>> optimizer.zero_grad()
>>> optimizer.param_groups[0]["lr"] = 0.1

Penalties and constraints are options of every optimiser, and of each of its parameter groups:

``weight_decay`` (L2)
    trains on ``loss + weight_decay / 2 * sum(p**2)``: adds ``weight_decay * p`` to the gradient.
    (The lecture's slide on regularisation has this penalty, and a minus where the gradient is
    ``grad(loss) + weight_decay * p``.) `AdamW` shrinks the parameter by itself instead.
``l1``
    trains on ``loss + l1 * sum(abs(p))``: adds ``l1 * sign(p)``, which drives weights to 0.
``max_norm``
    after each step, the weights that lead to one output of a layer (a row of a dense layer, a
    filter of a convolution) are scaled down to this Euclidean norm where they are longer; biases
    and batch norm are left alone. (Srivastava et al., "Dropout: a simple way to prevent neural
    networks from overfitting", Journal of Machine Learning Research 15, 2014: a norm of 3 to 4.)

The loss that `fit` reports is that of the criterion alone, without penalties, so that losses with
and without them can be compared; `penalty` gives what they add.

>>> from convcore import nn, optim
>>> model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
>>> optimizer = optim.Adam(
...     [{"params": model[0].parameters(), "l1": 1e-5}, {"params": model[2].parameters()}],
...     max_norm=3.0,
... )
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from convcore import _core
from convcore import lr_scheduler as lr_scheduler
from convcore._arrays import beside, full_beside, is_array, to_numpy
from convcore.functional._arguments import FloatArray, to_float, to_int
from convcore.nn import _checks as check
from convcore.nn.parameter import Parameter

#: Parameters, or groups: dicts with "params" and hyper-parameters of their own.
Params = Iterable[Parameter] | Iterable[dict[str, Any]]
State = dict[str, Any]


class Optimizer(ABC):
    """What all optimisers share: parameter groups, state, saving.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        What to optimise. A dict is a group: ``{"params": [...], "lr": 0.1}`` with hyper-parameters
        that differ from the default.
    defaults : dict
        The hyper-parameters of groups that do not set their own.

    Attributes
    ----------
    param_groups : list of dict
        ``"params"`` and every hyper-parameter; read at each step, so that ``"lr"`` may be changed.
    state : dict
        For each parameter that was updated, by identity, the arrays that the rule keeps.
    """

    #: Names of the arrays that the rule keeps for each parameter, in the order of its kernel.
    _arrays: ClassVar[tuple[str, ...]] = ()
    #: Whether the state counts the steps.
    _counts: ClassVar[bool] = True
    #: What torch does not have, when it is off; left out of `state_dict` then.
    _OFF: ClassVar[dict[str, Any]] = {"l1": 0, "max_norm": None}

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Parameter, State] = {}
        self._check_group(defaults)
        groups = self._to_groups(params)
        if not groups:
            raise ValueError(
                f"{self._name}: params is empty: expected at least one Parameter, got none"
            )
        for group in groups:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimise more parameters: ``{"params": [...]}`` and the hyper-parameters that differ."""
        if "params" not in param_group:
            raise ValueError(
                f"{self._name}: a parameter group is incomplete: expected the key 'params', "
                f"got {sorted(param_group)}"
            )
        unknown = sorted(param_group.keys() - self.defaults.keys() - {"params"})
        if unknown:
            raise ValueError(
                f"{self._name}: a parameter group has unknown keys: expected some of "
                f"{sorted(self.defaults)}, got {unknown}"
            )
        params = param_group["params"]
        params = [params] if isinstance(params, Parameter) else list(params)
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Parameter):
                raise TypeError(
                    f"{self._name}: params has a wrong element: expected a Parameter, "
                    f"got {type(p).__name__}"
                )
            if id(p) in known:
                raise ValueError(
                    f"{self._name}: params has a repeated element: expected each Parameter once, "
                    f"got one of shape {p.shape} again"
                )
            known.add(id(p))
        group = {**self.defaults, **param_group, "params": params}
        self._check_group(group)
        self.param_groups.append(group)

    def step(self) -> None:
        """Update every parameter that has a gradient, in place."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, self.state.setdefault(p, {}), group)
                    if limits_norms(p, group):
                        _core.limit_norms(p.data, group["max_norm"])

    def penalty(self) -> float:
        """Return what weight decay and `l1` add to the loss, for the parameters as they are.

        The sum over all parameters of ``weight_decay / 2 * sum(p**2) + l1 * sum(abs(p))``; the
        decoupled weight decay of `AdamW` is no part of a loss.
        """
        total = 0.0
        for group in self.param_groups:
            decay = self._penalized_decay(group)
            for p in group["params"]:
                values = to_numpy(p.data).astype(np.float64)
                total += float(decay / 2 * (values**2).sum() + group["l1"] * abs(values).sum())
        return total

    def _penalized_decay(self, group: Mapping[str, Any]) -> float:
        return float(group["weight_decay"])

    def zero_grad(self) -> None:
        """Forget the gradients: each ``grad`` becomes None."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resumed training needs, as copies.

        Returns
        -------
        dict
            As in torch: ``{"state": {i: {...}}, "param_groups": [{..., "params": [i, ...]}]}``,
            with parameters numbered through all groups and arrays of NumPy.
        """
        index = {p: i for i, p in enumerate(self._all_params())}
        return {
            "state": {index[p]: _copied(state) for p, state in self.state.items()},
            "param_groups": [
                {
                    **{k: v for k, v in group.items() if k not in self._OFF or v != self._OFF[k]},
                    "params": [index[p] for p in group["params"]],
                }
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, of the same optimiser over the same parameters.

        Arrays are copied. Nothing changes when an error is raised. Settings of torch that convcore
        does not have are left out as long as they are off.

        Raises
        ------
        TypeError, ValueError
            When the structure, the groups, the parameters in them or the shapes do not match, or a
            value cannot be; the message names the place.
        """
        groups = self._loaded_groups(state_dict)
        params = self._all_params()
        # The saved numbers need not be 0, 1, ...: what counts is their order, as in torch.
        numbers = [
            to_int(self._name, "a parameter in state_dict", i)
            for group in state_dict["param_groups"]
            for i in group["params"]
        ]
        if len(set(numbers)) != len(numbers):
            raise ValueError(
                f"{self._name}: state_dict has a parameter twice: expected each number once, "
                f"got {numbers}"
            )
        by_number = dict(zip(numbers, params, strict=True))
        state = {}
        for i, saved in state_dict["state"].items():
            if i not in by_number:
                raise ValueError(
                    f"{self._name}: state_dict has state for an unknown parameter: expected one of "
                    f"{numbers}, got {i!r}"
                )
            self._expect_type(f"state of parameter {i} in state_dict", saved, Mapping)
            state[by_number[i]] = self._loaded_state(i, by_number[i], saved)
        self.param_groups, self.state = groups, state

    def _all_params(self) -> list[Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    def _to_groups(self, params: Params) -> list[dict[str, Any]]:
        if isinstance(params, (Parameter, np.ndarray, dict)):
            raise TypeError(
                f"{self._name}: params has the wrong type: expected an iterable of Parameter or of "
                f"dict, got {type(params).__name__}"
            )
        items: list[Any] = list(params)
        if items and all(isinstance(item, dict) for item in items):
            return items
        return [{"params": items}] if items else []

    def _expect_type(self, what: str, value: object, kind: type) -> None:
        if not isinstance(value, kind) or isinstance(value, str):
            raise TypeError(
                f"{self._name}: {what} has the wrong type: expected a {kind.__name__.lower()}, "
                f"got {type(value).__name__}"
            )

    def _loaded_groups(self, state_dict: Mapping[str, Any]) -> list[dict[str, Any]]:
        self._expect_type("state_dict", state_dict, Mapping)
        missing = {"state", "param_groups"} - state_dict.keys()
        if missing:
            raise ValueError(
                f"{self._name}: state_dict is incomplete: expected the keys 'state' and "
                f"'param_groups', got {sorted(state_dict)}"
            )
        saved_groups = state_dict["param_groups"]
        self._expect_type("'param_groups' of state_dict", saved_groups, Sequence)
        self._expect_type("'state' of state_dict", state_dict["state"], Mapping)
        if len(saved_groups) != len(self.param_groups):
            raise ValueError(
                f"{self._name}: state_dict has the wrong number of parameter groups: "
                f"expected {len(self.param_groups)}, got {len(saved_groups)}"
            )
        groups = []
        for i, (group, saved) in enumerate(zip(self.param_groups, saved_groups, strict=True)):
            self._check_saved_group(i, group, saved)
            saved = {**self._OFF, **saved}
            names = [*self.defaults, *({"initial_lr"} & saved.keys())]  # of a schedule
            values = {name: saved[name] for name in names}
            self._check_group(values)
            groups.append({**group, **values})
        return groups

    def _check_saved_group(self, i: int, group: dict[str, Any], saved: Mapping[str, Any]) -> None:
        self._expect_type(f"parameter group {i} of state_dict", saved, Mapping)
        missing = sorted({"params", *self.defaults} - self._OFF.keys() - saved.keys())
        if missing:
            raise ValueError(
                f"{self._name}: parameter group {i} of state_dict is incomplete: expected the keys "
                f"{sorted(self.defaults.keys() - self._OFF.keys())}, got none for {missing}"
            )
        self._expect_type(f"'params' of parameter group {i}", saved["params"], Sequence)
        if len(saved["params"]) != len(group["params"]):
            raise ValueError(
                f"{self._name}: parameter group {i} of state_dict has the wrong number of "
                f"parameters: expected {len(group['params'])}, got {len(saved['params'])}"
            )
        for name in ("amsgrad", "maximize"):
            if saved.get(name):
                raise ValueError(
                    f"{self._name}: parameter group {i} of state_dict has a setting that convcore "
                    f"does not know: expected {name}=False, got {saved[name]!r}"
                )

    def _loaded_state(self, i: object, p: Parameter, saved: Mapping[str, Any]) -> State:
        state: State = {}
        if self._counts:
            if not saved:
                return state
            needed = ("step", *self._always_kept())
            missing = sorted(name for name in needed if saved.get(name) is None)
            if missing:
                raise ValueError(
                    f"{self._name}: state of parameter {i} in state_dict is incomplete: expected "
                    f"{_and(needed)}, got none for {missing}"
                )
            state["step"] = self._loaded_step(i, saved["step"])
        for name in self._arrays:
            value = saved.get(name)
            if value is None:
                continue  # torch keeps None for the buffer of SGD without momentum
            given = np.asarray(value)
            place = f"{self._name}: {name} of parameter {i} in state_dict"
            if given.dtype.kind != "f":
                raise TypeError(f"{place} has the wrong dtype: expected float32, got {given.dtype}")
            if given.shape != p.shape:
                raise ValueError(
                    f"{place} has the wrong shape: expected {p.shape}, got {given.shape}"
                )
            array = check.converted(given, np.dtype(np.float32))  # a copy
            if array is None:
                raise ValueError(f"{place} has a value that float32 cannot hold")
            state[name] = array
        return state

    def _loaded_step(self, i: object, value: Any) -> int:
        step = np.asarray(value)  # torch saves it as a float32 array
        is_number = step.shape == () and step.dtype.kind in "iuf"
        if not (is_number and 0 <= step < 2**63 and float(step).is_integer()):
            raise ValueError(
                f"{self._name}: step of parameter {i} in state_dict is out of range: expected an "
                f"int of at least 0, got {value!r}"
            )
        return int(step)

    def _always_kept(self) -> tuple[str, ...]:
        """Return the names of the arrays that the rule keeps whatever its settings are."""
        return self._arrays

    def _kept(self, group: Mapping[str, Any]) -> tuple[str | None, ...]:
        """Return the names of the arrays as the kernel takes them; None: not in use."""
        return self._arrays

    def _initial(self, group: Mapping[str, Any]) -> float:
        """Return what the arrays begin with."""
        return 0.0

    def _arrays_of(self, p: Parameter, state: State, group: Mapping[str, Any]) -> list[Any]:
        """Return the arrays for the kernel, and put those that are missing into the state."""
        if self._counts:
            state.setdefault("step", 0)
        for name in self._kept(group):
            if name is not None and name not in state:
                state[name] = full_beside(p.data, self._initial(group))
        return [None if name is None else _beside(p, state, name) for name in self._kept(group)]

    @abstractmethod
    def _update(self, p: Parameter, grad: FloatArray, state: State, group: dict[str, Any]) -> None:
        """Make one step on `p` in place."""

    @abstractmethod
    def _check(self, group: Mapping[str, Any]) -> None:
        """Raise for a hyper-parameter that makes no sense."""

    def _check_group(self, group: Mapping[str, Any]) -> None:
        for name in ("lr", "weight_decay", "l1"):
            self._expect(group, name)
        if (
            group["max_norm"] is not None
            and not to_float(self._name, "max_norm", group["max_norm"]) > 0
        ):
            raise ValueError(
                f"{self._name}: max_norm is out of range: expected more than 0, or None, "
                f"got {group['max_norm']}"
            )
        self._check(group)

    def _expect(self, group: Mapping[str, Any], name: str, high: float = math.inf) -> None:
        value = to_float(self._name, name, group[name])
        if not 0 <= value < math.inf or value > high:
            bounds = "at least 0" if high == math.inf else f"0 to {high:g}"
            raise ValueError(
                f"{self._name}: {name} is out of range: expected {bounds}, got {value}"
            )

    def __repr__(self) -> str:
        groups = (
            ", ".join(
                f"{name}={group[name]!r}"
                for name in self.defaults
                if name not in self._OFF or group[name] != self._OFF[name]
            )
            + f", {len(group['params'])} parameters"
            for group in self.param_groups
        )
        return f"{self._name}({'; '.join(groups)})"


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        What to optimise; dicts are groups with hyper-parameters of their own.
    lr : float, default 1e-3
        Learning rate, dimensionless.
    momentum : float, default 0
        Share of the old direction that is kept.
    dampening : float, default 0
        Share of the new gradient that does not enter the direction (not at the first step).
    weight_decay : float, default 0
        Share of the parameter that is added to its gradient.
    nesterov : bool, default False
        Look one step ahead; needs momentum and no dampening.
    l1, max_norm : float, optional
        See `convcore.optim`.

    Raises
    ------
    ValueError
        When a hyper-parameter is out of range, or there is no parameter, or one twice.

    Notes
    -----
    With g the gradient plus ``weight_decay * param``: ``buffer = g`` at the first step, then
    ``buffer = momentum * buffer + (1 - dampening) * g``; ``param -= lr * buffer``, with Nesterov
    ``param -= lr * (g + momentum * buffer)``.

    References
    ----------
    I. Sutskever et al., "On the importance of initialization and momentum in deep learning",
    ICML 2013; in the form that torch.optim.SGD documents.
    """

    _arrays: ClassVar[tuple[str, ...]] = ("momentum_buffer",)
    _counts: ClassVar[bool] = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        l1: float = 0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "l1": l1,
                "max_norm": max_norm,
            },
        )

    def _check(self, group: Mapping[str, Any]) -> None:
        self._expect(group, "momentum")
        to_float("SGD", "dampening", group["dampening"])
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov does not fit: expected momentum more than 0 and dampening 0, "
                f"got momentum={group['momentum']}, dampening={group['dampening']}"
            )

    def _kept(self, group: Mapping[str, Any]) -> tuple[str | None, ...]:
        return (None if group["momentum"] == 0 else "momentum_buffer",)

    def _update(self, p: Parameter, grad: FloatArray, state: State, group: dict[str, Any]) -> None:
        buffer = _beside(p, state, "momentum_buffer")
        first = buffer is None
        if first and group["momentum"] != 0:
            buffer = full_beside(p.data, 0.0)
        _core.sgd_step(
            p.data,
            grad,
            buffer,
            group["lr"],
            group["momentum"],
            group["dampening"],
            group["weight_decay"],
            bool(group["nesterov"]),
            first,
            group["l1"],
        )
        if buffer is not None:
            state["momentum_buffer"] = buffer


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        What to optimise; dicts are groups with hyper-parameters of their own.
    lr : float, default 1e-3
        Learning rate, dimensionless.
    betas : (float, float), default (0.9, 0.999)
        Share of the old mean that is kept, for the gradient and for its square; less than 1.
    eps : float, default 1e-8
        Added to the root of the mean square.
    weight_decay : float, default 0
        Share of the parameter that is added to its gradient.
    l1, max_norm : float, optional
        See `convcore.optim`.

    Raises
    ------
    ValueError
        When a hyper-parameter is out of range, or there is no parameter, or one twice.

    Notes
    -----
    With g the gradient plus ``weight_decay * param`` and t the number of the step::

        exp_avg = beta1 * exp_avg + (1 - beta1) * g
        exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g**2
        param -= lr * exp_avg / (1 - beta1**t) / (sqrt(exp_avg_sq / (1 - beta2**t)) + eps)

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    _arrays: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        l1: float = 0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "l1": l1,
                "max_norm": max_norm,
            },
        )

    def _check(self, group: Mapping[str, Any]) -> None:
        self._expect(group, "eps")
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(
                f"{self._name}: betas has the wrong type: expected two numbers, got {betas!r}"
            )
        if not all(0 <= to_float(self._name, "betas", beta) < 1 for beta in betas):
            raise ValueError(
                f"{self._name}: betas is out of range: expected two numbers of at least 0 and less "
                f"than 1, got {tuple(betas)}"
            )

    def _update(self, p: Parameter, grad: FloatArray, state: State, group: dict[str, Any]) -> None:
        mean, square = self._arrays_of(p, state, group)
        beta1, beta2 = group["betas"]
        _core.adam_step(
            p.data,
            grad,
            mean,
            square,
            group["lr"],
            beta1,
            beta2,
            group["eps"],
            group["weight_decay"],
            self._decoupled,
            state["step"] + 1,
            group["l1"],
        )
        state["step"] += 1

    def _penalized_decay(self, group: Mapping[str, Any]) -> float:
        return 0.0 if self._decoupled else float(group["weight_decay"])


class AdamW(Adam):
    """Adam with decoupled weight decay: the parameter shrinks by itself, outside of the means.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        What to optimise; dicts are groups with hyper-parameters of their own.
    lr : float, default 1e-3
        Learning rate, dimensionless.
    betas : (float, float), default (0.9, 0.999)
        Share of the old mean that is kept, for the gradient and for its square; less than 1.
    eps : float, default 1e-8
        Added to the root of the mean square.
    weight_decay : float, default 1e-2
        Before each step the parameter is multiplied by ``1 - lr * weight_decay``.
    l1, max_norm : float, optional
        See `convcore.optim`.

    See Also
    --------
    Adam : The update rule; here g is the plain gradient.

    References
    ----------
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    _decoupled: ClassVar[bool] = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        l1: float = 0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, l1=l1, max_norm=max_norm)


class RMSprop(Optimizer):
    """RMSprop: steps scaled by a running mean of the square of the gradient.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        What to optimise; dicts are groups with hyper-parameters of their own.
    lr : float, default 1e-2
        Learning rate, dimensionless.
    alpha : float, default 0.99
        Share of the old mean that is kept; less than 1.
    eps : float, default 1e-8
        Added to the root of the mean square.
    weight_decay : float, default 0
        Share of the parameter that is added to its gradient.
    momentum : float, default 0
        Share of the old direction that is kept.
    centered : bool, default False
        Scale by an estimate of the variance: the mean of the squares less the square of the mean.
    l1, max_norm : float, optional
        See `convcore.optim`.

    Raises
    ------
    ValueError
        When a hyper-parameter is out of range, or there is no parameter, or one twice.

    Notes
    -----
    With g the gradient plus ``weight_decay * param``::

        square_avg = alpha * square_avg + (1 - alpha) * g**2
        grad_avg = alpha * grad_avg + (1 - alpha) * g                    when centered
        h = g / (sqrt(square_avg [- grad_avg**2]) + eps)
        momentum_buffer = momentum * momentum_buffer + h                 with momentum
        param -= lr * h                                                  or lr * momentum_buffer

    References
    ----------
    T. Tieleman, G. Hinton, "Lecture 6.5 - RMSProp", Coursera, 2012; in the form that
    torch.optim.RMSprop documents.
    """

    _arrays: ClassVar[tuple[str, ...]] = ("square_avg", "grad_avg", "momentum_buffer")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        l1: float = 0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "l1": l1,
                "max_norm": max_norm,
            },
        )

    def _check(self, group: Mapping[str, Any]) -> None:
        for name in ("eps", "momentum"):
            self._expect(group, name)
        self._expect(group, "alpha", 1)

    def _always_kept(self) -> tuple[str, ...]:
        return ("square_avg",)

    def _kept(self, group: Mapping[str, Any]) -> tuple[str | None, ...]:
        mean = "grad_avg" if group["centered"] else None
        return ("square_avg", mean, None if group["momentum"] == 0 else "momentum_buffer")

    def _update(self, p: Parameter, grad: FloatArray, state: State, group: dict[str, Any]) -> None:
        square, mean, buffer = self._arrays_of(p, state, group)
        _core.rmsprop_step(
            p.data,
            grad,
            square,
            mean,
            buffer,
            group["lr"],
            group["alpha"],
            group["eps"],
            group["weight_decay"],
            group["momentum"],
            bool(group["centered"]),
            group["l1"],
        )
        state["step"] += 1


class Adagrad(Optimizer):
    """Adagrad: steps scaled by the root of the sum of the squares of all gradients so far.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        What to optimise; dicts are groups with hyper-parameters of their own.
    lr : float, default 1e-2
        Learning rate, dimensionless.
    lr_decay : float, default 0
        The rate of step t is ``lr / (1 + (t - 1) * lr_decay)``.
    weight_decay : float, default 0
        Share of the parameter that is added to its gradient.
    initial_accumulator_value : float, default 0
        What the sum begins with.
    eps : float, default 1e-10
        Added to the root of the sum.
    l1, max_norm : float, optional
        See `convcore.optim`.

    Raises
    ------
    ValueError
        When a hyper-parameter is out of range, or there is no parameter, or one twice.

    Notes
    -----
    With g the gradient plus ``weight_decay * param`` and t the number of the step::

        sum = sum + g**2
        param -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum) + eps)

    References
    ----------
    J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", Journal of Machine Learning Research 12, 2011.
    """

    _arrays: ClassVar[tuple[str, ...]] = ("sum",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        l1: float = 0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "l1": l1,
                "max_norm": max_norm,
            },
        )

    def _check(self, group: Mapping[str, Any]) -> None:
        for name in ("lr_decay", "eps", "initial_accumulator_value"):
            self._expect(group, name)

    def _initial(self, group: Mapping[str, Any]) -> float:
        return float(group["initial_accumulator_value"])

    def _update(self, p: Parameter, grad: FloatArray, state: State, group: dict[str, Any]) -> None:
        (total,) = self._arrays_of(p, state, group)
        _core.adagrad_step(
            p.data,
            grad,
            total,
            group["lr"],
            group["lr_decay"],
            group["eps"],
            group["weight_decay"],
            state["step"] + 1,
            group["l1"],
        )
        state["step"] += 1


def limits_norms(p: Parameter, group: Mapping[str, Any]) -> bool:
    """Return whether the rows of `p` have a largest norm: not those of biases and batch norm."""
    return group["max_norm"] is not None and p.data.ndim >= 2


def _and(names: Sequence[str]) -> str:
    """Return ``'a', 'b' and 'c'``."""
    quoted = [repr(name) for name in names]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _copied(state: State) -> State:
    return {k: np.array(to_numpy(v)) if is_array(v) else v for k, v in state.items()}


def _beside(p: Parameter, state: State, name: str) -> Any:
    """Return an array of the state, on the device where the parameter is by now."""
    if name in state:
        state[name] = beside(state[name], p.data)
    return state.get(name)

"""The planned engine: from layers to a program in C++ that runs whole training steps in one call.

`Planned.build` walks the layers of a network and writes down a graph; ``csrc/plan`` makes the
program of it. A network with something the planner does not know raises `Unplannable`, and the
engine goes on layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convcore import _core, nn, optim, random
from convcore._arrays import device_of, device_of_module, full_beside, is_array
from convcore._images import Images
from convcore._training import PRECISIONS
from convcore.functional._arguments import FloatArray, to_padding, to_tuple
from convcore.nn.parameter import Parameter

if TYPE_CHECKING:
    from convcore._training import AnyArray, Compiled, Gather
    from convcore.nn.module import Module

Attributes = dict[str, list[float]]

#: The numbers that csrc/ops/activation.h gives to the functions.
_ACTIVATIONS: dict[type, int] = {
    nn.ReLU: 0,
    nn.LeakyReLU: 1,
    nn.Tanh: 2,
    nn.Sigmoid: 3,
    nn.ScaledTanh: 4,
    nn.ELU: 5,
    nn.GELU: 6,
    nn.SiLU: 8,
}
_GELU_TANH = 7

#: Those of csrc/ops/pad.h.
_PADDING_MODES = {"reflect": 1, "replicate": 2, "circular": 3}


class _Planning:
    """What tests switch off to compare."""

    enabled: bool = True
    without_rules: tuple[str, ...] = ()  # names of `_core.Plan.rules()`


planning = _Planning()


class Unplannable(Exception):
    """What the planner does not know; the message names it."""


@dataclass
class _Array:
    """An array of a layer that the program works on: a parameter, or a buffer of a module."""

    owner: Any
    name: str

    def get(self) -> FloatArray:
        array: FloatArray = getattr(self.owner, self.name)
        return array


@dataclass
class _Mask:
    """The mask of a parameter, as an array of its own."""

    parameter: Parameter

    @property
    def array(self) -> FloatArray:
        mask = self.parameter.mask
        assert mask is not None
        return mask


@dataclass
class _Graph:
    """The nodes, as csrc/plan/graph.h has them, and the arrays that they name by number."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    arrays: list[_Array] = field(default_factory=list)
    numbers: dict[tuple[int, str], int] = field(default_factory=dict)
    memory: set[int] = field(default_factory=set)  # ids of the arrays
    masks: dict[int, int] = field(default_factory=dict)  # of a parameter: the number of its mask
    norms: list[nn.BatchNorm2d] = field(default_factory=list)
    dropouts: int = 0  # in the order in which the layers draw their keys

    def add(
        self,
        op: str,
        name: str,
        inputs: list[int],
        arrays: list[tuple[Any, str]] | None = None,
        **attributes: Any,
    ) -> int:
        self.nodes.append(
            {
                "op": op,
                "name": name,
                "inputs": inputs,
                "parameters": [self._number(owner, key) for owner, key in arrays or []],
                "attributes": {k: _numbers(v) for k, v in attributes.items()},
            }
        )
        return len(self.nodes) - 1

    def draw(self) -> int:
        """Return the number of the random key that a layer takes in each step."""
        self.dropouts += 1
        return self.dropouts - 1

    def trained(self) -> list[Parameter]:
        return [
            a.owner for a in self.arrays if isinstance(a.owner, Parameter) and a.owner.requires_grad
        ]

    def _number(self, owner: Any, name: str) -> int:
        value = getattr(owner, name)
        if value is None:
            return -1
        if isinstance(value, Parameter):
            owner, name = value, "data"
        key = (id(owner), name)
        if key in self.numbers:
            raise Unplannable("a parameter that two layers share")
        array = _Array(owner, name)
        if id(array.get()) in self.memory:
            raise Unplannable("two parameters in the same memory")
        self.memory.add(id(array.get()))
        number = self.numbers[key] = len(self.arrays)
        self.arrays.append(array)
        if isinstance(owner, Parameter) and owner.mask is not None:
            self.masks[number] = self._number(_Mask(owner), "array")
        return number


def _numbers(value: Any) -> list[float]:
    return [float(v) for v in value] if isinstance(value, (list, tuple)) else [float(value)]


# ---- layers --------------------------------------------------------------------------------------


def _conv2d(graph: _Graph, layer: nn.Conv2d, name: str, x: int) -> int:
    same = layer.padding == "same"
    padded = layer.padding_mode != "zeros"  # by a step of its own
    padding = to_padding(
        "Conv2d",
        "valid" if same else layer.padding,
        (0, 0),  # only 'same' needs the size of the image
        layer.kernel_size,
        layer.stride,
        layer.dilation,
    )
    sides = [p for pair in padding for p in pair]
    if padded:
        x = graph.add(
            "pad",
            f"{name} padding",
            [x],
            mode=_PADDING_MODES[layer.padding_mode],
            padding=sides,
            same=same,
            kernel_size=layer.kernel_size,
            stride=layer.stride,
            dilation=layer.dilation,
        )
    return graph.add(
        "conv2d",
        name,
        [x],
        [(layer, "weight"), (layer, "bias")],
        stride=layer.stride,
        padding=(0, 0, 0, 0) if padded else sides,
        same=same and not padded,
        dilation=layer.dilation,
        groups=layer.groups,
        relu=0,
    )


def _linear(graph: _Graph, layer: nn.Linear, name: str, x: int) -> int:
    return graph.add("linear", name, [x], [(layer, "weight"), (layer, "bias")])


def _batch_norm(graph: _Graph, layer: nn.BatchNorm2d, name: str, x: int) -> int:
    if layer.momentum is None or layer.running_mean is None:
        raise Unplannable(f"{name}: batch norm without momentum or running statistics")
    graph.norms.append(layer)
    arrays = [(layer, key) for key in ("weight", "bias", "running_mean", "running_var")]
    return graph.add(
        "batch_norm", name, [x], arrays, momentum=layer.momentum, eps=layer.eps, relu=0
    )


def _activation(graph: _Graph, layer: Module, name: str, x: int) -> int:
    kind = _ACTIVATIONS[type(layer)]
    if isinstance(layer, nn.GELU) and layer.approximate == "tanh":
        kind = _GELU_TANH
    alpha = getattr(layer, "negative_slope", getattr(layer, "alpha", 0.0))
    beta = getattr(layer, "beta", 0.0)
    return graph.add("activation", name, [x], kind=kind, alpha=alpha, beta=beta)


def _pair(layer: Module, name: str) -> tuple[int, ...]:
    return to_tuple(type(layer).__name__, name, getattr(layer, name), 2)


def _max_pool(graph: _Graph, layer: nn.MaxPool2d, name: str, x: int) -> int:
    window: dict[str, Any] = {
        key: _pair(layer, key) for key in ("kernel_size", "stride", "padding", "dilation")
    }
    return graph.add("max_pool2d", name, [x], **window, ceil_mode=layer.ceil_mode)


def _avg_pool(graph: _Graph, layer: nn.AvgPool2d, name: str, x: int) -> int:
    window: dict[str, Any] = {
        key: _pair(layer, key) for key in ("kernel_size", "stride", "padding")
    }
    return graph.add(
        "avg_pool2d",
        name,
        [x],
        **window,
        dilation=(1, 1),
        ceil_mode=layer.ceil_mode,
        count_include_pad=layer.count_include_pad,
        divisor_override=layer.divisor_override or 0,
    )


def _adaptive_avg_pool(graph: _Graph, layer: nn.AdaptiveAvgPool2d, name: str, x: int) -> int:
    size = layer.output_size if isinstance(layer.output_size, tuple) else (layer.output_size,) * 2
    return graph.add(
        "adaptive_avg_pool2d", name, [x], output_size=[-1 if v is None else v for v in size]
    )


def _pad_channels(graph: _Graph, layer: nn.PadChannels, name: str, x: int) -> int:
    return graph.add("pad_channels", name, [x], padding=layer.padding, stride=layer.stride)


def _dropout(graph: _Graph, layer: nn.Dropout | nn.Dropout2d, name: str, x: int) -> int:
    op = "dropout2d" if isinstance(layer, nn.Dropout2d) else "dropout"
    return graph.add(op, name, [x], p=layer.p, number=graph.draw())


def _stochastic_pool(graph: _Graph, layer: nn.StochasticPool2d, name: str, x: int) -> int:
    window: dict[str, Any] = {key: _pair(layer, key) for key in ("kernel_size", "stride")}
    more: dict[str, Any] = {"padding": (0, 0), "dilation": (1, 1), "number": graph.draw()}
    return graph.add("stochastic_pool2d", name, [x], **window, **more)


def _group_norm(graph: _Graph, layer: nn.GroupNorm, name: str, x: int) -> int:
    arrays = [(layer, "weight"), (layer, "bias")]
    return graph.add("group_norm", name, [x], arrays, groups=layer.num_groups, eps=layer.eps)


def _layer_norm(graph: _Graph, layer: nn.LayerNorm, name: str, x: int) -> int:
    shape = layer.normalized_shape
    return graph.add(
        "group_norm",
        name,
        [x],
        [(layer, "weight"), (layer, "bias")],
        groups=0,
        normalized_shape=shape,
        dimensions=len(shape),
        eps=layer.eps,
    )


def _subsampling(graph: _Graph, layer: nn.Subsampling2d, name: str, x: int) -> int:
    window: dict[str, Any] = {key: _pair(layer, key) for key in ("kernel_size", "stride")}
    return graph.add("subsampling2d", name, [x], [(layer, "weight"), (layer, "bias")], **window)


def _flatten(graph: _Graph, layer: nn.Flatten, name: str, x: int) -> int:
    if (layer.start_dim, layer.end_dim) != (1, -1):
        raise Unplannable(f"{name}: {layer!r}")
    return graph.add("flatten", name, [x])


def _identity(graph: _Graph, layer: nn.Identity, name: str, x: int) -> int:
    return x


def _sequential(graph: _Graph, layer: nn.Sequential, name: str, x: int) -> int:
    for key, child in layer.named_children():
        x = _visit(graph, child, f"{name}.{key}" if name else key, x)
    return x


def _residual(graph: _Graph, layer: nn.Residual, name: str, x: int) -> int:
    prefix = f"{name}." if name else ""
    main = _visit(graph, layer.body, f"{prefix}body", x)
    side = x
    if layer.shortcut is not None:
        side = _visit(graph, layer.shortcut, f"{prefix}shortcut", x)
    return _sum_of_branches(graph, layer, name, [main, side])


def _residual_block(graph: _Graph, layer: nn.ResidualBlock, name: str, x: int) -> int:
    prefix = f"{name}." if name else ""
    main = side = x
    for key, child in layer.body_layers().items():
        main = _visit(graph, child, f"{prefix}{key}", main)
    if layer.downsample is not None:
        side = _visit(graph, layer.downsample, f"{prefix}downsample", x)
    return _sum_of_branches(graph, layer, name, [main, side])


def _sum_of_branches(
    graph: _Graph, layer: nn.Residual | nn.ResidualBlock, name: str, branches: list[int]
) -> int:
    prefix = f"{name}." if name else ""
    y = graph.add("add", f"{name or 'residual'} sum", branches)
    if layer.activation is not None:
        y = _visit(graph, layer.activation, f"{prefix}activation", y)
    return y


#: By the exact type: a subclass may have another forward (see `_type_of`).
_LAYERS: dict[type, Callable[[_Graph, Any, str, int], int]] = {
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool,
    nn.AvgPool2d: _avg_pool,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Conv2d: _conv2d,
    nn.Dropout: _dropout,
    nn.Dropout2d: _dropout,
    nn.EuclideanRBF: _linear,
    nn.Flatten: _flatten,
    nn.GroupNorm: _group_norm,
    nn.Identity: _identity,
    nn.LayerNorm: _layer_norm,
    nn.Linear: _linear,
    nn.MaxPool2d: _max_pool,
    nn.PadChannels: _pad_channels,
    nn.Residual: _residual,
    nn.ResidualBlock: _residual_block,
    nn.Sequential: _sequential,
    nn.StochasticPool2d: _stochastic_pool,
    nn.Subsampling2d: _subsampling,
    **dict.fromkeys(_ACTIVATIONS, _activation),
}


def _type_of(layer: Module) -> type:
    """Return what the layer computes as: a class derived from Sequential may just fill it."""
    kind = type(layer)
    inherited = ("forward", "backward", "__call__", "named_children")
    if isinstance(layer, nn.Sequential) and all(
        getattr(kind, name) is getattr(nn.Sequential, name) for name in inherited
    ):
        kind = nn.Sequential
    return kind


def _visit(graph: _Graph, layer: Module, name: str, x: int) -> int:
    add = _LAYERS.get(_type_of(layer))
    if add is None or vars(layer).keys() & {"forward", "backward"}:
        raise Unplannable(f"{name}: {type(layer).__name__}" if name else type(layer).__name__)
    return add(graph, layer, name, x)


# ---- optimizers ----------------------------------------------------------------------------------


#: What the program has place for, for each parameter.
_STATE_ARRAYS = 3

#: By the exact type: the kind of rule, and its settings beside those that all have.
_RULES: dict[type, tuple[str, tuple[str, ...]]] = {
    optim.SGD: ("sgd", ("momentum", "dampening", "nesterov")),
    optim.Adam: ("adam", ("eps",)),
    optim.AdamW: ("adam", ("eps",)),
    optim.RMSprop: ("rmsprop", ("alpha", "eps", "momentum", "centered")),
    optim.Adagrad: ("adagrad", ("lr_decay", "eps")),
}


def _groups_of(optimizer: Any, graph: _Graph) -> dict[int, tuple[int, dict[str, Any]]]:
    """Return the number and the settings of the group of each parameter, by its id."""
    if type(optimizer) not in _RULES:
        raise Unplannable(f"the optimizer {type(optimizer).__name__}")
    known = {id(array.owner) for array in graph.arrays}
    trained = {id(p) for p in graph.trained()}
    groups = {}
    for number, group in enumerate(optimizer.param_groups):
        if any(p.grad is not None and id(p) not in known for p in group["params"]):
            raise Unplannable("an optimizer with gradients of another network")
        if optimizer._counts:
            _steps_done(optimizer, group, trained)
        groups.update({id(p): (number, group) for p in group["params"]})
    return groups


def _steps_done(optimizer: Any, group: dict[str, Any], trained: set[int]) -> int:
    """Return how many steps were made on those of the group that are trained, by their ids."""
    params = [p for p in group["params"] if id(p) in trained]
    steps = {int(optimizer.state.get(p, {}).get("step", 0)) for p in params}
    if len(steps) > 1:
        raise Unplannable(f"{type(optimizer).__name__} with parameters at different steps")
    return steps.pop() if steps else 0


def _settings(optimizer: Any, group: dict[str, Any], trained: set[int]) -> dict[str, Any]:
    """Return the group as the program takes it."""
    kind, names = _RULES[type(optimizer)]
    settings = {
        "kind": kind,
        **{name: group[name] for name in ("lr", "weight_decay", "l1", *names)},
        "max_norm": group["max_norm"] or 0.0,
    }
    if kind == "adam":
        settings["beta1"], settings["beta2"] = group["betas"]
        settings["decoupled"] = type(optimizer) is optim.AdamW
    if optimizer._counts:
        settings["step"] = _steps_done(optimizer, group, trained) + 1
    return settings


def _state_arrays(optimizer: Any, p: Parameter, group: dict[str, Any]) -> tuple[list[Any], bool]:
    """Return the arrays that the optimizer keeps for `p`, made where they are missing."""
    state = optimizer.state.setdefault(p, {})
    first = "momentum_buffer" not in state  # what SGD begins with is its gradient
    arrays = optimizer._arrays_of(p, state, group)
    return arrays + [None] * (_STATE_ARRAYS - len(arrays)), first


# ---- the plan ------------------------------------------------------------------------------------


class Planned:
    """A network, its loss and its optimizer, planned for images of one shape."""

    def __init__(self, key: Any, plan: _core.Plan, graph: _Graph, untrainable: str) -> None:
        self.key = key  # what the plan was made from: equal keys need no new plan
        self.plan = plan
        self._graph = graph
        self._trained = {id(p) for p in graph.trained()}
        self._untrainable = untrainable  # why there is a plan for evaluation only; "": there is not

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # a copy of the network makes a plan of its own

    def prepare(self, images: int, training: bool) -> None:
        """Make the program for batches of `images`, or raise `Unplannable`."""
        if training and self._untrainable:
            raise Unplannable(self._untrainable)
        try:
            self.plan.prepare(images, training)
        except ValueError as error:
            if not str(error).startswith("plan: "):
                raise
            raise Unplannable(str(error).removeprefix("plan: ")) from error

    @staticmethod
    def build(
        model: Module, run: Compiled | None, x_shape: tuple[int, ...], known: Planned | None
    ) -> Planned:
        """Plan `model` for images of `x_shape`, or return `known` when it still fits.

        Raises
        ------
        Unplannable
            Names what the planner does not know.
        """
        graph = _Graph()
        x = graph.add("input", "x", [])
        y = _visit(graph, model, "", x)
        if y == x:
            raise Unplannable("a network without layers")
        inference = list(graph.nodes)
        groups: dict[int, tuple[int, dict[str, Any]]] = {}
        untrainable = "" if run is not None else "a network without a loss"
        if run is not None:
            try:
                _add_loss(graph, run, y)
                groups = _groups_of(run.optimizer, graph)
            except Unplannable as reason:
                untrainable = str(reason)
        trained = {id(p) for p in graph.trained()}
        infos = []
        for index, array in enumerate(graph.arrays):
            owner, mask = id(array.owner), graph.masks.get(index, -1)
            number, group = groups.get(owner, (-1, None))
            limited = group is not None and optim.limits_norms(array.owner, group)
            infos.append((list(array.get().shape), owner in trained, number, mask, limited))
        without = planning.without_rules
        clip = 0.0 if run is None else run.clip_grad_norm or 0.0
        ids = [id(array.owner) for array in graph.arrays]
        device = device_of_module(model)
        precision = PRECISIONS.index("fp32" if run is None else run.precision)
        key = (graph.nodes, infos, x_shape, ids, clip, without, untrainable, device, precision)
        if known is not None and known.key == key:
            return known
        training = [] if untrainable else graph.nodes
        more = clip, list(without), device, precision
        plan = _core.Plan(training, inference, infos, list(x_shape), *more)
        return Planned(key, plan, graph, untrainable)

    def _memory(self, optimizer: Any = None) -> list[tuple[Any, ...]]:
        """Return the arrays of all parameters: data, gradient, the optimizer's, first step."""
        group_of = {}
        if optimizer is not None:
            group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        memory: list[tuple[Any, ...]] = []
        without = [None] * _STATE_ARRAYS
        for array in self._graph.arrays:
            p = array.owner
            if isinstance(p, Parameter):
                p.keep_mask()
            if optimizer is None or id(p) not in self._trained:
                if optimizer is not None and isinstance(p, Parameter):
                    p.grad = None
                memory.append((array.get(), None, *without, False))
                continue
            if not _is_writeable(p.grad, p.data):
                p.grad = full_beside(p.data, 0)
            group = group_of.get(id(p))
            state, first = _state_arrays(optimizer, p, group) if group else (without, False)
            memory.append((p.data, p.grad, *state, first))
        return memory

    def train(
        self,
        run: Compiled,
        x: FloatArray | Images,
        y: AnyArray,
        order: AnyArray,
        gather: Gather,
        batch_size: int,
    ) -> list[tuple[float, float, int]]:
        """Train on the images `order`; return sum of losses, right answers, targets per step."""
        optimizer, criterion = run.optimizer, run.criterion
        memory = self._memory(optimizer)
        groups = optimizer.param_groups
        settings = [_settings(optimizer, group, self._trained) for group in groups]
        steps = math.ceil(len(order) / batch_size)
        keys = [random.next_key() for _ in range(steps * self._graph.dropouts)]
        results = self.plan.train(
            *_source(x, gather),
            y,
            order,
            batch_size,
            getattr(criterion, "ignore_index", 0),
            criterion.reduction == "mean",
            keys,
            settings,
            memory,
        )
        if optimizer._counts:
            for p in (p for group in groups for p in group["params"]):
                if id(p) in self._trained:
                    optimizer.state[p]["step"] += len(results)
        for norm in self._graph.norms:
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked += len(results)
        return results

    def forward(self, x: FloatArray | Images, batch_size: int | None = None) -> FloatArray:
        """Return the output of the network in evaluation mode."""
        return self.plan.forward(*_source(x), batch_size or len(x), self._memory())


def _source(
    x: FloatArray | Images, gather: Gather | None = None
) -> tuple[AnyArray, tuple[Any, ...]]:
    """Return the array, and how its images are gathered, as the program takes them."""
    pad, flip, key = (0, False, None) if gather is None else gather
    seed, stream = key or (0, 0)
    if isinstance(x, Images):
        return x.array, (pad, flip, seed, stream, x.scale, x.shift)
    return x, (pad, flip, seed, stream, None, None)


def _is_writeable(grad: Any, data: Any) -> bool:
    """Return whether the program can write the gradient of `data` there."""
    if not is_array(grad) or grad.dtype != np.float32 or grad.shape != data.shape:
        return False
    if device_of(grad) != device_of(data):
        return False
    return device_of(grad) == "cuda" or (grad.flags.c_contiguous and grad.flags.writeable)


def _add_loss(graph: _Graph, run: Compiled, y: int) -> None:
    criterion = run.criterion
    if type(criterion) not in (nn.CrossEntropyLoss, nn.MSELoss):
        raise Unplannable(f"the loss {type(criterion).__name__}")
    if any(metric is not None for metric in run.metrics.values()):
        raise Unplannable("metrics other than the accuracy")
    mean = criterion.reduction == "mean"
    if isinstance(criterion, nn.CrossEntropyLoss):
        graph.add(
            "cross_entropy",
            "loss",
            [y],
            ignore_index=criterion.ignore_index,
            mean=mean,
            label_smoothing=criterion.label_smoothing,
        )
    else:
        graph.add("mse_loss", "loss", [y], mean=mean)


def chunks(steps: int, batches: bool) -> Iterator[tuple[int, Callable[[float], None]]]:
    """Cut an epoch into calls of about 50 ms: long enough to cost nothing, short enough to stop.

    Yields how many steps to run, and a function that is told how many seconds they took. With
    `batches` every step is a call of its own, because callbacks want to see it.
    """
    done, seconds_per_step = 0, math.inf

    def took(seconds: float) -> None:
        nonlocal seconds_per_step
        seconds_per_step = max(seconds / count, 1e-9)

    while done < steps:
        count = 1 if batches else max(1, min(steps - done, int(0.05 / seconds_per_step)))
        yield count, took
        done += count

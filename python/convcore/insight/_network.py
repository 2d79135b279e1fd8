"""Looking into a network: what its layers return, and gradients of the network as it predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convcore._images import Images
from convcore._names import did_you_mean
from convcore._training import AnyArray, to_array, to_count, to_samples
from convcore.functional._arguments import FloatArray
from convcore.nn.module import Module, keep_in_eval, observe, observe_backward
from convcore.summary import in_mode, trace

#: A batch keeps the outputs of all layers, so it is smaller than that of `Model.predict`.
BATCH_SIZE = 64
_MOST_NAMES = 24  # in a message

Samples = FloatArray | Images
IntArray = npt.NDArray[np.int64]
Shapes = dict[str, tuple[int, ...]]


def activations(
    model: Module,
    x: Samples,
    layers: Sequence[str] | None = None,
    batch_size: int = BATCH_SIZE,
) -> dict[str, FloatArray]:
    """Return what the layers of a network return for `x`, in evaluation mode.

    Parameters
    ----------
    model : Module
        Any network of modules, `Sequential` and `Residual` included.
    x : ndarray, shape (N, ...), float32, or data.Images
        N may be 0.
    layers : sequence of str, optional
        Names as in the state_dict and in `Model.summary`, of containers too; the default is every
        layer, and the sum of a `Residual` that has no activation.
    batch_size : int, default 64

    Returns
    -------
    dict of str to ndarray, float32
        By name, in the order in which the layers run; first axis N.

    Raises
    ------
    ValueError
        When no layer has that name; names the nearest one.

    See Also
    --------
    feature_maps : The same for one image, with a picture.

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import insight, models
    >>> outputs = insight.activations(models.lenet5(), np.zeros((2, 1, 28, 28), np.float32))
    >>> list(outputs)[:3], outputs["2"].shape
    (['0', '1', '2'], (2, 6, 14, 14))
    """
    x = check_samples("activations", x)
    batch_size = to_count("activations", "batch_size", batch_size)
    wanted = Layers("activations", model, x.shape[1:]).expect_all(layers)
    parts = [found for _, found in walk(model, x, wanted, batch_size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def input_gradient(
    model: Module,
    x: Samples,
    dy: FloatArray | Callable[[FloatArray], FloatArray],
    batch_size: int = BATCH_SIZE,
) -> FloatArray:
    """Return the gradient of a loss with respect to the input, in evaluation mode.

    Batch norm takes its running statistics and dropout nothing away, so the gradient belongs to
    what `Model.predict` computes. Parameters and their gradients stay as they are.

    Parameters
    ----------
    model : Module
    x : ndarray, shape (N, ...), float32, or data.Images
    dy : ndarray, float32, or callable
        The gradient with respect to the network's output, or what makes it from the output of a
        batch.
    batch_size : int, default 64

    Returns
    -------
    ndarray, the shape of `x`, float32

    Examples
    --------
    >>> import numpy as np
    >>> from convcore import insight, nn
    >>> model = nn.Sequential(nn.Linear(3, 2))
    >>> dy = np.array([[1, 0]], np.float32)
    >>> dx = insight.input_gradient(model, np.zeros((1, 3), np.float32), dy)
    >>> np.array_equal(dx[0], model[0].weight.data[0])
    True
    """
    x = check_samples("input_gradient", x)
    trace("input_gradient", model, x.shape[1:])  # names the layer that does not fit
    batch_size = to_count("input_gradient", "batch_size", batch_size)
    if callable(dy):
        make = dy
        steps = gradients(model, x, lambda y, rows: make(y), batch_size)
    else:
        given = to_array("input_gradient", "dy", dy)
        if len(given) != len(x):
            raise ValueError(
                f"input_gradient: dy has the wrong length: expected {len(x)} (that of x), "
                f"got {len(given)}"
            )
        steps = gradients(model, x, lambda y, rows: given[rows], batch_size)
    return np.concatenate([step.dx for step in steps])


# ---- forward -------------------------------------------------------------------------------------


def check_samples(owner: str, x: object) -> Samples:
    """Return `x` as contiguous float32, or as `Images`."""
    samples = to_samples(owner, x)
    if samples.ndim < 2:
        raise ValueError(
            f"{owner}: x has the wrong number of dimensions: expected a batch (N, ...), "
            f"got x of shape {samples.shape}"
        )
    return samples


def check_images(owner: str, x: object, least: int = 1) -> Samples:
    """Return `x` when it is a batch of images (N, C, H, W)."""
    samples = check_samples(owner, x)
    if samples.ndim != 4:
        raise ValueError(
            f"{owner}: x has the wrong number of dimensions: expected images (N, C, H, W), got x "
            f"of shape {samples.shape}" + " (pass x[None] for one image)" * (samples.ndim == 3)
        )
    if len(samples) < least:
        raise ValueError(f"{owner}: x has no images: expected at least {least}, got {len(samples)}")
    return samples


def batches(count: int, batch_size: int) -> Iterator[slice]:
    """Iterate over the rows of each batch; there is at least one, be it empty."""
    for start in range(0, max(count, 1), batch_size):
        yield slice(start, min(start + batch_size, count))


class _Collector:
    """Keeps the outputs of layers, by name, in the order in which they are made."""

    def __init__(self, model: Module, wanted: Sequence[str] | None) -> None:
        self.names = {id(module): name for name, module in model.named_modules()}
        self.wanted = wanted
        self.found: dict[str, FloatArray] = {}

    def __call__(self, module: Module, x: FloatArray) -> FloatArray:
        y = module.forward(x)
        name = self.names.get(id(module))
        if name is not None and self._takes(module, name, y):
            self.found[name] = y
        return y

    def _takes(self, module: Module, name: str, y: FloatArray) -> bool:
        if self.wanted is not None:
            return name in self.wanted
        # What a container returns is mostly what its last layer has returned.
        is_leaf = next(module.children(), None) is None
        return is_leaf or all(y is not other for other in self.found.values())


def walk(
    model: Module, x: Samples, layers: Sequence[str] | None, batch_size: int
) -> Iterator[tuple[slice, dict[str, FloatArray]]]:
    """Iterate over batches: their rows, and the outputs of `layers` (None: of all)."""
    for rows in batches(len(x), batch_size):
        collector = _Collector(model, layers)
        with in_mode(model, training=False), observe(collector):
            model(x[rows])
        yield rows, collector.found


class Layers:
    """The layers of a network, found by sending an empty batch through it.

    Attributes
    ----------
    shapes : dict of str to tuple of int
        The output shape of every module that runs, without the batch, in the order in which they
        return; containers too.
    own : tuple of str
        The same names without containers that return what their last layer returns.
    """

    def __init__(self, owner: str, model: Module, input_shape: tuple[int, ...]) -> None:
        trace(owner, model, input_shape)  # names the layer that does not fit
        self.owner = owner
        self.modules = dict(model.named_modules())
        empty = np.zeros((0, *input_shape), np.float32)
        (_, every), (_, own) = (next(walk(model, empty, n, 1)) for n in (tuple(self.modules), None))
        self.shapes: Shapes = {name: y.shape[1:] for name, y in every.items()}
        self.own = tuple(own)

    def expect(self, layer: object) -> str:
        """Return the name when there is such a layer."""
        name = str(layer)
        if name not in self.shapes:
            known = ", ".join(map(repr, self.own[:_MOST_NAMES])) + ", ..." * (
                len(self.own) > _MOST_NAMES
            )
            raise ValueError(
                f"{self.owner}: layer is not known: expected one of {known}, got {name!r}"
                f"{did_you_mean(name, self.shapes)}"
            )
        return name

    def expect_all(self, layers: Sequence[str] | None) -> tuple[str, ...]:
        """Return the names when there are such layers; None are all."""
        return self.own if layers is None else tuple(map(self.expect, layers))

    def expect_maps(self, layer: object) -> str:
        """Return the name when that layer returns maps (C, H, W); None is `last_maps`."""
        name = self.last_maps() if layer is None else self.expect(layer)
        if len(self.shapes[name]) != 3:
            maps = ", ".join(repr(other) for other in self.own if len(self.shapes[other]) == 3)
            raise ValueError(
                f"{self.owner}: layer returns no maps: expected one of "
                f"{maps or 'none in this network'}, got {name!r}, which returns {self.shapes[name]}"
            )
        return name

    def last_maps(self) -> str:
        """Return the layer after the last convolution, up to where the size of its maps changes.

        That is the place that Grad-CAM looks at: late, so the maps stand for large parts of
        objects, and still with rows and columns.
        """
        for index in range(len(self.own) - 1, -1, -1):
            name = self.own[index]
            shape = self.shapes[name]
            filters = any(p.data.ndim == 4 for p in _own_parameters(self.modules[name]))
            if filters and len(shape) == 3 and shape[1] * shape[2] > 1:
                while index + 1 < len(self.own) and self.shapes[self.own[index + 1]] == shape:
                    index += 1
                return self.own[index]
        raise ValueError(
            f"{self.owner}: the network has no convolution with more than one pixel: expected the "
            "name of a layer that returns maps, got none"
        )


def _own_parameters(module: Module) -> Iterator[Any]:
    if next(module.children(), None) is None:
        yield from module.parameters()


# ---- backward ------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A batch that went forward and back."""

    rows: slice
    y: FloatArray
    dx: FloatArray
    activation: FloatArray | None  # of the layer looked at, and the gradient with respect to it
    gradient: FloatArray | None


@contextmanager
def _without_parameters(model: Module) -> Iterator[None]:
    """Leave the gradients of the parameters out, and put everything back afterwards."""
    before = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    for parameter, _, _ in before:
        parameter.requires_grad, parameter.grad = False, None
    try:
        yield
    finally:
        for parameter, requires_grad, grad in before:
            parameter.requires_grad, parameter.grad = requires_grad, grad


def gradients(
    model: Module,
    x: Samples,
    output_gradient: Callable[[FloatArray, slice], FloatArray],
    batch_size: int,
    layer: str | None = None,
) -> Iterator[Step]:
    """Send batches forward and back, in evaluation mode.

    Parameters
    ----------
    model : Module
    x : ndarray or Images
    output_gradient : callable
        Makes dy from the output and the rows of the batch.
    batch_size : int
    layer : str, optional
        The layer whose output, and the gradient with respect to it, are wanted too.
    """
    collector = _Collector(model, () if layer is None else (layer,))
    watched = [] if layer is None else [dict(model.named_modules())[layer]]
    seen: list[FloatArray] = []

    def wrap(module: Module) -> Callable[..., FloatArray | None]:
        backward = module.backward

        def watched_backward(dy: FloatArray, need_dx: bool = True) -> FloatArray | None:
            seen.append(dy)
            return backward(dy, need_dx=need_dx)

        return watched_backward

    for rows in batches(len(x), batch_size):
        seen.clear()
        with (
            in_mode(model, training=False),
            keep_in_eval(),
            _without_parameters(model),
            observe(collector),
            observe_backward(watched, wrap),
        ):
            try:
                y = model(x[rows])
                dx = model.backward(np.ascontiguousarray(output_gradient(y, rows), np.float32))
            finally:
                model.forget()
        assert dx is not None
        activation = None if layer is None else collector.found[layer]
        yield Step(rows, y, dx, activation, seen[0] if seen else None)


# ---- classes -------------------------------------------------------------------------------------


def expect_scores(owner: str, y: FloatArray) -> FloatArray:
    """Return the output when it has one score per class."""
    if y.ndim != 2:
        raise ValueError(
            f"{owner}: the network is no classifier: expected an output (N, classes), got one of "
            f"shape {y.shape}"
        )
    return y


def check_classes(owner: str, name: str, value: object, count: int, classes: int) -> IntArray:
    """Return one class per image, from one class for all or one for each."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{owner}: {name} has the wrong dtype: expected integers (classes), got {array.dtype}"
        )
    if array.shape not in ((), (count,)):
        raise ValueError(
            f"{owner}: {name} has the wrong shape: expected one class, or {count} (one per image), "
            f"got {array.shape}"
        )
    if array.size and not (array.min() >= 0 and array.max() < classes):
        wrong = array.ravel()[(array.ravel() < 0) | (array.ravel() >= classes)][0]
        raise ValueError(
            f"{owner}: {name} is out of range: expected classes from 0 to {classes - 1}, "
            f"got {wrong}"
        )
    return np.broadcast_to(array.astype(np.int64), (count,))


def softmax(scores: AnyArray) -> npt.NDArray[np.float64]:
    """Return the probabilities, in float64."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities

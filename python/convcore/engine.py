"""The verbs of a network: compile, fit, evaluate, predict, summary, save.

This is the eager engine: a step sends one batch through the layers and back, one op after another.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from convcore import random
from convcore._names import did_you_mean
from convcore.functional._arguments import FloatArray, is_sequence, to_int, wrong_type
from convcore.history import History
from convcore.progress import Progress, numbers

if TYPE_CHECKING:
    import os

    from convcore.callbacks import Callback
    from convcore.nn.loss import Loss
    from convcore.nn.module import IncompatibleKeys
    from convcore.nn.module import Module as _Base
    from convcore.nn.parameter import Parameter
    from convcore.summary import Summary
else:
    _Base = object  # a mixin: the classes that use it are modules

AnyArray = np.ndarray[Any, Any]
Metric = str | Callable[[FloatArray, AnyArray], float]
Optimizer = Any
T = TypeVar("T")


@dataclass
class _Compiled:
    """What `compile` chose."""

    parameters: list[Parameter]
    optimizer: Optimizer
    criterion: Loss
    metrics: dict[str, Callable[[FloatArray, AnyArray], float] | None]  # None: the accuracy


class Model(_Base):
    """Mixin that gives a module the verbs of Keras; `Sequential` and `Residual` have them.

    Attributes
    ----------
    stop_training : bool
        Set it to True, for example in a callback, to end `fit` after the running epoch.
    history : History or None
        Of the running or the last `fit`.
    """

    stop_training: bool = False
    history: History | None = None
    _compiled: _Compiled | None = None

    # ---- compile ---------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: str | Optimizer | Callable[[Any], Optimizer] = "adam",
        loss: str | Loss = "cross_entropy",
        metrics: Sequence[Metric] | None = None,
    ) -> None:
        """Choose how to train.

        Parameters
        ----------
        optimizer : str, optimizer, or callable
            'adam', 'adamw' or 'sgd' with their defaults; an optimizer; or what makes one from the
            parameters, as the class itself or ``lambda p: optim.SGD(p, lr=0.1)``.
        loss : {'cross_entropy', 'mse'} or Loss
        metrics : sequence, optional
            'accuracy', or functions (y, target) -> mean over the batch, known by their name. The
            default is the accuracy when the loss takes class labels.

        Examples
        --------
        >>> from convcore import nn, optim
        >>> model = nn.Sequential(nn.Linear(4, 3))
        >>> model.compile(optimizer=lambda p: optim.SGD(p, lr=0.1), loss="cross_entropy")
        """
        criterion = _make_criterion(loss)
        if criterion.reduction == "none":
            raise ValueError(
                "compile: loss has no single value: expected reduction 'mean' or 'sum', got 'none'"
            )
        if metrics is None:
            metrics = ("accuracy",) if criterion.takes_labels else ()
        self._compiled = _Compiled(
            list(self.parameters()),
            _make_optimizer(optimizer, self),
            criterion,
            _name_metrics(metrics, criterion),
        )

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer that `compile` made."""
        return self._expect_compiled("optimizer").optimizer

    @property
    def criterion(self) -> Loss:
        """The loss that `compile` made."""
        return self._expect_compiled("criterion").criterion

    def _expect_compiled(self, owner: str) -> _Compiled:
        if self._compiled is None:
            raise RuntimeError(
                f"{owner}: the model is not compiled: expected "
                "model.compile(optimizer=..., loss=...) before, got none"
            )
        return self._compiled

    # ---- fit -------------------------------------------------------------------------------------

    def fit(
        self,
        x: FloatArray,
        y: AnyArray,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: tuple[FloatArray, AnyArray] | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] | Callback = (),
        verbose: int = 1,
        initial_epoch: int = 0,
    ) -> History:
        """Train.

        Parameters
        ----------
        x : ndarray, shape (N, ...), float32
        y : ndarray, shape (N,), integers; or as the loss takes it
        epochs : int, default 1
            The epoch at which the training ends, counted from 0: a training that goes on from
            `initial_epoch` runs ``epochs - initial_epoch`` of them.
        batch_size : int, default 32
            The last batch of an epoch has what is left.
        validation_data : (x, y), optional
            Evaluated after each epoch.
        shuffle : bool, default True
            Take the images in a new order in each epoch (a stream of `convcore.manual_seed`).
        callbacks : sequence of Callback, or one Callback
        verbose : {0, 1}
            1 shows progress on stderr.
        initial_epoch : int, default 0

        Returns
        -------
        History

        Raises
        ------
        RuntimeError
            When the model is not compiled, or has other parameters since.
        TypeError, ValueError
            When the data do not fit the network or the loss: found before the first step.

        Notes
        -----
        The same seed gives the same weights, bit for bit, at any number of threads. Ctrl-C lets the
        running step finish, so parameters and optimizer stay consistent, runs the callbacks'
        `on_train_end`, and comes out as KeyboardInterrupt. The first batch with a loss that is NaN
        or infinite gives a RuntimeWarning; the training goes on.
        """
        from convcore.summary import in_mode

        run = self._expect_compiled("fit")
        if [id(p) for p in self.parameters()] != [id(p) for p in run.parameters]:
            raise RuntimeError(
                "fit: the model has changed: expected the parameters that compile saw, got others "
                "(call compile again, so that the optimizer knows them)"
            )
        epochs = _count("fit", "epochs", epochs, low=0)
        initial_epoch = _count("fit", "initial_epoch", initial_epoch, low=0)
        batch_size = _count("fit", "batch_size", batch_size)
        show = bool(_count("fit", "verbose", verbose, low=0, high=1))
        x, y = self._check_data("fit", x, y)
        if validation_data is not None:
            validation_data = self._check_data("fit: validation_data", *_pair(validation_data))
        names = ["loss", *run.metrics]
        if validation_data is not None:
            names += [f"val_{name}" for name in names]
        hooks = _Hooks(
            callbacks,
            self,
            {
                "epochs": epochs,
                "batch_size": batch_size,
                "samples": len(x),
                "metrics": [*names, "seconds", "images_per_second"],
            },
        )

        history = self.history = History()
        self.stop_training = False
        progress = Progress(show)
        batches = _Batches(x, y, batch_size)
        divergence = _Divergence()
        with (
            in_mode(self, training=True),
            _Interrupts() as interrupts,
            hooks,
            contextlib.closing(progress),
        ):
            hooks.train_begin()
            for epoch in range(initial_epoch, epochs):
                hooks.epoch_begin(epoch)
                title = f"epoch {epoch + 1}/{epochs}"
                progress.start(title, len(x))
                divergence.epoch = epoch
                logs = self._train_epoch(
                    run, batches, shuffle, hooks, progress, interrupts, divergence
                )
                shown = _without_times(logs)
                if validation_data is not None:
                    progress.start(f"{title}, validation", len(validation_data[0]))
                    values = self._evaluate(
                        run, *validation_data, max(batch_size, 256), progress, interrupts
                    )
                    validation = {f"val_{name}": value for name, value in values.items()}
                    shown |= validation
                    logs = {**shown, **logs}
                progress.line(f"{title}: {numbers(shown)}  {_speed(logs)}")
                history.record(epoch, logs)
                hooks.epoch_end(epoch, logs)
                interrupts.raise_pending()
                if self.stop_training:
                    break
        return history

    def _train_epoch(
        self,
        run: _Compiled,
        batches: _Batches,
        shuffle: bool,
        hooks: _Hooks,
        progress: Progress,
        interrupts: _Interrupts,
        divergence: _Divergence,
    ) -> dict[str, float]:
        averages = _Averages(run)
        criterion, optimizer = run.criterion, run.optimizer
        parameters = list(self.parameters())
        start = time.perf_counter()
        order = random.permutation(batches.samples) if shuffle else None
        for index, (x, y) in enumerate(batches.in_order(order)):
            output = self(x)
            loss = criterion(output, y)
            for parameter in parameters:
                parameter.grad = None
            self.backward(criterion.backward(), need_dx=False)
            optimizer.step()
            averages.add(output, y, loss)
            if not math.isfinite(loss) and criterion.count(y):
                divergence.warn(index)
            if progress.enabled or hooks.on_batches:
                logs = averages.values()
                progress.advance(len(x), logs)
                hooks.batch_end(index, logs)
            interrupts.raise_pending()
        seconds = time.perf_counter() - start
        return {
            **averages.values(),
            "seconds": seconds,
            "images_per_second": batches.samples / max(seconds, 1e-9),
        }

    # ---- evaluate and predict --------------------------------------------------------------------

    def evaluate(
        self, x: FloatArray, y: AnyArray, batch_size: int = 256, verbose: int = 0
    ) -> dict[str, float]:
        """Return the loss and the metrics on a data set, in evaluation mode.

        Parameters
        ----------
        x : ndarray, shape (N, ...), float32
        y : ndarray, shape (N,), integers; or as the loss takes it
        batch_size : int, default 256
        verbose : {0, 1}
            1 shows progress on stderr.

        Returns
        -------
        dict
            ``{"loss": ..., "accuracy": ...}``
        """
        run = self._expect_compiled("evaluate")
        batch_size = _count("evaluate", "batch_size", batch_size)
        show = bool(_count("evaluate", "verbose", verbose, low=0, high=1))
        x, y = self._check_data("evaluate", x, y)
        progress = Progress(show)
        progress.start("evaluate", len(x))
        try:
            values = self._evaluate(run, x, y, batch_size, progress)
            progress.line(f"evaluate: {numbers(values)}")
        finally:
            progress.close()
        return values

    def _evaluate(
        self,
        run: _Compiled,
        x: FloatArray,
        y: AnyArray,
        batch_size: int,
        progress: Progress,
        interrupts: _Interrupts | None = None,
    ) -> dict[str, float]:
        from convcore.summary import in_mode

        averages = _Averages(run)
        with in_mode(self, training=False):
            for xs, ys in _Batches(x, y, batch_size).in_order(None):
                output = self(xs)
                averages.add(output, ys, run.criterion.evaluate(output, ys))
                if progress.enabled:
                    progress.advance(len(xs), averages.values())
                if interrupts is not None:
                    interrupts.raise_pending()
        return averages.values()

    def predict(self, x: FloatArray, batch_size: int = 256) -> FloatArray:
        """Return the network's output (logits, for a classifier), in evaluation mode.

        Parameters
        ----------
        x : ndarray, shape (N, ...), float32
            N may be 0.
        batch_size : int, default 256

        Returns
        -------
        ndarray, shape (N, ...), float32
        """
        from convcore.summary import in_mode

        batch_size = _count("predict", "batch_size", batch_size)
        x = _float32("predict", _array("predict", "x", x))
        shape = self._predicted_shape(x)
        result = np.empty((len(x), *shape[1:]), np.float32)
        with in_mode(self, training=False):
            for start in range(0, len(x), batch_size):
                result[start : start + batch_size] = self(x[start : start + batch_size])
        return result

    def _predicted_shape(self, x: FloatArray) -> tuple[int, ...]:
        """Return the shape of the output; the error tells when x is one sample without a batch."""
        try:
            return self._output_shape("predict", x.shape)
        except (TypeError, ValueError) as error:
            with contextlib.suppress(TypeError, ValueError):
                self._output_shape("predict", (1, *x.shape))
                error.args = (f"{error} (one sample has no batch axis: pass x[None])",)
            raise

    # ---- summary, save ---------------------------------------------------------------------------

    def summary(
        self, input_shape: Sequence[int], print_fn: Callable[[str], Any] | None = print
    ) -> Summary:
        """Print and return what each layer does to an input of `input_shape`.

        The table is printed already: ``print(model.summary(...))`` would show it twice.

        Parameters
        ----------
        input_shape : sequence of int
            Of one sample, without the batch: (C, H, W).
        print_fn : callable, optional
            Gets the table; None prints nothing.

        Returns
        -------
        Summary
            Output shape, parameters, multiply-adds and receptive field per layer, and the totals.

        Raises
        ------
        ValueError
            When shapes do not fit: names the layer, what it expects and what it gets.
        """
        from convcore.summary import summarize

        if not is_sequence(input_shape):
            raise wrong_type("summary", "input_shape", "sizes as (C, H, W)", input_shape)
        return summarize(self, tuple(input_shape), print_fn)

    def save(self, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> None:
        """Save architecture and weights to a safetensors file; `convcore.load` reads it.

        The keys are torch's. The file is replaced in one step: a failure leaves the old one.

        Parameters
        ----------
        path : str or Path
        extra : dict, optional
            What else the file shall say, such as the names of the classes, in forms that JSON
            knows; `convcore.serialization.load_extra` reads it.
        """
        from convcore.serialization import save

        save(self, path, extra)

    def load_weights(self, path: str | os.PathLike[str], strict: bool = True) -> IncompatibleKeys:
        """Read the weights from a safetensors file, also one that torch's users wrote.

        Raises
        ------
        ValueError
            When the file is not readable, or does not fit (see `load_state_dict`).
        """
        from convcore.serialization import load_weights

        return load_weights(self, path, strict)

    # ---- checks of data --------------------------------------------------------------------------

    def _check_data(self, owner: str, x: object, y: object) -> tuple[FloatArray, AnyArray]:
        """Return x and y, contiguous, when they fit each other, the network and the loss."""
        xs = _float32(owner, _array(owner, "x", x))
        ys = np.ascontiguousarray(_array(owner, "y", y))
        if xs.ndim == 0 or ys.ndim == 0 or len(xs) != len(ys):
            raise ValueError(
                f"{owner}: x and y have different lengths: expected one target per sample, "
                f"got x of shape {xs.shape} and y of shape {ys.shape}"
            )
        if len(xs) == 0:
            raise ValueError(f"{owner}: x has no samples: expected at least 1, got 0")
        shape = self._output_shape(owner, xs.shape)
        self._expect_compiled(owner).criterion.expect_target(owner, shape, ys)
        return xs, ys

    def _output_shape(self, owner: str, x_shape: tuple[int, ...]) -> tuple[int, ...]:
        from convcore.summary import trace

        return trace(owner, self, x_shape[1:])[0]


# ---- pieces of compile ---------------------------------------------------------------------------


#: What other libraries call a loss.
_OTHER_NAMES = {
    "sparse_categorical_crossentropy": "cross_entropy",
    "categorical_crossentropy": "cross_entropy",
    "nll": "cross_entropy",
    "nll_loss": "cross_entropy",
    "mean_squared_error": "mse",
}


def _lookup(owner: str, what: str, name: str, known: dict[str, T]) -> T:
    """Return ``known[name]``, or raise with the nearest names."""
    key = name.lower()
    if key in known:
        return known[key]
    hint = did_you_mean(_OTHER_NAMES.get(key, key), known)
    raise ValueError(
        f"{owner}: {what} is not known: expected one of {', '.join(map(repr, known))}, "
        f"got {name!r}{hint}"
    )


def _make_criterion(loss: object) -> Loss:
    from convcore.nn.loss import CrossEntropyLoss, Loss, MSELoss

    if isinstance(loss, str):
        known: dict[str, type[Loss]] = {"cross_entropy": CrossEntropyLoss, "mse": MSELoss}
        return _lookup("compile", "loss", loss, known)()
    if isinstance(loss, Loss):
        return loss
    raise TypeError(
        "compile: loss has the wrong type: expected a name or a convcore.nn.Loss, "
        f"got {type(loss).__name__}"
    )


def _make_optimizer(optimizer: Any, model: Model) -> Optimizer:
    if isinstance(optimizer, str):
        from convcore import optim

        known = {"adam": optim.Adam, "adamw": optim.AdamW, "sgd": optim.SGD}
        optimizer = _lookup("compile", "optimizer", optimizer, known)
    if isinstance(optimizer, type) or not hasattr(optimizer, "step"):
        if not callable(optimizer):
            raise TypeError(
                "compile: optimizer has the wrong type: expected a name, an optimizer or a "
                f"callable that makes one from the parameters, got {type(optimizer).__name__}"
            )
        optimizer = optimizer(list(model.parameters()))
    if not hasattr(optimizer, "step"):
        raise TypeError(
            "compile: optimizer has the wrong type: expected an object with step(), "
            f"got {type(optimizer).__name__}"
        )
    return optimizer


def _name_metrics(
    metrics: Sequence[Metric], criterion: Loss
) -> dict[str, Callable[[FloatArray, AnyArray], float] | None]:
    named: dict[str, Callable[[FloatArray, AnyArray], float] | None] = {}
    for metric in (metrics,) if isinstance(metrics, str) else metrics:
        if callable(metric):
            named[getattr(metric, "__name__", type(metric).__name__)] = metric
            continue
        _lookup("compile", "metric", str(metric), {"accuracy": None})
        if not criterion.takes_labels:
            raise ValueError(
                "compile: metric 'accuracy' does not fit the loss: expected a loss that takes "
                f"class labels, got {criterion!r}"
            )
        named["accuracy"] = None
    return named


# ---- pieces of fit -------------------------------------------------------------------------------


class _Averages:
    """Loss and metrics over the batches so far: no forward pass of their own."""

    def __init__(self, run: _Compiled) -> None:
        self._criterion = run.criterion
        self._metrics = run.metrics
        self._sums = dict.fromkeys(["loss", *run.metrics], 0.0)
        self._count = 0

    def add(self, output: FloatArray, target: AnyArray, loss: Any) -> None:
        count = self._criterion.count(target)
        if count == 0:  # all ignored: the mean is NaN and says nothing
            return
        self._count += count
        sums = self._sums
        sums["loss"] += float(loss) * (count if self._criterion.reduction == "mean" else 1)
        for name, metric in self._metrics.items():
            if metric is None:
                sums[name] += self._criterion.count_right(output, target)
            else:
                sums[name] += float(metric(output, target)) * count

    def values(self) -> dict[str, float]:
        count = self._count
        return {k: float(v) / count if count else float("nan") for k, v in self._sums.items()}


class _Divergence:
    """Warns once in a training that the loss is no number any more."""

    epoch = 0
    _warned = False

    def warn(self, batch: int) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"fit: the loss became NaN or infinite in epoch {self.epoch + 1}, batch "
                f"{batch + 1} (both from 1): try a smaller learning rate, and look for NaN in x",
                RuntimeWarning,
                stacklevel=4,  # who called fit
            )


class _Batches:
    """Cuts a data set into batches; the gathered ones share one buffer."""

    def __init__(self, x: FloatArray, y: AnyArray, batch_size: int) -> None:
        self.samples = len(x)
        self._x, self._y = x, y
        self._size = min(batch_size, self.samples)
        self._buffers: tuple[FloatArray, AnyArray] | None = None

    def in_order(self, order: AnyArray | None) -> Iterator[tuple[FloatArray, AnyArray]]:
        """Iterate over the batches; each is valid until the next. None: as the data lie."""
        x, y, size = self._x, self._y, self._size
        if order is None:
            for start in range(0, self.samples, size):
                yield x[start : start + size], y[start : start + size]
            return
        if self._buffers is None:
            self._buffers = (
                np.empty((size, *x.shape[1:]), x.dtype),
                np.empty((size, *y.shape[1:]), y.dtype),
            )
        x_buffer, y_buffer = self._buffers
        for start in range(0, self.samples, size):
            rows = order[start : start + size]
            xs, ys = x_buffer[: len(rows)], y_buffer[: len(rows)]
            # mode='clip': the default would gather into a copy first.
            np.take(x, rows, axis=0, out=xs, mode="clip")
            np.take(y, rows, axis=0, out=ys, mode="clip")
            yield xs, ys


class _Hooks:
    """Calls the callbacks; those of a batch only when one of them overrides it.

    Each gets logs of its own, so that none can change what the next one sees. At the end of the
    ``with`` block every callback that began is ended, and the first error of all comes out.
    """

    def __init__(
        self, callbacks: Sequence[Callback] | Callback, model: Model, params: dict[str, Any]
    ) -> None:
        from convcore.callbacks import Callback

        self._callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
        self._begun: list[Callback] = []
        for callback in self._callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(
                    "fit: callbacks has an element of the wrong type: expected a "
                    f"convcore.callbacks.Callback, got {type(callback).__name__}"
                )
            callback.model = model
            callback.params = params
        self.on_batches = [
            c.on_batch_end
            for c in self._callbacks
            if type(c).on_batch_end is not Callback.on_batch_end
        ]

    def train_begin(self) -> None:
        for callback in self._callbacks:
            callback.on_train_begin()
            self._begun.append(callback)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        first = error
        for callback in self._begun:
            try:
                callback.on_train_end()
            except BaseException as later:
                if first is None:
                    first = later
                elif first is not later:
                    _show_with(first, later)
        if error is None and first is not None:
            raise first

    def epoch_begin(self, epoch: int) -> None:
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch)

    def epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        for callback in self._callbacks:
            callback.on_epoch_end(epoch, logs.copy())

    def batch_end(self, batch: int, logs: dict[str, float]) -> None:
        for on_batch_end in self.on_batches:
            on_batch_end(batch, logs.copy())


def _show_with(error: BaseException, later: BaseException) -> None:
    """Put `later` into the traceback of `error`, which is the one that is raised."""
    end = later
    while end.__context__ is not None and end.__context__ is not error:
        end = end.__context__
    end.__context__ = error.__context__
    error.__context__ = later


class _Interrupts:
    """Holds Ctrl-C back until the running step is finished; a second one comes through at once.

    Only in the main thread, and only when Python's own handler is in place.
    """

    def __init__(self) -> None:
        self._pending = False
        self._installed = False

    def __enter__(self) -> _Interrupts:
        self._installed = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._installed:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if kind is None:
            self.raise_pending()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._pending:
            raise KeyboardInterrupt
        self._pending = True

    def raise_pending(self) -> None:
        if self._pending:
            raise KeyboardInterrupt


def _without_times(logs: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in logs.items() if k not in ("seconds", "images_per_second")}


def _speed(logs: dict[str, float]) -> str:
    return f"{logs['seconds']:.1f} s, {logs['images_per_second']:,.0f} images/s"


# ---- checks of arguments -------------------------------------------------------------------------


def _count(owner: str, name: str, value: object, low: int = 1, high: int | None = None) -> int:
    number = to_int(owner, name, value)
    if number < low or (high is not None and number > high):
        bound = f"at least {low}" if high is None else f"{low} to {high}"
        raise ValueError(f"{owner}: {name} is out of range: expected {bound}, got {number}")
    return number


def _pair(validation_data: object) -> tuple[Any, Any]:
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        got = type(validation_data).__name__
        if isinstance(validation_data, (tuple, list)):
            got += f" of {len(validation_data)}"
        raise TypeError(f"fit: validation_data has the wrong form: expected (x, y), got {got}")
    return validation_data[0], validation_data[1]


def _array(owner: str, name: str, value: object) -> AnyArray:
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__dlpack__"):
        array: AnyArray = np.from_dlpack(value)
        return array
    raise TypeError(
        f"{owner}: {name} is not an array: expected a numpy.ndarray, got {type(value).__name__}"
    )


def _float32(owner: str, x: AnyArray) -> FloatArray:
    if x.dtype != np.float32:
        raise TypeError(
            f"{owner}: x has the wrong dtype: expected float32, got {x.dtype} "
            "(convert it with .astype(numpy.float32))"
        )
    return np.ascontiguousarray(x)

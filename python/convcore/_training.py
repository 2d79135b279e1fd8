"""The parts that `convcore.engine` is made of: what compile chooses, and what fit runs on."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from convcore import random
from convcore._arrays import device_of, from_dlpack, to_device, to_numpy
from convcore._images import Images, augmented, gather
from convcore._names import did_you_mean
from convcore.functional._arguments import FloatArray, to_float, to_int
from convcore.transforms import Transform

if TYPE_CHECKING:
    from convcore.callbacks import Callback
    from convcore.engine import Model
    from convcore.nn.loss import Loss
    from convcore.nn.parameter import Parameter
    from convcore.random import RandomKey

AnyArray = np.ndarray[Any, Any]
Metric = str | Callable[[FloatArray, AnyArray], float]
Optimizer = Any
T = TypeVar("T")


@dataclass
class Compiled:
    """What `compile` chose."""

    parameters: list[Parameter]
    optimizer: Optimizer
    criterion: Loss
    metrics: dict[str, Callable[[FloatArray, AnyArray], float] | None]  # None: the accuracy
    clip_grad_norm: float | None = None
    precision: str = "fp32"


# ---- pieces of compile ---------------------------------------------------------------------------


#: What other libraries call a loss.
_OTHER_NAMES = {
    "sparse_categorical_crossentropy": "cross_entropy",
    "categorical_crossentropy": "cross_entropy",
    "nll": "cross_entropy",
    "nll_loss": "cross_entropy",
    "mean_squared_error": "mse",
    "categorical_hinge": "hinge",
    "multi_margin": "hinge",
    "svm": "hinge",
}


def lookup(owner: str, what: str, name: str, known: dict[str, T]) -> T:
    """Return ``known[name]``, or raise with the nearest names."""
    key = name.lower()
    if key in known:
        return known[key]
    hint = did_you_mean(_OTHER_NAMES.get(key, key), known)
    raise ValueError(
        f"{owner}: {what} is not known: expected one of {', '.join(map(repr, known))}, "
        f"got {name!r}{hint}"
    )


def make_criterion(loss: object) -> Loss:
    from convcore.nn.loss import CrossEntropyLoss, Loss, MSELoss, MultiMarginLoss

    if isinstance(loss, str):
        known: dict[str, type[Loss]] = {
            "cross_entropy": CrossEntropyLoss,
            "hinge": MultiMarginLoss,
            "mse": MSELoss,
        }
        return lookup("compile", "loss", loss, known)()
    if isinstance(loss, Loss):
        return loss
    raise TypeError(
        "compile: loss has the wrong type: expected a name or a convcore.nn.Loss, "
        f"got {type(loss).__name__}"
    )


def make_optimizer(optimizer: Any, model: Model) -> Optimizer:
    if isinstance(optimizer, str):
        from convcore import optim

        known = {
            "adam": optim.Adam,
            "adamw": optim.AdamW,
            "sgd": optim.SGD,
            "rmsprop": optim.RMSprop,
            "adagrad": optim.Adagrad,
        }
        optimizer = lookup("compile", "optimizer", optimizer, known)
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
    _expect_own_parameters(optimizer, model)
    return optimizer


def _expect_own_parameters(optimizer: Optimizer, model: Model) -> None:
    """Raise when the optimizer was made for another network: it would train nothing."""
    groups = getattr(optimizer, "param_groups", [])
    theirs = {id(p) for group in groups for p in group["params"]}
    own = {id(p) for p in model.parameters()}
    if theirs and own and not theirs & own:
        raise ValueError(
            "compile: optimizer does not belong to this network: expected one over some of its "
            "parameters, got one over parameters of another"
        )


def name_metrics(
    metrics: Sequence[Metric], criterion: Loss
) -> dict[str, Callable[[FloatArray, AnyArray], float] | None]:
    named: dict[str, Callable[[FloatArray, AnyArray], float] | None] = {}
    for metric in (metrics,) if isinstance(metrics, str) else metrics:
        if callable(metric):
            named[getattr(metric, "__name__", type(metric).__name__)] = metric
            continue
        lookup("compile", "metric", str(metric), {"accuracy": None})
        if not criterion.takes_labels:
            raise ValueError(
                "compile: metric 'accuracy' does not fit the loss: expected a loss that takes "
                f"class labels, got {criterion!r}"
            )
        named["accuracy"] = None
    return named


def to_norm(clip_grad_norm: float | None) -> float | None:
    if clip_grad_norm is None:
        return None
    norm = to_float("compile", "clip_grad_norm", clip_grad_norm)
    if not norm > 0:
        raise ValueError(
            f"compile: clip_grad_norm is out of range: expected more than 0, got {norm}"
        )
    return norm


#: On a GPU: what multiplies in convolutions and dense layers.
PRECISIONS = ("fp32", "tf32", "tf32x3", "bf16")


def to_precision(precision: object) -> str:
    if isinstance(precision, str) and precision in PRECISIONS:
        return precision
    raise ValueError(
        "compile: precision is not known: expected one of "
        f"{', '.join(map(repr, PRECISIONS))}, got {precision!r}"
    )


# ---- pieces of fit -------------------------------------------------------------------------------


class Averages:
    """Loss and metrics over the batches so far: no forward pass of their own."""

    def __init__(self, run: Compiled) -> None:
        self._criterion = run.criterion
        self._metrics = run.metrics
        self._sums = dict.fromkeys(["loss", *run.metrics], 0.0)
        self._count = 0

    def add(self, output: FloatArray, target: AnyArray, loss: Any) -> None:
        output = to_numpy(output)
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

    def add_sums(self, loss: float, right: float, count: int) -> None:
        """Add a step of a plan: the sum of its losses, its right answers and its targets."""
        if count == 0:
            return
        self._count += count
        # The mean of a batch is a float32, as the criterion returns it.
        mean = self._criterion.reduction == "mean"
        self._sums["loss"] += float(np.float32(loss / count)) * count if mean else loss
        if "accuracy" in self._sums:
            self._sums["accuracy"] += right

    def values(self) -> dict[str, float]:
        count = self._count
        return {k: float(v) / count if count else float("nan") for k, v in self._sums.items()}


class Divergence:
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


class Gather(NamedTuple):
    """How the plan takes images into its step: `functional.gather_images`."""

    pad: int = 0
    flip: bool = False
    key: RandomKey | None = None


def as_targets(y: AnyArray) -> AnyArray:
    """Return targets as the plan reads them: int64 labels, or values of float32."""
    return np.ascontiguousarray(y, np.float32 if y.dtype == np.float32 else np.int64)


def targets_beside(output: FloatArray, y: AnyArray) -> AnyArray:
    """Return targets where the output of the network is."""
    return y if device_of(output) == "cpu" else to_device(as_targets(y), "cuda")


def samples_on(x: FloatArray | Images, device: str) -> Any:
    """Return samples on a device."""
    return x.to(device) if isinstance(x, Images) else to_device(x, device)


class Batches:
    """Cuts a data set into batches, with what `augment` does to the images of each."""

    def __init__(
        self,
        x: FloatArray | Images,
        y: AnyArray,
        batch_size: int,
        augment: Transform | None = None,
    ) -> None:
        self.samples = len(x)
        self.x, self.y = x, y
        self.size = min(batch_size, self.samples)
        self.augment = augment
        #: Of the samples as the network gets them.
        self.shape = x.shape if augment is None else (len(x), *augment.output_shape(x.shape[1:]))
        self.classes: int | None = None  # of the labels; MixUp needs it
        self.device = "cpu"
        # What the plan does in its step; None: the images are transformed before.
        self._gather = (0, False) if augment is None else augment.as_gather(x.shape[1:])

    def to(self, device: str) -> Batches:
        """Give the batches of images on a device; the images are put there once, where they can be.

        Transforms other than crop and mirror read them on the CPU. The targets stay there: the
        metrics read them.
        """
        self.device = device
        self.x = samples_on(self.x, "cpu" if self._gather is None else device)
        return self

    @cached_property
    def targets(self) -> AnyArray:
        """The class labels, or values of float32, as the plan reads them."""
        return as_targets(self.y)

    def take(self, rows: AnyArray, key: RandomKey | None) -> tuple[FloatArray, AnyArray]:
        """Return the samples `rows`, augmented with the numbers of `key`, and their targets."""
        if self.augment is None or key is None:
            return gather(self.x, rows), self.y[rows]
        x, y = augmented(self.x, self.y, rows, self.augment, key, self.classes)
        return to_device(x, self.device), y

    def for_plan(
        self, rows: AnyArray, key: RandomKey | None
    ) -> tuple[FloatArray | Images, AnyArray, AnyArray, Gather]:
        """Return what the plan reads: samples, targets, which of them, and how it takes them."""
        if self._gather is not None:
            return self.x, self.targets, rows, Gather(*self._gather, key)
        x, y = self.take(rows, key)
        return x, as_targets(y), np.arange(len(rows)), Gather()

    def in_order(self, order: AnyArray | None) -> Iterator[tuple[FloatArray, AnyArray]]:
        """Iterate over the batches; None: as the data lie."""
        x, y, size = self.x, self.y, self.size
        key = None
        if self.augment is not None:
            key = random.next_key()  # one stream for the epoch
            order = np.arange(self.samples) if order is None else order
        for start in range(0, self.samples, size):
            if order is None:
                yield x[start : start + size], y[start : start + size]
            else:
                rows = order[start : start + size]
                yield self.take(rows, key)


def clip_gradients(run: Compiled) -> None:
    """Do what `compile` was told about the norm of the gradients."""
    from convcore.nn.utils import clip_grad_norm_

    if run.clip_grad_norm is not None:
        clip_grad_norm_(run.parameters, run.clip_grad_norm)


class Hooks:
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
                    show_with(first, later)
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


def show_with(error: BaseException, later: BaseException) -> None:
    """Put `later` into the traceback of `error`, which is the one that is raised."""
    end = later
    while end.__context__ is not None and end.__context__ is not error:
        end = end.__context__
    end.__context__ = error.__context__
    error.__context__ = later


class Interrupts:
    """Holds Ctrl-C back until the running step is finished; a second one comes through at once.

    Only in the main thread, and only when Python's own handler is in place.
    """

    def __init__(self) -> None:
        self._pending = False
        self._installed = False

    def __enter__(self) -> Interrupts:
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


def with_times(logs: dict[str, float], images: int, seconds: float) -> dict[str, float]:
    return {**logs, "seconds": seconds, "images_per_second": images / max(seconds, 1e-9)}


def without_times(logs: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in logs.items() if k not in ("seconds", "images_per_second")}


def speed_of(logs: dict[str, float]) -> str:
    return f"{logs['seconds']:.1f} s, {logs['images_per_second']:,.0f} images/s"


def time_left(seconds: float) -> str:
    """Return ``, 1:02:03 left``; nothing when it is less than a second."""
    whole = round(seconds)
    if whole < 1:
        return ""
    hours, minutes = whole // 3600, whole // 60 % 60
    clock = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f", {clock}:{whole % 60:02} left"


# ---- checks of arguments -------------------------------------------------------------------------


def to_count(owner: str, name: str, value: object, low: int = 1, high: int | None = None) -> int:
    number = to_int(owner, name, value)
    if number < low or (high is not None and number > high):
        bound = f"at least {low}" if high is None else f"{low} to {high}"
        raise ValueError(f"{owner}: {name} is out of range: expected {bound}, got {number}")
    return number


def to_pair(validation_data: object) -> tuple[Any, Any]:
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        got = type(validation_data).__name__
        if isinstance(validation_data, (tuple, list)):
            got += f" of {len(validation_data)}"
        raise TypeError(f"fit: validation_data has the wrong form: expected (x, y), got {got}")
    return validation_data[0], validation_data[1]


def augmented_shape(augment: object, x: FloatArray | Images, criterion: Loss) -> tuple[int, ...]:
    """Return the shape of `x` as the network gets it; raise when `augment` cannot change it."""
    if augment is None:
        return x.shape
    if not isinstance(augment, Transform):
        raise TypeError(
            "fit: augment has the wrong type: expected a convcore.transforms.Transform, "
            f"got {type(augment).__name__}"
        )
    if x.ndim != 4:
        raise ValueError(
            f"fit: augment does not fit x: expected images (N, C, H, W), got x of shape {x.shape}"
        )
    if augment.mixup is not None and not criterion.takes_shares:
        raise ValueError(
            "fit: augment does not fit the loss: expected CrossEntropyLoss for MixUp, "
            f"got {criterion!r}"
        )
    if not isinstance(x, Images):
        augment.expect_values("fit", to_numpy(x))
    return (len(x), *augment.output_shape(x.shape[1:]))


def to_samples(owner: str, x: object) -> FloatArray | Images:
    return x if isinstance(x, Images) else to_float32(owner, to_array(owner, "x", x))


def to_array(owner: str, name: str, value: object) -> AnyArray:
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__dlpack__"):
        array: AnyArray = from_dlpack(value)
        return array
    raise TypeError(
        f"{owner}: {name} is not an array: expected a numpy.ndarray, got {type(value).__name__}"
    )


def to_float32(owner: str, x: AnyArray) -> FloatArray:
    if x.dtype != np.float32:
        raise TypeError(
            f"{owner}: x has the wrong dtype: expected float32, got {x.dtype} "
            + (
                "(convcore.data.Images scales it batch by batch)"
                if x.dtype == np.uint8
                else "(convert it with .astype(numpy.float32))"
            )
        )
    return np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x

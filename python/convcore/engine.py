"""The verbs of a network: compile, fit, evaluate, predict, summary, save.

This is the eager engine: a step sends one batch through the layers and back, one op after another.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convcore import random
from convcore._arrays import device_of_module, to_numpy
from convcore._training import (
    AnyArray,
    Averages,
    Batches,
    Compiled,
    Divergence,
    Hooks,
    Interrupts,
    Metric,
    Optimizer,
    augmented_shape,
    clip_gradients,
    make_criterion,
    make_optimizer,
    name_metrics,
    samples_on,
    speed_of,
    targets_beside,
    time_left,
    to_array,
    to_count,
    to_norm,
    to_pair,
    to_precision,
    to_samples,
    with_times,
    without_times,
)
from convcore.functional._arguments import FloatArray, is_sequence, wrong_type
from convcore.history import History
from convcore.progress import Progress, numbers

if TYPE_CHECKING:
    import os

    from convcore._images import Images
    from convcore._plan import Planned
    from convcore.callbacks import Callback
    from convcore.nn.loss import Loss
    from convcore.nn.module import IncompatibleKeys
    from convcore.nn.module import Module as _Base
    from convcore.summary import Summary
    from convcore.transforms import Transform
else:
    _Base = object  # a mixin: the classes that use it are modules


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
    _compiled: Compiled | None = None
    _planned: Planned | None = None
    _told: str | None = None  # why the engine runs layer by layer; said once

    # ---- compile ---------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: str | Optimizer | Callable[[Any], Optimizer] = "adam",
        loss: str | Loss = "cross_entropy",
        metrics: Sequence[Metric] | None = None,
        clip_grad_norm: float | None = None,
        precision: str = "fp32",
    ) -> None:
        """Choose how to train.

        Parameters
        ----------
        optimizer : str, optimizer, or callable
            'adam', 'adamw', 'sgd', 'rmsprop' or 'adagrad' with their defaults; an optimizer; or
            what makes one from the
            parameters, as the class itself or ``lambda p: optim.SGD(p, lr=0.1)``.
        loss : {'cross_entropy', 'hinge', 'mse'} or Loss
        metrics : sequence, optional
            'accuracy', or functions (y, target) -> mean over the batch, known by their name. The
            default is the accuracy when the loss takes class labels.
        clip_grad_norm : float, optional
            Scale the gradients of each step down to this norm, taken over all parameters together
            (`nn.utils.clip_grad_norm_`).
        precision : {'fp32', 'tf32', 'tf32x3', 'bf16'}
            What multiplies in convolutions and dense layers when `fit` and `predict` run on a GPU;
            the CPU computes in float32 whatever it is. ``'tf32'`` and ``'bf16'`` round the operands
            of the products to 10 and 7 bits of mantissa, ``'tf32x3'`` splits each in two such
            numbers and comes near float32. Sums, weights and everything else stay float32.

        Examples
        --------
        >>> from convcore import nn, optim
        >>> model = nn.Sequential(nn.Linear(4, 3))
        >>> model.compile(optimizer=lambda p: optim.SGD(p, lr=0.1), loss="cross_entropy")
        """
        criterion = make_criterion(loss)
        if criterion.reduction == "none":
            raise ValueError(
                "compile: loss has no single value: expected reduction 'mean' or 'sum', got 'none'"
            )
        if metrics is None:
            metrics = ("accuracy",) if criterion.takes_labels else ()
        self._compiled = Compiled(
            list(self.parameters()),
            make_optimizer(optimizer, self),
            criterion,
            name_metrics(metrics, criterion),
            to_norm(clip_grad_norm),
            to_precision(precision),
        )

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer that `compile` made."""
        return self._expect_compiled("optimizer").optimizer

    @property
    def criterion(self) -> Loss:
        """The loss that `compile` made."""
        return self._expect_compiled("criterion").criterion

    def _expect_compiled(self, owner: str) -> Compiled:
        if self._compiled is None:
            raise RuntimeError(
                f"{owner}: the model is not compiled: expected "
                "model.compile(optimizer=..., loss=...) before, got none"
            )
        return self._compiled

    # ---- fit -------------------------------------------------------------------------------------

    def fit(
        self,
        x: FloatArray | Images,
        y: AnyArray,
        epochs: int = 1,
        batch_size: int = 32,
        validation_data: tuple[FloatArray | Images, AnyArray] | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] | Callback = (),
        verbose: int = 1,
        initial_epoch: int = 0,
        augment: Transform | None = None,
        device: str | None = None,
    ) -> History:
        """Train.

        Parameters
        ----------
        x : ndarray, shape (N, ...), float32, or data.Images
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
        augment : transforms.Transform, optional
            What is done to each training image, anew in each epoch, such as
            ``data.Augment(pad=4, flip=True)``. Validation images stay as they are.
        device : {'cpu', 'cuda'}, optional
            Where to train: the network moves there (`Module.to`) and stays. The default is where
            it is. The data are put there once, before the first epoch.

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
        epochs = to_count("fit", "epochs", epochs, low=0)
        initial_epoch = to_count("fit", "initial_epoch", initial_epoch, low=0)
        batch_size = to_count("fit", "batch_size", batch_size)
        show = bool(to_count("fit", "verbose", verbose, low=0, high=1))
        if device is not None:
            self.to(device)
        device = device_of_module(self)
        x, y = self._check_data("fit", x, y, augment)
        if validation_data is not None:
            xs, ys = self._check_data("fit: validation_data", *to_pair(validation_data))
            validation_data = samples_on(xs, device), ys
        names = ["loss", *run.metrics]
        if validation_data is not None:
            names += [f"val_{name}" for name in names]
        hooks = Hooks(
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
        batches = Batches(x, y, batch_size, augment).to(device)
        if augment is not None and augment.mixup is not None:
            batches.classes = self._output_shape("fit", batches.shape)[1]
        divergence = Divergence()
        with (
            in_mode(self, training=True),
            Interrupts() as interrupts,
            hooks,
            contextlib.closing(progress),
        ):
            hooks.train_begin()
            clock = time.perf_counter()
            for epoch in range(initial_epoch, epochs):
                hooks.epoch_begin(epoch)
                title = f"epoch {epoch + 1}/{epochs}"
                progress.start(title, len(x))
                divergence.epoch = epoch
                planned = self._plan_for("fit", batches.shape, batches.size, run, progress)
                train = self._train_epoch
                if planned is not None:
                    train = functools.partial(self._train_epoch_planned, planned)
                logs = train(run, batches, shuffle, hooks, progress, interrupts, divergence)
                shown = without_times(logs)
                if validation_data is not None:
                    progress.start(f"{title}, validation", len(validation_data[0]))
                    values = self._evaluate(
                        run, *validation_data, max(batch_size, 256), progress, interrupts
                    )
                    validation = {f"val_{name}": value for name, value in values.items()}
                    shown |= validation
                    logs = {**shown, **logs}
                each = (time.perf_counter() - clock) / (epoch + 1 - initial_epoch)
                left = time_left(each * (epochs - epoch - 1))
                progress.line(f"{title}: {numbers(shown)}  {speed_of(logs)}{left}")
                history.record(epoch, logs)
                hooks.epoch_end(epoch, logs)
                interrupts.raise_pending()
                if self.stop_training:
                    break
        return history

    def _train_epoch(
        self,
        run: Compiled,
        batches: Batches,
        shuffle: bool,
        hooks: Hooks,
        progress: Progress,
        interrupts: Interrupts,
        divergence: Divergence,
    ) -> dict[str, float]:
        averages = Averages(run)
        start = time.perf_counter()
        order = random.permutation(batches.samples) if shuffle else None
        for index, (x, y) in enumerate(batches.in_order(order)):
            output, loss = self._train_step(run, x, y)
            averages.add(output, y, loss)
            if not math.isfinite(loss) and run.criterion.count(y):
                divergence.warn(index)
            if progress.enabled or hooks.on_batches:
                logs = averages.values()
                progress.advance(len(x), logs)
                hooks.batch_end(index, logs)
            interrupts.raise_pending()
        return with_times(averages.values(), batches.samples, time.perf_counter() - start)

    def _train_step(self, run: Compiled, x: FloatArray, y: AnyArray) -> tuple[FloatArray, Any]:
        """Train on one batch, layer by layer; return the output and the loss."""
        output = self(x)
        loss = run.criterion(output, targets_beside(output, y))
        self.zero_grad()
        self.backward(run.criterion.backward(), need_dx=False)
        clip_gradients(run)
        run.optimizer.step()
        return output, loss

    def _train_epoch_planned(
        self,
        planned: Planned | None,
        run: Compiled,
        batches: Batches,
        shuffle: bool,
        hooks: Hooks,
        progress: Progress,
        interrupts: Interrupts,
        divergence: Divergence,
    ) -> dict[str, float]:
        from convcore._plan import chunks

        averages = Averages(run)
        start = time.perf_counter()
        samples, size = batches.samples, batches.size
        order = random.permutation(samples) if shuffle else np.arange(samples)
        key = None if batches.augment is None else random.next_key()  # one stream for the epoch
        steps = math.ceil(samples / size)
        index = 0
        for count, took in chunks(steps, bool(hooks.on_batches)):
            if hooks.on_batches and index:  # they may have changed the network
                planned = self._plan_for("fit", batches.shape, size, run, progress)
            rows = order[index * size : (index + count) * size]
            before = time.perf_counter()
            if planned is None:
                x, y = batches.take(rows, key)
                output, loss = self._train_step(run, x, y)
                averages.add(output, y, loss)
                if not math.isfinite(loss) and run.criterion.count(y):
                    divergence.warn(index)
            else:
                results = planned.train(run, *batches.for_plan(rows, key), size)
                for step, (loss, right, targets) in enumerate(results, index):
                    averages.add_sums(loss, right, targets)
                    if not math.isfinite(loss) and targets:
                        divergence.warn(step)
            took(time.perf_counter() - before)
            index += count
            if progress.enabled or hooks.on_batches:
                logs = averages.values()
                progress.advance(len(rows), logs)
                hooks.batch_end(index - 1, logs)
            interrupts.raise_pending()
        return with_times(averages.values(), samples, time.perf_counter() - start)

    # ---- the plan --------------------------------------------------------------------------------

    def _plan_for(
        self,
        owner: str,
        shape: tuple[int, ...],
        batch_size: int,
        run: Compiled | None = None,
        progress: Progress | None = None,
    ) -> Planned | None:
        """Return the plan for images of `shape`, or None: then the layers run one by one."""
        from convcore._plan import Planned, Unplannable, planning

        if shape[0] == 0 or not planning.enabled:
            return None
        training = owner == "fit"
        try:
            planned = Planned.build(self, run or self._compiled, shape[1:], self._planned)
            self._planned = planned
            planned.prepare(batch_size, training)
            return planned
        except Unplannable as reason:
            if progress is not None and progress.enabled and self._told != str(reason):
                self._told = str(reason)
                progress.line(f"{owner}: layer by layer, the planner does not know {reason}")
            return None

    def plan(self, input_shape: Sequence[int], batch_size: int = 32, training: bool = True) -> str:
        """Return what `fit` runs for a batch: phases, steps and memory, as text.

        Parameters
        ----------
        input_shape : sequence of int
            Of one sample, without the batch: (C, H, W).
        batch_size : int, default 32
        training : bool, default True
            False shows the program of `predict` and `evaluate`.

        Raises
        ------
        ValueError
            When the network has something that the planner does not know, and so runs layer by
            layer; the message names it.

        See Also
        --------
        docs/engine.md explains phases and steps on an example.

        Examples
        --------
        >>> from convcore import nn
        >>> model = nn.Sequential(nn.Linear(4, 3))
        >>> model.compile(optimizer="sgd")
        >>> print(model.plan((4,), batch_size=2, training=False).splitlines()[1])
        phase 1
        """
        from convcore._plan import Planned, Unplannable

        run = self._expect_compiled("plan") if training else None
        shape = tuple(to_count("plan", "input_shape", size) for size in input_shape)
        batch_size = to_count("plan", "batch_size", batch_size)
        try:
            planned = Planned.build(self, run, shape, self._planned)
            planned.prepare(batch_size, training)
        except Unplannable as reason:
            raise ValueError(
                f"plan: there is no plan for input_shape {shape}, without the batch: expected "
                f"layers, loss and optimizer that the planner knows, got {reason}"
            ) from None
        return planned.plan.describe(batch_size, training)

    # ---- evaluate and predict --------------------------------------------------------------------

    def evaluate(
        self, x: FloatArray | Images, y: AnyArray, batch_size: int = 256, verbose: int = 0
    ) -> dict[str, float]:
        """Return the loss and the metrics on a data set, in evaluation mode.

        Parameters
        ----------
        x : ndarray, shape (N, ...), float32, or data.Images
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
        batch_size = to_count("evaluate", "batch_size", batch_size)
        show = bool(to_count("evaluate", "verbose", verbose, low=0, high=1))
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
        run: Compiled,
        x: FloatArray | Images,
        y: AnyArray,
        batch_size: int,
        progress: Progress,
        interrupts: Interrupts | None = None,
    ) -> dict[str, float]:
        from convcore.summary import in_mode

        averages = Averages(run)
        planned = self._plan_for("evaluate", x.shape, min(batch_size, len(x)))
        forward: Callable[[Any], FloatArray] = self
        if planned is not None:  # several batches per call, which prepares the weights once
            forward = functools.partial(planned.forward, batch_size=batch_size)
            batch_size *= 8
        with in_mode(self, training=False):
            batches = Batches(x, y, batch_size).to(device_of_module(self))
            for xs, ys in batches.in_order(None):
                output = forward(xs)
                loss = run.criterion.evaluate(output, targets_beside(output, ys))
                averages.add(output, ys, loss)
                if progress.enabled:
                    progress.advance(len(xs), averages.values())
                if interrupts is not None:
                    interrupts.raise_pending()
        return averages.values()

    def predict(self, x: FloatArray | Images, batch_size: int = 256) -> FloatArray:
        """Return the network's output (logits, for a classifier), in evaluation mode.

        Parameters
        ----------
        x : ndarray, shape (N, ...), float32, or data.Images
            N may be 0.
        batch_size : int, default 256

        Returns
        -------
        ndarray, shape (N, ...), float32
        """
        from convcore.summary import in_mode

        batch_size = to_count("predict", "batch_size", batch_size)
        x = samples_on(to_samples("predict", x), device_of_module(self))
        shape = self._predicted_shape(x)
        planned = self._plan_for("predict", x.shape, min(batch_size, len(x)))
        forward: Callable[[Any], FloatArray] = self
        if planned is not None:  # several batches per call, which prepares the weights once
            forward = functools.partial(planned.forward, batch_size=batch_size)
            batch_size *= 8
            if len(x) <= batch_size:
                return to_numpy(forward(x))
        result = np.empty((len(x), *shape[1:]), np.float32)
        with in_mode(self, training=False):
            for start in range(0, len(x), batch_size):
                result[start : start + batch_size] = to_numpy(
                    forward(x[start : start + batch_size])
                )
        return result

    def _predicted_shape(self, x: FloatArray | Images) -> tuple[int, ...]:
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

    def _check_data(
        self, owner: str, x: object, y: object, augment: Transform | None = None
    ) -> tuple[FloatArray | Images, AnyArray]:
        """Return x and y, contiguous, when they fit each other, the network and the loss."""
        xs = to_samples(owner, x)
        ys = np.ascontiguousarray(to_numpy(to_array(owner, "y", y)))
        if xs.ndim == 0 or ys.ndim == 0 or len(xs) != len(ys):
            raise ValueError(
                f"{owner}: x and y have different lengths: expected one target per sample, "
                f"got x of shape {xs.shape} and y of shape {ys.shape}"
            )
        if len(xs) == 0:
            raise ValueError(f"{owner}: x has no samples: expected at least 1, got 0")
        criterion = self._expect_compiled(owner).criterion
        shape = self._output_shape(owner, augmented_shape(augment, xs, criterion))
        criterion.expect_target(owner, shape, ys)
        return xs, ys

    def _output_shape(self, owner: str, x_shape: tuple[int, ...]) -> tuple[int, ...]:
        from convcore.summary import trace

        return trace(owner, self, x_shape[1:])[0]

"""Callbacks: when they run, stopping early, keeping the best, saving."""

from __future__ import annotations

import re

import numpy as np
import pytest

import convcore
from convcore import nn, optim
from convcore.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    TrainingCheckpoint,
)

X = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int64)


def compiled(lr=0.05):
    convcore.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2))
    model.compile(optimizer=lambda p: optim.SGD(p, lr=lr))
    return model


def run(model, values, *callbacks, metric="val_loss", **arguments):
    """Train, with `values` in the place of what the validation of each epoch gives."""
    left = iter(values)
    evaluate = model._evaluate

    def scripted(*positional):
        return {**evaluate(*positional), metric.removeprefix("val_"): next(left)}

    model._evaluate = scripted
    return model.fit(
        X,
        Y,
        epochs=len(values),
        validation_data=(X, Y),
        callbacks=callbacks,
        verbose=0,
        **arguments,
    )


def test_callbacks_run_in_order():
    events = []

    class Record(Callback):
        def on_train_begin(self):
            events.append(("train_begin", self.params["epochs"], self.params["samples"]))

        def on_train_end(self):
            events.append(("train_end",))

        def on_epoch_begin(self, epoch):
            events.append(("epoch_begin", epoch))

        def on_epoch_end(self, epoch, logs):
            events.append(("epoch_end", epoch, sorted(logs)))

        def on_batch_end(self, batch, logs):
            events.append(("batch_end", batch, sorted(logs)))

    model = compiled()
    callback = Record()
    model.fit(X, Y, epochs=1, batch_size=20, callbacks=[callback], verbose=0)
    assert callback.model is model
    assert callback.params["metrics"] == ["loss", "accuracy", "seconds", "images_per_second"]
    assert events == [
        ("train_begin", 1, 40),
        ("epoch_begin", 0),
        ("batch_end", 0, ["accuracy", "loss"]),
        ("batch_end", 1, ["accuracy", "loss"]),
        ("epoch_end", 0, ["accuracy", "images_per_second", "loss", "seconds"]),
        ("train_end",),
    ]


def test_train_end_runs_after_an_error():
    ended = []

    class Fail(Callback):
        def on_epoch_end(self, epoch, logs):
            raise OSError("disk full")

        def on_train_end(self):
            ended.append(True)

    with pytest.raises(OSError, match="disk full"):
        compiled().fit(X, Y, callbacks=[Fail()], verbose=0)
    assert ended == [True]


class EndsWith(Callback):
    """Raises `error` at the end of the training, if there is one; remembers that it was run."""

    def __init__(self, error=None):
        self.error = error
        self.ended = False

    def on_train_end(self):
        self.ended = True
        if self.error is not None:
            raise self.error


def test_train_end_of_every_callback_runs_and_the_first_error_comes_out():
    first, second = OSError("disk full"), ValueError("no such thing")
    callbacks = [EndsWith(), EndsWith(first), EndsWith(second), EndsWith()]
    with pytest.raises(OSError, match="disk full") as caught:
        compiled().fit(X, Y, callbacks=callbacks, verbose=0)
    assert all(callback.ended for callback in callbacks)
    assert caught.value is first
    assert first.__context__ is second
    assert second.__context__ is None


def test_errors_of_train_end_do_not_hide_ctrl_c():
    class Interrupt(Callback):
        def on_epoch_end(self, epoch, logs):
            raise KeyboardInterrupt from RuntimeError("the cause")

    errors = [OSError("disk full"), ValueError("no such thing")]
    callbacks = [Interrupt(), *map(EndsWith, errors), EndsWith()]
    with pytest.raises(KeyboardInterrupt) as caught:
        compiled().fit(X, Y, callbacks=callbacks, verbose=0)
    assert callbacks[-1].ended
    assert str(caught.value.__cause__) == "the cause"
    assert caught.value.__context__ is errors[1]
    assert errors[1].__context__ is errors[0]


def test_each_callback_gets_logs_of_its_own():
    class Clear(Callback):
        def on_epoch_end(self, epoch, logs):
            logs.clear()

        def on_batch_end(self, batch, logs):
            logs.clear()

    class Look(Callback):
        seen = ()

        def on_epoch_end(self, epoch, logs):
            self.seen += (list(logs),)

        def on_batch_end(self, batch, logs):
            self.seen += (list(logs),)

    look = Look()
    compiled().fit(X, Y, callbacks=[Clear(), look], batch_size=40, verbose=0)
    assert look.seen == (
        ["loss", "accuracy"],
        ["loss", "accuracy", "seconds", "images_per_second"],
    )


class Weights(Callback):
    def __init__(self):
        self.after = []

    def on_epoch_end(self, epoch, logs):
        self.after.append(self.model[0].weight.data.copy())


def test_early_stopping_stops_and_restores_the_best():
    model, weights = compiled(), Weights()
    stopping = EarlyStopping(patience=2)
    history = run(model, [3.0, 1.0, 2.0, 1.5, 0.1], weights, stopping)
    assert history.epoch == [0, 1, 2, 3]
    assert (stopping.best_epoch, stopping.stopped_epoch) == (1, 3)
    np.testing.assert_array_equal(model[0].weight.data, weights.after[1])


def test_early_stopping_restores_the_best_when_the_training_ends_by_itself():
    model, weights = compiled(), Weights()
    stopping = EarlyStopping(patience=5)
    run(model, [3.0, 1.0, 2.0], weights, stopping)
    assert stopping.stopped_epoch is None
    np.testing.assert_array_equal(model[0].weight.data, weights.after[1])


def test_early_stopping_restores_the_best_after_ctrl_c():
    class Interrupt(Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 2:
                raise KeyboardInterrupt

    model, weights = compiled(), Weights()
    with pytest.raises(KeyboardInterrupt):
        run(model, [3.0, 1.0, 2.0, 0.5], weights, EarlyStopping(patience=5), Interrupt())
    np.testing.assert_array_equal(model[0].weight.data, weights.after[1])


def test_early_stopping_can_leave_the_last_weights():
    model, weights = compiled(), Weights()
    run(model, [1.0, 2.0], weights, EarlyStopping(restore_best_weights=False))
    np.testing.assert_array_equal(model[0].weight.data, weights.after[-1])


def test_early_stopping_min_delta_and_nan():
    stopping = EarlyStopping(patience=1, min_delta=0.1)
    assert run(compiled(), [1.0, 0.95, 0.1], stopping).epoch == [0, 1]
    assert stopping.best_epoch == 0
    assert run(compiled(), [np.nan, np.nan, 1.0], EarlyStopping(patience=2)).epoch == [0, 1]


def test_early_stopping_knows_that_accuracy_shall_rise():
    for mode in ("auto", "max"):
        stopping = EarlyStopping("val_accuracy", mode=mode)
        run(compiled(), [0.5, 0.7, 0.6, 0.9], stopping, metric="val_accuracy")
        assert (stopping.best_epoch, stopping.stopped_epoch) == (1, 2)


@pytest.mark.parametrize("make", [EarlyStopping, lambda: ModelCheckpoint("x", monitor="val_loss")])
def test_callback_rejects_a_metric_that_is_not_recorded(make):
    message = (
        "monitor is not recorded: expected one of 'loss', 'accuracy', 'seconds', "
        "'images_per_second', "
        "got 'val_loss' (pass validation_data to fit)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        compiled().fit(X, Y, callbacks=[make()], verbose=0)


@pytest.mark.parametrize("monitor", ["val_acuracy", "val_accurracy"])
def test_callback_suggests_a_metric(monitor):
    message = f"got '{monitor}' (did you mean 'val_accuracy'?)"
    with pytest.raises(ValueError, match=re.escape(message)):
        run(compiled(), [1.0], EarlyStopping(monitor))
    with pytest.raises(ValueError, match="did you mean 'accuracy'"):
        compiled().fit(X, Y, callbacks=[EarlyStopping("acuracy")], verbose=0)


def test_fit_takes_one_callback():
    weights = Weights()
    compiled().fit(X, Y, callbacks=weights, verbose=0)
    assert len(weights.after) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: EarlyStopping(patience=-1),
            "EarlyStopping: patience is out of range: expected at least 0, got -1",
        ),
        (
            lambda: EarlyStopping(mode="up"),
            "EarlyStopping: mode is not known: expected 'auto', 'min', 'max', got 'up'",
        ),
        (lambda: EarlyStopping(min_delta=-1), "EarlyStopping: min_delta is out of range"),
        (lambda: ModelCheckpoint("x", mode="up"), "ModelCheckpoint: mode is not known"),
    ],
)
def test_callback_rejects(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_learning_rate_scheduler_sets_every_group_before_the_epoch():
    rates = []

    class Record(Callback):
        def on_batch_end(self, batch, logs):
            rates.append([group["lr"] for group in self.model.optimizer.param_groups])

    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model.compile(lambda p: optim.SGD([{"params": p[:2]}, {"params": p[2:]}], lr=9.0))
    halving = LearningRateScheduler(lambda epoch: 0.5**epoch)
    model.fit(
        X, Y, epochs=4, initial_epoch=1, batch_size=40, callbacks=[halving, Record()], verbose=0
    )
    assert rates == [[0.5, 0.5], [0.25, 0.25], [0.125, 0.125]]


@pytest.mark.parametrize("rate", [-0.1, float("nan")])
def test_learning_rate_scheduler_rejects_a_wrong_rate(rate):
    with pytest.raises(ValueError, match="LearningRateScheduler: schedule is out of range"):
        compiled().fit(X, Y, callbacks=[LearningRateScheduler(lambda epoch: rate)], verbose=0)


def test_training_checkpoint_knows_what_it_saved(tmp_path):
    keeper = TrainingCheckpoint(tmp_path / "c", extra={"a": 1})
    assert keeper.epoch is None
    assert not keeper.path.exists()
    compiled().fit(X, Y, epochs=2, callbacks=[keeper], verbose=0)
    assert keeper.epoch == 2
    assert convcore.serialization.load_extra(keeper.path) == {"a": 1}


def test_model_checkpoint_saves_each_epoch(tmp_path):
    path = tmp_path / "net-{epoch:02d}-{val_loss:.1f}.safetensors"
    model = compiled()
    run(model, [3.0, 2.0], ModelCheckpoint(path))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "net-01-3.0.safetensors",
        "net-02-2.0.safetensors",
    ]
    last = convcore.load(tmp_path / "net-02-2.0.safetensors")
    np.testing.assert_array_equal(last[0].weight.data, model[0].weight.data)


def test_model_checkpoint_saves_the_best_only(tmp_path):
    run(
        compiled(), [3.0, 1.0, 2.0, 0.5], ModelCheckpoint(tmp_path / "{epoch}", save_best_only=True)
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "4"]


def test_model_checkpoint_watches_the_training_loss_without_validation(tmp_path):
    path = tmp_path / "best.safetensors"
    compiled().fit(X, Y, callbacks=[ModelCheckpoint(path, save_best_only=True)], verbose=0)
    assert path.exists()


def test_training_checkpoint_keeps_the_newest_and_the_whole_history(tmp_path):
    model = compiled()
    model.fit(X, Y, epochs=2, callbacks=[TrainingCheckpoint(tmp_path)], verbose=0)
    other = compiled()
    checkpoint = convcore.serialization.load_checkpoint(tmp_path, other, other.optimizer)
    assert (checkpoint.epoch, checkpoint.history.epoch) == (2, [0, 1])
    np.testing.assert_array_equal(other[0].weight.data, model[0].weight.data)
    go_on = TrainingCheckpoint(tmp_path, history=checkpoint.history)
    other.fit(X, Y, epochs=3, initial_epoch=2, callbacks=[go_on], verbose=0)
    checkpoint = convcore.serialization.load_checkpoint(tmp_path, model, model.optimizer)
    assert (checkpoint.epoch, checkpoint.history.epoch) == (3, [0, 1, 2])
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]

"""compile, fit, evaluate, predict, summary."""

from __future__ import annotations

import io
import json
import re
import signal
import sys

import numpy as np
import pytest

import convcore
from convcore import History, nn, optim
from convcore.callbacks import Callback
from helpers import assert_same_bits_at_any_thread_count, floats


def blobs(count=120, features=6, classes=3, seed=0):
    """Return points around a few centres: a task that a small network learns at once."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, count)
    centres = 3 * np.random.default_rng(99).standard_normal((classes, features))
    return (centres[y] + rng.standard_normal((count, features))).astype(np.float32), y


def network(features=6, classes=3):
    return nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, classes))


def compiled(**arguments):
    convcore.manual_seed(0)
    model = network()
    model.compile(**{"optimizer": lambda p: optim.Adam(p, lr=0.01), **arguments})
    return model


def weights(model):
    return tuple(array.copy() for array in model.state_dict().values())


def assert_equal_weights(a, b):
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


# ---- fit -----------------------------------------------------------------------------------------


def test_fit_learns_and_records():
    (x, y), (x_val, y_val) = blobs(), blobs(seed=1)
    model = compiled()
    history = model.fit(x, y, epochs=8, batch_size=16, validation_data=(x_val, y_val), verbose=0)
    assert history is model.history
    assert history.epoch == list(range(8))
    assert list(history.history) == [
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "seconds",
        "images_per_second",
    ]
    assert all(len(values) == 8 for values in history.history.values())
    assert history.history["loss"][-1] < history.history["loss"][0] / 2
    assert history.history["val_accuracy"][-1] > 0.95
    assert model.evaluate(x_val, y_val) == {
        "loss": history.history["val_loss"][-1],
        "accuracy": history.history["val_accuracy"][-1],
    }


def test_fit_does_what_the_loop_by_hand_does():
    x, y = blobs(50)
    model = compiled(optimizer=lambda p: optim.SGD(p, lr=0.1))
    model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
    convcore.manual_seed(0)
    other, criterion = network(), nn.CrossEntropyLoss()
    optimizer = optim.SGD(list(other.parameters()), lr=0.1)
    for _ in range(2):
        for start in range(0, 50, 16):
            criterion(other(x[start : start + 16]), y[start : start + 16])
            other.zero_grad()
            other.backward(criterion.backward())
            optimizer.step()
    assert_equal_weights(weights(model), weights(other))


def test_fit_averages_loss_and_accuracy_over_the_images_of_the_epoch():
    x, y = blobs(50)
    model = compiled(optimizer=lambda p: optim.SGD(p, lr=0.0))  # nothing moves
    history = model.fit(x, y, batch_size=16, verbose=0).history
    values = model.evaluate(x, y)
    assert history["loss"][0] == pytest.approx(values["loss"], rel=1e-5)
    assert history["accuracy"][0] == pytest.approx(values["accuracy"])
    logits = model.predict(x)
    assert values["accuracy"] == (logits.argmax(axis=1) == y).mean()
    assert values["loss"] == pytest.approx(nn.CrossEntropyLoss()(logits, y), rel=1e-5)


def test_evaluate_does_not_depend_on_the_batch_size():
    x, y = blobs(50)
    model = compiled()
    whole = model.evaluate(x, y)
    for batch_size in (1, 7, 50, 1000):
        assert model.evaluate(x, y, batch_size=batch_size) == pytest.approx(whole, rel=1e-5)


def test_evaluate_leaves_ignored_labels_out():
    x, y = blobs(20)
    some = y.copy()
    some[::3] = -100
    model = compiled()
    want = model.evaluate(x[some != -100], y[some != -100])
    assert model.evaluate(x, some, batch_size=3) == pytest.approx(want, rel=1e-5)
    assert np.isnan(model.evaluate(x, np.full(20, -100))["loss"])


def test_accuracy_leaves_out_a_class_that_is_ignored():
    x, y = blobs()
    model = compiled()
    model.fit(x, y, epochs=8, batch_size=16, verbose=0)
    right = model.predict(x).argmax(axis=1) == y
    assert right[y == 0].any()
    model.compile(loss=nn.CrossEntropyLoss(ignore_index=0))
    assert model.evaluate(x, y)["accuracy"] == right[y != 0].mean()


def test_fit_gives_the_same_bits_at_any_thread_count():
    x, y = np.random.default_rng(0).random((40, 2, 9, 9)).astype(np.float32), np.arange(40) % 3

    def train():
        convcore.manual_seed(7)
        model = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(128, 3),
        )
        model.compile()
        model.fit(x, y, epochs=2, batch_size=16, verbose=0)
        return weights(model)

    assert_same_bits_at_any_thread_count(train, threads=(1, 2, 3))


def test_fit_shuffles_by_the_seed():
    x, y = blobs()
    first = compiled()
    first.fit(x, y, verbose=0)
    again = compiled()
    again.fit(x, y, verbose=0)
    assert_equal_weights(weights(first), weights(again))
    ordered = compiled()
    ordered.fit(x, y, shuffle=False, verbose=0)
    assert (ordered[0].weight.data != first[0].weight.data).any()


def test_fit_in_two_parts_is_fit_in_one():
    x, y = blobs()
    whole, parts = compiled(), compiled()
    convcore.manual_seed(1)
    whole.fit(x, y, epochs=3, verbose=0)
    convcore.manual_seed(1)
    parts.fit(x, y, epochs=1, verbose=0)
    history = parts.fit(x, y, epochs=3, initial_epoch=1, verbose=0)
    assert history.epoch == [1, 2]
    assert_equal_weights(weights(whole), weights(parts))


@pytest.mark.parametrize("training", [True, False])
def test_fit_and_evaluate_leave_the_mode_as_it_was(training):
    x, y = blobs()
    model = compiled().train(training)
    seen = []

    class Look(Callback):
        def on_batch_end(self, batch, logs):
            seen.append(self.model.training)

    model.fit(x, y, validation_data=(x, y), callbacks=[Look()], verbose=0)
    model.evaluate(x, y)
    model.predict(x)
    assert all(m.training is training for m in model.modules())
    assert seen
    assert all(seen)


def test_fit_takes_strided_read_only_and_dlpack_data(torch):
    x, y = blobs()
    want = compiled()
    want.fit(x[::2], y[::2], verbose=0)
    wide = np.repeat(x, 2, axis=1)
    wide.flags.writeable = False
    got = compiled()
    got.fit(wide[::2, ::2], y[::2], verbose=0)
    assert_equal_weights(weights(got), weights(want))
    got = compiled()
    got.fit(torch.tensor(x[::2]), torch.tensor(y[::2]), verbose=0)
    assert_equal_weights(weights(got), weights(want))


def test_fit_takes_labels_of_any_integer_type():
    x, y = blobs()
    want = compiled()
    want.fit(x, y, verbose=0)
    got = compiled()
    got.fit(x, y.astype(np.uint8), verbose=0)
    assert_equal_weights(weights(got), weights(want))


def test_fit_does_not_write_into_the_data():
    x, y = blobs()
    kept = x.copy(), y.copy()
    compiled().fit(x, y, verbose=0)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(y, kept[1])


def test_fit_stops_when_a_callback_says_so():
    class Stop(Callback):
        def on_epoch_end(self, epoch, logs):
            self.model.stop_training = epoch == 1

    model = compiled()
    assert model.fit(*blobs(), epochs=5, callbacks=[Stop()], verbose=0).epoch == [0, 1]
    assert model.fit(*blobs(), epochs=1, verbose=0).epoch == [0]


def test_fit_regression_with_mse():
    x = floats(np.random.default_rng(0), 64, 6)
    y = (x[:, :3] * 2).astype(np.float32)
    model = compiled(loss="mse")
    history = model.fit(x, y, epochs=30, batch_size=16, verbose=0).history
    assert list(history) == ["loss", "seconds", "images_per_second"]
    assert history["loss"][-1] < history["loss"][0] / 4


def test_fit_counts_metrics_of_ones_own():
    def top2(y, target):
        return float((np.argsort(y, axis=1)[:, -2:] == target[:, None]).any(axis=1).mean())

    x, y = blobs(50)
    model = compiled(metrics=("accuracy", top2))
    values = model.evaluate(x, y, batch_size=16)
    assert values["top2"] == pytest.approx(top2(model.predict(x), y))
    assert list(model.fit(x, y, verbose=0).history)[:3] == ["loss", "accuracy", "top2"]


def test_fit_counts_a_summed_loss_per_image():
    x, y = blobs(50)
    model = compiled(loss=nn.CrossEntropyLoss(reduction="sum"))
    mean = compiled().evaluate(x, y)
    assert model.evaluate(x, y, batch_size=16) == pytest.approx(mean, rel=1e-5)


def test_residual_is_a_model():
    model = nn.Residual(nn.Linear(3, 3))
    model.compile(optimizer="sgd")
    x, y = blobs(30, features=3)
    assert model.fit(x, y, verbose=0).epoch == [0]


# ---- Ctrl-C --------------------------------------------------------------------------------------


class InterruptingReLU(nn.ReLU):
    """Presses Ctrl-C in the forward of its n-th training step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x):
        if self.training:
            self.step -= 1
            if self.step == 0:
                signal.raise_signal(signal.SIGINT)
        return super().forward(x)


class Record(Callback):
    def __init__(self):
        self.events = []

    def on_train_end(self):
        self.events.append("train_end")

    def on_batch_end(self, batch, logs):
        self.events.append(batch)


def test_ctrl_c_lets_the_step_finish_and_comes_out():
    x, y = blobs(128)
    model = compiled()
    handler = signal.getsignal(signal.SIGINT)
    model[1] = InterruptingReLU(step=3)
    record = Record()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=16, shuffle=False, callbacks=[record], verbose=0)
    assert record.events == [0, 1, 2, "train_end"]
    assert signal.getsignal(signal.SIGINT) is handler
    other = compiled()
    other.fit(x[:48], y[:48], batch_size=16, shuffle=False, verbose=0)
    assert_equal_weights(weights(model), weights(other))
    assert model.optimizer.state_dict()["state"][0]["step"] == 3
    assert model.training


def test_ctrl_c_at_the_very_end_is_not_lost():
    class Interrupt(Callback):
        def on_train_end(self):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        compiled().fit(*blobs(), callbacks=[Interrupt()], verbose=0)


def test_ctrl_c_in_a_program_with_a_handler_of_its_own():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        model = compiled()
        model[1] = InterruptingReLU(step=1)
        model.fit(*blobs(), verbose=0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [1]


# ---- progress ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_fit_writes_a_line_per_epoch_to_stderr(capsys):
    x, y = blobs()
    compiled().fit(x, y, epochs=2, validation_data=(x, y))
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"epoch 1/2: loss \d\.\d{4}  accuracy \d\.\d{4}  val_loss \d\.\d{4}  "
        r"val_accuracy \d\.\d{4}  \d+\.\d s, [\d,]+ images/s(, [\d:]+ left)?",
        lines[0],
    )


def test_fit_shows_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    x, y = blobs()
    compiled().fit(x, y, validation_data=(x, y), verbose=1)
    text = terminal.getvalue()
    assert "epoch 1/1: " in text
    assert "epoch 1/1, validation: " in text
    assert "/120" in text
    assert "loss" in text


def closed_terminal():
    terminal = Terminal()
    terminal.close()
    return terminal


class BrokenTerminal(Terminal):
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


class FullTerminal(Terminal):
    def flush(self):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "make", [lambda: None, closed_terminal, BrokenTerminal, FullTerminal, object]
)
def test_progress_never_ends_a_training(monkeypatch, capsys, make):
    monkeypatch.setattr(sys, "stderr", make())
    x, y = blobs()
    model = compiled()
    assert model.fit(x, y, epochs=2, validation_data=(x, y), verbose=1).epoch == [0, 1]
    model.evaluate(x, y, verbose=1)
    assert capsys.readouterr().out == ""


def test_evaluate_shows_progress_when_asked(capsys):
    model = compiled()
    model.evaluate(*blobs(), verbose=1)
    assert re.match(r"evaluate: loss \d\.\d{4}  accuracy", capsys.readouterr().err)


def test_fit_is_silent_with_verbose_0(capsys):
    x, y = blobs()
    model = compiled()
    model.fit(x, y, validation_data=(x, y), verbose=0)
    model.evaluate(x, y)
    assert capsys.readouterr() == ("", "")


# ---- predict -------------------------------------------------------------------------------------


def test_predict_is_the_network_in_evaluation(rng):
    x = floats(rng, 50, 6)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.BatchNorm1d(8))
    want = model.eval()(x)
    model.train()
    for batch_size in (50, 16, 1000):
        got = model.predict(x, batch_size=batch_size)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert model.predict(x[:0]).shape == (0, 8)
    assert model.training


# ---- History -------------------------------------------------------------------------------------


def test_history_goes_to_json_and_back():
    history = compiled().fit(*blobs(), epochs=2, verbose=0)
    again = History.from_json(history.to_json(indent=2))
    assert again.epoch == history.epoch
    assert again.history == history.history
    assert json.loads(history.to_json())["epoch"] == [0, 1]
    again.extend(history)
    assert again.epoch == [0, 1, 0, 1]
    assert len(again.history["loss"]) == 4
    assert re.match(r"History\(2 epochs: loss [\d.e-]+, accuracy", repr(history))
    assert repr(History()) == "History(0 epochs)"


def test_history_writes_null_for_what_json_does_not_know():
    history = History()
    history.record(0, {"loss": float("nan"), "val_loss": float("inf"), "accuracy": 0.5})
    text = history.to_json()
    assert (
        text == '{"epoch": [0], "history": {"loss": [null], "val_loss": [null], "accuracy": [0.5]}}'
    )
    again = History.from_json(text).history
    assert np.isnan([*again["loss"], *again["val_loss"]]).all()
    assert again["accuracy"] == [0.5]


# ---- errors --------------------------------------------------------------------------------------


def test_verbs_need_compile():
    x, y = blobs()
    for verb in ("fit", "evaluate"):
        message = f"{verb}: the model is not compiled: expected model.compile(optimizer=..., loss="
        with pytest.raises(RuntimeError, match=re.escape(message)):
            getattr(network(), verb)(x, y)
    with pytest.raises(RuntimeError, match="optimizer: the model is not compiled"):
        _ = network().optimizer
    with pytest.raises(RuntimeError, match="criterion: the model is not compiled"):
        _ = network().criterion
    assert network().predict(x).shape == (120, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        pytest.param(
            {"optimizer": "adm"},
            ValueError,
            "compile: optimizer is not known: expected one of 'adam', 'adamw', 'sgd', 'rmsprop', 'adagrad', got 'adm' "
            "(did you mean 'adam'?)",
            id="optimizer_name",
        ),
        pytest.param(
            {"optimizer": 3},
            TypeError,
            "compile: optimizer has the wrong type: expected a name, an optimizer or a callable "
            "that "
            "makes one from the parameters, got int",
            id="optimizer_type",
        ),
        pytest.param(
            {"optimizer": lambda p: p},
            TypeError,
            "compile: optimizer has the wrong type: expected an object with step(), got list",
            id="optimizer_made",
        ),
        pytest.param(
            {"loss": "crossentropy"},
            ValueError,
            "compile: loss is not known: expected one of 'cross_entropy', 'hinge', 'mse', got "
            "'crossentropy' "
            "(did you mean 'cross_entropy'?)",
            id="loss_name",
        ),
        pytest.param(
            {"loss": "sparse_categorical_crossentropy"},
            ValueError,
            "got 'sparse_categorical_crossentropy' (did you mean 'cross_entropy'?)",
            id="loss_name_of_keras",
        ),
        pytest.param(
            {"loss": max},
            TypeError,
            "compile: loss has the wrong type: expected a name or a convcore.nn.Loss, "
            "got builtin_function_or_method",
            id="loss_type",
        ),
        pytest.param(
            {"loss": nn.MSELoss("none")},
            ValueError,
            "compile: loss has no single value: expected reduction 'mean' or 'sum', got 'none'",
            id="loss_reduction",
        ),
        pytest.param(
            {"metrics": ("precision",)},
            ValueError,
            "compile: metric is not known: expected one of 'accuracy', got 'precision'",
            id="metric",
        ),
        pytest.param(
            {"metrics": "accuracy", "loss": "mse"},
            ValueError,
            "compile: metric 'accuracy' does not fit the loss: expected a loss that takes class "
            "labels",
            id="metric_loss",
        ),
    ],
)
def test_compile_rejects(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        network().compile(**arguments)


def test_fit_notices_a_layer_that_the_optimizer_does_not_know():
    model = compiled()
    model[2] = nn.Linear(16, 3)
    with pytest.raises(RuntimeError, match="fit: the model has changed: expected the parameters"):
        model.fit(*blobs(), verbose=0)
    model.compile()
    model.fit(*blobs(), verbose=0)


def test_compile_takes_an_optimizer_a_class_or_a_function():
    model = network()
    optimizer = optim.SGD(list(model.parameters()), lr=0.1)
    model.compile(optimizer=optimizer)
    assert model.optimizer is optimizer
    model.compile(optimizer=optim.AdamW, loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    assert isinstance(model.optimizer, optim.AdamW)
    assert model.criterion.label_smoothing == 0.1


X, Y = blobs(10)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        pytest.param(
            (X.tolist(), Y),
            TypeError,
            "fit: x is not an array: expected a numpy.ndarray, got list",
            id="x_list",
        ),
        pytest.param(
            (X, Y.tolist()),
            TypeError,
            "fit: y is not an array: expected a numpy.ndarray, got list",
            id="y_list",
        ),
        pytest.param(
            (X.astype(np.float64), Y),
            TypeError,
            "fit: x has the wrong dtype: expected float32, got float64 (convert it with "
            ".astype(numpy.float32))",
            id="x_dtype",
        ),
        pytest.param(
            (X, Y.astype(np.float32)),
            TypeError,
            "fit: y has the wrong dtype: expected integers (class indices for "
            "CrossEntropyLoss), got float32",
            id="y_dtype",
        ),
        pytest.param(
            (X, Y[:9]),
            ValueError,
            "fit: x and y have different lengths: expected one target per sample, got x of "
            "shape (10, 6) "
            "and y of shape (9,)",
            id="lengths",
        ),
        pytest.param(
            (X[:0], Y[:0]),
            ValueError,
            "fit: x has no samples: expected at least 1, got 0",
            id="empty",
        ),
        pytest.param(
            (X[:, :5], Y),
            ValueError,
            "fit: layer '0' (Linear) does not fit its input of shape (N, 5); tried with an "
            "empty batch: "
            "linear: x has the wrong number of features: expected 6 (w has shape (16, 6)), got 5 "
            "(x has shape (N, 5))",
            id="features",
        ),
        pytest.param(
            (X, Y + 1),
            ValueError,
            "fit: y has a label that is out of range: expected 0 to 2 (the network has 3 "
            "outputs), got 3",
            id="label",
        ),
        pytest.param(
            (X, Y[:, None]),
            ValueError,
            "fit: y has the wrong shape: expected (10,) (one class index each), got (10, 1)",
            id="y_shape",
        ),
        pytest.param(
            (X, Y, 1, 0),
            ValueError,
            "fit: batch_size is out of range: expected at least 1, got 0",
            id="batch_size",
        ),
        pytest.param(
            (X, Y, 1.5),
            TypeError,
            "fit: epochs has the wrong type: expected an int, got 1.5 (float)",
            id="epochs",
        ),
        pytest.param(
            (X, Y, 1, 4, X),
            TypeError,
            "fit: validation_data has the wrong form: expected (x, y), got ndarray",
            id="validation_form",
        ),
        pytest.param(
            (X, Y, 1, 4, (X, Y, Y)),
            TypeError,
            "fit: validation_data has the wrong form: expected (x, y), got tuple of 3",
            id="validation_length",
        ),
        pytest.param(
            (X, Y, 1, 4, (X[:, :5], Y)),
            ValueError,
            "fit: validation_data: layer '0' (Linear) does not fit its input",
            id="validation_shape",
        ),
        pytest.param(
            (X, Y, 1, 4, None, True, [print]),
            TypeError,
            "fit: callbacks has an element of the wrong type: expected a "
            "convcore.callbacks.Callback, "
            "got builtin_function_or_method",
            id="callback",
        ),
        pytest.param(
            (X, Y, 1, 4, None, True, (), 2),
            ValueError,
            "fit: verbose is out of range: expected 0 to 1, got 2",
            id="verbose",
        ),
    ],
)
def test_fit_rejects_before_training(arguments, error, message):
    model = compiled()
    before = weights(model)
    with pytest.raises(error, match=re.escape(message)):
        model.fit(*arguments)
    assert_equal_weights(weights(model), before)


def test_fit_rejects_targets_that_do_not_fit_mse():
    model = compiled(loss="mse")
    with pytest.raises(
        TypeError,
        match=re.escape("fit: y has the wrong dtype: expected float32 (values for MSELoss)"),
    ):
        model.fit(X, Y)
    with pytest.raises(ValueError, match=re.escape("fit: y has the wrong shape: expected (10, 3)")):
        model.fit(X, X)


def test_fit_rejects_class_labels_for_an_output_without_classes():
    model = nn.Sequential(nn.Linear(6, 3), nn.Flatten(0))
    model.compile()
    message = "fit: the network's output has the wrong shape: expected (N, classes, ...) for"
    with pytest.raises(ValueError, match=re.escape(message)):
        model.fit(X, Y)


def test_predict_suggests_the_missing_batch_axis():
    hint = re.escape("(one sample has no batch axis: pass x[None])")
    with pytest.raises(ValueError, match=hint):
        network().predict(X[0])
    image = np.zeros((1, 8, 8), np.float32)
    with pytest.raises(ValueError, match=hint):
        nn.Sequential(nn.Conv2d(1, 2, 3)).predict(image)
    with pytest.raises(ValueError, match=r"x has shape \(N, 5\)\)$"):  # not the reason
        network().predict(X[:, :5])


# ---- divergence ----------------------------------------------------------------------------------


def test_fit_warns_once_when_the_loss_is_no_number():
    x = X.copy()
    x[7] = np.nan
    model = compiled()
    message = re.escape("fit: the loss became NaN or infinite in epoch 1, batch 2 (both from 1)")
    with pytest.warns(RuntimeWarning, match=message) as caught:
        model.fit(x, Y, epochs=2, batch_size=4, shuffle=False, verbose=0)
    assert len(caught) == 1
    assert caught[0].filename == __file__


# ---- summary -------------------------------------------------------------------------------------


def test_summary_of_a_residual_network():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.Residual(
            nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=2, dilation=2)
            ),
        ),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    lines = []
    summary = model.summary((3, 32, 24), print_fn=lines.append)
    assert lines == [str(summary)]
    assert repr(summary).startswith(f"Summary({len(summary.rows)} layers, ")
    rows = {row.name: row for row in summary.rows}
    assert list(rows) == ["0", "1", "2.body.0", "2.body.1", "2.body.2", "3", "4", "5"]
    assert rows["0"].output_shape == (8, 16, 12)
    assert rows["0"].parameters == 3 * 8 * 9
    assert rows["0"].multiply_adds == 8 * 16 * 12 * 3 * 9
    assert rows["0"].receptive_field == (3, 3)
    assert rows["2.body.0"].receptive_field == (7, 7)
    assert rows["2.body.2"].receptive_field == (15, 15)
    assert rows["3"].receptive_field == (32, 24)
    assert rows["5"].layer == "Linear"
    assert summary.input_shape == (3, 32, 24)
    assert summary.output_shape == (5,)
    assert summary.parameters == sum(p.data.size for p in model.parameters())
    assert summary.multiply_adds == sum(row.multiply_adds for row in summary.rows)
    assert all(m._kept is None and m.training for m in model.modules())
    assert (model[1].running_mean == 0).all()
    assert json.loads(json.dumps(summary.to_dict()))["rows"][0]["layer"] == "Conv2d"


def test_summary_prints_a_table(capsys):
    model = network()
    model[0].weight.requires_grad = False
    model.summary((6,))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "layer",
        "output",
        "shape",
        "parameters",
        "multiply-adds",
        "receptive",
        "field",
    ]
    assert lines[2].split() == ["0", "Linear", "16", "112", "96"]
    assert (
        lines[-1]
        == "input 6, output 3; 163 parameters (67 trainable), 144 multiply-adds per sample"
    )


def test_summary_of_a_sequence_network():
    model = nn.Sequential(nn.Conv1d(2, 4, 5, stride=2), nn.MaxPool1d(2))
    assert [row.receptive_field for row in model.summary((2, 20), print_fn=None).rows] == [
        (5,),
        (7,),
    ]


def test_summary_names_the_layer_that_does_not_fit():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Residual(nn.Sequential(nn.Conv2d(4, 4, 9))))
    message = (
        "summary: layer '1.body.0' (Conv2d) does not fit its input of shape (N, 4, 6, 6); tried "
        "with an "
        "empty batch: conv2d: the window is larger than the padded input"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        model.summary((1, 8, 8))
    with pytest.raises(
        ValueError, match=re.escape("summary: layer '1' (Residual) does not fit its input")
    ):
        model.summary((1, 12, 12))


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (
            (6.0,),
            TypeError,
            "summary: input_shape has the wrong type: expected an int, got 6.0 (float)",
        ),
        (
            6,
            TypeError,
            "summary: input_shape has the wrong type: expected sizes as (C, H, W), got 6 (int)",
        ),
        (
            (-6,),
            ValueError,
            "summary: input_shape has a negative size: expected sizes of at least 0, got (-6,)",
        ),
    ],
)
def test_summary_rejects(shape, error, message):
    with pytest.raises(error, match=re.escape(message)):
        network().summary(shape)

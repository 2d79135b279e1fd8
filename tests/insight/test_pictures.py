"""Every result has a picture, a table, a line and a form for JSON."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from convcore import History, data, insight, models, nn


def history():
    recorded = History()
    for epoch, loss in enumerate((0.9, 0.5, 0.6)):
        values = {"loss": loss / 2, "val_loss": loss, "accuracy": 0.8, "val_accuracy": 0.7}
        recorded.record(epoch, values)
    return recorded


def results(lenet, test):
    """Yield a name, a result and the arguments of its picture."""
    x, y = test.x[:30], test.y[:30]
    scaling = {"mean": test.mean, "std": test.std}
    scores = lenet.predict(x)
    yield "confusion", insight.confusion_matrix(y, scores, test.classes), {}
    yield "counts", insight.confusion_matrix(y, scores, test.classes), {"normalize": None}
    yield "errors", insight.error_table(y, scores, test.classes), {}
    yield "groups", insight.error_table(y, scores, test.classes, y % 3), {}
    yield "curve", insight.learning_curves(history()), {}
    yield "curves", insight.learning_curves([history(), history()]), {}
    yield "filters", insight.filters(lenet), {}
    yield "many filters", insight.filters(lenet, "3"), {}
    yield "colours", insight.filters(models.resnet20()), {}
    yield "features", insight.feature_maps(lenet, x[0]), scaling
    yield "patches", insight.top_patches(lenet, x, "4", units=[0, 1], top=3), scaling
    masks = insight.concepts(data.load("digits", "test", normalize=False).x[:30])
    yield "dissection", insight.dissect(lenet, x, masks, "1"), scaling
    yield "saliency", insight.saliency(lenet, x[:3]), scaling
    yield "grad-cam", insight.grad_cam(lenet, x[:3]), {**scaling, "classes": test.classes}
    yield "field", insight.receptive_field(lenet, "4", (1, 28, 28)), {"image": x[0]}
    yield "whole field", insight.receptive_field(lenet, "11", (1, 28, 28)), {}
    yield "attack", insight.fgsm(lenet, x, y, 0.1, **scaling), {"classes": test.classes}
    yield "attacks", insight.adversarial_curve(lenet, x, y, [0, 0.1], **scaling), {}
    yield "statistics", insight.activation_statistics(lenet, x), {}


def test_every_result_can_be_drawn(lenet, digits, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    for name, result, how in results(lenet, digits):
        file = tmp_path / f"{name}.png"
        assert result.plot(file, **how) is not None
        assert file.read_bytes().startswith(b"\x89PNG"), name


def test_every_result_has_a_line_a_table_and_json(lenet, digits):
    for name, result, _ in results(lenet, digits):
        assert "\n" not in repr(result), name
        assert repr(result).startswith(type(result).__name__ + "("), name
        assert "\n" in str(result), name
        assert json.loads(json.dumps(result.to_dict())), name


def test_colour_images_can_be_drawn(rng, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    x = rng.random((2, 3, 8, 8)).astype(np.float32)
    masks = insight.concepts(x)
    found = (
        insight.top_patches(model, x, top=2),
        insight.dissect(model, x, masks),
        insight.saliency(model, x),
        insight.fgsm(model, x, [0, 1], 0.1),
        insight.feature_maps(model, x[0]),
    )
    for index, result in enumerate(found):
        result.plot(tmp_path / f"{index}.png")


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    matrix = insight.confusion_matrix([0, 1], [0, 1])
    assert matrix.accuracy == 1
    with pytest.raises(ImportError, match=r"pip install 'convcore\[plot\]'"):
        matrix.plot()

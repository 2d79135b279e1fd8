"""The confusion matrix, the error table, learning curves."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convcore import History, insight


@st.composite
def predictions(draw):
    k = draw(st.integers(1, 6))
    n = draw(st.integers(0, 40))
    classes = st.lists(st.integers(0, k - 1), min_size=n, max_size=n)
    return k, np.array(draw(classes), np.int64), np.array(draw(classes), np.int64)


@given(predictions())
def test_confusion_matrix_counts_every_image_once(case):
    k, y, predicted = case
    matrix = insight.confusion_matrix(y, predicted, [f"c{i}" for i in range(k)])
    assert matrix.counts.sum() == len(y)
    np.testing.assert_array_equal(matrix.counts.sum(axis=1), np.bincount(y, minlength=k))
    np.testing.assert_array_equal(matrix.counts.sum(axis=0), np.bincount(predicted, minlength=k))
    assert np.trace(matrix.counts) == (y == predicted).sum()
    for by, axis in (("true", 1), ("predicted", 0)):
        sums = matrix.normalized(by).sum(axis=axis)
        np.testing.assert_allclose(sums, matrix.counts.sum(axis=axis) > 0)
    assert matrix.normalized("all").sum() == pytest.approx(float(len(y) > 0))
    assert sum(n for *_, n in matrix.confused(top=k * k)) == (y != predicted).sum()
    assert json.dumps(matrix.to_dict())


@given(predictions())
def test_error_table_agrees_with_its_definitions(case):
    k, y, predicted = case
    table = insight.error_table(y, predicted, [str(i) for i in range(k)], groups=y % 2)
    for c, row in enumerate(table.classes):
        tp = int(((y == c) & (predicted == c)).sum())
        assert (row.support, row.errors) == ((y == c).sum(), (y == c).sum() - tp)
        taken = int((predicted == c).sum())
        assert row.precision == pytest.approx(tp / taken if taken else np.nan, nan_ok=True)
        assert row.recall == pytest.approx(tp / row.support if row.support else np.nan, nan_ok=True)
        if tp:
            p, r = row.precision, row.recall
            assert row.f1 == pytest.approx(2 * p * r / (p + r))
    assert sum(row.support for row in table.groups) == len(y)
    assert sum(row.errors for row in table.groups) == table.macro.errors == (y != predicted).sum()
    if table.groups:
        shares = [row.accuracy for row in table.groups]
        assert table.largest_gap == max(shares) - min(shares)


def test_scores_stand_for_the_class_with_the_largest(rng):
    scores, y = rng.standard_normal((20, 4)), rng.integers(0, 4, 20)
    for function in (insight.confusion_matrix, insight.error_table):
        assert str(function(y, scores)) == str(function(y, scores.argmax(axis=1), list("0123")))


@pytest.mark.parametrize(
    ("y", "predicted", "classes", "message"),
    [
        ([0, 1], [0], None, "y and predicted have different lengths: expected one prediction per"),
        ([0, 3], [0, 1], ["a", "b"], "y is out of range: expected classes from 0 to 1, got 3"),
        ([0, 1], [0, -1], None, "predicted is out of range: expected classes from 0 to 1, got -1"),
        ([0], np.zeros((1, 3)), ["a", "b"], "expected 2 scores per image (that many classes), got"),
        ([[0]], [0], None, "y has the wrong number of dimensions: expected 1 (N,), got 2"),
    ],
)
def test_predictions_are_checked(y, predicted, classes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        insight.confusion_matrix(y, predicted, classes)


def test_classes_are_integers():
    with pytest.raises(TypeError, match=r"expected integers \(classes\), got float64"):
        insight.error_table([0.5], [0])


def test_groups_are_one_per_image():
    with pytest.raises(ValueError, match=r"groups has the wrong shape: expected \(2,\)"):
        insight.error_table([0, 1], [0, 1], groups=["a"])


def test_normalized_names_the_nearest():
    with pytest.raises(ValueError, match=r"got 'truee' \(did you mean 'true'\?\)"):
        insight.confusion_matrix([0], [0]).normalized("truee")


# ---- learning curves -----------------------------------------------------------------------------


def history():
    recorded = History()
    for epoch, (loss, val_loss) in enumerate([(0.9, 0.8), (0.5, np.nan), (0.3, 0.4), (0.1, 0.6)]):
        recorded.record(epoch, {"loss": loss, "val_loss": val_loss, "val_accuracy": 0.5})
    return recorded


def test_learning_curves_find_the_best_epoch_and_the_gap(tmp_path):
    file = tmp_path / "run.history.json"
    file.write_text(history().to_json())
    curves = insight.learning_curves([history(), file])
    assert curves.names == ("training 1", "run")
    for index in (0, 1):
        assert curves.best(index) == (3, 0.4)
        assert curves.gap(index) == pytest.approx(0.5)
    assert "3 (0.4000)" in str(curves)


def test_learning_curves_read_what_train_prints(tmp_path):
    file = tmp_path / "out.json"
    file.write_text(json.dumps({"epochs": 2, "history": {"loss": [2, 1], "val_loss": [3, None]}}))
    curves = insight.learning_curves(file)
    assert curves.histories[0].epoch == [0, 1]
    assert curves.best() == (1, 3.0)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"history": 3}', '{"epoch": [0], "history": {"loss": [1, 2]}}']
)
def test_learning_curves_reject_what_is_no_history(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"learning_curves: .*a.json is no history: expected"):
        insight.learning_curves(file)


def test_learning_curves_of_nothing():
    with pytest.raises(ValueError, match="source is empty"):
        insight.learning_curves([])


def test_a_label_far_beyond_the_others_is_an_error_and_no_matrix():
    with pytest.raises(ValueError, match="a label is too large: expected less than 10000"):
        insight.confusion_matrix([10**9], [0])

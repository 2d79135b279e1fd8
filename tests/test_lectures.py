"""docs/lectures.md: the worked numbers of the lectures, and that all that it points at exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import convcore
import convcore.functional as F
from convcore import lab, nn

PAGE = Path(__file__).resolve().parents[1] / "docs" / "lectures.md"


def array(text):
    """Return a matrix from rows separated by slashes, as an image of one channel."""
    rows = [[float(word) for word in row.split()] for row in text.split("/")]
    return np.asarray(rows, np.float32)[None, None]


def size_of(layer):
    return sum(p.data.size for p in layer.parameters())


def shape_after(layer, *shape):
    return layer(np.zeros((1, *shape), np.float32)).shape[1:]


# ---- lecture 1 -----------------------------------------------------------------------------------


def test_lecture_1_convolution_by_hand():
    x = array("3 3 2 1 0/0 0 1 3 1/3 1 2 2 3/2 0 0 2 2/2 0 0 0 1")
    w = array("0 1 2/2 2 0/0 1 2")
    np.testing.assert_array_equal(F.conv2d(x, w), array("12 12 17/10 17 19/9 6 14"))
    np.testing.assert_array_equal(F.conv2d(x, w, stride=2), array("12 17/9 14"))
    padded = F.conv2d(x, w, stride=2, padding=1)
    np.testing.assert_array_equal(padded, array("6 17 3/8 17 13/6 4 4"))


def test_lecture_1_parameters():
    assert size_of(nn.Linear(28 * 28, 16)) == 784 * 16 + 16
    assert size_of(nn.Linear(426 * 426, 16)) == 2_903_632
    assert 1024 * 1024 > 1_000_000


def test_lecture_1_top_5_error_is_a_metric():
    def top_5_error(scores, labels):
        best = np.argsort(scores, axis=1)[:, -5:]
        return 1 - float((best == labels[:, None]).any(axis=1).mean())

    rng = np.random.default_rng(0)
    x, y = rng.random((200, 4), np.float32), rng.integers(0, 10, 200)
    model = nn.Sequential(nn.Linear(4, 10))
    model.compile(metrics=["accuracy", top_5_error])
    values = model.evaluate(x, y)
    assert 0.3 < values["top_5_error"] < 1 - values["accuracy"]


# ---- lecture 2 -----------------------------------------------------------------------------------


def test_lecture_2_mlp():
    sizes = [size_of(nn.Linear(*s)) for s in ((784, 512), (512, 512), (512, 10))]
    assert sizes == [401_920, 262_656, 5_130]
    assert sum(sizes) == 669_706


def test_lecture_2_shared_weights():
    layer = nn.Conv2d(1, 100, 10)
    assert layer.weight.data.size == 10_000
    assert size_of(layer) == 10_100
    assert 1000 * 1000 * 1_000_000 == 10**12
    assert nn.Conv2d(3, 1, 5).weight.data.size == 5 * 5 * 3


def test_lecture_2_homework():
    layer = nn.Conv2d(3, 8, 5, stride=2, padding=0)
    assert size_of(layer) == 608
    assert shape_after(layer, 3, 64, 64) == (8, 30, 30)


def test_lecture_2_max_pooling():
    x = array("1 1 2 4/5 6 7 8/3 2 1 0/1 2 3 4")
    np.testing.assert_array_equal(F.max_pool2d(x, 2), array("6 8/3 4"))


def test_lecture_2_gradients_are_summed_over_the_places():
    x = np.ones((1, 1, 6, 6), np.float32)
    w = np.zeros((1, 1, 3, 3), np.float32)
    _, dw, _ = F.conv2d_backward(np.ones((1, 1, 4, 4), np.float32), x, w)
    assert (dw == 16).all()  # 4 x 4 places; an average would be 1


# ---- lecture 3 -----------------------------------------------------------------------------------


def test_lecture_3_convolved_feature():
    x = array("1 1 1 0 0/0 1 1 1 0/0 0 1 1 1/0 0 1 1 0/0 1 1 0 0")
    w = array("1 0 1/0 1 0/1 0 1")
    np.testing.assert_array_equal(F.conv2d(x, w), array("4 3 4/2 4 3/2 3 4"))


def test_lecture_3_quiz():
    convolutions = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 10, 5)
    network = nn.Sequential(*convolutions, nn.MaxPool2d(2, 2))
    assert shape_after(network, 3, 32, 32) == (10, 12, 12)
    assert [layer.weight.data.size for layer in convolutions] == [450, 1_500]
    assert 450 + 1_500 == 1_950


@pytest.mark.parametrize(("size", "filter", "stride", "padding"), [
    (5, 3, 1, 0), (5, 3, 1, 1), (5, 3, 1, 2), (5, 3, 2, 0), (5, 3, 2, 1), (64, 5, 2, 0), (7, 2, 3, 1),
])  # fmt: skip
def test_lecture_3_and_5_sizes(size, filter, stride, padding):
    _, side, _ = shape_after(nn.Conv2d(1, 1, filter, stride, padding), 1, size, size)
    assert side == (size - filter + 2 * padding) // stride + 1
    assert side == (size + 2 * padding - filter + stride) // stride  # lecture 5, with the floor


# ---- lecture 4 -----------------------------------------------------------------------------------


def test_lecture_4_detector_of_low_high_low():
    w = np.asarray([[[-1, 1, -1]]], np.float32)
    x = np.asarray([[[0, 0, 1, 0, 1, 1]]], np.float32)
    z = F.conv1d(x, w)[0, 0]
    assert z[0] == -1  # (-1) * 0 + 1 * 0 + (-1) * 1
    assert z[1] == 1  # (-1) * 0 + 1 * 1 + (-1) * 0
    np.testing.assert_array_equal(F.relu(z), [0, 1, 0, 0])


def test_lecture_4_parameters():
    assert size_of(nn.Conv2d(1, 1, 5)) == 26
    assert size_of(nn.Conv2d(1, 20, 5)) == 520
    assert size_of(nn.Linear(28 * 28, 30)) == 23_550


def test_lecture_4_sharpen_kernel_of_the_slide_is_wrong():
    flat = np.ones((1, 1, 5, 5), np.float32)
    assert (F.conv2d(flat, array("0 -1 0/-1 5 -1/0 1 0")) == 3).all()
    assert (F.conv2d(flat, array("0 -1 0/-1 5 -1/0 -1 0")) == 1).all()


def test_lecture_4_weight_decay_has_a_plus():
    weight = nn.Parameter(np.full(3, 2.0, np.float32))
    weight.accumulate_grad(np.zeros(3, np.float32))
    convcore.optim.SGD([weight], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(weight.data, 2.0 - 0.1 * (0 + 0.5 * 2.0))


# ---- lecture 5 -----------------------------------------------------------------------------------


def test_lecture_5_one_dimension():
    x = np.asarray([[[1, 2, 3, 4, 5, 6]]], np.float32)
    z = F.conv1d(x, np.asarray([[[1, 2]]], np.float32))
    np.testing.assert_array_equal(z[0, 0], [5, 8, 11, 14, 17])


@pytest.mark.parametrize(("image", "filter", "result"), [
    ((4, 4), 2, (3, 3)), ((4, 4), 3, (2, 2)), ((4, 3), 2, (3, 2)), ((3, 3), 2, (2, 2)),
])  # fmt: skip
def test_lecture_5_exercise_of_sizes(image, filter, result):
    assert shape_after(nn.Conv2d(1, 1, filter), 1, *image) == (1, *result)


@pytest.mark.parametrize("filter", [1, 3, 5, 7])
def test_lecture_5_same_convolution(filter):
    for padding in ((filter - 1) // 2, "same"):
        assert shape_after(nn.Conv2d(1, 1, filter, padding=padding), 1, 9, 9) == (1, 9, 9)


def test_lecture_5_pooling_and_the_size_of_the_slide():
    x = array("1 2 3/4 5 6/7 8 9")
    np.testing.assert_array_equal(F.max_pool2d(x, 2, stride=1), array("5 6/8 9"))
    assert (3 - 2) / (1 + 1) == 0.5  # what the slide says, for a result of 2 x 2
    assert (3 - 2) // 1 + 1 == 2


def test_lecture_5_left_prong_filter_sees_no_left():
    w = array("0 0 -1 0 0/0 -1 -2 -1 0/-1 -2 16 -2 -1/0 -1 -2 -1 0/0 0 -1 0 0")
    np.testing.assert_array_equal(w, w[..., ::-1])
    np.testing.assert_array_equal(w, w.swapaxes(2, 3))
    assert w.sum() == 0


def test_lecture_5_parameters_and_operations():
    assert 100_000 * 28 * 28 * 3 == 235_200_000
    assert nn.Linear(28 * 28 * 3, 128).weight.data.size == 301_056
    assert 28 * 28 * 3 == 2_352
    assert nn.Conv2d(3, 1, 5).weight.data.size == 75
    assert nn.Conv2d(1, 6, 5).weight.data.size == 150
    assert nn.Linear(784, 6).weight.data.size == 4_704
    layer = nn.Conv2d(3, 10, 5, padding="same")
    assert (layer.weight.data.size, layer.bias.data.size) == (750, 10)
    assert layer.multiply_adds((3, 32, 32), (10, 32, 32)) == 768_000


# ---- the page ------------------------------------------------------------------------------------


def rows():
    """Return the right-hand cells of the tables."""
    text = PAGE.read_text("utf-8").partition("## Lecture 1")[2]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [line.strip("| ").rpartition(" | ")[2] for line in lines]
    return [cell for cell in cells if cell != "here"]


def test_lectures_every_row_points_somewhere():
    for cell in rows():
        assert "`" in cell or "](" in cell, cell


NAMES = sorted({
    name for cell in rows() for name in re.findall(r"`([a-z]+(?:\.[A-Za-z_0-9]+)+)`", cell)
})  # fmt: skip
COMMANDS = sorted({name for cell in rows() for name in re.findall(r"`convcore ([^`]+)`", cell)})
LINKS = sorted(set(re.findall(r"\]\(([^)]+)\)", PAGE.read_text("utf-8"))))


@pytest.mark.parametrize("name", NAMES)
def test_lectures_name_exists(name):
    module, *attributes = name.split(".")
    found = importlib.import_module(f"convcore.{module}")
    for attribute in attributes:
        if not hasattr(found, attribute):
            importlib.import_module(f"{found.__name__}.{attribute}")
        found = getattr(found, attribute)


@pytest.mark.parametrize("command", COMMANDS)
def test_lectures_command_exists(command):
    from convcore.cli import _VERBS

    verb, *words = command.split()
    assert verb in {module.__name__.rpartition(".")[2] for module in _VERBS}
    if verb == "lab" and words != ["NAME"]:
        assert words[0] in lab.names()


@pytest.mark.parametrize("link", LINKS)
def test_lectures_file_exists(link):
    assert (PAGE.parent / link).is_file()

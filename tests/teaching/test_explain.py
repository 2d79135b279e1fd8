"""`convcore.explain`: every number against a counter, and the questions of the lectures."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import convcore
from convcore import models, nn, reference
from convcore.nn.module import observe
from convcore.teaching import steps

NUMBERS = {"floor": math.floor, "ceil": math.ceil, "__builtins__": {}}
SMALL_MODELS = {
    name: models.input_shape(name) for name in ("mlp", "lenet5", "lenet5_1998", "resnet20")
}
LARGE_MODELS = {name: models.input_shape(name) for name in ("alexnet", "resnet18", "resnet50")}


def value_of(text):
    """Compute what stands left of the equals sign; check that it is what stands right of it."""
    left, right = text.rsplit(" = ", 1)
    value = eval(left, dict(NUMBERS))
    assert value == int(right.replace(",", "")), text
    return int(value)


def check_arithmetic(row):
    """Hold the texts of a row against its numbers."""
    if row.size:
        sizes = [value_of(text) for text in re.split(r", (?=[(fc])", row.size)]
        assert tuple(sizes) in (row.output_shape[1:], row.output_shape[1:2])
        assert len(sizes) > 1 or len(set(row.output_shape[1:])) == 1
    for text, count in (
        (row.parameters, row.parameter_count),
        (row.multiply_adds, row.multiply_add_count),
    ):
        assert (value_of(text) if " = " in text else int(text.replace(",", ""))) == count


# ---- single layers: counted by loops -------------------------------------------------------------


@st.composite
def convolutions(draw):
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(
        st.sampled_from([0, 1, (2, 0), ((1, 0), (0, 2)), "valid", "same"]),
    )
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    for size, k, d in zip(shape[1:], kernel, dilation, strict=True):
        assume(size >= d * (k - 1) + 1)
    return shape, draw(st.integers(1, 3)), kernel, stride, padding, dilation


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.booleans())
def test_the_numbers_of_a_convolution_are_those_of_a_loop(case, bias):
    shape, filters, kernel, stride, padding, dilation = case
    explained = convcore.explain(
        "conv",
        shape,
        filters=filters,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        bias=bias,
    )
    (row,) = explained.rows
    check_arithmetic(row)
    layer = nn.Conv2d(shape[0], filters, kernel, stride, padding, dilation, bias=bias)
    assert sum(p.numel() for p in layer.parameters()) == explained.parameters
    assert explained.parameter_bytes == sum(p.data.nbytes for p in layer.parameters())
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(shape), rng.standard_normal(layer.weight.shape)
    b = rng.standard_normal(filters)
    pads = convcore.functional._arguments.to_padding(
        "", padding, shape[1:], kernel, stride, dilation
    )
    done = list(steps.convolve(x, w, b, stride, pads, dilation))
    assert sum(len(step.products) for step in done) == explained.multiply_adds
    want = reference.conv2d(x[None], w, b, stride, pads, dilation)[0]
    assert explained.output_shape == want.shape
    got = np.array([step.value for step in done]).reshape(want.shape)
    np.testing.assert_allclose(got, want, atol=1e-12)
    assert row.memory_bytes == want.astype(np.float32).nbytes


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(3, 9), st.integers(3, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.one_of(st.none(), st.integers(1, 4)),
    st.sampled_from([0, (1, 0)]),
    st.sampled_from(["pool", "avg_pool"]),
)
def test_the_numbers_of_pooling_are_those_of_a_loop(shape, kernel, stride, padding, kind):
    assume(padding == 0 or kernel[0] > 1)
    explained = convcore.explain(kind, shape, kernel=kernel, stride=stride, padding=padding)
    check_arithmetic(explained.rows[0])
    assert (explained.parameters, explained.multiply_adds) == (0, 0)
    x = np.random.default_rng(0).standard_normal(shape)
    op = reference.max_pool2d if kind == "pool" else reference.avg_pool2d
    want = op(x[None], kernel, stride, padding)[0]
    assert explained.output_shape == want.shape
    pads = [(p, p) for p in ((padding,) * 2 if padding == 0 else padding)]
    step = kernel if stride is None else (stride, stride)
    done = steps.pool(x, kernel, step, pads, mean=kind == "avg_pool")
    got = np.array([step.value for step in done]).reshape(want.shape)
    np.testing.assert_allclose(got, want, atol=1e-12)


class Counted(float):
    """A number that counts its multiplications."""

    count = 0

    def __mul__(self, other):
        Counted.count += 1
        return float(self) * float(other)


def counted_linear(x, w):
    """Return ``x @ w.T`` by loops over numbers that count."""
    return [sum(Counted(a) * b for a, b in zip(x, row, strict=True)) for row in w]


def test_multiply_adds_of_lenet5_are_counted():
    """Each product of the network is made one by one, as the reference defines it."""
    model, rng = models.lenet5(), np.random.default_rng(0)
    explained = convcore.explain("lenet5")
    rows = {row.name: row for row in explained.rows}
    x = rng.standard_normal((1, 28, 28))
    Counted.count = products = 0
    for name, layer in model.named_children():
        before = products + Counted.count
        if isinstance(layer, nn.Conv2d):
            w, b = (p.data.astype(np.float64) for p in layer.parameters())
            pads = [(p, p) for p in layer.padding]
            done = list(steps.convolve(x, w, b, layer.stride, pads))
            products += sum(len(step.products) for step in done)
            x = np.array([step.value for step in done]).reshape(rows[name].output_shape)
        elif isinstance(layer, nn.Linear):
            w, b = (p.data.astype(np.float64) for p in layer.parameters())
            x = np.array(counted_linear(x.tolist(), w.tolist())) + b
        else:
            x = layer.eval()(x[None].astype(np.float32))[0].astype(np.float64)
        assert products + Counted.count - before == rows[name].multiply_add_count, name
    assert products + Counted.count == explained.multiply_adds == 416_520
    assert explained.parameters == 61_706


# ---- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "shape"), {**SMALL_MODELS, **LARGE_MODELS}.items())
def test_every_expression_of_a_network_gives_its_number(name, shape):
    model = models.create(name)
    explained = convcore.explain(model, shape)
    for row in explained.rows:
        check_arithmetic(row)
    summary = model.summary(shape, print_fn=None)
    assert explained.parameters == summary.parameters
    assert explained.multiply_adds == summary.multiply_adds
    assert explained.output_shape == summary.output_shape
    written = [row for row in explained.rows if row.layer in ("Conv2d", "Linear", "MaxPool2d")]
    assert all(row.size or row.layer == "Linear" for row in written)


@pytest.mark.parametrize(("name", "shape"), SMALL_MODELS.items())
def test_memory_is_what_the_layers_return(name, shape):
    model = models.create(name).eval()
    outputs = []

    def keep(module, x):
        y = module.forward(x)
        leaf = next(module.children(), None) is None
        if (leaf and not isinstance(module, nn.Flatten)) or isinstance(module, nn.Residual):
            outputs.append(y.nbytes)
        return y

    with observe(keep):
        model(np.zeros((1, *shape), np.float32))
    explained = convcore.explain(model, shape)
    # A residual block returns what its activation made of the sum, of the same size.
    assert sum(outputs) == explained.activation_bytes
    assert explained.parameter_bytes == 4 * sum(p.numel() for p in model.parameters())


def test_a_residual_network_has_its_sums_in_order():
    rows = convcore.explain("resnet20").rows
    sums = [i for i, row in enumerate(rows) if row.layer == "+"]
    assert len(sums) == 9
    for i in sums:
        block = rows[i].name.removesuffix(".sum")
        assert rows[i + 1].name == f"{block}.activation"
        assert rows[i - 1].name.startswith(f"{block}.")
        assert rows[i].receptive_field == rows[i + 1].receptive_field


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Conv2d(2, 2, (3, 5))),
        nn.Sequential(nn.Conv2d(1, 2, 5, stride=2), nn.ReLU(), nn.Conv2d(2, 1, 3, dilation=2)),
        nn.Sequential(
            nn.Conv2d(1, 2, 3),
            nn.Residual(nn.Conv2d(2, 2, 3, padding=1), activation=nn.ReLU()),
            nn.AvgPool2d(3, 2),
        ),
    ],
)  # fmt: skip
def test_the_receptive_field_is_what_reaches_one_output(model):
    """Not-a-number at a pixel spreads to all outputs that see it."""
    explained = convcore.explain(model, (1, 31, 31))
    for p in model.parameters():
        p.data[...] = 1
    x = np.zeros((1, 1, 31, 31), np.float32)
    middle = tuple(size // 2 for size in explained.output_shape[1:])
    seen = np.zeros((31, 31), bool)
    for pixel in np.ndindex(31, 31):
        x[0, 0][pixel] = np.nan
        seen[pixel] = np.isnan(model.eval()(x)[0, 0][middle])
        x[0, 0][pixel] = 0
    rows, columns = np.where(seen)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == explained.rows[-1].receptive_field


class Doubled(nn.Module):
    """A layer that nobody has heard of."""

    def __init__(self):
        self.weight = nn.Parameter(np.ones(7, np.float32))

    def forward(self, x):
        return np.concatenate([x, x], 1)


class Grouped(nn.Conv2d):
    """A layer that counts in another way than its parent."""

    def multiply_adds(self, x_shape, y_shape):
        return 1


def test_unknown_layers_have_shapes_and_parameters():
    explained = convcore.explain(nn.Sequential(Doubled(), Grouped(4, 2, 3)), (2, 8, 8))
    first, second = explained.rows
    assert (first.layer, first.output_shape, first.size) == ("Doubled", (4, 8, 8), "")
    assert (first.parameters, first.parameter_count) == ("7", 7)
    assert (second.multiply_adds, second.parameters) == ("1", "(3*3*4 + 1)*2 = 74")
    assert "Doubled" in str(explained)
    measured = convcore.explain(nn.Sequential(Doubled()), (2, 8, 8), measure=True)
    assert "not measured" in measured.note


def test_measuring_leaves_the_model_as_it_is():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).eval()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    explained = convcore.explain(model, (1, 8, 8), measure=True, batch=2)
    assert explained.batch == 2
    assert explained.forward_ms > 0
    assert explained.backward_ms > 0
    assert all(row.forward_ms > 0 for row in explained.rows)
    assert "forward ms" in str(explained)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert all(p.grad is None for p in model.parameters())
    assert not any(module.training for module in model.modules())


# ---- the lectures --------------------------------------------------------------------------------


def test_homework():
    """UPC: RGB input of 64x64 pixels, 8 filters of 5x5, a stride of 2 and zero padding."""
    explained = convcore.explain("conv", (3, 64, 64), filters=8, kernel=5, stride=2, padding=0)
    assert explained.parameters == 608
    assert explained.output_shape == (8, 30, 30)


def test_ten_to_the_twelfth_is_not_made():
    explained = convcore.explain("linear", (1, 1000, 1000), filters=10**6, bias=False, measure=True)
    assert explained.parameters == 10**12
    assert "too large" in explained.note


SLIDE = """\
output[0, 0, 0]
  window    filter    products
  1 1 1     1 0 1       1*1 + 1*0 + 1*1
  0 1 1     0 1 0     + 0*0 + 1*1 + 1*0
  0 0 1     1 0 1     + 0*1 + 0*0 + 1*1
                      = 4
"""


def test_the_slide_of_the_convolution():
    text = convcore.explain("conv", (1, 5, 5), filters=1, kernel=3).steps
    assert text.startswith(SLIDE)
    assert text.endswith("output[0]\n  4 3 4\n  2 4 3\n  2 3 4")


def test_the_example_of_the_mit_lecture():
    """Its animation is that of V. Dumoulin, "A guide to convolution arithmetic"."""
    image = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
    explained = convcore.explain("conv", image=image, filter=[[0, 1, 2], [2, 2, 0], [0, 1, 2]])
    assert explained.steps.endswith("12 12 17\n  10 17 19\n   9  6 14")
    strided = convcore.explain(
        "conv", image=image, filter=[[0, 1, 2], [2, 2, 0], [0, 1, 2]], stride=2
    )
    assert strided.steps.endswith("12 17\n   9 14")


def test_steps_show_what_they_can():
    shown = convcore.explain("conv", (2, 3, 3), filters=2, kernel=2, steps=True).steps
    assert shown.count("= ") == 8
    assert "(-1)" in shown
    assert convcore.explain("conv", (3, 64, 64), filters=8, kernel=5).steps == ""
    long = convcore.explain("conv", (1, 9, 9), filters=1, kernel=2, steps=True).steps
    assert "... and 48 more values" in long
    assert "shown for groups" in convcore.explain(
        "conv", (2, 3, 3), filters=2, kernel=2, groups=2, steps=True
    ).steps  # fmt: skip
    mean = convcore.explain("avg_pool", image=[1, 3, 5, 7], kernel=2).steps
    assert "mean(1, 3) = 2" in mean
    padded = convcore.explain("pool", image=[[-1, -2], [-3, -4]], kernel=2, padding=1, stride=2)
    assert "max(-inf, -inf, -inf, -1) = -1" in padded.steps


@pytest.mark.parametrize(
    ("model", "shape", "settings", "message"),
    [
        ("lenet", None, {}, r"did you mean 'lenet5'\?"),
        ("lenet5", (1, 28, 28), {"filters": 3}, "filters is for single layers"),
        ("conv", None, {"filters": 3, "kernel": 3}, "input_shape is missing"),
        ("conv", (1, 5, 5), {"kernel": 3}, "filters is missing"),
        ("conv", (1, 5, 5), {"filters": 3}, "kernel is missing"),
        ("conv", (1, 5, 5), {"filters": 3, "kernel": 6}, "larger than the padded image"),
        ("conv", (1, 5, 5), {"filters": 3, "kernel": 3, "groups": 2}, "groups does not divide"),
        ("conv", (1, 5, 5), {"filters": 0, "kernel": 3}, "filters is out of range"),
        ("conv", (1, 5, 5), {"filters": 1, "kernel": 3, "stride": 0}, "stride is out of range"),
        ("conv", (5,), {"filters": 1, "kernel": 3}, "no pixels"),
        ("conv", (0, 5, 5), {"filters": 1, "kernel": 3}, "input_shape is out of range"),
        ("conv", None, {"image": [[1, 2], [3]], "kernel": 1}, "no usable numbers"),
        ("conv", None, {"image": [[1, 2], [3, 4]], "filter": [[[1]], [[2]]]}, "does not fit"),
        ("pool", None, {"filter": [1]}, "filter needs an image"),
        ("pool", (1, 4, 4), {"kernel": 2, "filters": 3}, "filters has no meaning for pool"),
        (nn.Conv2d(1, 1, 3), None, {}, "input_shape is missing"),
        (nn.Conv2d(1, 1, 3), (2, 8, 8), {}, "Conv2d does not fit its input"),
        (3, (1, 2, 3), {}, "expected a Module or a str, got int"),
    ],
)
def test_errors_say_what_to_do(model, shape, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        convcore.explain(model, shape, **settings)

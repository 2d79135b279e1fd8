"""The dense layer and ReLU as exercises, and what goes wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convcore import reference
from convcore.teaching.check.bugs import COMMON, GRADIENT, Array, Bug, Inputs, changed, only
from convcore.teaching.check.exercise import Case, Exercise


def _label(name: str, shape: tuple[int, ...]) -> str:
    return f"{name} {'x'.join(map(str, shape))}"


def _affine_cases(rng: np.random.Generator) -> list[Case]:
    """Images and rows; CS231n's w has shape (D, M)."""
    cases = []
    for shape, units in (
        ((2, 3, 2), 3), ((1, 1), 1), ((3, 5), 4), ((4, 2, 3, 3), 5), ((1, 4, 4), 2), ((5, 6), 6),
    ):  # fmt: skip
        features = int(np.prod(shape[1:]))
        inputs: Inputs = {
            "x": rng.standard_normal(shape),
            "w": rng.standard_normal((features, units)),
            "b": rng.standard_normal(units),
            "dy": rng.standard_normal((shape[0], units)),
        }
        tags = {
            "several images": shape[0] > 1,
            "images instead of rows": len(shape) > 2,
            "as many inputs as outputs": features == units,
        }
        label = f"{_label('x', shape)}, {_label('w', (features, units))}"
        cases.append(Case(inputs, label, frozenset(name for name, has in tags.items() if has)))
    return cases


def _rows(i: Inputs) -> Array:
    rows: Array = i["x"].reshape(len(i["x"]), -1)
    return rows


def _affine(i: Inputs) -> Array:
    return reference.linear(_rows(i), i["w"].T, i["b"])


def _affine_gradient(which: int) -> Callable[[Inputs], Array]:
    def compute(i: Inputs) -> Array:
        gradient = reference.linear_backward(i["dy"], _rows(i), i["w"].T, i["b"])[which]
        assert gradient is not None
        shaped: Array = gradient.reshape(i["x"].shape) if which == 0 else gradient.T
        return shaped

    return compute


_dx, _dw, _db = (_affine_gradient(which) for which in range(3))
_ONE_IMAGE = (
    changed(
        "last image only", "only the last image of the batch counts (= for +=?)", dy=only("dy", -1)
    ),
    changed("first image only", "only the first image of the batch counts", dy=only("dy", 0)),
)

AFFINE = Exercise(
    name="affine",
    functions=("affine_forward", "linear_forward", "dense_forward", "fc_forward"),
    signature="affine_forward(x, w, b) -> out, cache",
    arrays=("x", "w", "b"),
    outputs={"out": _affine},
    gradients={"dx": _dx, "dw": _dw, "db": _db},
    cases=_affine_cases,
    bugs={
        "out": (
            changed("bias missing", "b is not added", b=lambda i: np.zeros_like(i["b"])),
            changed("bias added twice", "b is added twice", b=lambda i: 2 * i["b"]),
            changed(
                "weight transposed",
                "w is transposed: its shape is (D, M)",
                w=lambda i: i["w"].T.reshape(i["w"].shape),
            ),
            changed(
                "first image only",
                "only the first image of the batch is used",
                x=lambda i: i["x"][:1] + 0 * i["x"],
            ),
            *COMMON,
        ),
        "dx": (
            Bug(
                "not in the shape of x",
                "the numbers are right, but dx has the shape of the rows: reshape it to x.shape",
                after=lambda result, i: result.reshape(len(i["x"]), -1),
            ),
            changed(
                "weight transposed",
                "w is transposed: dx is dout @ w.T",
                w=lambda i: i["w"].T.reshape(i["w"].shape),
            ),
            *_ONE_IMAGE,
            *GRADIENT,
        ),
        "dw": (
            changed(
                "dout not used",
                "dw does not depend on dout",
                dy=lambda i: np.ones_like(i["dy"]),
            ),
            *_ONE_IMAGE,
            *GRADIENT,
        ),
        "db": (
            Bug(
                "bias gradient not summed over N",
                "db has one value per output: dout.sum(axis=0)",
                instead=lambda i: i["dy"],
            ),
            Bug(
                "bias gradient of the wrong axis",
                "summed over the outputs: it is dout.sum(axis=0)",
                instead=lambda i: i["dy"].sum(axis=1),
            ),
            Bug(
                "bias gradient summed over everything",
                "the outputs are summed up too: it is dout.sum(axis=0)",
                instead=lambda i: i["dy"].sum(),
            ),
            Bug(
                "another shape",
                "the numbers are right, the shape is not: (M,)",
                after=lambda result, _: result.reshape(1, -1),
            ),
            *_ONE_IMAGE,
            *GRADIENT,
        ),
    },
    differentiated=("x", "w", "b"),
)


def _linear_cases(rng: np.random.Generator) -> list[Case]:
    """Rows only, for classes; w has the shape of the class, whichever that is."""
    return [case for case in _affine_cases(rng) if case.inputs["x"].ndim == 2]


def _linear_arguments(i: Inputs) -> Mapping[tuple[str, ...], Any]:
    inputs, outputs = i["w"].shape
    return {
        (
            "in_features",
            "input_size",
            "n_in",
            "in_dim",
            "input_dim",
            "inputs",
            "num_inputs",
        ): inputs,
        (
            "out_features",
            "output_size",
            "n_out",
            "out_dim",
            "output_dim",
            "outputs",
            "units",
        ): outputs,
    }


LINEAR = Exercise(
    name="linear",
    functions=(),
    signature="class Linear: __init__(in_features, out_features), forward(x), backward(dy)",
    arrays=AFFINE.arrays,
    outputs=AFFINE.outputs,
    gradients=AFFINE.gradients,
    cases=_linear_cases,
    bugs=AFFINE.bugs,
    differentiated=AFFINE.differentiated,
    classes=("linear", "dense", "affine", "fullyconnected", "fc", "linearlayer", "denselayer"),
    arguments=_linear_arguments,
)


def _relu_cases(rng: np.random.Generator) -> list[Case]:
    cases = []
    for shape in ((3, 4), (1,), (2, 3, 4, 5), (5, 1)):
        x, dy = rng.standard_normal(shape), rng.standard_normal(shape)
        cases.append(Case({"x": x, "dy": dy}, _label("x", shape)))
    large = {"x": 1e6 * rng.standard_normal((4, 4)), "dy": rng.standard_normal((4, 4))}
    return [*cases, Case(large, "x 4x4, large numbers", frozenset({"large numbers"}))]


RELU = Exercise(
    name="relu",
    functions=("relu_forward",),
    signature="relu_forward(x) -> out, cache",
    arrays=("x",),
    outputs={"out": lambda i: reference.relu(i["x"])},
    gradients={"dx": lambda i: reference.relu_backward(i["dy"], i["x"])},
    cases=_relu_cases,
    bugs={
        "out": (
            Bug("identity", "negative numbers stay as they are", instead=lambda i: i["x"]),
            Bug(
                "absolute value",
                "negative numbers change their sign",
                instead=lambda i: abs(i["x"]),
            ),
            Bug(
                "leaky",
                "negative numbers are made small: they should become 0",
                instead=lambda i: reference.leaky_relu(i["x"], 0.01),
            ),
            Bug(
                "minimum for the maximum",
                "positive numbers become 0",
                instead=lambda i: np.minimum(i["x"], 0),
            ),
            *COMMON,
        ),
        "dx": (
            Bug(
                "mask of dout",
                "dout is cut off where dout is negative: it passes where x was positive",
                instead=lambda i: np.maximum(i["dy"], 0),
            ),
            Bug(
                "no mask",
                "dout is returned as it is: it passes where x was positive",
                instead=lambda i: i["dy"],
            ),
            Bug(
                "mask turned around",
                "dout passes where x is negative",
                instead=lambda i: i["dy"] * (i["x"] < 0),
            ),
            Bug(
                "dout not used",
                "the mask itself is returned: multiply it by dout",
                instead=lambda i: 1.0 * (i["x"] > 0),
            ),
            Bug(
                "x for the mask",
                "dout is multiplied by relu(x), not by the mask x > 0",
                instead=lambda i: i["dy"] * np.maximum(i["x"], 0),
            ),
            *GRADIENT,
        ),
    },
    differentiated=("x",),
    classes=("relu", "relulayer"),
    arguments=lambda i: {},
)

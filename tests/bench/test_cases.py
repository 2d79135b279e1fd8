"""The table of shapes: what stands in it, what it costs, and that C++ has the same one."""

from __future__ import annotations

import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from convcore import nn
from convcore.bench import cases

ROOT = Path(__file__).resolve().parents[2]
ALL = [(op, name) for op in cases.OPS for name in cases.table()[op]]
CONV = cases.table()["conv"]


def case(name):
    return cases.find(name)[1]


def test_table_has_every_op_and_unique_names():
    names = cases.names()
    assert len(names) == len(set(names)) == len(ALL)
    assert all(cases.table()[op] for op in cases.OPS)


def test_table_has_the_layers_of_the_networks():
    networks = {name.partition("_")[0] for name in CONV}
    assert {"lenet5", "resnet20", "resnet18", "vgg16", "alexnet"} <= networks
    sizes = {(c.in_features, c.out_features) for c in cases.table()["dense"].values()}
    assert {(400, 120), (1024, 1024), (4096, 4096)} <= sizes


def test_find_raises_for_an_unknown_name():
    with pytest.raises(KeyError, match="lenet6"):
        cases.find("lenet6")


@pytest.mark.parametrize(("op", "name"), ALL)
def test_case_is_one_that_the_layers_accept(op, name):
    """Sizes and multiply-adds as the layers themselves say, for an empty batch."""
    c = case(name)
    x = np.zeros((0, *c.x_shape[1:]), np.float32)
    if op == "conv":
        layer = nn.Conv2d(c.c_in, c.c_out, c.kernel, stride=c.stride, padding=c.padding)
    elif op == "dense":
        layer = nn.Linear(c.in_features, c.out_features)
    elif op == "pool":
        pool = nn.MaxPool2d if c.kind == "max" else nn.AvgPool2d
        layer = pool(c.kernel, stride=c.stride, padding=c.padding)
    else:
        layer = nn.BatchNorm2d(c.channels).eval()
    y = layer(x)
    assert y.shape[1:] == c.y_shape[1:]
    if op in ("conv", "dense"):
        assert layer.weight.data.shape == c.w_shape
        multiply_adds = layer.multiply_adds(x.shape[1:], y.shape[1:])
        assert c.cost("forward").flops == 2 * c.batch * multiply_adds


# The same figures are in tests/cpp/test_cases.cpp.
def test_cost_of_known_cases():
    conv = case("resnet20_down2")
    assert conv.size_out == 16
    x, w, y = 128 * 16 * 32 * 32, 32 * 16 * 9, 128 * 32 * 16 * 16
    for which in conv.passes:
        assert conv.cost(which) == (2 * y * 16 * 9, 4 * (x + w + y))
    dense = case("lenet5_fc1")
    assert dense.cost("forward") == (2 * 64 * 400 * 120, 4 * (64 * 400 + 400 * 120 + 64 * 120))
    pool = case("resnet18_pool")
    assert pool.cost("forward") == (16 * 64 * 56 * 56 * 9, 4 * 16 * 64 * (112 * 112 + 2 * 56 * 56))
    assert case("resnet20_pool").cost("backward").bytes == 4 * 128 * 64 * (64 + 1)
    norm = case("resnet20_norm3")
    assert norm.cost("forward").bytes == 8 * math.prod(norm.x_shape)
    assert norm.cost("backward").bytes == 12 * math.prod(norm.x_shape)


@pytest.mark.parametrize("op", cases.OPS)
def test_cpp_executable_has_the_same_cases(op):
    folder = Path(os.environ.get("CONVCORE_BENCH_DIR", ROOT / "build/bench/bench"))
    executable = folder / f"bench_{op}"
    if not executable.exists():
        pytest.skip("the bench executables are not built: cmake --preset bench")
    listed = subprocess.run(
        [executable, "--benchmark_list_tests"], check=True, capture_output=True, text=True
    ).stdout.split()
    found = {tuple(line.split("/")[:2]) for line in listed}
    assert found == {(name, which) for name in cases.names([op]) for which in case(name).passes}

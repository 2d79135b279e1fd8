"""`convcore check --self`: the library's kernels, and the checker of the checker."""

from __future__ import annotations

import numpy as np
import pytest

import convcore.functional as F
from convcore.teaching.check import self_check
from convcore.teaching.check.self_check import LARGEST_ERROR, SelfReport, check_self


@pytest.fixture(scope="module")
def report():
    return check_self()


def test_every_kernel_is_right_on_every_instruction_set(report):
    from convcore import _core

    assert report.passed, str(report)
    assert report.isas == tuple(_core.reachable_isas().split(","))
    assert all(set(row) == set(report.isas) for row in report.errors.values())
    assert not report.problems


def test_every_op_is_reached(report):
    """An op of `convcore.functional` without numbers is one line in `self_check.CALLS`."""
    assert report.unchecked == ()
    for op in F.__all__:
        name = op.replace("_backward", " backward").replace("conv2d ", "conv2d auto ")
        assert any(row in (name, f"{name} auto") for row in report.errors), op


def test_the_text_is_a_table(report):
    lines = str(report).splitlines()
    assert lines[0].split()[2:] == list(report.isas)
    assert lines[-1].endswith("everything is right")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: np.maximum(x, 1e-3),
        lambda x: np.maximum(x, 0)[:1],
        lambda x: np.where(x > 0, x, np.nan).astype(np.float32),
    ],
)
def test_a_wrong_kernel_is_found(monkeypatch, wrong):
    monkeypatch.setattr(F, "relu", wrong)
    monkeypatch.setattr(
        self_check, "CALLS", tuple(call for call in self_check.CALLS if call.op == "relu")
    )
    errors = self_check.errors_here(0)
    assert errors["relu"] > LARGEST_ERROR
    assert errors["relu backward"] <= LARGEST_ERROR
    found = SelfReport("0", ("avx2",), {"relu": {"avx2": errors["relu"]}}, {}, ())
    assert not found.passed
    assert "WRONG" in str(found)


def test_bits_that_depend_on_the_threads_are_found(monkeypatch):
    import convcore

    monkeypatch.setattr(F, "relu", lambda x: np.maximum(x, 0) * np.float32(convcore.num_threads()))
    monkeypatch.setattr(
        self_check, "CALLS", tuple(call for call in self_check.CALLS if call.op == "relu")
    )
    assert self_check.errors_here(0)["relu"] == np.inf


def test_a_process_that_ends_is_a_problem(monkeypatch):
    monkeypatch.setenv("CONVCORE_NUM_THREADS", "none")
    report = check_self()
    assert not report.passed
    assert set(report.problems) == set(report.isas)
    assert "something is wrong" in str(report)

"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import convcore
import on_device
from convcore import _core

# A shell hands SIGINT to its background jobs as ignored; the tests of Ctrl-C want Python's own handler.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# In CI the same examples each time: a verdict that can be repeated. Elsewhere new ones each time.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where the ops compute (tests/on_device.py); meant for tests/ops",
    )


def pytest_configure(config: pytest.Config) -> None:
    on_device.use_emulation()
    if config.getoption("--device") == "cuda":
        on_device.wrap_ops()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--device") == "cpu":
        return
    for item in items:
        for mark in item.iter_markers("cpu_only"):
            ids = mark.kwargs.get("ids", ("",))  # how those of the parameters begin
            if getattr(item, "callspec", None) is None or item.callspec.id.startswith(ids):
                item.add_marker(pytest.mark.skip(reason=f"on the CPU only: {mark.args[0]}"))


def pytest_report_header() -> str:
    return (
        f"convcore {convcore.__version__}, instruction set {_core.isa()} "
        f"(reachable: {_core.reachable_isas()}), {convcore.num_threads()} threads, "
        f"numpy {np.__version__}"
    )


@pytest.fixture(autouse=True)
def _seeded():
    convcore.manual_seed(0)
    threads = convcore.num_threads()
    yield
    convcore.set_num_threads(threads)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(12345)


@pytest.fixture(scope="session")
def cuda() -> str:
    """Give "cuda" where there is a GPU, real or emulated."""
    if not convcore.cuda.is_available():
        pytest.skip(f"CUDA is not available: {convcore.cuda.reason()}")
    return "cuda"


@pytest.fixture(scope="session")
def torch():
    """Give torch, the oracle for the meaning of arguments; use with @pytest.mark.torch."""
    return pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Give the folder with the real data sets: ``$CONVCORE_TEST_DATA`` or ../shared/data."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CONVCORE_TEST_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is no folder (CONVCORE_TEST_DATA names another)")
    return folder

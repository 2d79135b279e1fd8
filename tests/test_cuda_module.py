"""convcore.cuda: whether it can be used, and why not. Right on machines with and without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from convcore import _core, cuda


def test_is_available_when_there_is_no_reason_against_it():
    assert cuda.is_available() == (cuda.reason() == "")


def test_reason_is_given_where_cuda_was_not_built():
    if _core.build_info()["cuda"] or os.environ.get("CONVCORE_CUDA_LIBRARY"):
        pytest.skip("this build has the plug-in")
    assert "no CUDA plug-in" in cuda.reason()
    assert cuda.architectures() == []


def test_architectures_are_those_of_the_build():
    if not _core.build_info()["cuda"] or os.environ.get("CONVCORE_CUDA_LIBRARY"):
        pytest.skip("this build has no plug-in, or another one is used")
    assert cuda.architectures()
    assert all(name.endswith(("-real", "-virtual")) for name in cuda.architectures())


def test_device_properties():
    if not cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA is not available: "):
            cuda.get_device_properties()
        return
    device = cuda.get_device_properties()
    assert device.compute_capability >= (8, 0)
    assert device.memory_bytes >= 2**30
    assert cuda.get_device_name() == device.name


# In processes of their own: the plug-in is opened once.
def reason_with_library(path: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", "import convcore; print(convcore.cuda.reason())"],
        env={**os.environ, "CONVCORE_CUDA_LIBRARY": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_reason_when_the_named_library_is_missing(tmp_path):
    path = str(tmp_path / "none.so")
    reason = reason_with_library(path)
    assert reason.startswith("the CUDA plug-in cannot be opened: ")
    assert path in reason


def test_reason_when_the_named_library_is_another_one():
    reason = reason_with_library(_core.__file__)
    assert reason.endswith("belongs to another version of convcore")

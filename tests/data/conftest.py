"""Fixtures of the data tests: an empty cache, no folders from outside, the real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Give the (not yet existing) cache folder; nothing outside the test's folder is looked at."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("CONVCORE_DATA", "CONVCORE_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "convcore"


@pytest.fixture
def real_data() -> Path:
    """Give the folder with the real data sets: ``$CONVCORE_TEST_DATA`` or ../shared/data."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("CONVCORE_TEST_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is no folder (CONVCORE_TEST_DATA names another)")
    return folder

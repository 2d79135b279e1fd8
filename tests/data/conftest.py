"""Fixtures of the data tests: an empty cache, no folders from outside, the real data."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Give the (not yet existing) cache folder; nothing outside the test's folder is looked at."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("CONVCORE_DATA", "CONVCORE_MIRRORS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "convcore"

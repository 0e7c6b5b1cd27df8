from pathlib import Path

import pytest


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("LABKIT_CACHE", str(cache))
    return cache


@pytest.fixture
def root(tmp_path: Path, own_cache: Path) -> Path:
    """An empty folder for a data set, whose images are decoded into a cache of their own."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder

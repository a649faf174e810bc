"""What the tests share: folders of their own, so that nothing they do touches the user's data or records."""

import os
from pathlib import Path

import pytest

REAL_DATA = os.environ.get("S18_DATA")


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory) -> Path:
    """One data directory for the whole session, so that synthetic sets are drawn once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path, shared_store) -> None:
    """Points the package at temporary folders, and away from the network."""
    monkeypatch.setenv("S18_DATA", str(shared_store))
    monkeypatch.setenv("S18_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("S18_PRESET", raising=False)


@pytest.fixture
def real_data(monkeypatch, own_folders) -> Path:
    """The user's data directory; skips where `S18_DATA` names none with real data."""
    if not REAL_DATA or not (Path(REAL_DATA) / "oxford-iiit-pet").is_dir():
        pytest.skip("no real data: S18_DATA names no folder with oxford-iiit-pet")
    monkeypatch.setenv("S18_DATA", REAL_DATA)
    return Path(REAL_DATA)

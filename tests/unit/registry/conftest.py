from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.registry import promotion
from modelyard.settings import Settings
from tests.unit.registry.yard import MemoryStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """A registry with four versions of the router."""
    store = MemoryStore(tmp_path / "registry")
    for version in ("1", "2", "3", "4"):
        store.add("router", version)

    def opened(_settings: Settings) -> MemoryStore:
        return store

    monkeypatch.setattr(promotion, "open_store", opened)
    return store

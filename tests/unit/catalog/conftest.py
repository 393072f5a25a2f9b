from __future__ import annotations

from tests.unit.storage.conftest import database, empty_postgresql, sqlite

__all__ = ["database", "empty_postgresql", "sqlite"]

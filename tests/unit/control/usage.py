"""Usage rows to look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard.storage import Database
from modelyard.storage.tables import ModelUsage

NOW = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


def usage(minutes_ago: float = 1.0, **columns: Any) -> ModelUsage:
    """Return a chat request of the model `md` that cost 0.01 USD and took 100 ms."""
    given: dict[str, Any] = {
        "created_at": NOW - timedelta(minutes=minutes_ago),
        "model": "md",
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cost_usd": 0.01,
        "estimated": False,
        "latency_ms": 100.0,
    }
    return ModelUsage(**given | columns)


def store(database: Database, *rows: ModelUsage) -> None:
    with database.write() as session:
        session.add_all(rows)

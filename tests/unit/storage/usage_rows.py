"""Rows of usage and messages for the analytics tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from modelyard.storage import Database
from modelyard.storage.tables import Message, ModelUsage, ordered_id

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def usage_row(**columns: Any) -> ModelUsage:
    """A request of the model md: 100 and 20 tokens, one dollar, 10 ms."""
    defaults = {
        "created_at": NEW_YEAR, "model": "md", "composite": "auto", "domain": "css", "complexity": "simple",
        "prompt_tokens": 100, "completion_tokens": 20, "cost_usd": 1.0, "latency_ms": 10.0, "estimated": False,
    }  # fmt: skip
    return ModelUsage(**(defaults | columns))


def message_row(**columns: Any) -> Message:
    defaults = {
        "id": ordered_id(), "created_at": NEW_YEAR, "composite": "auto", "prompt": "Why?", "answer": "Because.",
        "model": "md", "domain": "css", "complexity": "simple", "status": "complete",
        "model_metadata": {}, "rag_sources": [], "processing_metadata": [],
    }  # fmt: skip
    return Message(**(defaults | columns))


def store(database: Database, *rows: Any) -> None:
    """Store rows in their order, each before the ones that refer to it."""
    with database.write() as session:
        for row in rows:
            session.add(row)
            session.flush()

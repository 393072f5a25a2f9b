from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import update

from modelyard.storage import Database, Message, ModelUsage, analytics, record_answer
from modelyard.storage.analytics import DailyCost, Latency, RetrievalCounts, RoutingShare
from modelyard.types import Passage
from tests.unit.storage.answers import MESSAGE, answer, passage

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def _store(
    database: Database, model: str, at: datetime, *, ms: float = 1.0, cost: float = 0.5, found: tuple[Passage, ...] = ()
) -> None:
    given = answer(model, cost_usd=cost, passages=found)
    record_answer(database, MESSAGE, given, composite="auto", latency_ms=ms)
    with database.write() as session:
        session.execute(update(Message).where(Message.id == given.id).values(created_at=at))
        session.execute(update(ModelUsage).where(ModelUsage.message_id == given.id).values(created_at=at))


def test_cost_is_summed_by_utc_day_and_model(database: Database) -> None:
    evening_in_new_york = datetime(2025, 12, 31, 20, tzinfo=timezone(timedelta(hours=-5)))  # 01:00 UTC on 1 January
    _store(database, "local-sm", NEW_YEAR - timedelta(minutes=1), cost=0.25)
    _store(database, "local-sm", evening_in_new_york)
    _store(database, "local-sm", NEW_YEAR + timedelta(hours=23))
    _store(database, "local-md", NEW_YEAR)
    assert analytics.cost_per_model_per_day(database) == (
        DailyCost("2025-12-31", "local-sm", 1, 100, 20, 0.25),
        DailyCost("2026-01-01", "local-md", 1, 100, 20, 0.5),
        DailyCost("2026-01-01", "local-sm", 2, 200, 40, 1.0),
    )
    assert [row.model for row in analytics.cost_per_model_per_day(database, NEW_YEAR)] == ["local-md", "local-sm"]


def test_routing_share_adds_up_to_one(database: Database) -> None:
    for model in ("local-sm", "local-md", "local-sm", "local-sm"):
        _store(database, model, NEW_YEAR)
    assert analytics.routing_share(database) == (
        RoutingShare("auto", "local-sm", 3, 0.75),
        RoutingShare("auto", "local-md", 1, 0.25),
    )


def test_latency_percentiles_by_model(database: Database) -> None:
    for ms in range(101):
        _store(database, "local-md", NEW_YEAR, ms=float(ms))
    assert analytics.latency(database) == (Latency("local-md", 101, 50.0, 95.0),)


def test_retrieval_counts_answers_and_sources(database: Database) -> None:
    _store(database, "local-sm", NEW_YEAR)
    _store(database, "local-sm", NEW_YEAR, found=(passage(cited=False),))
    _store(database, "local-sm", NEW_YEAR, found=(passage(cited=True), passage(cited=False)))
    assert analytics.retrieval_counts(database) == RetrievalCounts(
        requests=3, with_sources=2, with_citations=1, sources=3, cited_sources=1
    )


@pytest.mark.parametrize("query", [analytics.cost_per_model_per_day, analytics.routing_share, analytics.latency])
def test_no_data_is_no_rows(sqlite: Database, query) -> None:
    assert query(sqlite) == ()


def test_no_data_counts_nothing(sqlite: Database) -> None:
    assert analytics.retrieval_counts(sqlite) == RetrievalCounts(0, 0, 0, 0, 0)

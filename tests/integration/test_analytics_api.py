"""The analytics API over TCP, through the typed client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from modelyard.client import ApiError
from modelyard.storage import Database
from modelyard.storage.tables import Message
from tests.integration.admin_yard import Yard, admin_yard, usage_of
from tests.unit.storage.conftest import database, empty_postgresql, sqlite

__all__ = ["database", "empty_postgresql", "sqlite"]

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
DAY = {"since": NOON - timedelta(hours=12), "until": NOON + timedelta(hours=12)}


@pytest.fixture
def yard(tmp_path: Path, database: Database) -> Iterator[Yard]:
    with admin_yard(tmp_path, database) as yard:
        usage_of(
            database,
            {"created_at": NOON, "domain": "forms", "composite": "team", "api_key_id": "k1"},
            {"created_at": NOON, "domain": "css", "composite": "team", "model": "mini", "cost_usd": 0.001},
            {"created_at": NOON + timedelta(hours=2), "status": "failed", "fallback": True, "composite": "team"},
            {"created_at": NOON - timedelta(days=3), "cost_usd": 9.0},
        )
        yield yard


def test_usage_says_what_was_asked_and_what_it_cost(yard: Yard):
    (found,) = yard.client.analytics.usage(**DAY)
    assert (found.requests, found.failed, found.fallbacks, found.prompt_tokens) == (3, 1, 1, 300)
    assert found.cost_usd == pytest.approx(0.021)
    assert (found.error_rate, found.fallback_share, found.cache_hit_share) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
        0.0,
    )


def test_usage_is_broken_down_by_subject_and_time(yard: Yard):
    analytics = yard.client.analytics
    assert {row.subject: row.requests for row in analytics.usage(by="model", **DAY)} == {"gpt": 2, "mini": 1}
    assert {row.subject: row.requests for row in analytics.usage(by="domain", **DAY)} == {"forms": 1, "css": 1, None: 1}
    assert {row.at: row.requests for row in analytics.usage(bucket="hour", **DAY)} == {
        NOON: 2,
        NOON + timedelta(hours=2): 1,
    }
    hours = analytics.usage(by="model", bucket="hour", only={"model": "gpt"}, **DAY)
    assert [(row.at, row.requests) for row in hours] == [(NOON, 1), (NOON + timedelta(hours=2), 1)]


def test_latency_and_routing(yard: Yard):
    (all_of_it,) = yard.client.analytics.latency(**DAY)
    assert (all_of_it.requests, all_of_it.p50_ms, all_of_it.first_token_p50_ms) == (2, 100.0, None)
    shares = {row.model: (row.requests, row.share) for row in yard.client.analytics.routing(**DAY)}
    assert shares == {"gpt": (1, 0.5), "mini": (1, 0.5)}


def test_savings_and_retrieval(yard: Yard):
    candidates = [
        {"model": "mini", "quality": 0.9, "cost_usd": 0.001},
        {"model": "gpt", "quality": 0.91, "cost_usd": 0.01},
    ]
    row = Message(
        id="m-1",
        created_at=NOON,
        composite="team",
        model="gpt",
        domain="forms",
        complexity="simple",
        status="complete",
        model_metadata={"route": {"candidates": candidates}},
        rag_sources=[{"cited": True}],
        processing_metadata=[],
    )
    with yard.context.database.write() as session:
        session.add(row)
    usage_of(yard.context.database, {"created_at": NOON, "message_id": "m-1", "domain": "forms", "cost_usd": 10.0})
    (saving,) = yard.client.analytics.savings(**DAY)
    assert (saving.model, saving.alternative, saving.share) == ("gpt", "mini", 0.5)
    assert saving.usd_a_day == pytest.approx(9.0)
    assert yard.client.analytics.savings(**DAY, margin=0.0) == []
    assert yard.client.analytics.retrieval(**DAY).with_citations == 1


def test_without_a_window_it_is_the_last_seven_days(yard: Yard):
    usage_of(yard.context.database, {}, {"created_at": datetime.now(UTC) - timedelta(days=8)})
    (found,) = yard.client.analytics.usage()
    assert found.requests == 1


def test_a_key_for_analytics_sees_its_own_project_only(yard: Yard):
    with yard.client_with("analytics", project="shop") as client:
        (facts,) = yard.context.keyring.list("shop")
        usage_of(yard.context.database, {"created_at": NOON, "project_id": facts.project_id})
        (found,) = client.analytics.usage(**DAY)
        assert found.requests == 1
        assert client.analytics.usage(only={"project": facts.project_id}, **DAY) == [found]
        for call in (
            lambda: client.analytics.usage(only={"project": "other"}),
            client.analytics.savings,
            client.analytics.retrieval,
            client.admin.models,
        ):
            with pytest.raises(ApiError) as caught:
                call()
            assert caught.value.status == 403
    (everything,) = yard.client.analytics.usage(**DAY)
    assert everything.requests == 4


@pytest.mark.parametrize(
    "query",
    [
        "since=2026-03-14T12:00:00",  # no time zone
        "since=yesterday",
        "since=2026-03-14T12:00:00Z&until=2026-03-13T12:00:00Z",
        "until=0001-01-02T00:00:00Z",
        "since=2020-01-01T00:00:00Z&until=2026-01-01T00:00:00Z&bucket=hour",
        "by=colour",
        "bucket=minute",
        "colour=red",
        "model=%00",
    ],
)
def test_questions_that_make_no_sense_are_refused(yard: Yard, query: str):
    headers = {"Authorization": f"Bearer {yard.key}"}
    found = httpx.get(f"{yard.url}/analytics/usage?{query}", headers=headers)
    assert found.status_code == 400
    assert found.json()["error"]["message"].endswith(".")

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from modelyard.errors import InvalidInput
from modelyard.storage import Database
from modelyard.storage.analytics import (
    Latencies,
    Only,
    RoutingShare,
    Window,
    latencies,
    routing_shares,
    usage,
)
from tests.unit.storage.usage_rows import NEW_YEAR, store, usage_row

HOUR = timedelta(hours=1)
ALWAYS = Window()


def test_figures_count_requests_and_charge_everything(database: Database) -> None:
    store(
        database,
        usage_row(attempts=3, fallback=True, cached_tokens=40),
        usage_row(kind="attempt", status="failed", prompt_tokens=100, completion_tokens=0, cost_usd=0.25),
        usage_row(status="failed", error_kind="timeout", cost_usd=0.0, completion_tokens=0),
        usage_row(cache_hit=True, cost_usd=0.0, prompt_tokens=0, completion_tokens=0),
        usage_row(status="cancelled", cost_usd=0.5, completion_tokens=5),
        usage_row(kind="orphan", status="orphaned", cost_usd=2.0, prompt_tokens=0, completion_tokens=0),
    )
    (found,) = usage(database, ALWAYS)
    assert (found.at, found.subject) == (None, None)
    assert (found.requests, found.failed, found.cancelled, found.orphans, found.attempts) == (4, 1, 1, 1, 6)
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (400, 40, 25)
    assert found.cost_usd == 3.75
    assert (found.error_rate, found.fallback_share, found.cache_hit_share) == (0.25, 0.25, 0.25)


def test_figures_by_hour_and_subject_in_order(database: Database) -> None:
    store(
        database,
        usage_row(model="lg", created_at=NEW_YEAR + 2 * HOUR),
        usage_row(created_at=NEW_YEAR + 2 * HOUR + timedelta(minutes=59, seconds=59)),
        usage_row(created_at=NEW_YEAR - timedelta(microseconds=1)),
        usage_row(created_at=NEW_YEAR),
    )
    found = usage(database, ALWAYS, by="model", bucket="hour")
    assert [(row.at, row.subject, row.requests) for row in found] == [
        (NEW_YEAR - HOUR, "md", 1), (NEW_YEAR, "md", 1), (NEW_YEAR + 2 * HOUR, "lg", 1), (NEW_YEAR + 2 * HOUR, "md", 1),
    ]  # fmt: skip
    days = usage(database, ALWAYS, bucket="day")
    assert [(row.at, row.requests) for row in days] == [(NEW_YEAR - 24 * HOUR, 1), (NEW_YEAR, 3)]


def test_window_has_its_begin_and_not_its_end(database: Database) -> None:
    store(database, *(usage_row(created_at=NEW_YEAR + hours * HOUR) for hours in range(4)))
    (found,) = usage(database, Window(NEW_YEAR + HOUR, NEW_YEAR + 3 * HOUR))
    assert found.requests == 2
    assert usage(database, Window(NEW_YEAR + 9 * HOUR)) == ()


@pytest.mark.parametrize(
    ("by", "column"),
    [("model", "model"), ("deployment", "deployment"), ("composite", "composite"), ("key", "api_key_id"),
     ("project", "project_id"), ("domain", "domain"), ("complexity", "complexity"), ("kind", "kind")],
)  # fmt: skip
def test_every_dimension_groups_and_filters(sqlite: Database, by, column: str) -> None:
    store(sqlite, usage_row(**{column: "chat"}), usage_row(**{column: "embedding"}), usage_row(**{column: "chat"}))
    assert [(row.subject, row.requests) for row in usage(sqlite, ALWAYS, by=by)] == [("chat", 2), ("embedding", 1)]
    (found,) = usage(sqlite, ALWAYS, where=Only(**{by: "chat"}))
    assert found.requests == 2


def test_usage_without_a_subject_is_shown_under_none(database: Database) -> None:
    store(database, usage_row(), usage_row(project_id="p"))
    assert [row.subject for row in usage(database, ALWAYS, by="project")] == [None, "p"]
    assert [row.subject for row in latencies(database, ALWAYS, by="project")] == [None, "p"]


def test_shares_without_requests_are_no_data(sqlite: Database) -> None:
    store(sqlite, usage_row(kind="orphan", status="orphaned"))
    (found,) = usage(sqlite, ALWAYS)
    assert (found.requests, found.error_rate, found.fallback_share, found.cache_hit_share) == (0, None, None, None)


def test_percentiles_interpolate_and_leave_failures_out(database: Database) -> None:
    store(
        database,
        *(usage_row(latency_ms=float(ms)) for ms in (40, 10, 30, 20)),
        usage_row(latency_ms=9999.0, status="failed"),
        usage_row(latency_ms=9999.0, status="cancelled"),
        usage_row(latency_ms=9999.0, kind="attempt"),
        usage_row(model="lg", latency_ms=7.0, first_token_ms=3.0),
    )
    assert latencies(database, ALWAYS, by="model") == (
        Latencies(None, "lg", 1, 7.0, 7.0, 7.0, 1, 3.0, 3.0, 3.0),
        Latencies(None, "md", 4, 25.0, pytest.approx(38.5), pytest.approx(39.7)),
    )


def test_percentiles_by_day(database: Database) -> None:
    store(database, usage_row(latency_ms=1.0), usage_row(latency_ms=3.0, created_at=NEW_YEAR + 24 * HOUR))
    found = latencies(database, ALWAYS, bucket="day")
    assert [(row.at, row.p50_ms) for row in found] == [(NEW_YEAR, 1.0), (NEW_YEAR + 24 * HOUR, 3.0)]


def test_routing_shares_are_of_answers_to_each_composite(database: Database) -> None:
    store(
        database,
        *(usage_row(model=model) for model in ("md", "lg", "md", "md")),
        usage_row(composite="v0-1.5-lg", model="lg"),
        usage_row(composite=None),
        usage_row(status="failed"),
    )
    assert routing_shares(database, ALWAYS, bucket="day") == (
        RoutingShare("auto", "md", 3, 0.75, NEW_YEAR),
        RoutingShare("auto", "lg", 1, 0.25, NEW_YEAR),
        RoutingShare("v0-1.5-lg", "lg", 1, 1.0, NEW_YEAR),
    )
    assert routing_shares(database, ALWAYS, where=Only(composite="v0-1.5-lg")) == (
        RoutingShare("v0-1.5-lg", "lg", 1, 1.0),
    )


def test_window_refuses_what_is_none() -> None:
    with pytest.raises(InvalidInput, match="need a time zone, but got 2026-01-01T00:00:00"):
        Window(datetime(2026, 1, 1))
    with pytest.raises(InvalidInput, match="must not end"):
        Window(NEW_YEAR, NEW_YEAR - HOUR)


def test_window_of_days_ends_now_or_where_told() -> None:
    assert Window.days(2, NEW_YEAR) == Window(NEW_YEAR - 48 * HOUR, NEW_YEAR)
    assert Window.days(2).until is None

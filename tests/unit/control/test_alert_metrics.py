from __future__ import annotations

from datetime import timedelta

import pytest

from modelyard.control.alert_metrics import Measure, measure
from modelyard.control.alert_rules import Metric, Per
from modelyard.storage import Database
from tests.unit.control.usage import NOW, store, usage


def measured(database: Database, metric: Metric, per: Per = "all", minutes: float = 60) -> dict[str, tuple[float, int]]:
    found = measure(database, metric, per, since=NOW - timedelta(minutes=minutes), until=NOW)
    return {row.subject: (pytest.approx(row.value), row.requests) for row in found}


def test_cost_counts_every_charge_of_the_window(database: Database):
    rows = [
        usage(),
        usage(61),
        usage(0),
        usage(30, cost_usd=0.5, kind="attempt"),
        usage(kind="orphan", status="orphaned"),
    ]
    store(database, *rows)
    assert measured(database, "cost_usd") == {"all": (0.52, 1)}


@pytest.mark.parametrize(
    ("per", "column"), [("model", "model"), ("key", "api_key_id"), ("project", "project_id"), ("domain", "domain")]
)
def test_a_metric_is_taken_for_each_subject(database: Database, per: Per, column: str):
    store(database, *(usage(**{column: name}) for name in ("a", "b", "b")))
    if column != "model":
        store(database, usage(), usage())  # without a subject
    assert measured(database, "cost_usd", per) == {"a": (0.01, 1), "b": (0.02, 2)}
    assert measured(database, "requests", per) == {"a": (1, 1), "b": (2, 2)}


def test_rates_are_shares_of_requests(database: Database):
    store(
        database,
        usage(status="failed"),
        usage(fallback=True),
        usage(fallback=True),
        usage(status="cancelled"),
        usage(kind="attempt", status="failed"),
        usage(kind="orphan", status="orphaned"),
    )
    assert measured(database, "error_rate") == {"all": (0.25, 4)}
    assert measured(database, "fallback_rate") == {"all": (0.5, 4)}


def test_percentiles_are_each_models_own(database: Database):
    store(database, *(usage(model=name, latency_ms=ms) for name, ms in (("a", 1.0), ("a", 9.0), ("b", 5.0))))
    store(database, usage(model="a", latency_ms=1e6, kind="orphan", status="orphaned"))
    assert measured(database, "p95_latency_ms", "model") == {"a": (8.6, 2), "b": (5, 1)}


@pytest.mark.parametrize("metric", ["cost_usd", "requests", "error_rate", "p95_latency_ms"])
def test_without_requests_there_is_nothing_to_say(sqlite: Database, metric: Metric):
    assert measured(sqlite, metric) == {}


def test_orphans_alone_are_a_cost_and_no_rate(sqlite: Database):
    store(sqlite, usage(kind="orphan", status="orphaned"))
    assert measured(sqlite, "cost_usd") == {"all": (0.01, 0)}
    assert measured(sqlite, "error_rate") == {}


def test_a_measure_says_whose_it_is(sqlite: Database):
    store(sqlite, usage())
    (found,) = measure(sqlite, "cost_usd", "model", since=NOW - timedelta(hours=1), until=NOW)
    assert found == Measure("md", 0.01, 1)

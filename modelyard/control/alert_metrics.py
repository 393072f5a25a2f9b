"""What alert rules look at: one metric over one window, over everything or by model, key, project or domain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from modelyard.control.alert_rules import Metric, Per
from modelyard.storage.analytics import UsageFigures, Window, latencies, usage
from modelyard.storage.database import Database


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric's value for a subject, and the requests it rests on."""

    subject: str
    value: float
    requests: int


def measure(database: Database, metric: Metric, per: Per, *, since: datetime, until: datetime) -> tuple[Measure, ...]:
    """Return the metric over [since, until) for every subject of which it can be said; over everything the subject is `all`.

    Usage without a subject, such as a request without a project, counts for no subject. The cost of calls that were given up or killed
    counts; everything else is about requests.

    Raises:
        StorageError: The database failed.
    """
    window, by = Window(since, until), None if per == "all" else per
    if metric == "p95_latency_ms":
        found = [(row.subject, row.p95_ms, row.requests) for row in latencies(database, window, by=by)]
    else:
        found = [(row.subject, _value(metric, row), row.requests) for row in usage(database, window, by=by)]
    if by is None:
        found = [("all", value, requests) for _, value, requests in found]
    return tuple(
        Measure(subject, value, requests)
        for subject, value, requests in found
        if subject is not None and value is not None
    )


def _value(metric: Metric, row: UsageFigures) -> float | None:
    match metric:
        case "cost_usd":
            return row.cost_usd
        case "error_rate":
            return row.error_rate
        case "fallback_rate":
            return row.fallback_share
        case _:
            return row.requests

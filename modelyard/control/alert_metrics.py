"""What alert rules look at: one metric over one window, over everything or by model, key, project or domain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, literal, select

from modelyard.control.alert_rules import Metric, Per
from modelyard.storage.database import Database
from modelyard.storage.tables import ModelUsage
from modelyard.storage.tables.served import REQUEST_KINDS


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric's value for a subject, and the requests it rests on."""

    subject: str
    value: float
    requests: int


def measure(database: Database, metric: Metric, per: Per, *, since: datetime, until: datetime) -> tuple[Measure, ...]:
    """Return the metric over [since, until) for every subject that had requests, by subject.

    Usage without a subject, such as a request without a project, counts for no subject. The cost of calls that were given up or killed
    counts; everything else is about requests.

    Raises:
        StorageError: The database failed.
    """
    subject = _subject(per)
    window = (ModelUsage.created_at >= since, ModelUsage.created_at < until, subject.is_not(None))
    query = _percentile(subject, window) if metric == "p95_latency_ms" else _aggregate(metric, subject, window)
    with database.read() as session:
        return tuple(Measure(str(row[0]), float(row[1]), int(row[2])) for row in session.execute(query) if row[2])


def _subject(per: Per) -> ColumnElement[Any]:
    columns: dict[Per, Any] = {
        "model": ModelUsage.model,
        "key": ModelUsage.api_key_id,
        "project": ModelUsage.project_id,
        "domain": ModelUsage.domain,
    }
    return columns.get(per, literal("all"))


_REQUEST = ModelUsage.kind.in_(REQUEST_KINDS)


def _aggregate(
    metric: Metric, subject: ColumnElement[Any], window: tuple[ColumnElement[bool], ...]
) -> Select[Any, Any, Any]:
    requests = func.sum(case((_REQUEST, 1), else_=0))
    values: dict[Metric, ColumnElement[Any]] = {
        "cost_usd": func.sum(ModelUsage.cost_usd),
        "requests": requests,
        "error_rate": _share(_REQUEST & (ModelUsage.status == "failed")),
        "fallback_rate": _share(_REQUEST & ModelUsage.fallback),
    }
    counted = func.count() if metric == "cost_usd" else requests
    return select(subject, values[metric], counted).where(*window).group_by(subject).order_by(subject)


def _share(condition: ColumnElement[bool]) -> ColumnElement[float]:
    """Return the share of requests; 0 where there are none, which are left out anyway."""
    requests = func.sum(case((_REQUEST, 1.0), else_=0.0))
    return func.coalesce(func.sum(case((condition, 1.0), else_=0.0)) / func.nullif(requests, 0.0), 0.0)


def _percentile(subject: ColumnElement[Any], window: tuple[ColumnElement[bool], ...]) -> Select[Any, Any, Any]:
    """Take the nearest-rank 95th percentile, counted in the database: the window may hold millions of rows."""
    ranked = (
        select(
            subject.label("subject"),
            ModelUsage.latency_ms.label("ms"),
            func.row_number().over(partition_by=subject, order_by=ModelUsage.latency_ms).label("rank"),
            func.count().over(partition_by=subject).label("n"),
        )
        .where(*window, _REQUEST)
        .subquery()
    )
    nearest = (ranked.c.n * 95 + 99) // 100  # ⌈0.95 n⌉ in whole numbers
    return select(ranked.c.subject, ranked.c.ms, ranked.c.n).where(ranked.c.rank == nearest).order_by(ranked.c.subject)

"""What the first dashboard asks the database: cost, routing share, latency, retrieval.

Every query takes `since`, a moment with a time zone; None means from the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVarTuple

import numpy as np
from sqlalchemy import Select, String, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from modelyard.storage.database import Database
from modelyard.storage.tables import Message, ModelUsage

_Columns = TypeVarTuple("_Columns")

BATCH = 1000  # rows held at once where a query counts inside JSON


@dataclass(frozen=True, slots=True)
class DailyCost:
    """What one model cost on one day (UTC, `YYYY-MM-DD`)."""

    day: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class RoutingShare:
    """How many requests of a composite went to a model; `share` is of that composite's requests."""

    composite: str
    model: str
    requests: int
    share: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency of a model's answers in milliseconds."""

    model: str
    requests: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class RetrievalCounts:
    """How often retrieval found sources, and how often answers leaned on them."""

    requests: int
    with_sources: int
    with_citations: int
    sources: int
    cited_sources: int


class utc_day(GenericFunction[str]):  # noqa: N801  (named as it is called in SQL)
    """The UTC day of a moment as `YYYY-MM-DD`, in either database."""

    type = String()
    inherit_cache = True


@compiles(utc_day, "sqlite")
def _sqlite_day(element: utc_day, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"date({compiler.process(element.clauses, **kwargs)})"


@compiles(utc_day, "postgresql")
def _postgresql_day(element: utc_day, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"to_char({compiler.process(element.clauses, **kwargs)} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


def cost_per_model_per_day(database: Database, since: datetime | None = None) -> tuple[DailyCost, ...]:
    """Return cost and tokens by day and model, oldest day first."""
    day = utc_day(ModelUsage.created_at)
    query = select(
        day,
        ModelUsage.model,
        func.count(),
        func.sum(ModelUsage.prompt_tokens),
        func.sum(ModelUsage.completion_tokens),
        func.sum(ModelUsage.cost_usd),
    )
    query = _since(query, ModelUsage.created_at, since).group_by(day, ModelUsage.model).order_by(day, ModelUsage.model)
    with database.read() as session:
        return tuple(DailyCost(*row) for row in session.execute(query))


def routing_share(database: Database, since: datetime | None = None) -> tuple[RoutingShare, ...]:
    """Return each model's requests and share by composite, the busiest model first."""
    query = select(Message.composite, Message.model, func.count().label("requests"))
    query = _since(query, Message.created_at, since).group_by(Message.composite, Message.model)
    with database.read() as session:
        rows = [(composite, model, count) for composite, model, count in session.execute(query)]
    totals: dict[str, int] = {}
    for composite, _, count in rows:
        totals[composite] = totals.get(composite, 0) + count
    shares = (RoutingShare(composite, model, n, n / totals[composite]) for composite, model, n in rows)
    return tuple(sorted(shares, key=lambda row: (row.composite, -row.requests, row.model)))


def latency(database: Database, since: datetime | None = None) -> tuple[Latency, ...]:
    """Return the median and the 95th percentile (linear interpolation) of every model's latency."""
    query = _since(select(ModelUsage.model, ModelUsage.latency_ms), ModelUsage.created_at, since)
    by_model: dict[str, list[float]] = {}
    with database.read() as session:
        for model, ms in session.execute(query.execution_options(yield_per=BATCH)):
            by_model.setdefault(model, []).append(ms)
    return tuple(
        Latency(model, len(values), *(float(value) for value in np.percentile(values, (50, 95))))
        for model, values in sorted(by_model.items())
    )


def retrieval_counts(database: Database, since: datetime | None = None) -> RetrievalCounts:
    """Count the answers that had sources and the answers that cited them, and the sources themselves."""
    query = _since(select(Message.rag_sources), Message.created_at, since)
    requests = with_sources = with_citations = sources = cited_sources = 0
    with database.read() as session:
        for found in session.scalars(query.execution_options(yield_per=BATCH)):
            cited = sum(bool(source["cited"]) for source in found)
            requests += 1
            with_sources += bool(found)
            with_citations += bool(cited)
            sources += len(found)
            cited_sources += cited
    return RetrievalCounts(requests, with_sources, with_citations, sources, cited_sources)


def _since(
    query: Select[*_Columns], moment: InstrumentedAttribute[datetime], since: datetime | None
) -> Select[*_Columns]:
    return query if since is None else query.where(moment >= since)

"""How long answers took, in percentiles that the database takes: a window may hold millions of rows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from modelyard.storage.analytics.window import ANSWERED, Bucket, By, Only, Window, dimensions, moment_of
from modelyard.storage.database import Database
from modelyard.storage.tables import ModelUsage

PER_CENT: Final = (50, 95, 99)

_Group = tuple[str | None, str | None]  # bucket, subject
_Percentiles = tuple[int, float, float, float]  # how many values, and the percentiles
_NO_STREAM: Final = (0, None, None, None)


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency of a model's answers in milliseconds."""

    model: str
    requests: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Latencies:
    """Percentiles (linear interpolation) of the answered requests of one bucket and subject, in milliseconds.

    Failed and cancelled requests are left out, answers from the cache are not. Those of the first token are of the `streamed` answers,
    None where there are none.
    """

    at: datetime | None
    subject: str | None
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    streamed: int = 0
    first_token_p50_ms: float | None = None
    first_token_p95_ms: float | None = None
    first_token_p99_ms: float | None = None


def latencies(
    database: Database, window: Window, *, by: By | None = None, bucket: Bucket | None = None, where: Only | None = None
) -> tuple[Latencies, ...]:
    """Return the percentiles by time and subject, in that order; no row for a group without an answer.

    Raises:
        StorageError: The database failed.
    """
    conditions = (*window.conditions(ModelUsage.created_at), *(where or Only()).conditions(), ANSWERED)
    groups = dimensions(by, bucket)
    answers = _percentiles(database, ModelUsage.latency_ms, groups, conditions)
    first_tokens = _percentiles(database, ModelUsage.first_token_ms, groups, conditions)
    rows = [
        Latencies(moment_of(group[0]), group[1], *found, *first_tokens.get(group, _NO_STREAM))
        for group, found in answers.items()
    ]
    return tuple(sorted(rows, key=lambda row: (str(row.at), row.subject or "")))


def latency(database: Database, since: datetime | None = None) -> tuple[Latency, ...]:
    """Return the median and the 95th percentile of every model's latency.

    Raises:
        StorageError: The database failed.
    """
    return tuple(
        Latency(str(row.subject), row.requests, row.p50_ms, row.p95_ms)
        for row in latencies(database, Window(since), by="model")
    )


def _percentiles(
    database: Database,
    value: InstrumentedAttribute[Any],
    groups: tuple[ColumnElement[Any], ColumnElement[Any]],
    conditions: tuple[ColumnElement[bool], ...],
) -> dict[_Group, _Percentiles]:
    """Return the percentiles of every group that has values.

    The p-th percentile of n sorted values x₀ … x₍ₙ₋₁₎ lies at the place h = (n - 1) p: between the values at ⌊h⌋ and ⌊h⌋ + 1. Only those
    leave the database.
    """
    at, subject = groups
    ranked = (
        select(
            at.label("at"),
            subject.label("subject"),
            value.label("value"),
            (func.row_number().over(partition_by=groups, order_by=value) - 1).label("place"),
            func.count().over(partition_by=groups).label("n"),
        )
        .where(*conditions, value.is_not(None))
        .subquery()
    )
    places = [(ranked.c.n - 1) * share // 100 for share in PER_CENT]
    wanted = or_(*(ranked.c.place.in_((place, place + 1)) for place in places))
    query = select(ranked.c.at, ranked.c.subject, ranked.c.n, ranked.c.place, ranked.c.value).where(wanted)
    values: defaultdict[_Group, dict[int, float]] = defaultdict(dict)
    counts: dict[_Group, int] = {}
    with database.read() as session:
        for bucket, name, n, place, found in session.execute(query):
            counts[bucket, name] = n
            values[bucket, name][place] = found
    return {group: _taken(values[group], n) for group, n in counts.items()}


def _taken(values: dict[int, float], n: int) -> _Percentiles:
    p50, p95, p99 = (_interpolated(values, n, share) for share in PER_CENT)
    return n, p50, p95, p99


def _interpolated(values: dict[int, float], n: int, share: int) -> float:
    place, rest = divmod((n - 1) * share, 100)
    low = values[place]
    return low if rest == 0 else low + (values[place + 1] - low) * rest / 100

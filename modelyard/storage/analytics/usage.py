"""How much was asked and what it cost, and how often that failed, fell back or came from the cache."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, select

from modelyard.storage.analytics.window import IS_REQUEST, Bucket, By, Only, Window, dimensions, moment_of, utc_day
from modelyard.storage.database import Database
from modelyard.storage.tables import ModelUsage


@dataclass(frozen=True, slots=True)
class UsageFigures:
    """Sums over the usage of one bucket and subject.

    `requests` are those that came to an end. Tokens and cost take in the calls that were charged and given up, and the charges of
    killed processes (`orphans`), which are no requests.

    Attributes:
        at: When the bucket begins (UTC), None without buckets.
        subject: The model, key, project … asked for with `by`; None without it, and for usage that has none.
        failed: Requests that ended in an error.
        cancelled: Requests whose caller went away.
        fallbacks: Requests that another model or deployment than the chosen one answered.
        cache_hits: Requests that were answered from the cache of exact answers.
    """

    at: datetime | None
    subject: str | None
    requests: int
    failed: int
    cancelled: int
    fallbacks: int
    cache_hits: int
    orphans: int
    attempts: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_usd: float

    @property
    def error_rate(self) -> float | None:
        """The share of requests that failed, 0..1; None without requests."""
        return self._share(self.failed)

    @property
    def fallback_share(self) -> float | None:
        """The share of requests that fell back, 0..1; None without requests."""
        return self._share(self.fallbacks)

    @property
    def cache_hit_share(self) -> float | None:
        """The share of requests that the cache answered, 0..1; None without requests."""
        return self._share(self.cache_hits)

    def _share(self, part: int) -> float | None:
        return part / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class DailyCost:
    """What one model cost on one day (UTC, `YYYY-MM-DD`)."""

    day: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


def usage(
    database: Database, window: Window, *, by: By | None = None, bucket: Bucket | None = None, where: Only | None = None
) -> tuple[UsageFigures, ...]:
    """Return the figures by time and subject, in that order; one row for everything without `by` and `bucket`, none without usage.

    Raises:
        StorageError: The database failed.
    """
    at, subject = dimensions(by, bucket)
    query = (
        select(
            at.label("at"),
            subject.label("subject"),
            _count(IS_REQUEST),
            _count(IS_REQUEST & (ModelUsage.status == "failed")),
            _count(IS_REQUEST & (ModelUsage.status == "cancelled")),
            _count(IS_REQUEST & ModelUsage.fallback),
            _count(IS_REQUEST & ModelUsage.cache_hit),
            _count(ModelUsage.kind == "orphan"),
            func.sum(case((IS_REQUEST, ModelUsage.attempts), else_=0)),
            func.sum(ModelUsage.prompt_tokens),
            func.sum(ModelUsage.cached_tokens),
            func.sum(ModelUsage.completion_tokens),
            func.sum(ModelUsage.cost_usd),
        )
        .where(*window.conditions(ModelUsage.created_at), *(where or Only()).conditions())
        .group_by("at", "subject")
        .having(func.count() > 0)
    )
    with database.read() as session:
        rows = [UsageFigures(moment_of(row[0]), *row[1:]) for row in session.execute(query)]
    return tuple(sorted(rows, key=lambda row: (str(row.at), row.subject or "")))


def cost_per_model_per_day(database: Database, since: datetime | None = None) -> tuple[DailyCost, ...]:
    """Return cost and tokens by day and model, oldest day first.

    Raises:
        StorageError: The database failed.
    """
    day = utc_day(ModelUsage.created_at)
    query = (
        select(
            day.label("day"),
            ModelUsage.model,
            _count(IS_REQUEST),
            func.sum(ModelUsage.prompt_tokens),
            func.sum(ModelUsage.completion_tokens),
            func.sum(ModelUsage.cost_usd),
        )
        .where(*Window(since).conditions(ModelUsage.created_at))
        .group_by("day", ModelUsage.model)
    )
    with database.read() as session:
        rows = [DailyCost(*row) for row in session.execute(query)]
    return tuple(
        sorted(rows, key=lambda row: (row.day, row.model))
    )  # here, since databases disagree on the order of text


def _count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.sum(case((condition, 1), else_=0))

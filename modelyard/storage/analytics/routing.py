"""Which model answered the requests to a composite."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from modelyard.storage.analytics.window import ANSWERED, Bucket, Only, Window, dimensions, moment_of
from modelyard.storage.database import Database
from modelyard.storage.tables import ModelUsage


@dataclass(frozen=True, slots=True)
class RoutingShare:
    """How many answers of a composite came from a model; `share` (0..1) is of that composite's answers in the bucket."""

    composite: str
    model: str
    requests: int
    share: float
    at: datetime | None = None


def routing_shares(
    database: Database, window: Window, *, bucket: Bucket | None = None, where: Only | None = None
) -> tuple[RoutingShare, ...]:
    """Return each model's answers and share by time and composite, the busiest model first.

    With `where.model` or `where.deployment` the shares are of what they leave.

    Raises:
        StorageError: The database failed.
    """
    at, _ = dimensions(None, bucket)
    query = (
        select(at.label("at"), ModelUsage.composite, ModelUsage.model, func.count())
        .where(
            *window.conditions(ModelUsage.created_at),
            *(where or Only()).conditions(),
            ANSWERED,
            ModelUsage.composite.is_not(None),
        )
        .group_by("at", ModelUsage.composite, ModelUsage.model)
    )
    with database.read() as session:
        rows = [(bucket, str(composite), model, n) for bucket, composite, model, n in session.execute(query)]
    totals: defaultdict[tuple[str | None, str], int] = defaultdict(int)
    for begins, composite, _, count in rows:
        totals[begins, composite] += count
    shares = (
        RoutingShare(composite, model, count, count / totals[begins, composite], moment_of(begins))
        for begins, composite, model, count in rows
    )
    return tuple(sorted(shares, key=lambda row: (str(row.at), row.composite, -row.requests, row.model)))


def routing_share(database: Database, since: datetime | None = None) -> tuple[RoutingShare, ...]:
    """Return each model's answers and share by composite, the busiest model first.

    Raises:
        StorageError: The database failed.
    """
    return routing_shares(database, Window(since))

"""Routes of the analytics API: usage with its cost, latency, routing, savings and retrieval, by time and subject.

A key with the scope `admin` sees everything; one with the scope `analytics` alone sees its own project.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final

import pydantic
from fastapi import APIRouter, Query

from modelyard.control.keys import Principal
from modelyard.errors import Forbidden, InvalidInput
from modelyard.serving.admin.context import Context
from modelyard.serving.admin.records import LatencyRecord, RetrievalRecord, RoutingRecord, SavingRecord, UsageRecord
from modelyard.serving.admin.security import Analyst, sees_everything
from modelyard.storage import analytics
from modelyard.storage.analytics import Bucket, By, Only, Window
from modelyard.storage.tables import now

LONGEST: Final = {"hour": timedelta(days=92), "day": timedelta(days=3660), None: timedelta(days=36_600)}
DEFAULT_DAYS: Final = 7.0

router: Final = APIRouter(tags=["analytics"])


class Asked(pydantic.BaseModel):
    """Which usage: `since` (seven days before `until` where it is left out) up to `until` (now), with this model, key, project …."""

    model_config = pydantic.ConfigDict(extra="forbid")

    since: pydantic.AwareDatetime | None = None
    until: pydantic.AwareDatetime | None = None
    model: str | None = None
    deployment: str | None = None
    composite: str | None = None
    key: str | None = None
    project: str | None = None
    domain: str | None = None
    complexity: str | None = None
    kind: str | None = None

    def window(self, bucket: Bucket | None = None) -> Window:
        """Return the window.

        Raises:
            InvalidInput: It ends before it begins, or is too long for the bucket.
        """
        until = self.until or now()
        try:
            window = Window(self.since or until - timedelta(days=DEFAULT_DAYS), until)
        except OverflowError:
            raise InvalidInput(f"There is no moment {DEFAULT_DAYS:g} days before {until.isoformat()}.") from None
        if window.since is not None and until - window.since > LONGEST[bucket]:
            what = f"buckets of one {bucket}" if bucket else "everything at once"
            raise InvalidInput(f"A window of {what} holds at most {LONGEST[bucket].days} days.")
        return window

    def only(self, principal: Principal) -> Only:
        """Return what to look at, at most what the caller may see.

        Raises:
            Forbidden: The caller asks for another project than its own.
        """
        fields: dict[str, Any] = self.model_dump(exclude={"since", "until", "by", "bucket"})
        if not sees_everything(principal):
            if self.project not in {None, principal.project}:
                raise Forbidden(f"This key sees the usage of its own project only, not of {self.project!r}.")
            fields["project"] = principal.project
        return Only(**fields)


class AskedByTime(Asked):
    """… and by what to break it down in time."""

    bucket: Bucket | None = None


class AskedByTimeAndSubject(AskedByTime):
    """… and by model, key, project …."""

    by: By | None = None


@router.get("/usage")
def usage(asked: Annotated[AskedByTimeAndSubject, Query()], context: Context, principal: Analyst) -> list[UsageRecord]:
    """Return requests, tokens, cost, and the shares of errors, fallbacks and cache hits."""
    rows = analytics.usage(
        context.database, asked.window(asked.bucket), by=asked.by, bucket=asked.bucket, where=asked.only(principal)
    )
    return [UsageRecord.model_validate(row) for row in rows]


@router.get("/latency")
def latency(
    asked: Annotated[AskedByTimeAndSubject, Query()], context: Context, principal: Analyst
) -> list[LatencyRecord]:
    """Return percentiles of latency, and of the time to the first token."""
    rows = analytics.latencies(
        context.database, asked.window(asked.bucket), by=asked.by, bucket=asked.bucket, where=asked.only(principal)
    )
    return [LatencyRecord.model_validate(row) for row in rows]


@router.get("/routing")
def routing(asked: Annotated[AskedByTime, Query()], context: Context, principal: Analyst) -> list[RoutingRecord]:
    """Return which models answered each composite's requests."""
    rows = analytics.routing_shares(
        context.database, asked.window(asked.bucket), bucket=asked.bucket, where=asked.only(principal)
    )
    return [RoutingRecord.model_validate(row) for row in rows]


class AskedWindow(pydantic.BaseModel):
    """A window alone."""

    model_config = pydantic.ConfigDict(extra="forbid")

    since: pydantic.AwareDatetime | None = None
    until: pydantic.AwareDatetime | None = None

    def window(self) -> Window:
        """Return the window."""
        return Asked(since=self.since, until=self.until).window()


class AskedSavings(AskedWindow):
    """A window, and how far below the chosen model's score counts as equal."""

    margin: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.02


@router.get("/savings")
def savings(asked: Annotated[AskedSavings, Query()], context: Context, principal: Analyst) -> list[SavingRecord]:
    """Return traffic for which a cheaper model was predicted as good, the largest saving first; over all projects."""
    _must_see_everything(principal)
    window = asked.window()
    since = window.since or now()
    rows = analytics.saving_opportunities(context.database, since, until=window.until, margin=asked.margin)
    return [SavingRecord.model_validate(row) for row in rows]


@router.get("/retrieval")
def retrieval(asked: Annotated[AskedWindow, Query()], context: Context, principal: Analyst) -> RetrievalRecord:
    """Return how often retrieval found sources and answers cited them; over all projects."""
    _must_see_everything(principal)
    window = asked.window()
    return RetrievalRecord.model_validate(analytics.retrieval_counts(context.database, window.since, window.until))


def _must_see_everything(principal: Principal) -> None:
    if not sees_everything(principal):
        raise Forbidden("This looks at all projects and needs an API key with the scope 'admin'.")

"""The analytics API: usage with its cost, latency, routing, savings and retrieval. Every method raises `ApiError` where it is refused.

Windows run from `since` (seven days back, where it is left out) up to `until` (now); both need a time zone. `by` gives a row to each
model, deployment, composite, key, project, domain, complexity or kind, `bucket` to each hour or day; `only` leaves some, as in
`only={"model": "gpt", "domain": "forms"}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from modelyard.client.calls import Caller
from modelyard.serving.admin.records import LatencyRecord, RetrievalRecord, RoutingRecord, SavingRecord, UsageRecord

By = Literal["model", "deployment", "composite", "key", "project", "domain", "complexity", "kind"]
Bucket = Literal["hour", "day"]
Only = Mapping[By, str]


class Analytics:
    """Calls `/analytics`; the key needs the scope `admin`, or `analytics` to see its own project."""

    def __init__(self, caller: Caller) -> None:
        self._call = caller.call

    def usage(
        self,
        *,
        by: By | None = None,
        bucket: Bucket | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        only: Only | None = None,
    ) -> list[UsageRecord]:
        """Return requests, tokens, cost, and the shares of errors, fallbacks and cache hits."""
        params = {"by": by, "bucket": bucket, "since": since, "until": until, **(only or {})}
        return self._call("GET", "/analytics/usage", list[UsageRecord], params=params)

    def latency(
        self,
        *,
        by: By | None = None,
        bucket: Bucket | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        only: Only | None = None,
    ) -> list[LatencyRecord]:
        """Return percentiles of latency, and of the time to the first token."""
        params = {"by": by, "bucket": bucket, "since": since, "until": until, **(only or {})}
        return self._call("GET", "/analytics/latency", list[LatencyRecord], params=params)

    def routing(
        self,
        *,
        bucket: Bucket | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        only: Only | None = None,
    ) -> list[RoutingRecord]:
        """Return which models answered each composite's requests."""
        params = {"bucket": bucket, "since": since, "until": until, **(only or {})}
        return self._call("GET", "/analytics/routing", list[RoutingRecord], params=params)

    def savings(
        self, *, since: datetime | None = None, until: datetime | None = None, margin: float = 0.02
    ) -> list[SavingRecord]:
        """Return traffic for which a cheaper model was predicted at most `margin` worse, the largest saving first."""
        params = {"since": since, "until": until, "margin": margin}
        return self._call("GET", "/analytics/savings", list[SavingRecord], params=params)

    def retrieval(self, *, since: datetime | None = None, until: datetime | None = None) -> RetrievalRecord:
        """Return how often retrieval found sources and answers cited them."""
        return self._call("GET", "/analytics/retrieval", RetrievalRecord, params={"since": since, "until": until})

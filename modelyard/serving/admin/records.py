"""What goes over the wire of the admin API, for the server and the client alike.

Money is in USD, prices in USD per million tokens, times in UTC, durations in the unit that the name ends with, shares 0..1.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import pydantic

from modelyard.serving.admin.text import check_text

Scope = Literal["chat", "embeddings", "moderations", "feedback", "admin", "analytics"]
Name = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=200)]
Reason = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


class Record(pydantic.BaseModel):
    """A response; fields that a newer server adds are kept."""

    model_config = pydantic.ConfigDict(extra="allow", from_attributes=True)


class Asked(pydantic.BaseModel):
    """A request; a field that is not known is an error, since it would do nothing."""

    model_config = pydantic.ConfigDict(extra="forbid")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _storable(cls, found: Any) -> Any:
        check_text(found)
        return found


class PriceRecord(Record):
    """A list price: USD per million tokens, and USD per call."""

    input: float
    output: float
    request: float
    cached_input: float | None = None


class ModelRecord(Record):
    """A base model."""

    name: str
    kind: str
    enabled: bool
    served: bool
    price: PriceRecord
    price_from: str | None = None
    context_window: int
    output_tokens: int
    max_output_tokens: int | None = None
    image_tokens: int | None = None
    capabilities: list[str] = []
    embeddings: bool = False
    moderations: bool = False
    deployments: list[str] = []


class CompositeRecord(Record):
    """A composite model."""

    name: str
    description: str
    candidates: list[str]
    fallback: str
    fallbacks: list[str] = []
    passages: int
    cost_weight: float | None = None
    equal_margin: float = 0.0
    sticky: str = "off"
    switch_weight: float = 1.0
    response_cache_s: float = 0.0
    response_cache_shared: bool = False
    enabled: bool = True
    left_out: list[str] = []


class DeploymentRecord(Record):
    """A deployment: where a base model is reached, and how it fares in this process; `api_key_env` names a variable, never a key.

    `health` is `up`, `down`, `unknown` before the first probe or call, or `off`; `state` says why.
    """

    name: str
    model: str
    base_url: str
    upstream_model: str | None = None
    api_key_env: str | None = None
    weight: float
    max_concurrent: int
    timeout_s: float | None = None
    batch_price_factor: float = 1.0
    enabled: bool
    health: Literal["up", "down", "unknown", "off"] = "unknown"
    state: dict[str, Any] = {}


class Registration(Asked):
    """A new base model or composite: its name and the fields of its TOML table."""

    name: Name
    fields: dict[str, Any]


class Changes(Asked):
    """New values for some fields of a model, composite or deployment; `enabled` switches it on or off."""

    changes: Annotated[dict[str, Any], pydantic.Field(min_length=1)]


class CatalogRecord(Record):
    """The catalogue's revision, which every change raises; what an operator should know of it, and why it could not be read anew."""

    revision: int
    notices: list[str] = []
    problem: str | None = None


class KeyRecord(Record):
    """An API key, without its secret; `replaced_by` names the key whose older secret this row keeps for its grace."""

    id: str
    name: str
    project: str
    project_id: str
    prefix: str
    scopes: list[str]
    model_types: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: str | None
    last_used_at: datetime | None


class NewKeyRecord(Record):
    """A key that was just made, or given a new secret: the only time that `key` is shown."""

    id: str
    key: str
    project_id: str


class NewKey(Asked):
    """What a new key may do: in which project, for which base models or composites (None: all), and until when."""

    project: Name
    name: Name
    scopes: Annotated[list[Scope], pydantic.Field(min_length=1)]
    model_types: list[Name] | None = None
    expires_at: pydantic.AwareDatetime | None = None


class Rotation(Asked):
    """For how long the old secret stays valid beside the new one, in seconds."""

    grace_s: Annotated[float, pydantic.Field(ge=0, le=90 * 86_400)] = 0.0


class QuotaRecord(Record):
    """Limits of a key, a project or a model type; None is no limit."""

    scope: Literal["key", "project", "model_type"]
    subject: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    usd_per_day: float | None = None
    usd_per_month: float | None = None


class NewQuota(Asked):
    """Limits of a key (by id or prefix), a project (by id or name) or a model type; they take the place of those that it had."""

    scope: Literal["key", "project", "model_type"]
    subject: Name
    requests_per_minute: Annotated[int, pydantic.Field(ge=0)] | None = None
    tokens_per_minute: Annotated[int, pydantic.Field(ge=0)] | None = None
    usd_per_day: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] | None = None
    usd_per_month: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] | None = None


class ProjectRecord(Record):
    """A project: what keys, limits and costs are counted for."""

    id: str
    name: str
    created_at: datetime


class ChampionRecord(Record):
    """Which version of a component serves: state `ok`, `none` or `broken`, and more in words."""

    component: str
    state: str
    detail: str
    version: str | None = None


class MoveRecord(Record):
    """A move of a champion, and whether it took effect."""

    number: int | None
    component: str
    action: str
    from_version: str | None
    to_version: str
    who: str
    reason: str
    run_ids: list[str]
    verdict: dict[str, Any] | None
    at: datetime
    took_effect: bool


class Promotion(Asked):
    """A promotion: the gate reads the verdict, which must be about this version and against today's champion."""

    component: Literal["classifier", "router"]
    version: Name
    reason: Reason
    verdict: dict[str, Any]


class Rollback(Asked):
    """A return to the champion before."""

    component: Literal["classifier", "router"]
    reason: Reason


class AlertRecord(Record):
    """A line that was crossed, or a saving; `resolved_at` says since when it is past."""

    id: int
    kind: str
    severity: str
    subject: str
    message: str
    value: float | None
    line: float | None
    created_at: datetime
    resolved_at: datetime | None
    details: dict[str, Any] | None = None


class FlagRuleRecord(Asked):
    """For units whose attribute has one of these values, a flag is on or not, whatever its share says."""

    attribute: Name
    values: Annotated[list[str], pydantic.Field(min_length=1)]
    on: bool = True


class FlagRecord(Record):
    """A rollout flag."""

    name: str
    description: str = ""
    enabled: bool = False
    share: float = 1.0
    rules: list[FlagRuleRecord] = []


class NewFlag(Asked):
    """What a flag is to be."""

    description: str = ""
    enabled: bool = False
    share: Annotated[float, pydantic.Field(ge=0, le=1)] = 1.0
    rules: list[FlagRuleRecord] = []


class CacheRecord(Record):
    """What a cache did since this process started; the rate is None before its first look-up."""

    name: str
    hits: int
    misses: int
    hit_rate: float | None
    entries: int
    bytes: int
    evicted: int
    expired: int
    refused: int


class DeletedRecord(Record):
    """How many rows of each table were deleted."""

    deleted: dict[str, int]


class UsageRecord(Record):
    """What was asked, what it cost and how it went, of one bucket of time and one subject.

    Tokens and cost take in calls that were charged and given up, and the charges of killed processes (`orphans`), which are no requests.
    Shares are of `requests`, and None without any.
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
    error_rate: float | None
    fallback_share: float | None
    cache_hit_share: float | None


class LatencyRecord(Record):
    """Percentiles of the answered requests of one bucket and subject, in milliseconds; those of the first token where any was streamed."""

    at: datetime | None
    subject: str | None
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    streamed: int
    first_token_p50_ms: float | None
    first_token_p95_ms: float | None
    first_token_p99_ms: float | None


class RoutingRecord(Record):
    """How many answers of a composite came from a model, and which share of the composite's answers that is."""

    at: datetime | None
    composite: str
    model: str
    requests: int
    share: float


class SavingRecord(Record):
    """Traffic of a domain on one model for which a cheaper one was predicted as good: its share, and what moving it would save."""

    domain: str
    model: str
    alternative: str
    requests: int
    share: float
    usd_a_day: float


class RetrievalRecord(Record):
    """How often retrieval found sources, and how often answers cited them."""

    requests: int
    with_sources: int
    with_citations: int
    sources: int
    cited_sources: int

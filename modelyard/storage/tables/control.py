"""Who may call, how much, and what operators are told and can switch."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelyard.storage.tables.base import ID, NAME, Base, now, one_of, ordered_id

SCOPES = ("key", "project", "model_type")
DELETED = ("user", "project")


class Project(Base):
    """Whoever keys, messages and spending belong to."""

    __tablename__ = "project"

    id: Mapped[str] = mapped_column(String(ID), primary_key=True, default=ordered_id)
    name: Mapped[str] = mapped_column(String(NAME), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict[str, Any])


class ApiKey(Base):
    """An API key: found by its prefix, checked by its argon2 hash; the key itself is stored nowhere."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(String(ID), primary_key=True, default=ordered_id)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(NAME))
    prefix: Mapped[str] = mapped_column(String(20), unique=True, index=True)
    hash: Mapped[str] = mapped_column(String(200))
    scopes: Mapped[list[str]]
    model_types: Mapped[list[str] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None] = mapped_column(String(ID))
    last_used_at: Mapped[datetime | None]


class Quota(Base):
    """What a key, a project or a model type may use; None is no limit."""

    __tablename__ = "quota"
    __table_args__ = (one_of("scope", SCOPES), UniqueConstraint("scope", "subject"))

    id: Mapped[int] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(String(20))
    subject: Mapped[str] = mapped_column(String(NAME))
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    usd_per_day: Mapped[float | None]
    usd_per_month: Mapped[float | None]


class Spending(Base):
    """What was spent in one UTC day (`YYYY-MM-DD`) or month (`YYYY-MM`)."""

    __tablename__ = "spending"
    __table_args__ = (one_of("scope", SCOPES),)

    scope: Mapped[str] = mapped_column(String(20), primary_key=True)
    subject: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    period: Mapped[str] = mapped_column(String(10), primary_key=True)
    spent_usd: Mapped[float] = mapped_column(default=0.0)


class Alert(Base):
    """A line that was crossed, open until `resolved_at`."""

    __tablename__ = "alert"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(NAME))
    severity: Mapped[str] = mapped_column(String(20))
    subject: Mapped[str] = mapped_column(String(NAME))
    message: Mapped[str] = mapped_column(Text)
    value: Mapped[float]
    line: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    resolved_at: Mapped[datetime | None]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict[str, Any])


class RolloutFlag(Base):
    """A switch: off, on for a share of units, or by the rules."""

    __tablename__ = "rollout_flag"

    name: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    description: Mapped[str] = mapped_column(Text, default="")
    enabled: Mapped[bool] = mapped_column(default=False)
    share: Mapped[float] = mapped_column(default=1.0)
    rules: Mapped[list[dict[str, Any]]] = mapped_column(default=list[dict[str, Any]])
    updated_at: Mapped[datetime] = mapped_column(default=now)
    updated_by: Mapped[str] = mapped_column(String(NAME))


class StoredSetting(Base):
    """Something that operators set while everything runs, in the place of what a file says, such as the rules of alerts."""

    __tablename__ = "stored_setting"

    name: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    value: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime] = mapped_column(default=now)
    updated_by: Mapped[str] = mapped_column(String(NAME))


class Deletion(Base):
    """A user or project whose rows were deleted: what comes later out of a spool, or was under way, is not stored again.

    `subject` is a digest: the name itself would be the one thing that is kept of the user for ever.
    """

    __tablename__ = "deletion"
    __table_args__ = (one_of("kind", DELETED), Index(None, "kind", "subject"))

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    subject: Mapped[str] = mapped_column(String(64))
    deleted_at: Mapped[datetime] = mapped_column(default=now)
    keep_charges: Mapped[bool] = mapped_column(default=False)

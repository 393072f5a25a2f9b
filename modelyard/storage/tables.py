"""The tables, one schema for SQLite and PostgreSQL. Times are UTC, money is USD, durations are milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import JSON, CheckConstraint, DateTime, Dialect, ForeignKey, Index, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

# Names that both databases and every later migration agree on.
NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in time: stored as UTC, read back with its time zone also where the database (SQLite) keeps none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC.

        Raises:
            ValueError: The moment has no time zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a stored moment needs a time zone, but got {value!r}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Attach or convert to UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    """Return this moment in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """The declarative base; its metadata is what the migrations must add up to."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it as a plain class attribute)
        datetime: UtcDateTime,
        dict[str, Any]: JSON(none_as_null=True),
        list[dict[str, Any]]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
    }


class Message(Base):
    """One answered prompt with everything that explains it; `id` is the answer's id."""

    __tablename__ = "message"
    __table_args__ = (CheckConstraint("status IN ('complete', 'degraded')", name="status"),)

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    composite: Mapped[str] = mapped_column(String(200))
    prompt: Mapped[str] = mapped_column(Text)
    answer: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(String(200))
    domain: Mapped[str] = mapped_column(String(80))
    complexity: Mapped[str] = mapped_column(String(80))
    status: Mapped[str] = mapped_column(String(20))
    model_metadata: Mapped[dict[str, Any]]
    rag_sources: Mapped[list[dict[str, Any]]]
    processing_metadata: Mapped[list[dict[str, Any]]]


class ModelUsage(Base):
    """What one base-model call cost; `estimated` where the upstream did not report tokens itself."""

    __tablename__ = "model_usage"

    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[str] = mapped_column(ForeignKey("message.id", ondelete="CASCADE"), index=True)
    model: Mapped[str] = mapped_column(String(200))
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cost_usd: Mapped[float]
    latency_ms: Mapped[float]
    estimated: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


class Feedback(Base):
    """What a person said about one answer; rating 1 (bad) to 5 (good)."""

    __tablename__ = "feedback"
    __table_args__ = (CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[str] = mapped_column(ForeignKey("message.id", ondelete="CASCADE"), index=True)
    rating: Mapped[int | None]
    correction: Mapped[str | None] = mapped_column(Text)
    wrong_model: Mapped[bool]
    comment: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)


class AliasChange(Base):
    """One move of a registry alias: who, when, from, to, why, and the runs and verdict behind it."""

    __tablename__ = "alias_change"
    __table_args__ = (
        CheckConstraint("action IN ('promote', 'rollback', 'bootstrap')", name="action"),
        Index(None, "component", "alias"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    who: Mapped[str] = mapped_column(String(200))
    component: Mapped[str] = mapped_column(String(80))
    alias: Mapped[str] = mapped_column(String(80))
    from_version: Mapped[str | None] = mapped_column(String(80))
    to_version: Mapped[str] = mapped_column(String(80))
    reason: Mapped[str] = mapped_column(Text)
    run_ids: Mapped[list[str]]
    verdict: Mapped[dict[str, Any] | None]
    action: Mapped[str] = mapped_column(String(20))

"""Who may ask, how much, and what was spent."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelyard.storage.tables.base import Base, now


class ApiKey(Base):
    """An API key; only its argon2 hash is kept. `prefix` finds it; `model_types` null means all of them."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(40), unique=True)
    hash: Mapped[str] = mapped_column(String(200))
    scopes: Mapped[list[str]]
    model_types: Mapped[list[str] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None] = mapped_column(String(80))
    last_used_at: Mapped[datetime | None]


class Quota(Base):
    """Limits of one key, project or model type; null is no limit. `subject` is a key's id, a project's id or a model's name."""

    __tablename__ = "quota"
    __table_args__ = (
        CheckConstraint("scope IN ('key', 'project', 'model_type')", name="scope"),
        UniqueConstraint("scope", "subject"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(String(20))
    subject: Mapped[str] = mapped_column(String(200))
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    usd_per_day: Mapped[float | None]
    usd_per_month: Mapped[float | None]
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class Spending(Base):
    """What one subject of a quota spent in one period: a day `YYYY-MM-DD` or a month `YYYY-MM`, UTC."""

    __tablename__ = "spending"

    scope: Mapped[str] = mapped_column(String(20), primary_key=True)
    subject: Mapped[str] = mapped_column(String(200), primary_key=True)
    period: Mapped[str] = mapped_column(String(10), primary_key=True)
    spent_usd: Mapped[float]

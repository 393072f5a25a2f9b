"""What operators watch and switch."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from modelyard.storage.tables.base import Base, now


class Alert(Base):
    """A line that was crossed, or a saving that was found; `resolved_at` is null while it stands."""

    __tablename__ = "alert"
    __table_args__ = (CheckConstraint("severity IN ('info', 'warning', 'critical')", name="severity"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    severity: Mapped[str] = mapped_column(String(20))
    subject: Mapped[str] = mapped_column(String(200))
    message: Mapped[str] = mapped_column(Text)
    value: Mapped[float]
    line: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    resolved_at: Mapped[datetime | None]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)


class RolloutFlag(Base):
    """A switch; `share` of the units see it where it is enabled, and `rules` say who sees it anyway."""

    __tablename__ = "rollout_flag"
    __table_args__ = (CheckConstraint("share BETWEEN 0 AND 1", name="share"),)

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    description: Mapped[str] = mapped_column(Text)
    enabled: Mapped[bool]
    share: Mapped[float]
    rules: Mapped[dict[str, Any]] = mapped_column(default=dict)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)
    updated_by: Mapped[str] = mapped_column(String(200))

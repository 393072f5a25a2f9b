"""What people said about answers, what was tried on whom, and which versions went live because of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from modelyard.storage.tables.base import ID, NAME, Base, CleanText, GivenName, now, one_of, ordered_id


class Feedback(Base):
    """What a person said about one answer; rating 1 (bad) to 5 (good)."""

    __tablename__ = "feedback"
    __table_args__ = (CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[str] = mapped_column(ForeignKey("message.id", ondelete="CASCADE"), index=True)
    rating: Mapped[int | None]
    correction: Mapped[str | None] = mapped_column(CleanText)
    wrong_model: Mapped[bool]
    comment: Mapped[str | None] = mapped_column(CleanText)
    created_at: Mapped[datetime] = mapped_column(default=now)
    user_id: Mapped[str | None] = mapped_column(GivenName, index=True)
    project_id: Mapped[str | None] = mapped_column(String(ID), index=True)


class Experiment(Base):
    """A comparison on live traffic."""

    __tablename__ = "experiment"

    id: Mapped[str] = mapped_column(String(ID), primary_key=True, default=ordered_id)
    name: Mapped[str] = mapped_column(String(NAME), index=True)
    kind: Mapped[str] = mapped_column(String(ID))
    config: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(20))
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    verdict: Mapped[dict[str, Any] | None]


class Exposure(Base):
    """A unit (a message, conversation or user) met an arm, with the probability that it would."""

    __tablename__ = "exposure"
    __table_args__ = (Index(None, "experiment_id", "created_at"),)

    id: Mapped[str] = mapped_column(String(ID), primary_key=True, default=ordered_id)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"))
    message_id: Mapped[str | None] = mapped_column(String(ID), index=True)
    arm: Mapped[str] = mapped_column(String(NAME))
    propensity: Mapped[float]
    unit: Mapped[str] = mapped_column(GivenName, index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class AliasChange(Base):
    """One move of a registry alias: who, when, from, to, why, and the runs and verdict behind it."""

    __tablename__ = "alias_change"
    __table_args__ = (one_of("action", ("promote", "rollback", "bootstrap")), Index(None, "component", "alias"))

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    who: Mapped[str] = mapped_column(String(NAME))
    component: Mapped[str] = mapped_column(String(ID))
    alias: Mapped[str] = mapped_column(String(ID))
    from_version: Mapped[str | None] = mapped_column(String(ID))
    to_version: Mapped[str] = mapped_column(String(ID))
    reason: Mapped[str] = mapped_column(Text)
    run_ids: Mapped[list[str]]
    verdict: Mapped[dict[str, Any] | None]
    action: Mapped[str] = mapped_column(String(20))

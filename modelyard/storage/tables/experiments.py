"""Experiments while serving, and the history of what became champion."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from modelyard.storage.tables.base import Base, now


class Experiment(Base):
    """An experiment on live traffic: its plan, written before, and its verdict."""

    __tablename__ = "experiment"
    __table_args__ = (CheckConstraint("status IN ('planned', 'running', 'stopped', 'decided')", name="status"),)

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    kind: Mapped[str] = mapped_column(String(40))
    config: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(20))
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    verdict: Mapped[dict[str, Any] | None]


class Exposure(Base):
    """Which arm of an experiment one message saw, and with which probability."""

    __tablename__ = "exposure"
    __table_args__ = (Index(None, "experiment_id", "created_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"))
    message_id: Mapped[str] = mapped_column(String(80), index=True)
    unit: Mapped[str] = mapped_column(String(200))
    arm: Mapped[str] = mapped_column(String(80))
    propensity: Mapped[float]
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

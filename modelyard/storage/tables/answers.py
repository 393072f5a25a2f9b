"""Answers, what they used, and what was said about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from modelyard.storage.tables.base import Base, now


class Project(Base):
    """What keys, limits and costs are counted for."""

    __tablename__ = "project"

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Message(Base):
    """One prompt with its answer and everything that explains it; `id` is the answer's id.

    `prompt` and `answer` are null where texts are not kept. `user_id` is the application's own name for its user.
    """

    __tablename__ = "message"
    __table_args__ = (
        CheckConstraint("status IN ('complete', 'degraded', 'failed', 'cancelled')", name="status"),
        Index(None, "project_id", "created_at"),
        Index(None, "user_id", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    composite: Mapped[str] = mapped_column(String(200))
    prompt: Mapped[str | None] = mapped_column(Text)
    answer: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str] = mapped_column(String(200))
    domain: Mapped[str] = mapped_column(String(80))
    complexity: Mapped[str] = mapped_column(String(80))
    status: Mapped[str] = mapped_column(String(20))
    project_id: Mapped[str | None] = mapped_column(String(80))
    api_key_id: Mapped[str | None] = mapped_column(String(80))
    user_id: Mapped[str | None] = mapped_column(String(200))
    conversation: Mapped[str | None] = mapped_column(String(200))
    request_id: Mapped[str | None] = mapped_column(String(80))
    model_metadata: Mapped[dict[str, Any]]
    rag_sources: Mapped[list[dict[str, Any]]]
    processing_metadata: Mapped[list[dict[str, Any]]]


class Fragment(Base):
    """A piece of an answer: `answer[start:end]`, in characters."""

    __tablename__ = "fragment"
    __table_args__ = (CheckConstraint("kind IN ('text', 'code', 'citation')", name="kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[str] = mapped_column(ForeignKey("message.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    kind: Mapped[str] = mapped_column(String(20))
    language: Mapped[str | None] = mapped_column(String(40))
    text: Mapped[str] = mapped_column(Text)
    start: Mapped[int]
    end: Mapped[int]


class ModelUsage(Base):
    """What one base-model call cost; `estimated` where the upstream did not report tokens itself.

    `id` is given by whoever writes the row, so that a row written again changes nothing. `message_id` is no foreign key: the charge of a
    call that was killed has no message, and what was paid stays counted when a message is deleted. `kind` is `orphan` for such a charge.
    """

    __tablename__ = "model_usage"
    __table_args__ = (
        CheckConstraint("kind IN ('chat', 'embedding', 'moderation', 'orphan')", name="kind"),
        CheckConstraint("status IN ('ok', 'failed', 'cancelled', 'orphaned')", name="status"),
        # Analytics ask by time, and by time within one model, project, key or domain.
        Index(None, "model", "created_at"),
        Index(None, "project_id", "created_at"),
        Index(None, "api_key_id", "created_at"),
        Index(None, "domain", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    message_id: Mapped[str | None] = mapped_column(String(80), index=True)
    model: Mapped[str] = mapped_column(String(200))
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cost_usd: Mapped[float]
    latency_ms: Mapped[float]
    estimated: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    kind: Mapped[str] = mapped_column(String(20), default="chat", server_default="chat")
    status: Mapped[str] = mapped_column(String(20), default="ok", server_default="ok")
    project_id: Mapped[str | None] = mapped_column(String(80))
    api_key_id: Mapped[str | None] = mapped_column(String(80))
    user_id: Mapped[str | None] = mapped_column(String(200))
    deployment: Mapped[str | None] = mapped_column(String(200))
    composite: Mapped[str | None] = mapped_column(String(200))
    domain: Mapped[str | None] = mapped_column(String(80))
    complexity: Mapped[str | None] = mapped_column(String(80))
    cached_tokens: Mapped[int] = mapped_column(default=0, server_default="0")
    attempts: Mapped[int] = mapped_column(default=1, server_default="1")
    fallback: Mapped[bool] = mapped_column(default=False, server_default=false())
    cache_hit: Mapped[bool] = mapped_column(default=False, server_default=false())
    error_kind: Mapped[str | None] = mapped_column(String(40))
    first_token_ms: Mapped[float | None]


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
    project_id: Mapped[str | None] = mapped_column(String(80))
    user_id: Mapped[str | None] = mapped_column(String(200))

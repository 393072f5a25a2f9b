"""What was asked, answered and charged."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from modelyard.storage.tables.base import ID, NAME, Base, CleanText, GivenName, now, one_of, ordered_id

STATUSES: Final = ("complete", "degraded", "failed", "cancelled", "orphaned")
REQUEST_KINDS: Final = ("chat", "embedding", "moderation", "batch")  # one such row for each request
USAGE_KINDS: Final = (*REQUEST_KINDS, "attempt", "orphan")
AMOUNTS: Final = (
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "cost_usd",
)  # never negative: budgets add them up


class Message(Base):
    """One prompt with what came of it and everything that explains it; `id` is the answer's id.

    `prompt` and `answer` are None where texts are not to be stored. `user_id` and `conversation` are the caller's own names.
    """

    __tablename__ = "message"
    __table_args__ = (
        one_of("status", STATUSES),
        Index(None, "project_id", "created_at"),
        # Only for finding what one user said: few callers name their users.
        Index(
            None,
            "user_id",
            sqlite_where=text("user_id IS NOT NULL"),
            postgresql_where=text("user_id IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(ID), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    project_id: Mapped[str | None] = mapped_column(String(ID))
    api_key_id: Mapped[str | None] = mapped_column(String(ID))
    user_id: Mapped[str | None] = mapped_column(GivenName)
    conversation: Mapped[str | None] = mapped_column(GivenName)
    request_id: Mapped[str | None] = mapped_column(GivenName)
    composite: Mapped[str] = mapped_column(String(NAME))
    prompt: Mapped[str | None] = mapped_column(CleanText)
    answer: Mapped[str | None] = mapped_column(CleanText)
    model: Mapped[str] = mapped_column(String(NAME))
    domain: Mapped[str] = mapped_column(String(ID))
    complexity: Mapped[str] = mapped_column(String(ID))
    status: Mapped[str] = mapped_column(String(20))
    model_metadata: Mapped[dict[str, Any]]
    rag_sources: Mapped[list[dict[str, Any]]]
    processing_metadata: Mapped[list[dict[str, Any]]]


class Fragment(Base):
    """A piece of an answer, `text == answer[start:end]` in characters; a citation's `text` names its source instead."""

    __tablename__ = "fragment"
    __table_args__ = (one_of("kind", ("text", "code", "citation")), Index(None, "message_id", "position"))

    id: Mapped[str] = mapped_column(String(ID), primary_key=True, default=ordered_id)
    message_id: Mapped[str] = mapped_column(ForeignKey("message.id", ondelete="CASCADE"))
    position: Mapped[int]
    kind: Mapped[str] = mapped_column(String(20))
    text: Mapped[str] = mapped_column(CleanText)
    language: Mapped[str | None] = mapped_column(String(ID))
    start: Mapped[int]
    end: Mapped[int]


class ModelUsage(Base):
    """What was charged; `estimated` where the upstream did not report tokens itself.

    A request has one row of a kind in `REQUEST_KINDS`: its own tokens, cost and latency, and how many `attempts` it took. Beside it may
    stand rows of kind `attempt`, for calls that were charged and then given up, and rows of kind `orphan`, for calls of a process that
    was killed, at their reserved cost. The writer gives the ids, so that writing a row twice makes one.

    `message_id` is no foreign key: usage outlives the message, and orphans may have none.
    """

    __tablename__ = "model_usage"
    __table_args__ = (
        one_of("kind", USAGE_KINDS),
        one_of("status", STATUSES),
        CheckConstraint(" AND ".join(f"{column} >= 0" for column in AMOUNTS), name="amounts"),
        Index(None, "project_id", "created_at"),
        Index(None, "api_key_id", "created_at"),
        Index(None, "model", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(ID), primary_key=True, default=ordered_id)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    message_id: Mapped[str | None] = mapped_column(String(ID), index=True)
    project_id: Mapped[str | None] = mapped_column(String(ID))
    api_key_id: Mapped[str | None] = mapped_column(String(ID))
    kind: Mapped[str] = mapped_column(String(20), default="chat")
    status: Mapped[str] = mapped_column(String(20), default="complete")
    error_kind: Mapped[str | None] = mapped_column(String(40))
    composite: Mapped[str | None] = mapped_column(String(NAME))
    model: Mapped[str] = mapped_column(String(NAME))
    deployment: Mapped[str | None] = mapped_column(String(NAME))
    domain: Mapped[str | None] = mapped_column(String(ID))
    complexity: Mapped[str | None] = mapped_column(String(ID))
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int] = mapped_column(default=0)
    completion_tokens: Mapped[int]
    cost_usd: Mapped[float]
    estimated: Mapped[bool]
    latency_ms: Mapped[float]
    first_token_ms: Mapped[float | None]
    attempts: Mapped[int] = mapped_column(default=1)
    fallback: Mapped[bool] = mapped_column(default=False)
    cache_hit: Mapped[bool] = mapped_column(default=False)

"""What was configured at run time, and the knowledge bases."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelyard.storage.tables.base import Base, now


class ModelConfig(Base):
    """One change over the catalogue's files; `revision` grows with every change of any row, so that processes can see that one happened."""

    __tablename__ = "model_config"
    __table_args__ = (
        CheckConstraint("kind IN ('model', 'composite', 'deployment')", name="kind"),
        UniqueConstraint("kind", "name"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(200))
    body: Mapped[dict[str, Any]]
    enabled: Mapped[bool]
    revision: Mapped[int] = mapped_column(index=True)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)
    updated_by: Mapped[str] = mapped_column(String(200))


class KnowledgeBase(Base):
    """A knowledge base; `version` is what serves, `embedder` the fingerprint that its vectors were made with."""

    __tablename__ = "knowledge_base"

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    version: Mapped[str | None] = mapped_column(String(80))
    embedder: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=now)
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)


class KnowledgeSource(Base):
    """One document's origin; `uri` says where, `sha256` what was found there."""

    __tablename__ = "knowledge_source"
    __table_args__ = (
        CheckConstraint("status IN ('current', 'failed', 'gone')", name="status"),
        UniqueConstraint("knowledge_base_id", "uri"),
    )

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    knowledge_base_id: Mapped[str] = mapped_column(ForeignKey("knowledge_base.id", ondelete="CASCADE"))
    uri: Mapped[str] = mapped_column(String(2000))
    kind: Mapped[str] = mapped_column(String(40))
    sha256: Mapped[str | None] = mapped_column(String(64))
    title: Mapped[str | None] = mapped_column(String(500))
    fetched_at: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(String(20))
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)

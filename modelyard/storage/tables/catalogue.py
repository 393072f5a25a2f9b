"""What operators changed over the catalogue's TOML, and the knowledge that answers lean on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelyard.storage.tables.base import ID, NAME, Base, now, one_of, ordered_id


class ModelConfig(Base):
    """A model, composite or deployment as an operator set it; lies over the entry of that name in the TOML file."""

    __tablename__ = "model_config"
    __table_args__ = (one_of("kind", ("model", "composite", "deployment")), UniqueConstraint("kind", "name"))

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(NAME))
    body: Mapped[dict[str, Any]]
    enabled: Mapped[bool] = mapped_column(default=True)
    revision: Mapped[int] = mapped_column(index=True)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)
    updated_by: Mapped[str] = mapped_column(String(NAME))


class KnowledgeBase(Base):
    """Documents that were indexed together."""

    __tablename__ = "knowledge_base"

    id: Mapped[str] = mapped_column(String(ID), primary_key=True, default=ordered_id)
    name: Mapped[str] = mapped_column(String(NAME), unique=True)
    version: Mapped[str] = mapped_column(String(ID))
    embedder: Mapped[str] = mapped_column(String(NAME))
    created_at: Mapped[datetime] = mapped_column(default=now)
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict[str, Any])


class KnowledgeSource(Base):
    """One document of a knowledge base, as it was fetched; `facts` is the column `metadata`."""

    __tablename__ = "knowledge_source"

    id: Mapped[str] = mapped_column(String(ID), primary_key=True, default=ordered_id)
    knowledge_base_id: Mapped[str] = mapped_column(ForeignKey("knowledge_base.id", ondelete="CASCADE"), index=True)
    uri: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(ID))
    sha256: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(Text)
    fetched_at: Mapped[datetime]
    status: Mapped[str] = mapped_column(String(20))
    facts: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict[str, Any])

"""How often retrieval found sources, and how often answers leaned on them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select

from modelyard.storage.analytics.window import Window
from modelyard.storage.database import Database
from modelyard.storage.tables import Message

BATCH: Final = 1000  # rows held at once, since this counts inside JSON


@dataclass(frozen=True, slots=True)
class RetrievalCounts:
    """How often retrieval found sources, and how often answers leaned on them."""

    requests: int
    with_sources: int
    with_citations: int
    sources: int
    cited_sources: int


def retrieval_counts(
    database: Database, since: datetime | None = None, until: datetime | None = None
) -> RetrievalCounts:
    """Count the answers that had sources and the answers that cited them, and the sources themselves.

    Raises:
        StorageError: The database failed.
    """
    query = select(Message.rag_sources).where(*Window(since, until).conditions(Message.created_at))
    requests = with_sources = with_citations = sources = cited_sources = 0
    with database.read() as session:
        for found in session.scalars(query.execution_options(yield_per=BATCH)):
            cited = sum(bool(source["cited"]) for source in found)
            requests += 1
            with_sources += bool(found)
            with_citations += bool(cited)
            sources += len(found)
            cited_sources += cited
    return RetrievalCounts(requests, with_sources, with_citations, sources, cited_sources)

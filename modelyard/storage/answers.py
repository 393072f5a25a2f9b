"""Writes answers with their usage, and what people say about them."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import select

from modelyard import types
from modelyard.errors import InvalidInput
from modelyard.storage.database import Database
from modelyard.storage.fragments import fragment_rows
from modelyard.storage.tables import Feedback, Fragment, Message, ModelUsage

Status = Literal["complete", "degraded"]
RATINGS = range(1, 6)


def record_answer(
    database: Database, message: types.Message, answer: types.Answer, *, composite: str, latency_ms: float
) -> str:
    """Store an answer with its fragments and what it used, in one transaction, and return the row's id (the answer's).

    Raises:
        StorageError: The database failed; nothing was stored.
    """
    metadata = answer.metadata
    row = Message(
        id=answer.id,
        composite=composite,
        prompt=message.prompt,
        answer=answer.text,
        model=answer.model,
        domain=answer.task.domain,
        complexity=answer.task.complexity,
        status=status_of(answer),
        **metadata,
    )
    usage = ModelUsage(
        id=f"{answer.id}:0",
        message_id=answer.id,
        model=answer.model,
        composite=composite,
        domain=answer.task.domain,
        complexity=answer.task.complexity,
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        cost_usd=answer.usage.cost_usd,
        latency_ms=latency_ms,
        estimated=answer.usage.estimated,
    )
    with database.write() as session:
        session.add(row)
        session.flush()
        session.add(usage)
        session.add_all(
            Fragment(**fragment)
            for fragment in fragment_rows({"id": row.id, "answer": row.answer, "rag_sources": row.rag_sources})
        )
    return answer.id


def status_of(answer: types.Answer) -> Status:
    """Return `degraded` when a stage of the answer failed or did only a part of its work."""
    return "degraded" if any(step.status in {"failed", "partial"} for step in answer.steps) else "complete"


def record_feedback(
    database: Database,
    message_id: str,
    *,
    rating: int | None = None,
    correction: str | None = None,
    wrong_model: bool = False,
    comment: str | None = None,
    user_id: str | None = None,
    project_id: str | None = None,
) -> int:
    """Store what a person said about an answer, and return the row's id.

    With a project, only answers of that project are found.

    Raises:
        InvalidInput: The rating is not 1 to 5, nothing at all was said, or no such answer is stored.
        StorageError: The database failed.
    """
    if rating is not None and rating not in RATINGS:
        raise InvalidInput(f"A rating must be a whole number from 1 to 5, but got {rating!r}.")
    if rating is None and not (correction or comment or wrong_model):
        raise InvalidInput("Feedback needs a rating, a correction, a comment or the mark that the model was wrong.")
    row = Feedback(
        message_id=message_id,
        rating=rating,
        correction=correction,
        wrong_model=wrong_model,
        comment=comment,
        user_id=user_id,
        project_id=project_id,
    )
    with database.write() as session:
        found = session.execute(select(Message.project_id).where(Message.id == message_id)).one_or_none()
        if found is None or project_id not in {None, found[0]}:
            raise InvalidInput(f"No answer with the id {message_id!r} is stored.")
        session.add(row)
        session.flush()
        return row.id

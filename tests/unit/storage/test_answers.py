from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from modelyard.errors import InvalidInput
from modelyard.storage import Database, Feedback, Message, ModelUsage, StorageError, record_answer, record_feedback
from modelyard.types import Message as Prompt
from tests.unit.storage.answers import MESSAGE, answer, passage, with_step
from tests.unit.storage.usage_rows import message_row, store


def test_answer_is_stored_with_its_usage_and_metadata(database: Database) -> None:
    found = answer(passages=(passage(cited=True),))
    record_answer(database, MESSAGE, found, composite="auto", latency_ms=12.5)
    with database.read() as session:
        row = session.scalars(select(Message)).one()
        usage = session.scalars(select(ModelUsage)).one()
    assert (row.id, row.composite, row.model, row.domain, row.status) == (
        found.id, "auto", "local-md", "css", "complete",
    )  # fmt: skip
    assert (row.prompt, row.answer) == ("How do I centre a div?", "Use flexbox.")
    assert row.model_metadata["task"]["confidence"] == 0.9
    assert row.rag_sources[0]["cited"] is True
    assert row.processing_metadata[0]["name"] == "generate"
    assert row.created_at.tzinfo is not None
    assert (usage.message_id, usage.prompt_tokens, usage.completion_tokens) == (found.id, 100, 20)
    assert (usage.cost_usd, usage.latency_ms, usage.estimated) == (0.00008, 12.5, True)


@pytest.mark.parametrize(("status", "stored"), [("ran", "complete"), ("partial", "degraded"), ("failed", "degraded")])
def test_row_says_whether_a_stage_failed(sqlite: Database, status: str, stored: str) -> None:
    record_answer(sqlite, MESSAGE, with_step(answer(), status), composite="auto", latency_ms=1.0)
    with sqlite.read() as session:
        assert session.scalars(select(Message.status)).one() == stored


def test_an_answer_whose_usage_is_refused_is_not_stored(sqlite: Database) -> None:
    found = answer()
    broken = replace(found, usage=replace(found.usage, prompt_tokens=None))  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="NOT NULL"):
        record_answer(sqlite, MESSAGE, broken, composite="auto", latency_ms=1.0)
    with sqlite.read() as session:
        assert session.scalars(select(Message)).all() == []


def test_text_that_databases_refuse_is_stored_readably(database: Database) -> None:
    record_answer(database, Prompt.of("nul \x00 and \ud800"), answer(), composite="auto", latency_ms=1.0)
    with database.read() as session:
        assert session.scalars(select(Message.prompt)).one() == "nul \ufffd and ?"


def test_feedback_is_stored(database: Database) -> None:
    found = answer()
    record_answer(database, MESSAGE, found, composite="auto", latency_ms=1.0)
    record_feedback(database, found.id, rating=2, wrong_model=True, comment="slow")
    with database.read() as session:
        row = session.scalars(select(Feedback)).one()
    assert (row.message_id, row.rating, row.wrong_model, row.comment, row.correction) == (
        found.id, 2, True, "slow", None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "rule"),
    [({"rating": 6}, "from 1 to 5, but got 6"), ({"rating": 0}, "from 1 to 5"), ({}, "needs a rating"),
     ({"rating": 3}, "No answer with the id 'nobody'")],
)  # fmt: skip
def test_feedback_that_says_nothing_useful_is_refused(sqlite: Database, said: dict[str, int], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule):
        record_feedback(sqlite, "nobody", **said)  # type: ignore[arg-type]


def test_feedback_names_who_gave_it_and_reaches_only_answers_of_its_project(database: Database) -> None:
    store(database, message_row(id="ours", project_id="p"), message_row(id="theirs", project_id="q"))
    record_feedback(database, "ours", rating=2, user_id="ada", project_id="p")
    with pytest.raises(InvalidInput, match="No answer with the id 'theirs' is stored"):
        record_feedback(database, "theirs", rating=2, project_id="p")
    with database.read() as session:
        row = session.scalars(select(Feedback)).one()
    assert (row.message_id, row.user_id, row.project_id) == ("ours", "ada", "p")


def test_database_itself_holds_ratings_and_references(database: Database) -> None:
    record_answer(database, MESSAGE, answer(), composite="auto", latency_ms=1.0)
    with database.read() as session:
        known = session.scalars(select(Message.id)).one()
    for message_id, rating in ((known, 9), ("nobody", 3)):
        with pytest.raises(StorageError) as caught, database.write() as session:
            session.add(Feedback(message_id=message_id, rating=rating, wrong_model=False))
        assert isinstance(caught.value.__cause__, IntegrityError)

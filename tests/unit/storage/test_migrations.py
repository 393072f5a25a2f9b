"""Rows outlive the migrations, in both directions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text

from modelyard.storage import Database, StorageError
from modelyard.storage.database import _alembic, _check_references

MOMENT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def first(request: pytest.FixtureRequest, tmp_path) -> Database:
    """A database at revision 0001 with three answers, twelve usages and feedback."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'old.db'}")
        request.addfinalizer(database.close)
    else:
        database = request.getfixturevalue("empty_postgresql")
    with database._schema_change() as connection:
        command.upgrade(_alembic(connection), "0001")
    with database.write() as session:
        for number in range(3):
            session.execute(
                text(
                    "INSERT INTO message VALUES (:id, :at, 'auto', 'Why?', 'Because.', 'local-md', 'css', 'simple',"
                    " :status, '{\"a\": 1}', '[]', '[]')"
                ),
                {"id": f"ans-{number}", "at": MOMENT, "status": "degraded" if number else "complete"},
            )
        for number in range(12):
            session.execute(
                text("INSERT INTO model_usage VALUES (:id, :message, 'local-md', 10, :n, 0.5, 7.5, true, :at)"),
                {"id": number + 1, "message": f"ans-{number % 3}", "n": number, "at": MOMENT},
            )
        session.execute(text("INSERT INTO feedback VALUES (1, 'ans-1', 2, NULL, true, 'slow', :at)"), {"at": MOMENT})
    return database


def test_upgrade_keeps_every_row(first: Database) -> None:
    first.migrate()
    usages = _rows(first, "SELECT * FROM model_usage ORDER BY id")
    assert [row["completion_tokens"] for row in usages] == list(range(12)), "ids keep the old order"
    assert {len(row["id"]) for row in usages} == {26}
    assert usages[-1]["id"] == "00000000000000000000000012"
    expected = {
        "message_id": "ans-1", "kind": "chat", "status": "degraded", "composite": "auto", "domain": "css",
        "complexity": "simple", "cached_tokens": 0, "attempts": 1, "fallback": False, "cache_hit": False,
        "cost_usd": 0.5, "latency_ms": 7.5, "project_id": None, "deployment": None,
    }  # fmt: skip
    assert {name: usages[1][name] for name in expected} == expected
    assert [(row["id"], row["prompt"], row["status"]) for row in _rows(first, "SELECT * FROM message ORDER BY id")] == [
        ("ans-0", "Why?", "complete"), ("ans-1", "Why?", "degraded"), ("ans-2", "Why?", "degraded"),
    ]  # fmt: skip
    (said,) = _rows(first, "SELECT * FROM feedback")
    assert (said["message_id"], said["comment"], said["user_id"]) == ("ans-1", "slow", None)


def test_downgrade_keeps_what_the_old_schema_has_a_place_for(first: Database) -> None:
    first.migrate()
    with first.write() as session:
        session.execute(text("UPDATE message SET status = 'failed', answer = NULL WHERE id = 'ans-2'"))
        session.execute(text("UPDATE model_usage SET message_id = 'gone' WHERE id LIKE '%12'"))
    first.downgrade("0001")
    usages = _rows(first, "SELECT * FROM model_usage ORDER BY id")
    assert [row["completion_tokens"] for row in usages] == list(range(11)), "usage without a message has no place"
    (last,) = _rows(first, "SELECT * FROM message WHERE id = 'ans-2'")
    assert (last["status"], last["answer"]) == ("degraded", "")
    assert [row["message_id"] for row in _rows(first, "SELECT * FROM feedback")] == ["ans-1"]
    first.migrate()
    assert len(_rows(first, "SELECT * FROM model_usage")) == 11


def test_negative_usage_of_old_becomes_none_and_new_one_is_refused(first: Database) -> None:
    with first.write() as session:
        session.execute(text("UPDATE model_usage SET cost_usd = -100 WHERE id = 1"))
        session.execute(text("UPDATE model_usage SET prompt_tokens = -5, estimated = false WHERE id = 2"))
    first.migrate()
    usages = _rows(first, "SELECT * FROM model_usage ORDER BY id")
    assert len(usages) == 12, "no row is lost"
    assert [(row["cost_usd"], row["prompt_tokens"], bool(row["estimated"])) for row in usages[:3]] == [
        (0.0, 10, True), (0.5, 0, True), (0.5, 10, True),
    ]  # fmt: skip
    for column in ("cost_usd", "prompt_tokens", "cached_tokens", "completion_tokens"):
        with pytest.raises(StorageError), first.write() as session:
            session.execute(text(f"UPDATE model_usage SET {column} = -1"))
    with pytest.raises(StorageError), first.write() as session:
        session.execute(text("UPDATE model_usage SET kind = 'gift'"))
    first.downgrade("0002")
    with first.write() as session:
        session.execute(text("UPDATE model_usage SET cost_usd = -1"))
    first.migrate()
    assert {row["cost_usd"] for row in _rows(first, "SELECT * FROM model_usage")} == {0.0}


def test_references_hold_again_after_a_migration(first: Database) -> None:
    first.migrate()
    with first.write() as session:
        session.execute(text("DELETE FROM message WHERE id = 'ans-1'"))
    assert _rows(first, "SELECT * FROM feedback") == [], "feedback goes with its message"
    assert len(_rows(first, "SELECT * FROM model_usage")) == 12, "usage stays"


def test_schema_change_that_breaks_a_reference_is_undone(sqlite: Database) -> None:
    with (
        pytest.raises(StorageError, match="a row of feedback would refer to no row of message"),
        sqlite._schema_change() as c,
    ):
        c.execute(text("INSERT INTO feedback (message_id, wrong_model, created_at) VALUES ('x', 1, '2026-01-01')"))
    assert _rows(sqlite, "SELECT * FROM feedback") == []
    with sqlite.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        _check_references(connection)


def _rows(database: Database, query: str) -> list[dict[str, Any]]:
    with database.read() as session:
        return [dict(row) for row in session.execute(text(query)).mappings()]

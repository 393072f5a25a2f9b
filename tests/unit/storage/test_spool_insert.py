"""The quick insert stores what SQLAlchemy's own would store, for each type and whatever is left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Connection, delete, event, select, text

from modelyard.serving.books import Caller, Entry
from modelyard.storage import Database, Message, ModelUsage
from modelyard.storage.spool_insert import Inserts, insert_of
from modelyard.storage.spool_lines import Entry as Line
from modelyard.storage.spool_lines import decode, encode
from modelyard.storage.spool_rows import TABLES, RowStore
from modelyard.storage.tables import Fragment
from modelyard.storage.tables.base import JsonText
from tests.unit.serving.ended import answer, message, plan
from tests.unit.storage.spool_load import ended, orphan, usage

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=2)))
ODD = "nul \x00, lone \ud800, whole \U0001f600"
LONG = "name-" * 100
MESSAGE = {**ended("m")["message"], "created_at": NOW}
USAGE = {**usage("m"), "created_at": NOW}
FRAGMENT = {
    "id": "m:0",
    "message_id": "m",
    "position": 0,
    "kind": "code",
    "language": None,
    "text": ODD,
    "start": 0,
    "end": 9,
}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "a message": ("message", MESSAGE),
    "odd texts": ("message", {**MESSAGE, "prompt": ODD, "answer": "", "model_metadata": {ODD: [ODD, 0.1, None, True]}}),
    "long names": ("message", {**MESSAGE, "user_id": LONG, "conversation": LONG + "\x00", "request_id": "☂" * 200}),
    "JSON as text": ("message", {**MESSAGE, "model_metadata": JsonText(r'{"a":"\u0000 \\u0000"}'), "rag_sources": JsonText("[]")}),
    "no texts": ("message", {**MESSAGE, "prompt": None, "answer": None, "project_id": None}),
    "usage": ("usage", {**USAGE, "cost_usd": 1, "estimated": True, "fallback": False, "first_token_ms": 0.25}),
    "usage whose moment is left out": ("usage", {name: value for name, value in USAGE.items() if name != "created_at"}),
    "usage in another order": ("usage", dict(reversed(USAGE.items()))),
    "an embedding": ("usage", {**USAGE, "kind": "embedding", "message_id": None, "composite": None, "deployment": None}),
    "a fragment": ("fragment", FRAGMENT),
}  # fmt: skip


def everything(connection: Connection) -> list[Any]:
    """Return all rows as they lie in the database, whatever SQLAlchemy makes of them, but for moments that were not given."""
    found: list[Any] = []
    for table in TABLES.values():
        for row in connection.execute(text(f"SELECT * FROM {table.name} ORDER BY id")).mappings():
            fresh = "2026-01-02" not in str(row.get("created_at"))
            found.append({**row, "created_at": None} if fresh else dict(row))
    for table in (Fragment, Message, ModelUsage):
        connection.execute(delete(table))
    return found


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_those_that_sqlalchemy_stores(database: Database, name: str) -> None:
    table, row = ROWS[name]
    without = {
        column: value.replace("\x00", "\ufffd") if type(value) is str else value for column, value in row.items()
    }
    parent = [MESSAGE] if table == "fragment" else []
    with database.engine.connect() as connection, connection.begin():
        for before in parent:
            connection.execute(insert_of(TABLES["message"], connection.dialect), [before])
        connection.execute(insert_of(TABLES[table], connection.dialect), [without])
        expected = everything(connection)
        inserts = Inserts(connection.dialect)
        inserts.insert(connection, TABLES["message"], parent)
        inserts.insert(connection, TABLES[table], [row, row])  # the second is there already
        assert everything(connection) == expected
    assert len(expected) == 1 + len(parent)


def test_rows_of_different_columns_are_stored_together(database: Database) -> None:
    rows = [usage("a"), usage("b", first_token_ms=1.5), usage("c"), orphan("d")]
    with database.engine.connect() as connection, connection.begin():
        Inserts(connection.dialect).insert(
            connection, TABLES["usage"], [{**row, "created_at": NOW.astimezone(UTC)} for row in rows]
        )
        found = connection.execute(
            select(ModelUsage.id, ModelUsage.kind, ModelUsage.first_token_ms).order_by(ModelUsage.id)
        )
        assert [tuple(row) for row in found] == [
            ("a:0", "chat", None), ("b:0", "chat", 1.5), ("c:0", "chat", None), ("d:0", "orphan", None)
        ]  # fmt: skip


class Handed:
    """A sink that keeps what one request hands over."""

    def begin(self, id: str, facts: Any) -> None:
        raise AssertionError

    def finish(self, id: str, rows: Any) -> None:
        self.rows = rows


def served() -> Any:
    """The rows of a request that was answered at the second attempt, with a source, as the spool hands them over."""
    asked, handed = message("Why [1] \x00?"), Handed()
    Entry(handed, Caller("k", "p", LONG, "r"), "auto", asked, store_texts=True).answered(plan(), answer(asked))
    line = decode(encode(Line("finish", asked.id, handed.rows))[:-1])
    assert line is not None
    assert isinstance(line.facts["message"]["model_metadata"], JsonText)
    return line.facts


def test_a_row_at_fault_changes_nothing_in_how_the_others_are_stored(database: Database) -> None:
    rows, store = served(), RowStore(database)
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *seen: statements.append(seen[2]))
    assert store.store([rows]) == []
    assert not any("SAVEPOINT" in statement for statement in statements)
    with database.engine.connect() as connection, connection.begin():
        together = everything(connection)
    (refusal,) = store.store([{"message": None, "usages": [usage("bad", status="odd")]}, rows])
    assert any("SAVEPOINT" in statement for statement in statements)
    with database.engine.connect() as connection, connection.begin():
        assert everything(connection) == together
    assert (refusal.table, len(together)) == ("usage", 4)

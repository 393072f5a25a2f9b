from __future__ import annotations

from sqlalchemy import select

from modelyard.storage import Database, record_answer
from modelyard.storage.fragments import fragment_rows
from modelyard.storage.tables import Fragment
from tests.unit.storage.answers import MESSAGE, answer

ANSWER = "Use flexbox [1].\n\n```CSS\ndiv { color: a[1]; }\n```\nOr a grid [2, 1]; see [9].\n"
SOURCES = [{"document": "docs/flex.md"}, {"document": "docs/grid.md"}]


def _fragments(text: str | None, sources=SOURCES) -> list[tuple[str, str, str | None]]:
    rows = fragment_rows({"id": "ans", "answer": text, "rag_sources": sources})
    return [(row["kind"], row["text"], row["language"]) for row in rows]


def test_prose_code_and_citations_in_the_order_of_the_answer() -> None:
    assert _fragments(ANSWER) == [
        ("text", "Use flexbox [1].\n\n", None),
        ("citation", "docs/flex.md", None),
        ("code", "```CSS\ndiv { color: a[1]; }\n```", "css"),
        ("text", "\nOr a grid [2, 1]; see [9].\n", None),
        ("citation", "docs/grid.md", None),
        ("citation", "docs/flex.md", None),
    ]


def test_prose_and_code_make_up_the_answer() -> None:
    rows = fragment_rows({"id": "ans", "answer": ANSWER, "rag_sources": SOURCES})
    assert "".join(row["text"] for row in rows if row["kind"] != "citation") == ANSWER
    assert all(row["text"] == ANSWER[row["start"] : row["end"]] for row in rows if row["kind"] != "citation")
    assert {ANSWER[row["start"] : row["end"]] for row in rows if row["kind"] == "citation"} == {"[1]", "[2, 1]"}
    assert [row["id"] for row in rows] == [f"ans:{position}" for position in range(6)]


def test_code_that_broke_off_and_code_within_code() -> None:
    assert _fragments("```py\nx = 1") == [("code", "```py\nx = 1", "py")]
    nested = "````md\n```py\nx\n```\n````"
    assert _fragments(nested) == [("code", nested, "md")]


def test_no_answer_has_no_fragments() -> None:
    assert _fragments(None) == _fragments("") == _fragments(" \n") == []


def test_an_answer_is_stored_with_its_fragments(database: Database) -> None:
    record_answer(database, MESSAGE, answer(), composite="auto", latency_ms=1.0)
    with database.read() as session:
        (row,) = session.scalars(select(Fragment))
    assert (row.kind, row.text, row.start, row.end) == ("text", "Use flexbox.", 0, 12)

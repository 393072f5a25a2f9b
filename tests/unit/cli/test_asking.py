from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from sqlalchemy import select

from modelyard.retrieval import Index, parse_document, publish
from modelyard.settings import Settings
from modelyard.storage import Database, Message
from tests.unit.cli.conftest import Run

PROMPT = "How do I centre a box with flexbox?"


@pytest.fixture(autouse=True)
def knowledge(settings: Settings) -> None:
    texts = {"flexbox": "# Flexbox\n\nUse flexbox to centre a box.", "grid": "# Grid\n\nUse grid for rows and columns."}
    publish(Index.build([parse_document(name, text) for name, text in texts.items()]), settings)


def stored(settings: Settings) -> list[str]:
    if not (settings.home / "modelyard.db").exists():
        return []
    database = Database(settings.database)
    with database.read() as session:
        found = list(session.scalars(select(Message.prompt)))
    database.close()
    return found


def test_ask_answers_explains_and_stores(run: Run, settings: Settings) -> None:
    result = run("ask", PROMPT)
    assert (result.code, result.err) == (0, "")
    answer, explained = result.out.split("\n\nTask ", 1)
    assert "flexbox" in answer.lower()
    assert "local-md, chosen by static" in explained
    assert "Notices    No task classifier is registered: rules read the task." in explained
    assert stored(settings) == [PROMPT]


def test_json_holds_the_same_facts(run: Run, tmp_path: Path) -> None:
    result = run("ask", PROMPT, "--model", "local-sm", "--json", str(tmp_path / "out.json"))
    facts = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert result.out.startswith(facts["text"])
    assert facts["model_metadata"]["route"]["model"] == "local-sm"
    assert facts["stored"] is True
    assert {"id", "composite", "rag_sources", "processing_metadata"} <= set(facts)


def test_explain_answers_and_stores_nothing(run: Run, settings: Settings, tmp_path: Path) -> None:
    result = run("explain", PROMPT, "--json", str(tmp_path / "out.json"))
    facts = json.loads((tmp_path / "out.json").read_text("utf-8"))
    labels = [line.split()[0] for line in result.out.splitlines() if not line.startswith(" ")]
    assert labels == ["Task", "Route", "Sources", "Steps", "Versions", "Notices"]
    assert facts["model_metadata"]["route"]["policy"] == "static"
    assert [candidate["model"] for candidate in facts["model_metadata"]["route"]["candidates"]] == [
        "local-sm",
        "local-md",
    ]
    assert "[1]  Flexbox" in result.out
    assert stored(settings) == []


@pytest.mark.parametrize("command", ["ask", "explain"])
def test_prompt_is_read_from_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(PROMPT))
    assert "Flexbox" in run(command, "-").out


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("ask", "  "), "The prompt is empty."),
        (("ask", "hi", "--model", "nothing"), "No model is called 'nothing'; served here are"),
        (("explain", "hi", "--json", "/nowhere/at/all.json"), "Cannot write --json /nowhere/at/all.json: No such file"),
    ],
)
def test_broken_rule_is_one_line_and_exit_2(run: Run, argv: tuple[str, ...], sentence: str) -> None:
    result = run(*argv)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"modelyard: {sentence}")
    assert result.err.count("\n") == 1


def test_answer_goes_out_where_it_cannot_be_stored(
    run: Run, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (settings.home / "modelyard.db").write_bytes(b"nonsense" * 100)
    result = run("ask", PROMPT)
    assert result.code == 0
    assert "flexbox" in result.out.lower()
    assert "given but not stored" in caplog.text

"""Reading eval sets: what is accepted, and the sentence for what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval_sets import check_facts, load_documents, load_tasks
from eval_sets.loading import documents_version
from modelyard.errors import InvalidEvalSet

ROW: dict[str, Any] = {"id": "a-1", "prompt": "why is the sky blue", "domain": "chat", "complexity": "simple"}
DOCUMENT = "---\ntitle: Sky\ntopic: chat\nkind: guide\n---\n# Sky\n\nRayleigh scattering makes it blue.\n"


def tasks_in(folder: Path, *rows: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / "tasks.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def documents_in(folder: Path, **texts: str) -> Path:
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / "docs" / f"{name}.md").write_text(text, "utf-8")
    return folder


def fact(pattern: str, *docs: str) -> dict[str, Any]:
    return {"pattern": pattern, "docs": list(docs)}


def test_user_set_needs_only_id_prompt_domain_and_complexity(tmp_path: Path) -> None:
    tasks = load_tasks(tasks_in(tmp_path / "mine", ROW))
    assert (tasks.name, len(tasks), tasks.rows[0].language, tasks.rows[0].facts) == ("mine", 1, "en", ())


def test_unusual_line_separators_inside_a_prompt_do_not_end_the_row(tmp_path: Path) -> None:
    row = ROW | {"prompt": "one\u2028two\x85three"}
    line = json.dumps(row, ensure_ascii=False)
    assert load_tasks(tasks_in(tmp_path, line)).rows[0].prompt == row["prompt"]


def test_version_depends_on_content_and_not_on_order_or_spacing(tmp_path: Path) -> None:
    other = ROW | {"id": "a-2", "prompt": "und warum abends rot?", "language": "de"}
    one = load_tasks(tasks_in(tmp_path / "one", ROW, other)).version
    assert one == load_tasks(tasks_in(tmp_path / "two", json.dumps(other, indent=None) + "  ", "", ROW)).version
    assert one != load_tasks(tasks_in(tmp_path / "three", ROW, other | {"complexity": "complex"})).version


def test_version_of_documents_depends_on_their_text(tmp_path: Path) -> None:
    one = load_documents(documents_in(tmp_path / "one", sky=DOCUMENT))
    two = load_documents(documents_in(tmp_path / "two", sky=DOCUMENT.replace("blue", "red")))
    assert documents_version(one) != documents_version(two)


def test_document_is_its_front_matter_and_the_text_below(tmp_path: Path) -> None:
    (document,) = load_documents(documents_in(tmp_path, sky=DOCUMENT))
    assert (document.id, document.title, document.topic, document.kind) == ("sky", "Sky", "chat", "guide")
    assert document.text == "# Sky\n\nRayleigh scattering makes it blue."


def test_qrels_count_the_facts_that_name_a_document(tmp_path: Path) -> None:
    row = ROW | {"facts": [fact("rayleigh", "sky", "light"), fact("scatter", "sky")]}
    assert load_tasks(tasks_in(tmp_path, row)).qrels() == {"a-1": {"sky": 2, "light": 1}}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ((), "is empty: an eval set needs at least one labelled prompt"),
        (("{",), "row 1 is not JSON"),
        (("[]",), "row 1 must be a JSON object, but is list"),
        ((ROW, ROW | {"prompt": "again"}), "row 2: the id 'a-1' was already in row 1"),
        (({**ROW, "complexity": "hard"},), "row 1, field 'complexity'.*'hard'"),
        (({**ROW, "prompt": " \n"},), "row 1, field 'prompt'"),
        (({**ROW, "promt": "x"},), "row 1, field 'promt'"),
        (({**ROW, "language": "English"},), "row 1, field 'language'"),
        (({"id": "x"},), "row 1, field 'prompt': Field required"),
        (({**ROW, "facts": [fact("ok"), fact("a(?=b)")]},), r"field 'facts.1.pattern': the pattern has look-around"),
        (({**ROW, "facts": [fact("(")]},), "is not a regular expression"),
    ],
)
def test_broken_rows_are_refused_with_file_row_and_rule(tmp_path: Path, rows: Any, sentence: str) -> None:
    with pytest.raises(InvalidEvalSet, match=sentence) as caught:
        load_tasks(tasks_in(tmp_path, *rows))
    assert str(tmp_path / "tasks.jsonl") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# no front matter\n", "must begin with front matter"),
        ("---\ntitle: x\ntopic: y\n---\nbody\n", "field 'kind': Field required"),
        ("---\ntitle\n---\nbody\n", "row 2: expected `name: value`"),
        ("---\ntitle: x\ntopic: y\nkind: guide\n---\n\n", "has no text"),
    ],
)
def test_broken_documents_are_refused_with_their_file(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InvalidEvalSet, match=sentence) as caught:
        load_documents(documents_in(tmp_path, bad=text))
    assert "bad.md" in str(caught.value)


def test_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(InvalidEvalSet, match=r"Cannot read .*tasks\.jsonl"):
        load_tasks(tmp_path)


def test_missing_or_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidEvalSet, match="is not a folder"):
        load_tasks(tmp_path / "nowhere")
    with pytest.raises(InvalidEvalSet, match=r"There is no file .*tasks\.jsonl"):
        load_tasks(tmp_path)
    with pytest.raises(InvalidEvalSet, match="is empty: an eval set needs at least one document"):
        load_documents(tmp_path)


def test_facts_are_checked_against_the_documents_that_they_name(tmp_path: Path) -> None:
    documents = load_documents(documents_in(tmp_path / "docs", sky=DOCUMENT))
    check_facts(load_tasks(tasks_in(tmp_path / "good", ROW | {"facts": [fact("RAYLEIGH", "sky")]})), documents)
    with pytest.raises(InvalidEvalSet, match=r"row 1 \(a-1\).*names the document 'sea'"):
        check_facts(load_tasks(tasks_in(tmp_path / "unknown", ROW | {"facts": [fact("rayleigh", "sea")]})), documents)
    with pytest.raises(InvalidEvalSet, match="'green' does not match the document 'sky'"):
        check_facts(load_tasks(tasks_in(tmp_path / "absent", ROW | {"facts": [fact("green", "sky")]})), documents)

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.errors import InvalidInput
from modelyard.retrieval import parse_document, read_documents


def test_front_matter_gives_title_topic_and_kind() -> None:
    document = parse_document("a", '---\ntitle: "One: two"\ntopic: css\nkind: guide\n---\n# Other\ntext')
    assert (document.title, document.topic, document.kind) == ("One: two", "css", "guide")
    assert document.source[document.body :] == "# Other\ntext"


def test_without_front_matter_the_first_heading_is_the_title() -> None:
    assert parse_document("a", "\n# Heading\ntext").title == "Heading"
    assert parse_document("a", "text").title == "a"


def test_windows_line_ends_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"---\r\ntitle: T\r\n---\r\n# T\r\nOne.\r\n")
    (document,) = read_documents(tmp_path)
    assert document.title == "T"
    assert document.source[document.body :] == "# T\r\nOne.\r\n"


def test_ids_are_file_stems_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.md").write_text("text")
    assert [document.id for document in read_documents(tmp_path)] == ["a", "b"]


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nowhere is not one"):
        read_documents(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="holds no document"):
        read_documents(tmp_path)


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"bad\.md cannot be read as UTF-8"):
        read_documents(tmp_path)


def test_duplicate_ids_and_empty_documents_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.md").write_text("")
    with pytest.raises(InvalidInput, match="needs text"):
        read_documents(tmp_path)
    (tmp_path / "sub" / "a.md").write_text("text")
    with pytest.raises(InvalidInput, match="'a' stands for two documents"):
        read_documents(tmp_path)

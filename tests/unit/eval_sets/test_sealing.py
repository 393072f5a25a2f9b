"""Sealing and verifying, through the functions and through `python -m eval_sets`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval_sets import load_documents, load_tasks, seal, verify
from eval_sets.__main__ import main
from modelyard.errors import InvalidEvalSet

ROW = {"id": "a-1", "prompt": "why is the sky blue", "domain": "chat", "complexity": "simple", "style": ["terse"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.jsonl").write_text(json.dumps(ROW) + "\n", "utf-8")
    (tmp_path / "card.md").write_text("# A set\n", "utf-8")
    return tmp_path


def test_sealed_set_verifies_and_loads(folder: Path) -> None:
    manifest = seal(folder)
    assert verify(folder) == manifest
    assert load_tasks(folder).version == manifest.version
    assert manifest.counts["prompts"] == 1
    assert manifest.counts["styles"] == {"terse": 1}
    assert sorted(manifest.files) == ["card.md", "tasks.jsonl"]


def test_documents_seal_too(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("---\ntitle: A\ntopic: b\nkind: guide\n---\ntwo words\n", "utf-8")
    (tmp_path / "card.md").write_text("# A set\n", "utf-8")
    manifest = seal(tmp_path)
    assert (manifest.kind, manifest.counts["words"]) == ("documents", 2)
    (tmp_path / "docs" / "a.md").write_text("---\ntitle: A\ntopic: b\nkind: guide\n---\nthree words now\n", "utf-8")
    with pytest.raises(InvalidEvalSet, match=r"a\.md differs from its checksum"):
        load_documents(tmp_path)


def test_changed_missing_and_new_files_are_named(folder: Path) -> None:
    seal(folder)
    (folder / "notes.txt").write_text("x")
    with pytest.raises(InvalidEvalSet, match=r"notes\.txt is not listed"):
        verify(folder)
    (folder / "notes.txt").unlink()
    (folder / "card.md").unlink()
    with pytest.raises(InvalidEvalSet, match=r"lists card\.md, which is missing"):
        verify(folder)
    (folder / "card.md").write_text("# Another card\n")
    with pytest.raises(InvalidEvalSet, match=r"card\.md differs from its checksum"):
        load_tasks(folder)


def test_version_and_counts_that_do_not_fit_the_content_are_refused(folder: Path) -> None:
    seal(folder)
    path = folder / "manifest.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps(good | {"version": "0" * 64}))
    with pytest.raises(InvalidEvalSet, match="says version"):
        load_tasks(folder)
    path.write_text(json.dumps(good | {"counts": {"prompts": 2}}))
    with pytest.raises(InvalidEvalSet, match="says counts"):
        verify(folder)
    path.write_text("{")
    with pytest.raises(InvalidEvalSet, match="is damaged"):
        verify(folder)


def test_unsealed_set_loads_but_does_not_verify(folder: Path) -> None:
    assert len(load_tasks(folder)) == 1
    with pytest.raises(InvalidEvalSet, match=r"has no manifest\.json"):
        verify(folder)


def test_set_without_a_card_is_not_sealed(folder: Path) -> None:
    (folder / "card.md").unlink()
    with pytest.raises(InvalidEvalSet, match=r"has no card\.md"):
        seal(folder)
    assert not (folder / "manifest.json").exists()


def test_hidden_files_do_not_belong_to_a_set(folder: Path) -> None:
    seal(folder)
    (folder / ".DS_Store").write_text("x")
    assert verify(folder)


def test_commands_seal_and_verify(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder)]) == 1
    assert "has no manifest.json" in capsys.readouterr().err
    assert main(["seal", str(folder)]) == 0
    assert main(["verify", str(folder)]) == 0
    assert "1 tasks, 2 files, version" in capsys.readouterr().out

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.report import envelope, number, show, write_json
from modelyard.errors import InvalidSetting


def test_envelope_has_the_promised_entries_and_what_is_added() -> None:
    found = envelope("tune", seed=3, n=7, results={"a": 1}, metric="loss")
    assert found == {"schema": 1, "command": "tune", "seed": 3, "n": 7, "results": {"a": 1}, "metric": "loss"}


def test_json_is_written_into_folders_that_are_made_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "out.json"
    write_json(path, {"old": True})
    write_json(path, {"name": "é ≥"})
    assert json.loads(path.read_text("utf-8")) == {"name": "é ≥"}
    assert "é ≥" in path.read_text("utf-8")
    assert [found.name for found in path.parent.iterdir()] == ["out.json"]
    write_json(None, {"nothing": "happens"})


@pytest.mark.parametrize("content", [{"value": float("nan")}, {"value": object()}])
def test_what_json_has_no_word_for_leaves_the_file_before(tmp_path: Path, content: dict[str, object]) -> None:
    path = tmp_path / "out.json"
    write_json(path, {"good": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, content)
    assert json.loads(path.read_text("utf-8")) == {"good": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_write_that_breaks_leaves_the_file_before_and_no_part_of_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    write_json(path, {"good": 1})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("experiments.report.os.fsync", full)
    with pytest.raises(InvalidSetting, match=r"out\.json cannot be written: No space left on device"):
        write_json(path, {"new": 2})
    assert json.loads(path.read_text("utf-8")) == {"good": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSetting, match=r"file/out\.json cannot be written"):
        write_json(tmp_path / "file" / "out.json", {})


def test_figures_as_a_person_reads_them() -> None:
    assert show({"value": 0.68749, "ci95": [0.6, 0.7]}) == "0.687 [0.600, 0.700]"
    assert show({"value": 2.0}, 1) == "2.0"
    assert show({"value": None, "reason": "why"}) == "–"
    assert (number(0.5), number(0.0, 1), number(None)) == ("0.500", "0.0", "–")

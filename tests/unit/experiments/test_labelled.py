from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.labelled import LabelledPrompts, read_labelled
from modelyard.errors import InvalidTable

ROWS: list[dict[str, Any]] = [
    {"prompt_id": "p1", "prompt": "centre a div", "domain": "css", "model": "a"},
    {"prompt_id": "p1", "prompt": "centre a div", "domain": "css", "model": "b"},
    {"prompt_id": "p2", "prompt": "why?\nreally", "domain": "chat", "model": "a"},
]
READ = LabelledPrompts(("p1", "p2"), ("centre a div", "why?\nreally"), ("css", "chat"))


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def changed(row: int, **values: Any) -> list[dict[str, Any]]:
    return [{**found, **values} if i == row else found for i, found in enumerate(ROWS)]


def test_formats_are_read_alike_and_a_prompt_counts_once(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text(
        'prompt_id,prompt,domain,model\np1,centre a div,css,a\np1,centre a div,css,b\np2,"why?\nreally",chat,a\n'
    )
    for path in (tmp_path / "t.parquet", tmp_path / "t.csv", lines(tmp_path / "t.jsonl", ROWS)):
        assert read_labelled(path, "domain") == READ


def test_eval_sets_own_files_call_the_id_id(tmp_path: Path) -> None:
    rows = [{"id": row["prompt_id"], "prompt": row["prompt"], "domain": row["domain"], "facts": []} for row in ROWS]
    assert read_labelled(lines(tmp_path / "tasks.jsonl", rows), "domain") == READ


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv"])
def test_text_that_looks_like_something_else_stays_what_it_is(tmp_path: Path, name: str) -> None:
    """Ids with leading zeros, a year, a date, a word for missing."""
    path = tmp_path / name
    if name == "t.csv":
        path.write_text("prompt_id,prompt,domain\n007,2024,NA\n008,2024-01-31,null\n")
    else:
        lines(
            path,
            [
                {"prompt_id": "007", "prompt": "2024", "domain": "NA"},
                {"prompt_id": "008", "prompt": "2024-01-31", "domain": "null"},
            ],
        )
    assert read_labelled(path, "domain") == LabelledPrompts(("007", "008"), ("2024", "2024-01-31"), ("NA", "null"))


def test_numbers_become_text(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", [{"prompt_id": 7, "prompt": "why?", "grade": 2}])
    assert read_labelled(path, "grade") == LabelledPrompts(("7",), ("why?",), ("2",))


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        (changed(2, domain=None), r"t\.jsonl, row 3, column 'domain': a value is required"),
        (changed(0, prompt=""), r"t\.jsonl, row 1, column 'prompt': a value is required"),
        (changed(1, prompt_id=float("nan")), r"t\.jsonl, row 2, column 'prompt_id': a value is required"),
        (changed(2, domain=["css"]), r"row 3, column 'domain': must be text or a number, but is \['css'\]"),
        (changed(1, domain="chat"), r"row 2, column 'domain': prompt_id 'p1' has another value than in row 1: 'chat'"),
        (
            changed(1, prompt="other"),
            r"row 2, column 'prompt': prompt_id 'p1' has another value than in row 1: 'other'",
        ),
        ([{"prompt_id": "p", "prompt": "x"}], r"t\.jsonl lacks the column 'domain'; it has prompt_id, prompt"),
        ([{"prompt": "x", "domain": "y"}], r"t\.jsonl lacks the column 'prompt_id'; it has prompt, domain"),
        ([], r"t\.jsonl has no rows"),
    ],
)
def test_broken_rule_is_named_with_file_row_and_column(tmp_path: Path, rows: list[dict[str, Any]], rule: str) -> None:
    with pytest.raises(InvalidTable, match=rule):
        read_labelled(lines(tmp_path / "t.jsonl", rows), "domain")


def test_long_value_is_cut_in_the_complaint(tmp_path: Path) -> None:
    with pytest.raises(InvalidTable) as caught:
        read_labelled(lines(tmp_path / "t.jsonl", changed(1, prompt="x" * 5000)), "domain")
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("prompt_id,prompt,domain\np1,grüezi,css\n".encode("latin-1"))
    with pytest.raises(InvalidTable, match=r"t\.csv, line 2: is not UTF-8"):
        read_labelled(tmp_path / "t.csv", "domain")
    with pytest.raises(InvalidTable, match=r"There is no file .*none\.csv"):
        read_labelled(tmp_path / "none.csv", "domain")
    with pytest.raises(InvalidTable, match=r"t\.xlsx has an ending that is not known"):
        read_labelled(tmp_path / "t.xlsx", "domain")

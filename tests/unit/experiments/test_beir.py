from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from experiments.beir import read_collection
from modelyard.errors import InvalidEvalSet


def write_collection(folder: Path, *, corpus: str | None = None, qrels: str | None = None) -> Path:
    rows = [
        {"_id": "d1", "title": "Yards", "text": "Cars are sorted."},
        {"_id": "d2", "title": "Only a title", "text": ""},
    ]
    content = corpus if corpus is not None else "\n".join(json.dumps(row) for row in rows)
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "sorted cars"}\n\n')
    (folder / "qrels.tsv").write_text(
        qrels if qrels is not None else "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n"
    )
    return folder


def test_collection_is_read(tmp_path: Path) -> None:
    collection = read_collection(write_collection(tmp_path))
    assert [(document.id, document.title, document.source) for document in collection.documents] == [
        ("d1", "Yards", "Cars are sorted."),
        ("d2", "Only a title", "Only a title"),
    ]
    assert collection.queries == {"q1": "sorted cars"}
    assert collection.qrels == {"q1": {"d1": 2.0, "d2": 0.0}}


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("", "is empty"),
        ('{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}', "line 2: the id 'a' stands there twice"),
        ("{", "line 1 is not JSON"),
        ("[1]", "line 1 must be a JSON object"),
        ('{"_id": 1, "text": "x"}', "line 1: `_id`, `text` and `title` must be text"),
    ],
)
def test_bad_corpus_is_named_by_line(tmp_path: Path, corpus: str, message: str) -> None:
    with pytest.raises(InvalidEvalSet, match=message):
        read_collection(write_collection(tmp_path, corpus=corpus))


@pytest.mark.parametrize("row", ["q1\td1", "q1\td1\tgood", "q1\td1\tnan", "q1 d1 1"])
def test_bad_judgement_is_named_by_line(tmp_path: Path, row: str) -> None:
    with pytest.raises(InvalidEvalSet, match=r"qrels\.tsv, line 2 must be query id"):
        read_collection(write_collection(tmp_path, qrels=f"query-id\tcorpus-id\tscore\n{row}\n"))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidEvalSet, match=r"has no corpus\.jsonl"):
        read_collection(tmp_path)
    write_collection(tmp_path)
    (tmp_path / "corpus.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(InvalidEvalSet, match=r"corpus\.jsonl\.gz cannot be read"):
        read_collection(tmp_path)

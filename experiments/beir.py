"""Reads a retrieval collection in the layout of BEIR (Thakur et al. 2021): corpus, queries and relevance judgements."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.errors import InvalidEvalSet
from modelyard.retrieval import Document


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents, queries by id, and gains by query and document."""

    documents: tuple[Document, ...]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, float]]


def read_collection(folder: Path) -> Collection:
    """Read `corpus.jsonl[.gz]`, `queries.jsonl[.gz]` and `qrels.tsv`.

    Raises:
        InvalidEvalSet: A file is missing, empty or breaks the layout.
    """
    documents = tuple(
        Document(key, text or title, title) for key, text, title in _records(_find(folder, "corpus.jsonl"))
    )
    queries = {key: text for key, text, _ in _records(_find(folder, "queries.jsonl"))}
    return Collection(documents, queries, _qrels(_find(folder, "qrels.tsv")))


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InvalidEvalSet(f"The collection {folder} has no {name} (and no {name}.gz).")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            yield from ((number, line.rstrip("\r\n")) for number, line in enumerate(file, 1) if line.strip())
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidEvalSet(f"The file {path} cannot be read: {error}.") from None


def _records(path: Path) -> list[tuple[str, str, str]]:
    found: dict[str, tuple[str, str, str]] = {}
    for number, line in _lines(path):
        row = _object(path, number, line)
        key, text, title = row.get("_id"), row.get("text"), row.get("title") or ""
        if not isinstance(key, str) or not isinstance(text, str) or not isinstance(title, str):
            raise InvalidEvalSet(f"{path}, line {number}: `_id`, `text` and `title` must be text.")
        if key in found:
            raise InvalidEvalSet(f"{path}, line {number}: the id {key!r} stands there twice.")
        found[key] = (key, text, title)
    if not found:
        raise InvalidEvalSet(f"The file {path} is empty.")
    return list(found.values())


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InvalidEvalSet(f"{path}, line {number} is not JSON: {error}.") from None
    if not isinstance(row, dict):
        raise InvalidEvalSet(f"{path}, line {number} must be a JSON object, but got {line[:40]!r}.")
    return row


def _qrels(path: Path) -> dict[str, dict[str, float]]:
    rows = [
        (number, row)
        for (number, line) in _lines(path)
        for row in csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE)
    ]
    gains: dict[str, dict[str, float]] = {}
    for number, row in rows[1:]:  # the first row is the header
        try:
            query, document, gain = row[0], row[1], float(row[2])
            if not math.isfinite(gain):
                raise ValueError
        except (IndexError, ValueError):
            raise InvalidEvalSet(
                f"{path}, line {number} must be query id, document id and a number, separated by tabs, but got {row!r}."
            ) from None
        gains.setdefault(query, {})[document] = gain
    if not gains:
        raise InvalidEvalSet(f"The file {path} holds no judgement below its header.")
    return gains

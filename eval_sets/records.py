"""The frozen records of an eval set, and the hash that is its version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from eval_sets.patterns import compiled

COMPLEXITIES: Final = ("simple", "moderate", "complex")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a correct answer contains: a pattern, matched without regard to case, and the ids of the documents that hold it."""

    pattern: str
    docs: tuple[str, ...] = ()

    def matches(self, text: str) -> bool:
        """Return whether the text contains the fact."""
        return compiled(self.pattern).search(text) is not None


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One labelled prompt.

    Attributes:
        id: Unique in its set.
        prompt: The text as typed.
        domain: What the prompt is about.
        complexity: What a good answer takes: `simple`, `moderate` or `complex`.
        language: ISO 639 code of the prompt's language.
        style: How it is typed, such as `terse` or `misspelt`.
        facts: What a correct answer contains; empty where no answer can be checked.
    """

    id: str
    prompt: str
    domain: str
    complexity: str
    language: str = "en"
    style: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a knowledge base; `text` is its markdown without the front matter."""

    id: str
    title: str
    topic: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class TaskSet:
    """The rows of `tasks.jsonl`, in the order of the file."""

    name: str
    rows: tuple[TaskRow, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[TaskRow]:
        return iter(self.rows)

    @property
    def version(self) -> str:
        """SHA-256 over the rows in the order of their ids: neither the order of the file nor its spacing counts."""
        return content_hash(asdict(row) for row in self.rows)

    @property
    def checkable(self) -> tuple[TaskRow, ...]:
        """The rows whose answers can be checked."""
        return tuple(row for row in self.rows if row.facts)

    def qrels(self) -> dict[str, dict[str, int]]:
        """Return relevance judgements: prompt id → document id → in how many of the prompt's facts it is named."""
        judged: dict[str, dict[str, int]] = {}
        for row in self.rows:
            for fact in row.facts:
                for document in fact.docs:
                    grades = judged.setdefault(row.id, {})
                    grades[document] = grades.get(document, 0) + 1
        return judged


def content_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the rows as canonical JSON, one a line, in the order of their ids."""
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row["id"]):
        line = json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()

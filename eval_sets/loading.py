"""Reads an eval set of the house's layout, the shipped ones and a user's own; every complaint names file, row and rule.

A set is a folder with `tasks.jsonl` (labelled prompts) or `docs/*.md` (documents), `card.md` for people, and `manifest.json`, which is
checked wherever it is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pydantic

from eval_sets.manifest import MANIFEST, checked_manifest, folder_of
from eval_sets.patterns import BadPattern, compiled
from eval_sets.records import Document, Fact, TaskRow, TaskSet, content_hash
from modelyard.errors import InvalidEvalSet

TASKS: Final = "tasks.jsonl"
DOCUMENTS: Final = "docs"
LONGEST_PROMPT: Final = 200_000  # characters

_FRONT: Final = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_Text = Annotated[str, pydantic.StringConstraints(min_length=1, strip_whitespace=False)]


def _pattern(value: str) -> str:
    compiled(value)
    return value


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class _FactLine(_Strict):
    pattern: Annotated[_Text, pydantic.AfterValidator(_pattern)]
    docs: list[_Text] = []


class _TaskLine(_Strict):
    id: _Text
    prompt: Annotated[_Text, pydantic.StringConstraints(max_length=LONGEST_PROMPT, pattern=r"\S")]
    domain: _Text
    complexity: Literal["simple", "moderate", "complex"]
    language: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] = "en"
    style: list[_Text] = []
    facts: list[_FactLine] = []

    def row(self) -> TaskRow:
        facts = tuple(Fact(fact.pattern, tuple(fact.docs)) for fact in self.facts)
        return TaskRow(self.id, self.prompt, self.domain, self.complexity, self.language, tuple(self.style), facts)


class _Front(_Strict):
    title: _Text
    topic: _Text
    kind: _Text


def load_tasks(folder: Path | str) -> TaskSet:
    """Read the labelled prompts of a folder.

    Raises:
        InvalidEvalSet: A file is missing or breaks a rule, the set is empty, or it differs from its manifest.
    """
    folder = folder_of(folder)
    tasks = read_tasks(folder)
    _check_version(folder, tasks.version)
    return tasks


def load_documents(folder: Path | str) -> tuple[Document, ...]:
    """Read the documents of a folder, in the order of their ids.

    Raises:
        InvalidEvalSet: A file is missing or breaks a rule, the set is empty, or it differs from its manifest.
    """
    folder = folder_of(folder)
    documents = read_documents(folder)
    _check_version(folder, documents_version(documents))
    return documents


def read_tasks(folder: Path) -> TaskSet:
    """Read the labelled prompts of a folder, whatever its manifest says."""
    return TaskSet(folder.resolve().name, _rows(folder / TASKS))


def read_documents(folder: Path) -> tuple[Document, ...]:
    """Read the documents of a folder, whatever its manifest says."""
    paths = sorted((folder / DOCUMENTS).glob("*.md"))
    if not paths:
        raise InvalidEvalSet(f"{folder} is empty: an eval set needs at least one document, {DOCUMENTS}/*.md.")
    return tuple(_document(path) for path in paths)


def documents_version(documents: Iterable[Document]) -> str:
    """Return the SHA-256 over the documents in the order of their ids."""
    names = ("id", "title", "topic", "kind", "text")
    return content_hash({name: getattr(document, name) for name in names} for document in documents)


def check_facts(tasks: TaskSet, documents: Sequence[Document]) -> None:
    """Check the facts against the documents that they name.

    Raises:
        InvalidEvalSet: A fact names a document that is not there, or whose text its pattern does not match.
    """
    texts = {document.id: document.text for document in documents}
    for number, row in enumerate(tasks.rows, start=1):
        for fact in row.facts:
            for name in fact.docs:
                where = f"{tasks.name}/{TASKS}, row {number} ({row.id}): the pattern {fact.pattern!r}"
                if name not in texts:
                    raise InvalidEvalSet(f"{where} names the document {name!r}, which is not in the knowledge base.")
                if not fact.matches(texts[name]):
                    raise InvalidEvalSet(f"{where} does not match the document {name!r} that it names.")


def _rows(path: Path) -> tuple[TaskRow, ...]:
    lines = _read_text(path).split("\n")
    rows: dict[str, tuple[int, TaskRow]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _task(line, f"{path}, row {number}")
        before, _ = rows.setdefault(row.id, (number, row))
        if before != number:
            raise InvalidEvalSet(
                f"{path}, row {number}: the id {row.id!r} was already in row {before}; ids are unique."
            )
    if not rows:
        raise InvalidEvalSet(f"{path} is empty: an eval set needs at least one labelled prompt.")
    return tuple(row for _, row in rows.values())


def _task(line: str, where: str) -> TaskRow:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InvalidEvalSet(f"{where} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InvalidEvalSet(f"{where} must be a JSON object, but is {type(value).__name__}.")
    return _parsed(_TaskLine, value, where).row()


def _document(path: Path) -> Document:
    text = _read_text(path)
    front = _FRONT.match(text)
    if front is None:
        raise InvalidEvalSet(f"{path} must begin with front matter between two lines of ---: title, topic and kind.")
    fields: dict[str, str] = {}
    for number, line in enumerate(front[1].splitlines(), start=2):
        name, colon, value = line.partition(":")
        if not colon:
            raise InvalidEvalSet(f"{path}, row {number}: expected `name: value` in the front matter, got {line!r}.")
        fields[name.strip()] = value.strip()
    head = _parsed(_Front, fields, f"{path}, front matter")
    body = text[front.end() :].strip()
    if not body:
        raise InvalidEvalSet(f"{path} has no text below its front matter.")
    return Document(path.stem, head.title, head.topic, head.kind, body)


def _parsed(model: type[Any], value: dict[str, Any], where: str) -> Any:
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        cause = first.get("ctx", {}).get("error")
        rule = f"the pattern {cause}" if isinstance(cause, BadPattern) else first["msg"]
        raise InvalidEvalSet(f"{where}, field {place!r}: {rule}; got {_short(first['input'])}.") from None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        InvalidEvalSet: It is not there, or not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise InvalidEvalSet(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidEvalSet(f"Cannot read {path}: {error}.") from None


def _check_version(folder: Path, version: str) -> None:
    path = folder / MANIFEST
    if path.is_file() and (recorded := checked_manifest(folder).version) != version:
        raise InvalidEvalSet(f"{path} says version {recorded}, but the content's is {version}; seal the set anew.")

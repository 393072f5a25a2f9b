"""What a knowledge base is made of: markdown documents with a little front matter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard.errors import InvalidInput

_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"^(title|topic|kind):[ \t]*(.*?)[ \t]*\r?$", re.MULTILINE)
_FIRST_HEADING = re.compile(r"^#[ \t]+(.+?)[ \t]*\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Document:
    """A document of the knowledge base.

    Attributes:
        id: Its name; unique in a knowledge base.
        source: Its whole text as it was read, front matter included: all spans count characters of it.
        title: For people, and searched like the text.
        topic: Its subject, may be empty.
        kind: `guide`, `example`, `best-practice`, `reference` or anything else, may be empty.
        body: Where the front matter ends.
    """

    id: str
    source: str
    title: str
    topic: str = ""
    kind: str = ""
    body: int = 0


def parse_document(name: str, source: str) -> Document:
    """Read the front matter; a missing title is the first heading, or the name."""
    front = _FRONT.match(source)
    fields = {key: value.strip("\"'") for key, value in _FIELD.findall(front.group(1))} if front else {}
    body = front.end() if front else 0
    heading = _FIRST_HEADING.search(source, body)
    title = fields.get("title") or (heading.group(1) if heading else name)
    return Document(name, source, title, fields.get("topic", ""), fields.get("kind", ""), body)


def read_documents(folder: Path) -> tuple[Document, ...]:
    """Read every `*.md` file below a folder, in the order of their paths; a document's id is its file's stem.

    Raises:
        InvalidInput: There is no such folder, no document in it, a file cannot be read as UTF-8, or two have the same id.
    """
    if not folder.is_dir():
        raise InvalidInput(f"Documents are read from a folder, but {folder} is not one.")
    documents = tuple(parse_document(path.stem, _read(path)) for path in sorted(folder.rglob("*.md")))
    if not documents:
        raise InvalidInput(f"The folder {folder} holds no document (*.md).")
    check_documents(documents)
    return documents


def check_documents(documents: Sequence[Document]) -> None:
    """Check that ids are unique and that there is text at all.

    Raises:
        InvalidInput: They are not, or there is none.
    """
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise InvalidInput(f"A document's id must be unique, but {document.id!r} stands for two documents.")
        seen.add(document.id)
    if not any(document.source[document.body :].strip() for document in documents):
        raise InvalidInput(f"A knowledge base needs text, but its {len(documents)} documents are empty.")


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")  # bytes: line ends stay as they are, so that spans fit the file
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The document {path} cannot be read as UTF-8 text: {error}.") from None

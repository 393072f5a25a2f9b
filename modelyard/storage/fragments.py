"""An answer taken apart: its prose, its code, and the marks that cite sources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_FENCE: Final = re.compile(r"^(```+|~~~+)[ \t]*([^\s`]*)[^\n]*\n.*?(?:^\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_MARK: Final = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
LONGEST_LANGUAGE: Final = 80


def fragment_rows(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return rows of `fragment` for a row of `message`; none where its answer is not stored.

    Prose and code blocks (fences included) follow each other and make up the answer; citations are marks such as `[1]` within the prose,
    one row for each source that a mark names, whose `text` is the source's document. The same message always gives the same rows.

    Args:
        message: At least `id`, `answer` and `rag_sources`.
    """
    answer: str | None = message["answer"]
    if not answer:
        return []
    pieces = sorted(_pieces(answer, message["rag_sources"]), key=lambda piece: (piece[1], piece[0] == "citation"))
    return [
        {
            "id": f"{message['id']}:{position}",
            "message_id": message["id"],
            "position": position,
            "kind": kind,
            "language": language,
            "text": text,
            "start": start,
            "end": end,
        }
        for position, (kind, start, end, text, language) in enumerate(pieces)
    ]


_Piece = tuple[str, int, int, str, str | None]  # kind, start, end, text, language


def _pieces(answer: str, sources: Sequence[Mapping[str, Any]]) -> Iterator[_Piece]:
    done = 0
    for fence in _FENCE.finditer(answer) if "```" in answer or "~~~" in answer else ():
        yield from _prose(answer, done, fence.start(), sources)
        done = fence.end()
        yield "code", fence.start(), done, fence[0], fence[2][:LONGEST_LANGUAGE].lower() or None
    yield from _prose(answer, done, len(answer), sources)


def _prose(answer: str, start: int, end: int, sources: Sequence[Mapping[str, Any]]) -> Iterator[_Piece]:
    if not answer[start:end].strip():
        return
    yield "text", start, end, answer[start:end], None
    for mark in _MARK.finditer(answer, start, end) if sources else ():
        for number in dict.fromkeys(map(int, mark[1].split(","))):
            if 1 <= number <= len(sources):
                yield "citation", mark.start(), mark.end(), str(sources[number - 1]["document"]), None

"""Where blocks and sentences of a markdown text begin and end, as exact character spans."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["heading", "code", "prose", "row"]

LONGEST_SENTENCE = (
    600  # characters; what has no sentence ends, such as bare code or a log, is cut at line ends or spaces
)

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*$")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t]+\S")
_RULE = re.compile(r"[ \t]*(?:\|?[ \t]*:?-{2,}:?[ \t]*)+\|?[ \t]*$|[ \t]*([-*_])(?:[ \t]*\1){2,}[ \t]*$")
_SENTENCE_END = re.compile(r"[.!?]['\"”’)\]*_]*(\s+)(?=[\"'“‘(\[*_`]*[A-Z0-9]|`)|[。！？]()")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|approx|No|Mr|Mrs|Dr|St)\.$")
_INLINE_CODE = re.compile(r"(`+)[^`\n].*?\1", re.DOTALL)


class Span(NamedTuple):
    """Characters start to end, end excluded."""

    start: int
    end: int


class Block(NamedTuple):
    """A block of the text; `level` and `heading` are set where it is a heading."""

    kind: Kind
    start: int
    end: int
    level: int = 0
    heading: str = ""


def blocks(source: str, start: int = 0) -> Iterator[Block]:
    """Yield headings, code fences, table rows, list items and paragraphs in order; a rule or blank line is none of them."""
    fence, opened, prose, last = "", 0, -1, start
    for begin, line in _lines(source, start):
        end, text = begin + len(line.rstrip()), line.rstrip()
        if fence:
            last = end
            if text.strip().startswith(fence) and not text.strip().strip(fence[0]):
                yield Block("code", opened, end)
                fence = ""
            continue
        mark, heading = _FENCE.match(text), _HEADING.match(text)
        row = text.lstrip().startswith("|")
        starts = bool(mark or heading or row or not text or _RULE.match(text) or _ITEM.match(text))
        if prose >= 0 and starts:
            yield Block("prose", prose, last)
            prose = -1
        if mark:
            fence, opened = mark.group(1), begin
        elif heading:
            yield Block("heading", begin, end, len(heading.group(1)), heading.group(2))
        elif text and not _RULE.match(text):
            if row:
                yield Block("row", begin, end)
            elif prose < 0:
                prose = begin
        last = end
    if fence:
        yield Block("code", opened, last)
    elif prose >= 0:
        yield Block("prose", prose, last)


def sentences(source: str, start: int, end: int) -> Iterator[Span]:
    """Yield the sentences of a paragraph or list item; never cuts inside inline code."""
    text = source[start:end]
    code = [match.span() for match in _INLINE_CODE.finditer(text)]
    begins = [begin for begin, _ in code]
    begin = 0
    for match in _SENTENCE_END.finditer(text):
        at = bisect_right(begins, match.start()) - 1
        inside = at >= 0 and match.start() < code[at][1]
        stop = match.start(1) if match.group(1) is not None else match.end()
        if not inside and not _ABBREVIATION.search(text[begin : match.start() + 1]):
            yield from _bounded(text, begin, stop, start)
            begin = match.end()
    yield from _bounded(text, begin, len(text), start)


def _bounded(text: str, begin: int, end: int, offset: int) -> Iterator[Span]:
    while end - begin > LONGEST_SENTENCE:
        limit = begin + LONGEST_SENTENCE
        cut = max(text.rfind("\n", begin + 1, limit), -1)
        cut = cut if cut > begin else text.rfind(" ", begin + 1, limit)
        cut = cut if cut > begin else limit
        yield from _trimmed(text, begin, cut, offset)
        begin = cut
    yield from _trimmed(text, begin, end, offset)


def _trimmed(text: str, begin: int, end: int, offset: int) -> Iterator[Span]:
    piece = text[begin:end]
    kept = piece.strip()
    if kept:
        left = begin + len(piece) - len(piece.lstrip())
        yield Span(offset + left, offset + left + len(kept))


def _lines(source: str, start: int) -> Iterator[tuple[int, str]]:
    while start < len(source):
        end = source.find("\n", start) + 1 or len(source)
        yield start, source[start:end]
        start = end

"""Cuts a document into passages along its structure, and passages into the units that extractive models quote.

A passage never crosses a heading, never splits a code fence, and is about 120 to 180 tokens long: short enough to be about one thing,
long enough to be understood alone. All spans are exact: a passage's text is `source[start:end]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelyard.retrieval.documents import Document
from modelyard.retrieval.markdown import Block, Span, blocks, sentences
from modelyard.types import CHARS_PER_TOKEN

TARGET = 120 * CHARS_PER_TOKEN  # characters; from here on a passage ends with the block
LONGEST = 180 * CHARS_PER_TOKEN  # characters; a passage that would pass this ends with the sentence
REMAINDER = 40 * CHARS_PER_TOKEN  # characters; a shorter rest joins the passage before it


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence or table row, with the code block that follows it (`code` is empty where none does).

    A code block without a sentence before it is a unit of its own, whose sentence is empty.
    """

    sentence: Span
    code: Span

    @property
    def start(self) -> int:
        """Where it begins."""
        return self.sentence.start

    @property
    def end(self) -> int:
        """Where it ends, code included."""
        return max(self.sentence.end, self.code.end)

    @property
    def says_something(self) -> bool:
        """Whether it has a sentence."""
        return self.sentence.start < self.sentence.end

    @property
    def quoted(self) -> Span:
        """The sentence, or the code block where there is no sentence."""
        return self.sentence if self.says_something else self.code


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document: its span, the headings above it, and its units."""

    start: int
    end: int
    headings: tuple[str, ...]
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class _Section:
    start: int
    headings: tuple[str, ...]
    units: tuple[Unit, ...]
    breaks: frozenset[int]  # starts of units at which a block begins


def units(source: str, start: int = 0) -> tuple[Unit, ...]:
    """Return the units of a text in order, headings left out."""
    return tuple(unit for section in _sections(source, start) for unit in section.units)


def chunks(document: Document) -> tuple[Chunk, ...]:
    """Cut a document into passages."""
    sections = _sections(document.source, document.body)
    return tuple(chunk for section in sections for chunk in _pack(section))


def _sections(source: str, start: int) -> Iterator[_Section]:
    path: list[Block] = []
    begin, body = -1, list[Block]()
    for block in blocks(source, start):
        if block.kind != "heading":
            begin = block.start if begin < 0 else begin
            body.append(block)
            continue
        if body:
            yield _section(source, begin, path, body)
            begin, body = -1, []
        begin = block.start if begin < 0 else begin
        path = [*(above for above in path if above.level < block.level), block]
    if begin >= 0:  # the last section, be it a bare heading
        yield _section(source, begin, path, body)


def _section(source: str, start: int, path: Sequence[Block], body: Sequence[Block]) -> _Section:
    found: list[Unit] = []
    breaks: set[int] = set()
    for block in body:
        if block.kind == "code":
            _attach(found, Span(block.start, block.end))
            continue
        spans = [Span(block.start, block.end)] if block.kind == "row" else [*sentences(source, block.start, block.end)]
        breaks.add(spans[0].start)
        found.extend(Unit(span, Span(span.end, span.end)) for span in spans)
    if not body:
        last = path[-1]
        found.append(Unit(Span(last.start, last.end), Span(last.end, last.end)))
    return _Section(start, tuple(block.heading for block in path), tuple(found), frozenset(breaks))


def _attach(found: list[Unit], code: Span) -> None:
    if found and found[-1].code.start == found[-1].code.end:
        found[-1] = Unit(found[-1].sentence, code)
    else:
        found.append(Unit(Span(code.start, code.start), code))


def _pack(section: _Section) -> Iterator[Chunk]:
    groups: list[list[Unit]] = []
    for unit in section.units:
        start = groups[-1][0].start if groups else unit.start
        length = groups[-1][-1].end - start if groups else 0
        full = unit.end - start > LONGEST or (unit.start in section.breaks and length >= TARGET)
        if not groups or full:
            groups.append([])
        groups[-1].append(unit)
    if len(groups) > 1 and groups[-1][-1].end - groups[-1][0].start < REMAINDER:
        groups[-2].extend(groups.pop())
    for number, group in enumerate(groups):
        start = section.start if number == 0 else group[0].start
        yield Chunk(start, group[-1].end, section.headings, tuple(group))

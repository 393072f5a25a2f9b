"""The lines of a spool: one entry a line, so that a damaged or torn one costs itself alone.

letter of the kind, CRC-32 of that letter and the rest as 8 hex digits, JSON `[id, facts, name, …]`, line feed

The names are of the message's JSON columns that stand behind it, each after a tab (which JSON has none of): a reader passes them on as they
are. They are most of a line, and to take them apart costs more than to store it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final, Literal, cast

import orjson

from modelyard.storage.tables.base import JsonText

BATCH: Final = 1000  # entries read at a time
BATCH_BYTES: Final = 1 << 20  # and bytes, so that long rows do not fill the memory

Kind = Literal["begin", "finish"]
_LETTER: Final[Mapping[Kind, bytes]] = {"begin": b"B", "finish": b"F"}
_KIND: Final[Mapping[bytes, Kind]] = {letter: kind for kind, letter in _LETTER.items()}
_SEED: Final = {letter: zlib.crc32(letter) for letter in _KIND}
_BEGIN: Final = _LETTER["begin"]
_JSON_COLUMNS: Final = ("model_metadata", "rag_sources", "processing_metadata")
_HEAD: Final = 9  # bytes before the JSON
_CUT: Final = "…"  # stands for what is nested too deeply, or in itself
_DEEPEST: Final = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: what was begun, or the rows of what has ended."""

    kind: Kind
    id: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines that were read together.

    Attributes:
        entries: In the order they were written.
        damaged: Whole lines whose CRC does not fit, without their ends.
        end: The offset behind the last whole line, in bytes.
    """

    entries: tuple[Entry, ...]
    damaged: tuple[bytes, ...]
    end: int


def encode(entry: Entry) -> bytes:
    """Return an entry's line; whatever JSON has no form for is written as text."""
    try:
        payload = _payload(entry)
    except TypeError:  # lone surrogates, which JSON from outside may hold and no database takes, and worse
        payload = orjson.dumps(_forced([entry.id, entry.facts], ()))
    letter = _LETTER[entry.kind]
    return b"%s%08x%s\n" % (letter, zlib.crc32(payload, _SEED[letter]), payload)


def decode(line: bytes) -> Entry | None:
    """Return the entry of a line without its end, or None where it is torn or damaged; JSON columns are `JsonText` in it."""
    if not _sound(line):
        return None
    head, *texts = line[_HEAD:].split(b"\t")
    try:
        id, facts, *names = orjson.loads(head)
        if names:
            facts["message"].update(zip(names, [JsonText(text, "utf-8") for text in texts], strict=True))
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    return Entry(_KIND[line[:1]], id, facts)


def read_chunk(file: BinaryIO, offset: int, until: int | None = None, *, finished: bool = False) -> Chunk:
    """Read up to `BATCH` lines or some `BATCH_BYTES` (one line at least) from an offset, and no line that begins at `until` or behind.

    A last line without its end is left for later.

    Args:
        file: A segment.
        offset: Where a line begins, in bytes.
        until: Another place where one begins, or None.
        finished: Whether entries of the kind `begin` are left out; they are checked all the same.
    """
    file.seek(offset)
    block = file.read(BATCH_BYTES if until is None else max(0, min(BATCH_BYTES, until - offset)))
    if block and not block.endswith(b"\n"):
        block += file.readline()  # the last line whole, and the first one in any case
    *lines, rest = block.split(b"\n", BATCH)
    entries: list[Entry] = []
    damaged: list[bytes] = []
    for line in lines:
        if finished and line[:1] == _BEGIN and _sound(line):
            continue
        entry = decode(line)
        if entry is None:
            damaged.append(line)
        else:
            entries.append(entry)
    return Chunk(tuple(entries), tuple(damaged), offset + len(block) - len(rest))


def _payload(entry: Entry) -> bytes:
    record, texts, message = [entry.id, entry.facts], [b""], entry.facts.get("message")
    if isinstance(message, dict):
        rest = cast("dict[str, Any]", message).copy()
        for name in _JSON_COLUMNS:
            if isinstance(rest.get(name), dict | list):
                texts.append(_dumps(rest.pop(name)))
                record.append(name)
        record[1] = {**entry.facts, "message": rest}
    texts[0] = _dumps(record)
    return b"\t".join(texts)


def _dumps(record: Any) -> bytes:
    try:
        return orjson.dumps(record, default=_plain)
    except TypeError:  # to look for keys that are no text takes half as long again, and most often there are none
        return orjson.dumps(record, default=_plain, option=orjson.OPT_NON_STR_KEYS)


def _sound(line: bytes) -> bool:
    """Whether a line is as it was written, by its CRC."""
    seed = _SEED.get(line[:1])
    return seed is not None and b"%08x" % zlib.crc32(line[_HEAD:], seed) == line[1:_HEAD]


def _plain(value: Any) -> Any:
    """Return what orjson can write for a value that it does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value)


def _forced(value: Any, above: tuple[int, ...]) -> Any:
    """Return a form of any value that is JSON; `above` are the containers that it lies in."""
    if value is None or isinstance(value, bool | float | datetime):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value) if value.bit_length() > 1000 else float(value)
    if id(value) in above or len(above) > _DEEPEST:
        return _CUT
    above = (*above, id(value))
    if isinstance(value, Mapping):
        return {str(_forced(str(key), above)): _forced(inner, above) for key, inner in value.items()}
    if isinstance(value, Iterable):
        return [_forced(inner, above) for inner in value]
    return _forced(str(value), above)

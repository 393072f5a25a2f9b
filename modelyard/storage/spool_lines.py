"""The lines of a spool: one entry a line, so that a damaged or torn one costs itself alone.

letter of the kind, CRC-32 of that letter and the JSON as 8 hex digits, JSON `[id, facts]`, line feed
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final, Literal

import orjson

BATCH: Final = 500  # entries read at a time
BATCH_BYTES: Final = 4 << 20  # and bytes, so that long rows do not fill the memory

Kind = Literal["begin", "finish"]
_LETTER: Final[Mapping[Kind, bytes]] = {"begin": b"B", "finish": b"F"}
_KIND: Final[Mapping[bytes, Kind]] = {letter: kind for kind, letter in _LETTER.items()}
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
        payload = orjson.dumps([entry.id, entry.facts], default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # lone surrogates, which JSON from outside may hold and no database takes, and worse
        payload = orjson.dumps(_forced([entry.id, entry.facts], ()))
    letter = _LETTER[entry.kind]
    return b"%s%08x%s\n" % (letter, zlib.crc32(payload, zlib.crc32(letter)), payload)


def decode(line: bytes) -> Entry | None:
    """Return the entry of a line without its end, or None where it is torn or damaged."""
    kind = _KIND.get(line[:1])
    try:
        if kind is None or zlib.crc32(line[9:], zlib.crc32(line[:1])) != int(line[1:9], 16):
            return None
        id, facts = orjson.loads(line[9:])
    except (ValueError, TypeError):
        return None
    return Entry(kind, id, facts)


def read_chunk(file: BinaryIO, offset: int, until: int | None = None) -> Chunk:
    """Read up to `BATCH` lines or `BATCH_BYTES` (one line at least) from an offset, and no line that begins at `until` or behind.

    A last line without its end is left for later.
    """
    entries: list[Entry] = []
    damaged: list[bytes] = []
    end = offset
    file.seek(offset)
    while len(entries) + len(damaged) < BATCH and end - offset < BATCH_BYTES and (until is None or end < until):
        line = file.readline()
        if not line.endswith(b"\n"):
            break
        end += len(line)
        entry = decode(line[:-1])
        if entry is None:
            damaged.append(line[:-1])
        else:
            entries.append(entry)
    return Chunk(tuple(entries), tuple(damaged), end)


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

"""Whatever happens to a segment, each of its entries is stored whole, set aside, or torn off its end; and nothing twice."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.storage.spool_lines import BATCH, Chunk, Entry, encode, read_chunk
from modelyard.storage.spool_locks import START, hold, lock_path, remember, remembered

TEXT = st.text(st.characters(codec=None), max_size=30)  # NUL and lone surrogates among them
FACTS = st.dictionaries(TEXT, TEXT | st.integers() | st.floats() | st.none(), max_size=3)
ENTRIES = st.lists(st.tuples(st.sampled_from(["begin", "finish"]), TEXT, FACTS), max_size=12)


def lines_of(found: list[tuple[Any, str, dict[str, Any]]]) -> list[bytes]:
    return [encode(Entry(kind, id, facts)) for kind, id, facts in found]


def read_all(content: bytes, offset: int = 0) -> Chunk:
    file, entries, damaged = io.BytesIO(content), (), ()
    while (chunk := read_chunk(file, offset)).end > offset:
        offset, entries, damaged = chunk.end, entries + chunk.entries, damaged + chunk.damaged
    return Chunk(entries, damaged, offset)


@given(ENTRIES)
def test_every_entry_makes_one_sound_line(found) -> None:
    lines = lines_of(found)
    read = read_all(b"".join(lines))
    assert [(entry.kind) for entry in read.entries] == [kind for kind, _, _ in found]
    assert (read.damaged, read.end) == ((), sum(map(len, lines)))
    for entry in read.entries:
        assert encode(entry) == lines[read.entries.index(entry)], "read and written again it is the same"


@given(ENTRIES, st.data())
def test_a_segment_torn_anywhere_loses_its_last_line_alone(found, data: st.DataObject) -> None:
    lines = lines_of(found)
    content = b"".join(lines)
    cut = data.draw(st.integers(0, len(content)))
    whole = [line for n, line in enumerate(lines) if sum(map(len, lines[: n + 1])) <= cut]
    read = read_all(content[:cut])
    assert [encode(entry) for entry in read.entries] == whole
    assert (read.damaged, read.end) == ((), len(b"".join(whole)))


@given(ENTRIES, st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=3))
def test_damaged_bytes_cost_their_lines_and_no_other(found, flips) -> None:
    lines = lines_of(found)
    content, at = bytearray(b"".join(lines)), 0
    for position, flip in flips:
        if content:
            content[position % len(content)] ^= flip
    read = read_all(bytes(content))
    untouched = []
    for line in lines:
        if content[at : at + len(line)] == line and (at == 0 or content[at - 1 : at] == b"\n"):
            untouched.append(line)
        at += len(line)
    got = [encode(entry) for entry in read.entries]
    assert [line for line in got if line in untouched] == untouched
    assert all(line in lines for line in got), "nothing is read that was not written"


@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(content: bytes) -> None:
    read = read_all(content)
    assert read.end == content.rfind(b"\n") + 1


@given(st.integers(0, 3 * BATCH), st.data())
@settings(max_examples=20)
def test_reading_stops_where_it_is_told_and_goes_on_there(count: int, data: st.DataObject) -> None:
    line = encode(Entry("finish", "m", {}))
    file, stop = io.BytesIO(line * count), len(line) * data.draw(st.integers(0, count))
    offset = 0
    while offset < stop:
        chunk = read_chunk(file, offset, stop)
        assert offset < chunk.end <= stop
        offset = chunk.end
    assert len(read_all(line * count, offset).entries) == count - stop // len(line)


def test_long_lines_are_read_one_at_a_time() -> None:
    line = encode(Entry("finish", "m", {"a": "x" * (5 << 20)}))
    chunk = read_chunk(io.BytesIO(line * 3), 0)
    assert (len(chunk.entries), chunk.end) == (1, len(line))


def test_what_has_no_json_is_written_as_text() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd \ud800"

    loop: dict[str, Any] = {"set": {1}, "big": 2**70, "bigger": 10**400, "odd": Odd(), 3: "\ud800", "nan": float("nan")}
    loop["self"] = loop
    (entry,) = read_all(encode(Entry("finish", "\udfff", loop))).entries
    assert (entry.id, entry.facts["set"], entry.facts["big"]) == ("?", [1], 2.0**70)
    assert (entry.facts["odd"], entry.facts["3"], entry.facts["nan"], entry.facts["self"]) == ("odd ?", "?", None, "…")
    assert entry.facts["bigger"] == str(10**400)


def test_deep_nesting_is_cut() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    (entry,) = read_all(encode(Entry("finish", "m", {"deep": deep}))).entries
    assert entry.id == "m"


@given(st.integers(0, 2**40), st.integers(0, 2**60), st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_how_far_is_stored_is_read_back_or_not_believed(number: int, offset: int, rubbish: bytes) -> None:
    import os

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        descriptor = hold(folder, "1-a")
        try:
            assert remembered(descriptor) == START
            remember(descriptor, (number, offset))
            assert remembered(descriptor) == (number, offset)
            os.pwrite(descriptor, rubbish, 0)
            assert remembered(descriptor) in {(number, offset), START}
        finally:
            os.close(descriptor)
        assert lock_path(folder, "1-a").exists()

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.upstream.events import LONGEST_EVENT, EventReader, MalformedEvents

STREAM = b'\xef\xbb\xbf: ping\n\nevent: message\nid: 7\ndata: {"a":1}\n\ndata:{"b":\ndata: 2}\n\n\ndata: [DONE]\n\n'
EVENTS = [b'{"a":1}', b'{"b":\n2}', b"[DONE]"]


def read(*chunks: bytes) -> list[bytes]:
    reader = EventReader()
    return [event for chunk in chunks for event in reader.feed(chunk)] + reader.finish()


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@given(cuts=st.lists(st.integers(0, len(STREAM) * 2)))
def test_events_are_the_same_whatever_the_borders(newline: bytes, cuts: list[int]) -> None:
    whole = STREAM.replace(b"\n", newline)
    ends = sorted({min(cut, len(whole)) for cut in cuts} | {len(whole)})
    assert read(*(whole[start:end] for start, end in zip([0, *ends], ends, strict=False))) == EVENTS


def test_several_events_in_one_chunk() -> None:
    assert read(b"data: 1\n\ndata: 2\n\n", b"data: 3\n\n") == [b"1", b"2", b"3"]


def test_event_without_its_blank_line_does_not_count_but_the_end_mark_does() -> None:
    assert read(b"data: 1\n\ndata: 2\n") == [b"1"]
    assert read(b"data: 1\n\ndata: [DONE]") == [b"1", b"[DONE]"]
    assert read(b"data: [DONE]\n") == [b"[DONE]"]


@pytest.mark.parametrize("line", [b"dat: 1\n\n", b"<html>\n", b'{"a":1}\n'])
def test_lines_that_are_no_events_are_not_skipped(line: bytes) -> None:
    with pytest.raises(MalformedEvents, match="no server-sent event"):
        read(b"data: 1\n\n", line)


def test_event_without_end_does_not_fill_the_memory() -> None:
    reader = EventReader()
    with pytest.raises(MalformedEvents, match="more than 1048576 bytes"):
        for _ in range(LONGEST_EVENT // 990 + 1):
            list(reader.feed(b"data: " + b"x" * 994 + b"\n"))

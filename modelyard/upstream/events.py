"""Server-sent events, read from bytes as they come, whatever the borders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

LONGEST_EVENT: Final = 1 << 20  # bytes; a stream whose line never ends must not fill the memory

_FIELDS: Final = (b"event:", b"id:", b"retry:")


class MalformedEvents(ValueError):
    """The bytes are no stream of events; the message is the end of a sentence."""


class EventReader:
    """Cuts bytes into the data of events; comments and other fields are left out.

    A line that is neither a field nor a comment is an error: the standard would skip it, and with it a piece of an answer.
    """

    __slots__ = ("_begun", "_data", "_pending")

    def __init__(self) -> None:
        self._pending = bytearray()
        self._data: list[bytes] = []
        self._begun = False

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """Take the next bytes and give the data of every event that they end; to be gone through once, before the next bytes.

        Raises:
            MalformedEvents: An event is longer than a mebibyte, or a line is none.
        """
        # Nearly always a chunk is one or more whole events of one line each.
        if not self._pending and not self._data and chunk.startswith(b"data: ") and chunk.endswith(b"\n\n"):
            whole = chunk[6:-2]
            if b"\n" not in whole and b"\r" not in whole:
                self._begun = True
                return (whole,)
            events = whole.split(b"\n\ndata: ")
            if len(chunk) <= LONGEST_EVENT and not any(b"\n" in event or b"\r" in event for event in events):
                self._begun = True
                return events
        return self._by_line(chunk)

    def finish(self) -> list[bytes]:
        """Return the end mark, where one stands without its blank line; any other event that was cut off does not count."""
        line = bytes(self._pending).strip()
        last = [*self._data, line.removeprefix(b"data:").strip()]
        return [b"[DONE]"] if b"[DONE]" in last else []

    def _by_line(self, chunk: bytes) -> Iterator[bytes]:
        self._pending += chunk
        if b"\n" in chunk:
            *lines, self._pending = self._pending.split(b"\n")
            for line in lines:
                yield from self._take(bytes(line.removesuffix(b"\r")))
        if len(self._pending) + sum(map(len, self._data)) > LONGEST_EVENT:
            raise MalformedEvents(f"sent an event of more than {LONGEST_EVENT} bytes")

    def _take(self, line: bytes) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line:
            if self._data:
                yield b"\n".join(self._data)
                self._data = []
        elif not (line.startswith((b":", *_FIELDS)) or line in {b"data", b"event", b"id", b"retry"}):
            raise MalformedEvents("sent a line that is no server-sent event")

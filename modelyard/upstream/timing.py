"""How long an upstream may take, and who sees to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

STREAM_TIMES: Final = 10.0  # a stream that goes on may take this many times what a whole answer may


class Closable(Protocol):
    """What is closed when its time is up."""

    def close(self) -> None:
        """Close it; whoever reads from it gets an error."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Longest times in seconds.

    Attributes:
        connect_s: Until a connection stands, TLS and the wait for a free one in the pool included.
        first_token_s: From the call to the first piece of a stream.
        between_s: Between two pieces of a stream; comments count as a sign of life.
        total_s: For an answer that is not streamed.
        stream_s: For a stream.
    """

    connect_s: float
    first_token_s: float
    between_s: float
    total_s: float
    stream_s: float

    @classmethod
    def of(cls, timeout_s: float) -> Timeouts:
        """Derive all of them from the longest time for one whole answer."""
        return cls(min(timeout_s, 5.0), timeout_s, min(timeout_s, 30.0), timeout_s, timeout_s * STREAM_TIMES)


class Watch:
    """Closes a stream whose next piece, first good piece or end is overdue; one timer for the whole stream.

    Whoever reads sets `waiting_since`, a loop time, before each read and None after it: a reader who takes long is not the stream's fault.

    Args:
        stream: What to close.
        times: The limits.
        first_token_at: Loop time by which `begun` must be set.
    """

    __slots__ = (
        "_between_s",
        "_ending",
        "_ends_at",
        "_first_token_at",
        "_handle",
        "_loop",
        "_stream",
        "begun",
        "expired",
        "waiting_since",
    )

    def __init__(self, stream: Closable, times: Timeouts, started: float, first_token_at: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._between_s = times.between_s
        self._ends_at = started + times.stream_s
        self._first_token_at = first_token_at
        self.begun = False
        self.waiting_since: float | None = None
        self._ending = False
        self.expired: str | None = None
        self._handle = self._loop.call_at(self._due()[0], self._look)

    def stop(self) -> None:
        """Watch no longer."""
        self._handle.cancel()

    def let_end(self, within_s: float) -> None:
        """Allow the stream that many more seconds, unless that was said before."""
        if not self._ending:
            self._ending = True
            self._ends_at = min(self._ends_at, self._loop.time() + within_s)
            self._handle.cancel()
            self._handle = self._loop.call_at(self._due()[0], self._look)

    def _due(self) -> tuple[float, str]:
        since = self._loop.time() if self.waiting_since is None else self.waiting_since
        due = (since + self._between_s, f"sent nothing for {self._between_s:g} s")
        if self._ends_at < due[0]:
            due = (self._ends_at, "did not finish its stream in time")
        if not self.begun and self._first_token_at < due[0]:
            due = (self._first_token_at, "did not begin its answer in time")
        return due

    def _look(self) -> None:
        due, what = self._due()
        if self._loop.time() >= due:
            self.expired = what
            self._stream.close()
        else:
            self._handle = self._loop.call_at(due, self._look)

"""Threads for work that blocks: every kind has its own, so that none can starve another.

    work                    threads     what waits for them
    feedback                2           32 at most, and none longer than 5 s: 503 with Retry-After
    composing models        2           as many as requests are answered at once
    health                  1           one look, shared by all who ask within a second
    metrics                 1           one page, shared by all who ask meanwhile
    what was spent          2           one question for each account and period, shared by all who ask meanwhile
    each background job     1           nothing: it runs again and again
    unknown keys            2           64: see `key_checks`
    known keys, quotas      1 each      one reading, shared by all who ask meanwhile

asyncio's own threads are left to the resolution of names.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from modelyard.errors import LimitExceeded

Result = TypeVar("Result")

RETRY_AFTER_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Width:
    """How much of one kind of work there may be.

    Attributes:
        threads: Done at once.
        waiting: Most that wait for these; None where something else bounds it.
        patience_s: Longest time that it waits to be begun.
    """

    threads: int
    waiting: int | None = None
    patience_s: float | None = None


FEEDBACK: Final = Width(2, 32, 5.0)
COMPOSING: Final = Width(2)
SPENDING: Final = Width(2)
ALONE: Final = Width(1)


class Pool:
    """The threads of one kind of work, and a bounded queue before them; they start with the first of it.

    Args:
        name: Of the work, for sentences and threads.
        width: How much of it there may be.

    Attributes:
        refused: How often there was no room since the start.
    """

    def __init__(self, name: str, width: Width) -> None:
        self.name, self._width = name, width
        self._threads = ThreadPoolExecutor(width.threads, thread_name_prefix=f"modelyard-{name.replace(' ', '-')}")
        self._lock = threading.Lock()
        self._under_way = 0
        self.refused = 0

    @property
    def under_way(self) -> int:
        """How much is being done or waits for it."""
        return self._under_way

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in a thread. Of a caller who leaves, what was begun goes on, and what waits is not begun.

        Raises:
            LimitExceeded: Too much waits already, or this has waited too long (kind `capacity`).
        """
        future = self._enter(work, *arguments)
        loop, patience_s = asyncio.get_running_loop(), self._width.patience_s
        # What is being done cannot be cancelled, so that this ends the waiting alone.
        timer = None if patience_s is None else loop.call_later(patience_s, future.cancel)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._refused(f"was not begun within {patience_s or 0:g} s") from None
        finally:
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """End the threads once they are done; what waits is not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _enter(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        width = self._width
        with self._lock:
            full = width.waiting is not None and self._under_way >= width.threads + width.waiting
            self._under_way += not full
        if full:
            raise self._refused(f"has to wait for {width.waiting} others, and more must not wait")
        try:
            future = self._threads.submit(contextvars.copy_context().run, work, *arguments)
        except BaseException:
            self._leave(None)
            raise
        future.add_done_callback(self._leave)
        return future

    def _leave(self, _: Any) -> None:
        with self._lock:
            self._under_way -= 1

    def _refused(self, why: str) -> LimitExceeded:
        self.refused += 1
        return LimitExceeded(f"This {self.name} {why}.", retry_after_s=RETRY_AFTER_S, kind="capacity")


class Shared(Generic[Result]):
    """One look in a thread of its own, which all who ask meanwhile share, and which stays good for a moment.

    Args:
        name: Of the thread.
        look: Is called in it.
        lasts_s: How long what it found stays good; 0 is not at all.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], Result],
        lasts_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._lasts_s, self._clock = look, lasts_s, clock
        self._thread = ThreadPoolExecutor(ALONE.threads, thread_name_prefix=f"modelyard-{name}")
        self._flight: Future[Result] | None = None
        self._landed_at = 0.0

    @property
    def last(self) -> Result | None:
        """What the last look found, None where there was none or it failed."""
        flight = self._flight
        found = flight is not None and flight.done() and not flight.cancelled() and flight.exception() is None
        return flight.result() if flight is not None and found else None

    async def get(self) -> Result:
        """Return what is found; a caller who leaves takes nobody along."""
        if self._flight is None or (self._flight.done() and self._is_old(self._flight)):
            self._flight = self._thread.submit(self._take_off)
        return await asyncio.shield(asyncio.wrap_future(self._flight))

    def close(self) -> None:
        """End the thread once its look is done."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _is_old(self, flight: Future[Result]) -> bool:
        failed = flight.cancelled() or flight.exception() is not None
        return failed or self._clock() - self._landed_at >= self._lasts_s

    def _take_off(self) -> Result:
        try:
            return self._look()
        finally:
            self._landed_at = self._clock()

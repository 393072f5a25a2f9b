"""Work that follows a request but must not hold it up: a bounded queue, and a thread that looks into it now and then.

Putting something in costs less than a microsecond and wakes nobody. What finds the queue full is dropped and counted; nobody waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

EVERY_S: Final = 0.25  # between two looks into the queue

log = logging.getLogger("modelyard.serving")

Item = TypeVar("Item")


class Background(Generic[Item]):
    """Handles items in a thread of its own, in order; the thread starts with the first one.

    Args:
        name: Of the thread, and in the log.
        handle: Is called with each item; what it raises is counted, and logged once for as long as it stays the same.
        capacity: Most items that wait.

    Attributes:
        handled, failed, dropped: Items since the start.
        problem: Why the last item failed, or None.
    """

    def __init__(self, name: str, handle: Callable[[Item], None], capacity: int) -> None:
        self._name, self._handle, self._capacity = name, handle, capacity
        self._waiting: deque[Item] = deque()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.handled = self.failed = self.dropped = 0
        self.problem: str | None = None

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return len(self._waiting)

    def put(self, item: Item) -> bool:
        """Leave an item to the thread, or drop it where too many wait already or the thread was closed; never waits."""
        if len(self._waiting) >= self._capacity or self._closing.is_set():
            self.dropped += 1
            return False
        self._waiting.append(item)
        if self._thread is None:
            self._start()
        return True

    def close(self, timeout_s: float = 5.0) -> None:
        """Handle what waits, as long as that takes no longer than the timeout; what is left then is dropped."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self.dropped += len(self._waiting)
        self._waiting.clear()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(EVERY_S):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while self._waiting:
            try:
                item = self._waiting.popleft()
            except IndexError:  # `close` gave up waiting for us
                return
            try:
                self._handle(item)
            except Exception as error:  # one bad item must not end the thread for all that follow
                self._note(error)
            else:
                self.handled += 1
                self.problem = None
            time.sleep(0)  # the event loop comes first

    def _note(self, error: Exception) -> None:
        self.failed += 1
        problem = f"{type(error).__name__}: {error}"
        if problem != self.problem:
            log.error("%s: %s", self._name, problem)
        self.problem = problem

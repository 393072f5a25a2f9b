"""Notices a caller who leaves before the answer is whole, so that no upstream works on for nobody.

Looking costs a task, and most answers are there before anybody could leave: it starts after a moment only.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from starlette.types import Receive

PATIENCE_S: Final = 0.25


class Attendance:
    """Cancels what runs inside it when the caller leaves, and says so in `left`."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[None] | None = None
        self.left = False

    async def __aenter__(self) -> Self:
        loop, answering = asyncio.get_running_loop(), asyncio.current_task()
        self._timer = loop.call_later(PATIENCE_S, self._look, loop, answering)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        answering = asyncio.current_task()
        if self.left and isinstance(error, asyncio.CancelledError) and answering is not None:
            return answering.uncancel() == 0  # else somebody else cancelled, too
        return False

    def _look(self, loop: asyncio.AbstractEventLoop, answering: asyncio.Task[None] | None) -> None:
        self._task = loop.create_task(self._watch(answering))

    async def _watch(self, answering: asyncio.Task[None] | None) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left = True
        if answering is not None:
            answering.cancel()

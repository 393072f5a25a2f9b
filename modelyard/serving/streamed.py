"""A streamed answer on its way to its caller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from modelyard.serving.attendance import Attendance

EVENTS: Final = "text/event-stream"
# Nothing between here and the caller may keep the pieces: no cache, and no proxy that gathers them first (nginx's own header).
UNHELD: Final[Mapping[str, str]] = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class StreamedResponse(StreamingResponse):
    """A stream that says when it is over, whole or not: to `leave` first, and to `after` then.

    Args:
        events: The stream.
        leave: Ends what makes it.
        headers: Beside those of every stream.
    """

    def __init__(
        self, events: AsyncIterator[bytes], leave: Callable[[], Awaitable[None]], headers: Mapping[str, str]
    ) -> None:
        super().__init__(events, media_type=EVENTS, headers={**UNHELD, **headers})
        self._leaving = leave
        self.after: Callable[[], None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, as long as its caller stays."""
        try:
            async with Attendance(receive):
                await self.stream_response(send)
        finally:
            try:
                await self._leaving()
            finally:
                if self.after is not None:
                    self.after()

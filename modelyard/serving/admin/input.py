"""What is true of every request to the admin API: a body of bounded length, and text that every database can store."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard.errors import InvalidInput
from modelyard.serving.admin.text import is_storable

LONGEST_BODY: Final = 1 << 20  # bytes


class BoundedBodies:
    """ASGI middleware that refuses longer bodies with 413, before they are in memory and before anybody looks at a key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count its bytes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LONGEST_BODY:
                raise HTTPException(413, f"The request's body must not be longer than {LONGEST_BODY} bytes.")
            return message

        await self._app(scope, counted, send)


async def check_address(request: Request) -> None:
    """Look at the text in path and query.

    Raises:
        InvalidInput: Some of it cannot be stored, and so names nothing.
    """
    texts = (*request.path_params.values(), *request.query_params.values())
    if not all(is_storable(str(text)) for text in texts):
        raise InvalidInput("The address must not hold NUL characters or half surrogate pairs.")

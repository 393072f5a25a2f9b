"""Reads a request's body, as far and for as long as it may."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from modelyard.serving.wire import BadRequest

LONGEST_BODY: Final = 8 << 20  # bytes; images come inside
TOO_LONG: Final = f"The request's body must not be longer than {LONGEST_BODY} bytes."


async def read_body(request: Request, within_s: float) -> bytes:
    """Read the whole body.

    Raises:
        HTTPException: 408, it takes longer; 413, it is longer than the limit.
        BadRequest: It broke off.
    """
    try:
        async with asyncio.timeout(within_s):
            return await _read(request)
    except TimeoutError:
        sentence = f"The request's body did not arrive within {within_s:g} s."
        # The rest of it may still come, and is no next request.
        raise HTTPException(408, sentence, headers={"connection": "close"}) from None


async def _read(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > LONGEST_BODY:
        raise HTTPException(413, TOO_LONG)
    chunks, size, more = list[bytes](), 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("The request's body broke off.")
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > LONGEST_BODY:
            raise HTTPException(413, TOO_LONG)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)

"""A real HTTP server that speaks the OpenAI wire, and misbehaves when told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class OpenAIServer:
    """Answers each request with the next behaviour, the last one again and again; keeps what it was sent."""

    behaviours: Sequence[Behaviour]
    base_url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        behaviour = self.behaviours[min(len(self.bodies), len(self.behaviours) - 1)]
        self.bodies.append(await request.json() if request.can_read_body else {})
        self.headers.append(dict(request.headers))
        self.connections.add(request.transport.get_extra_info("peername") if request.transport else None)
        return await behaviour(request)


@asynccontextmanager
async def openai_server(*behaviours: Behaviour) -> AsyncIterator[OpenAIServer]:
    server = OpenAIServer(behaviours)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.handle)
    app.router.add_post("/v1/embeddings", server.handle)
    app.router.add_post("/v1/moderations", server.handle)
    app.router.add_get("/v1/models", server.handle)
    async with TestServer(app) as http:
        server.base_url = str(http.make_url("/v1"))
        yield server


def answers(text: str | None, *, finish_reason: str = "stop", usage: tuple[int, int] | None = (11, 7)) -> Behaviour:
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
    }
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return says(json.dumps(body))


def says(body: str, *, status: int = 200, headers: dict[str, str] | None = None) -> Behaviour:
    async def behaviour(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body, content_type="application/json", headers=headers)

    return behaviour


def refuses(status: int, message: str = "no", **headers: str) -> Behaviour:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return says(json.dumps({"error": {"message": message}}), status=status, headers=named)


def streams(*pieces: bytes, cut: bool = False) -> Behaviour:
    """Send the raw pieces one by one; `cut` drops the connection instead of ending the body."""

    async def behaviour(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if cut and request.transport is not None:
            request.transport.abort()
        return response

    return behaviour


def chunk(text: str | None = None, *, finish_reason: str | None = None, **fields: Any) -> bytes:
    delta = {**({"content": text} if text is not None else {}), **fields}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event({"object": "chat.completion.chunk", "choices": [choice]})


def usage_chunk(prompt_tokens: int, completion_tokens: int) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}})


def hangs(*pieces: bytes) -> Behaviour:
    """Send the raw pieces, nothing at all where there are none, and then wait until the caller leaves."""

    async def behaviour(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if pieces:
            await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.005)
        return response

    return behaviour


def event(data: Any) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


DONE = b"data: [DONE]\n\n"

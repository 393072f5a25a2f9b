"""A small yard for the serving tests: the real server over a catalogue whose base models stand behind a stub upstream."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from modelyard.settings import Settings

HERE = "http://127.0.0.1"  # for a TestClient: without keys a server answers no other name
WORDS = ("Use ", "flexbox ", "☂.")
TEXT = "".join(WORDS)
MODELS = """
[models.far]
kind = "openai"
base_url = "{url}/v1"
input = 1
output = 2
context_window = 100000
max_output_tokens = 1000
capabilities = ["tools", "json", "images"]

[models.near]
kind = "openai"
base_url = "{url}/v1"
input = 0.5
output = 1
context_window = 4000
capabilities = []

[models.vectors]
kind = "openai"
base_url = "{url}/v1"
input = 0.1
output = 0
embeddings = true

[models.judge]
kind = "openai"
base_url = "{url}/v1"
input = 0.2
output = 0
moderations = true

[composites.team]
description = "One model behind an endpoint."
candidates = ["far"]
fallback = "far"

[composites.pair]
description = "Two models behind an endpoint."
candidates = ["far"]
fallback = "far"
fallbacks = ["near"]
"""


@dataclass
class Script:
    """How the upstream answers for one model.

    Attributes:
        words: The answer, piece by piece.
        deltas: Further deltas of a stream, as they are, and `fields`: those of a whole answer's message.
        events: Whole events of a stream after these, as they are.
        extras: What an answer or chunk holds beside its message, and `logprobs`: a token's, with each word.
        finish_reason, usage: How it ends; `details` go with the usage.
        status: Refuses with this one instead, and `error` in its body.
        cut: Breaks the connection after the words.
        endless: Repeats the words until the caller leaves.
        gate: Waited for after the first word.
        pause_s: Between two words, and before a whole answer.
        vector: Of every text, instead of its length and 1.
        reports: The usage of embeddings and moderations, instead of a sensible one.
    """

    words: tuple[str, ...] = WORDS
    deltas: tuple[dict[str, Any], ...] = ()
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    extras: dict[str, Any] = field(default_factory=dict[str, Any])
    logprobs: bool = False
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    events: tuple[dict[str, Any], ...] = ()
    finish_reason: str = "stop"
    usage: tuple[int, int] = (10, 4)
    status: int | None = None
    error: dict[str, Any] = field(default_factory=lambda: {"message": "no"})
    headers: dict[str, str] = field(default_factory=dict[str, str])
    cut: bool = False
    endless: bool = False
    gate: threading.Event | None = None
    pause_s: float = 0.0
    vector: tuple[float, ...] = ()
    reports: Any = None


@dataclass
class StubUpstream:
    """Speaks the OpenAI wire over TCP, in a thread of its own; keeps every body as it came."""

    url: str = ""
    scripts: dict[str, Script] = field(default_factory=dict[str, Script])
    raw: list[bytes] = field(default_factory=list[bytes])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    left: threading.Event = field(default_factory=threading.Event)
    open: int = 0

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [orjson.loads(raw) for raw in self.raw]

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        script = self.scripts.get(body["model"], Script())
        if script.status is not None:
            return web.json_response({"error": script.error}, status=script.status, headers=script.headers)
        self.open += 1
        try:
            return await (self._streamed(request, script) if body.get("stream") else self._whole(request, script))
        finally:
            self.open -= 1

    async def embed(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        script = self.scripts.get(body["model"], Script())
        if script.status is not None:
            return web.json_response({"error": script.error}, status=script.status, headers=script.headers)
        await self._wait(script)
        given = body["input"]
        texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
        data = [
            {"object": "embedding", "index": index, "embedding": list(script.vector) or [float(len(text)), 1.0]}
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 3 * len(texts), "total_tokens": 3 * len(texts)}
        usage = usage if script.reports is None else script.reports
        return web.json_response({"object": "list", "data": data, "model": body["model"], "usage": usage})

    async def moderate(self, request: web.Request) -> web.StreamResponse:
        """Flag what holds the word `bad`, as OpenAI does; a list of parts is one input."""
        body = await self._read(request)
        script = self.scripts.get(body["model"], Script())
        if script.status is not None:
            return web.json_response({"error": script.error}, status=script.status, headers=script.headers)
        await self._wait(script)
        given = body["input"]
        inputs = given if isinstance(given, list) and isinstance(given[0], str) else [given]
        flags = ["bad" in json.dumps(one) for one in inputs]
        results = [
            {
                "flagged": flag,
                "categories": {"harassment": flag},
                "category_scores": {"harassment": 0.9 if flag else 0.1},
                "category_applied_input_types": {"harassment": ["text"]},
            }
            for flag in flags
        ]
        answer: dict[str, Any] = {"id": "modr-up", "model": body["model"], "results": results}
        return web.json_response(answer if script.reports is None else answer | {"usage": script.reports})

    async def models(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": []})

    async def _read(self, request: web.Request) -> dict[str, Any]:
        raw = await request.read()
        self.raw.append(raw)
        self.headers.append(dict(request.headers))
        return orjson.loads(raw)

    async def _wait(self, script: Script) -> None:
        await asyncio.sleep(script.pause_s)
        if script.gate is not None:
            await asyncio.to_thread(script.gate.wait, 30)

    async def _whole(self, request: web.Request, script: Script) -> web.StreamResponse:
        await self._wait(script)
        if script.cut:
            response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
            await response.prepare(request)
            _abort(request)
            return response
        message = {"role": "assistant", "content": "".join(script.words) or None, **script.fields}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": script.finish_reason}
        if script.logprobs:
            choice["logprobs"] = logprobs(*script.words)
        body = {"object": "chat.completion", "choices": [choice], "usage": _usage(script), **script.extras}
        return web.json_response(body)

    async def _streamed(self, request: web.Request, script: Script) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for number, word in enumerate(script.words):
                said = {"logprobs": logprobs(word)} if script.logprobs else {}
                await response.write(_chunk({"content": word}, None, said, **script.extras))
                if number == 0 and script.gate is not None:
                    await asyncio.to_thread(script.gate.wait, 30)
                await asyncio.sleep(script.pause_s)
            while script.endless:
                await response.write(_chunk({"content": script.words[-1]}))
                await asyncio.sleep(0.005)
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise
        for delta in script.deltas:
            await response.write(_chunk(delta))
        for event in script.events:
            await response.write(_event(event))
        if script.cut:
            await asyncio.sleep(0.05)  # what was sent must arrive before the reset
            _abort(request)
            return response
        await response.write(_chunk({}, script.finish_reason))
        await response.write(_event({"choices": [], "usage": _usage(script)}) + b"data: [DONE]\n\n")
        return response


def logprobs(*words: str) -> dict[str, Any]:
    """Return the log probabilities of an answer of these tokens."""
    return {"content": [{"token": word, "logprob": -0.5, "bytes": None, "top_logprobs": []} for word in words]}


def _usage(script: Script) -> dict[str, Any]:
    counts = (*script.usage, sum(script.usage))
    return dict(zip(("prompt_tokens", "completion_tokens", "total_tokens"), counts, strict=True)) | script.details


def _chunk(
    delta: dict[str, Any], finish_reason: str | None = None, said: dict[str, Any] | None = None, **extras: Any
) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, **(said or {})}
    return _event({"object": "chat.completion.chunk", "choices": [choice], **extras})


def _event(data: Any) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextmanager
def stub_upstream() -> Generator[StubUpstream]:
    """Serve a stub on a free port."""
    stub, loop, up = StubUpstream(), asyncio.new_event_loop(), threading.Event()

    async def serve() -> web.AppRunner:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", stub.chat)
        app.router.add_post("/v1/embeddings", stub.embed)
        app.router.add_post("/v1/moderations", stub.moderate)
        app.router.add_get("/v1/models", stub.models)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def run() -> None:
        runner = loop.run_until_complete(serve())
        up.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=run, name="stub-upstream")
    thread.start()
    try:
        assert up.wait(30), "the stub did not come up"
        yield stub
    finally:
        for script in stub.scripts.values():
            if script.gate is not None:
                script.gate.set()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.stop)
        thread.join(30)


def furnish(settings: Settings, upstream: StubUpstream, folder: Path, extra: str = "", **changes: Any) -> Settings:
    """Return settings whose catalogue stands behind the stub, and which look for nothing in the background."""
    catalogue = folder / "catalogue.toml"
    catalogue.write_text(MODELS.format(url=upstream.url) + extra, "utf-8")
    quiet = {"catalog": catalogue, "registry_poll_s": 0.0, "probe_s": 0.0}
    return settings.model_copy(update={**quiet, **changes})

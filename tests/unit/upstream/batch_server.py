"""A real HTTP server with OpenAI's files and batches; it answers chat requests with the last word they hold."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

CACHED = 4  # tokens of a text that starts with `cached`


@dataclass
class BatchServer:
    """Keeps files and batches; a batch is done after `polls` polls, and `faults` are (status, message) answers that come first."""

    base_url: str = ""
    polls: int = 2
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    broken_line: bytes | None = None

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        content = form["file"].file.read()  # type: ignore[union-attr]
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return web.json_response({"id": name, "object": "file", "bytes": len(content), "purpose": "batch"})

    async def create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        batch = {"id": f"batch_{len(self.batches)}", "object": "batch", "status": "validating", "polled": 0, **asked}
        self.batches[batch["id"]] = batch
        return web.json_response(batch)

    async def poll(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return web.json_response({"error": {"message": "No such batch."}}, status=404)
        batch["polled"] += 1
        if batch["status"] not in {"cancelled", "failed"}:
            batch["status"] = "in_progress"
            if batch["polled"] >= self.polls:
                self._finish(batch)
        return web.json_response(batch)

    async def cancel(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        batch["status"] = "cancelled"
        return web.json_response(batch)

    async def content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])

    def _finish(self, batch: dict[str, Any]) -> None:
        answered, failed = [], []
        for line in self.files[batch["input_file_id"]].splitlines():
            request = json.loads(line)
            result = _result(request)
            (failed if result["error"] or result["response"]["status_code"] != 200 else answered).append(result)
        for name, results in (("output_file_id", answered), ("error_file_id", failed)):
            if results:
                batch[name] = f"file-{len(self.files)}"
                content = "\n".join(map(json.dumps, results)).encode()
                self.files[batch[name]] = content if self.broken_line is None else content + b"\n" + self.broken_line
        batch["status"] = "completed"
        total = len(answered) + len(failed)
        batch["request_counts"] = {"total": total, "completed": len(answered), "failed": len(failed)}


def _result(request: dict[str, Any]) -> dict[str, Any]:
    result = {"id": f"r-{request['custom_id']}", "custom_id": request["custom_id"], "response": None, "error": None}
    text = request["body"]["messages"][-1]["content"]
    if text == "expire":
        return result | {"error": {"code": "batch_expired", "message": "It ran out of time."}}
    if text == "refuse":
        body: dict[str, Any] = {"error": {"message": "It was refused."}}
        return result | {"response": {"status_code": 400, "body": body}}
    body = {
        "model": request["body"]["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text.split()[-1]}}],
        "usage": {
            "prompt_tokens": len(text),
            "completion_tokens": 1,
            "total_tokens": len(text) + 1,
            "prompt_tokens_details": {"cached_tokens": CACHED if text.startswith("cached") else 0},
        },
    }
    return result | {"response": {"status_code": 200, "body": body}}


@asynccontextmanager
async def batch_server() -> AsyncIterator[BatchServer]:
    server = BatchServer()
    app = web.Application(middlewares=[_faults(server)])
    app.router.add_post("/v1/files", server.upload)
    app.router.add_get("/v1/files/{id}/content", server.content)
    app.router.add_post("/v1/batches", server.create)
    app.router.add_get("/v1/batches/{id}", server.poll)
    app.router.add_post("/v1/batches/{id}/cancel", server.cancel)
    async with TestServer(app) as http:
        server.base_url = str(http.make_url("/v1"))
        yield server


def _faults(server: BatchServer) -> Any:
    @web.middleware
    async def middleware(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        server.headers.append(dict(request.headers))
        if server.faults:
            status, message = server.faults.pop(0)
            return web.json_response({"error": {"message": message}}, status=status)
        return await handler(request)

    return middleware

"""The HTTP app: OpenAI's chat completions over composite models."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from modelyard import __version__, types
from modelyard.errors import GenerationError, ModelyardError, UnknownModel
from modelyard.serving.models import Model, Models
from modelyard.serving.recorder import Recorder
from modelyard.serving.wire import (
    BadRequest,
    ChatRequest,
    ChunkWriter,
    completion_body,
    error_body,
    header_safe,
    models_body,
    parse_chat_request,
)
from modelyard.settings import Settings

LONGEST_BODY: Final = 1 << 20  # bytes
log = logging.getLogger("modelyard.serving")


def create_app(settings: Settings, models: Models) -> Starlette:
    """Return the app.

    Args:
        settings: Where the database is.
        models: What is served.

    Raises:
        InvalidSetting: The database's URL cannot be used at all.
        MissingExtra: The database's driver is not installed.
    """
    server = _Server(models, Recorder(settings.database))
    return Starlette(
        routes=[
            Route("/v1/chat/completions", server.chat, methods=["POST"]),
            Route("/v1/models", server.list_models, methods=["GET"]),
            Route("/health", server.health, methods=["GET"]),
        ],
        exception_handlers={
            ModelyardError: _on_modelyard_error,
            HTTPException: _on_http_error,
            Exception: _on_bug,
        },
        lifespan=server.lifespan,
    )


class _Server:
    """The endpoints over what they share."""

    def __init__(self, models: Models, recorder: Recorder) -> None:
        self._models = models
        self._recorder = recorder

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncGenerator[None]:
        if problem := await asyncio.to_thread(self._recorder.problem):
            log.error("Answers cannot be stored: %s", problem)
        yield
        await self._models.close()
        await asyncio.to_thread(self._recorder.close)

    async def chat(self, request: Request) -> Response:
        asked = parse_chat_request(await _body(request))
        model = await asyncio.to_thread(self._models.get, asked.model)
        job = _Job(model, asked, self._recorder)
        return await (job.stream() if asked.stream else job.whole())

    async def list_models(self, _: Request) -> Response:
        return JSONResponse(models_body(self._models.names))

    async def health(self, _: Request) -> Response:
        problem = await asyncio.to_thread(self._recorder.problem)
        champions = await asyncio.to_thread(self._models.champions)
        database: dict[str, Any] = {"state": "failed", "reason": problem} if problem else {"state": "ok"}
        database["lost_answers"] = self._recorder.lost
        sound = problem is None and all(champion["state"] != "broken" for champion in champions.values())
        return JSONResponse(
            {
                "status": "ok" if sound else "degraded",
                "version": __version__,
                "champions": champions,
                "database": database,
            }
        )


class _Job:
    """One chat request on its way."""

    def __init__(self, model: Model, asked: ChatRequest, recorder: Recorder) -> None:
        self._model = model
        self._asked = asked
        self._recorder = recorder
        self._message = asked.message
        self._started = time.perf_counter()

    async def whole(self) -> Response:
        answer = await self._model.answer(self._message)
        extra = await self._record(answer)
        body = completion_body(answer, self._asked.model, extra)
        return JSONResponse(body, headers=_headers(answer.task, answer.route))

    async def stream(self) -> Response:
        plan = self._model.plan(self._message)
        pieces = self._model.stream(self._message)
        first = await anext(pieces)  # a failure before the first piece is still a status, not a broken stream
        return StreamingResponse(
            self._events(first, pieces), media_type="text/event-stream", headers=_headers(plan.task, plan.route)
        )

    async def _events(self, first: str | types.Answer, rest: AsyncIterator[str | types.Answer]) -> AsyncIterator[bytes]:
        options = self._asked.stream_options
        writer = ChunkWriter(self._message.id, self._asked.model, include_usage=bool(options and options.include_usage))
        try:
            yield writer.start()
            async for piece in _joined(first, rest):
                if isinstance(piece, str):
                    yield writer.text(piece)
                else:
                    # The pieces went out under the message's id before the answer had one of its own.
                    answer = replace(piece, id=self._message.id)
                    yield writer.end(answer, await self._record(answer))
        except ModelyardError as error:
            log.warning("The answer broke off: %s", error)
            yield writer.broken(_described(error)[1])
        except Exception:
            log.exception("The answer broke off")
            yield writer.broken(_BUG)
        finally:
            if isinstance(rest, AsyncGenerator):
                await rest.aclose()  # a caller who left must not keep an upstream busy

    async def _record(self, answer: types.Answer) -> dict[str, Any]:
        latency_ms = (time.perf_counter() - self._started) * 1000
        stored = await asyncio.to_thread(
            self._recorder.record, self._message, answer, composite=self._model.name, latency_ms=latency_ms
        )
        return {"stored": stored, "ignored_parameters": list(self._asked.ignored)}


async def _joined(
    first: str | types.Answer, rest: AsyncIterator[str | types.Answer]
) -> AsyncIterator[str | types.Answer]:
    yield first
    async for piece in rest:
        yield piece


async def _body(request: Request) -> bytes:
    """Read the body as far as the limit.

    Raises:
        HTTPException: 413, the body is longer.
    """
    too_long = HTTPException(413, f"The request's body must not be longer than {LONGEST_BODY} bytes.")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > LONGEST_BODY:
        raise too_long
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST_BODY:
                raise too_long
    except ClientDisconnect:
        raise HTTPException(400, "The request's body broke off.") from None
    return bytes(body)


def _headers(task: types.Task, route: types.Route) -> dict[str, str]:
    return {
        "x-modelyard-model": header_safe(route.model),
        "x-modelyard-task": header_safe(f"{task.domain}/{task.complexity}"),
        "x-modelyard-route-reason": header_safe("; ".join(route.reasons)),
    }


_BUG: Final = error_body("The server made a mistake; its log says more.", "server_error")


def _described(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return the status and the body that tell a caller of an error that was raised on purpose."""
    message = str(error)
    match error:
        case BadRequest():
            return 400, error_body(message, "invalid_request_error", param=error.param)
        case UnknownModel():
            return 404, error_body(message, "invalid_request_error", param="model", code="model_not_found")
        case GenerationError():
            return 502, error_body(message, "upstream_error", code="upstream_error")
        case _:
            return 500, error_body(message, "server_error")


async def _on_modelyard_error(_: Request, error: Exception) -> Response:
    status, body = _described(error)
    if status >= 500:
        log.warning("A request failed: %s", error)
    return JSONResponse(body, status)


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    message = {
        404: f"There is nothing at {request.url.path}.",
        405: f"{request.url.path} does not take {request.method}.",
    }.get(error.status_code, error.detail)
    return JSONResponse(error_body(message, "invalid_request_error"), error.status_code, error.headers)


async def _on_bug(_: Request, _error: Exception) -> Response:
    return JSONResponse(_BUG, 500)

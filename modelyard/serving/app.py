"""The HTTP app: OpenAI's wire over composite models, what operators read, and the admin and analytics APIs beside it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from modelyard import __version__
from modelyard.control.keys import ANONYMOUS, Principal, Scope, bearer
from modelyard.errors import Forbidden, LimitExceeded, ModelyardError, UnknownModel
from modelyard.serving.admin.app import create_admin, create_analytics
from modelyard.serving.admission import admit
from modelyard.serving.attendance import Attendance
from modelyard.serving.books import Caller, embedding_row
from modelyard.serving.chat import ChatJob, Desk
from modelyard.serving.embeddings import parse_embeddings_request
from modelyard.serving.feedback import parse_feedback
from modelyard.serving.lane import FastLane
from modelyard.serving.logs import RequestLog, current_request_id, note
from modelyard.serving.parts import ServerParts
from modelyard.serving.problems import JsonResponse, on_bug, on_http_error, on_modelyard_error
from modelyard.serving.reports import parent_of
from modelyard.serving.streamed import StreamedResponse
from modelyard.serving.wire import BadRequest, model_body, models_body, parse_chat_request
from modelyard.storage import record_feedback
from modelyard.types import Usage, estimate_tokens, new_id

LONGEST_BODY: Final = 8 << 20  # bytes; images come inside
TOO_LONG: Final = f"The request's body must not be longer than {LONGEST_BODY} bytes."
LEFT: Final = 499  # what nginx logs for a caller who left before the answer began; nobody reads it
FLUSH_S: Final = 2.0  # how long feedback waits for its answer to reach the database
log = logging.getLogger("modelyard.serving")


def create_app(parts: ServerParts) -> ASGIApp:
    """Return the app; it starts its parts when it starts, and closes them when it ends."""
    server = _Server(parts)
    routes: list[BaseRoute] = [
        Route("/v1/chat/completions", server.chat, methods=["POST"]),
        Route("/v1/embeddings", server.embeddings, methods=["POST"]),
        Route("/v1/feedback", server.feedback, methods=["POST"]),
        Route("/v1/models", server.list_models, methods=["GET"]),
        Route("/v1/models/{name:path}", server.show_model, methods=["GET"]),
        Route("/health", server.health, methods=["GET"]),
        Route("/metrics", server.metrics, methods=["GET"]),
        Mount("/admin", create_admin(parts.admin_context)),
        Mount("/analytics", create_analytics(parts.admin_context)),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={ModelyardError: server.refuse, HTTPException: on_http_error, Exception: on_bug},
        lifespan=server.lifespan,
    )
    lane = FastLane(
        {("POST", "/v1/chat/completions"): server.chat, ("POST", "/v1/embeddings"): server.embeddings},
        app,
        server.refuse,
    )
    return RequestLog(lane, log_prompts=parts.settings.log_prompts)


class _Server:
    """The endpoints over what they share."""

    def __init__(self, parts: ServerParts) -> None:
        self._parts = parts
        self._desk = Desk(
            parts.spool, parts.limits, parts.caches, parts.metrics, parts.reports, parts.settings.store_texts
        )
        self._auth = parts.settings.auth == "keys"
        self._in_flight = 0

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncGenerator[None]:
        async with self._parts.running():
            yield

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Answer a request that failed in a way that was foreseen, and count those that were turned away."""
        self._parts.metrics.refused(error)
        return await on_modelyard_error(request, error)

    async def chat(self, request: Request) -> Response:
        self._enter()
        streaming = False
        try:
            principal = await self._who(request, "chat")
            asked = parse_chat_request(await _body(request))
            served = self._parts.served
            # Composing a model for the first time takes long; afterwards it is there.
            model = served.ready(asked.model) or await asyncio.to_thread(served.get, asked.model)
            _require(principal, asked.model)
            caller = _caller(principal, asked.user, request)
            job = ChatJob(self._desk, model, asked, principal, caller, served.revision)
            async with Attendance(request.receive):
                response = await job.respond()
                if isinstance(response, StreamedResponse):
                    streaming, response.after = True, self._leave
                return response
            return Response(status_code=LEFT)
        finally:
            if not streaming:
                self._leave()

    async def embeddings(self, request: Request) -> Response:
        self._enter()
        try:
            principal = await self._who(request, "embeddings")
            asked, body = parse_embeddings_request(await _body(request))
            parts = self._parts
            catalog = parts.manager.catalog
            _require(principal, asked.model)
            tokens = round(estimate_tokens(asked.chars))
            known = catalog.models.get(asked.model)
            most = Usage(tokens, 0, known.price.cost(tokens, 0) if known else 0.0)
            permit = await admit(parts.limits, principal, asked.model, most)
            spent, started = (0, 0.0), time.perf_counter()
            try:
                found, model, deployment, usage = await parts.embedders.embed(
                    catalog, asked.model, body, owner=principal.key_id
                )
                spent = (usage.prompt_tokens, usage.cost_usd)
            finally:
                if permit is not None:
                    await parts.limits.settle(permit, *spent)
            id = new_id("emb")
            ms = (time.perf_counter() - started) * 1000
            row = embedding_row(id, _caller(principal, asked.user, request), model.name, deployment, usage, ms)
            parts.spool.finish(id, {"message": None, "usages": [row]})
            return JsonResponse(found, headers={"x-modelyard-model": model.name})
        finally:
            self._leave()

    async def feedback(self, request: Request) -> Response:
        principal = await self._who(request, "feedback")
        said = parse_feedback(await _body(request))
        number = await asyncio.to_thread(self._store_feedback, principal, said)
        return JsonResponse({"id": number, "object": "feedback", "message_id": said.message_id}, 201)

    def _store_feedback(self, principal: Principal, said: Any) -> Any:
        self._parts.writer.flush(FLUSH_S)  # the answer may still be on its way to the database
        return record_feedback(
            self._parts.database,
            said.message_id,
            rating=said.rating,
            correction=said.correction,
            wrong_model=said.wrong_model,
            comment=said.comment,
            user_id=said.user,
            project_id=principal.project,
        )

    async def list_models(self, request: Request) -> Response:
        principal = await self._who(request, None)
        names = self._parts.served.names
        return JsonResponse(models_body({n: kind for n, kind in names.items() if principal.may_use(n)}))

    async def show_model(self, request: Request) -> Response:
        principal = await self._who(request, None)
        name = request.path_params["name"]
        names = self._parts.served.names
        if name not in names or not principal.may_use(name):
            raise UnknownModel(f"No model is called {name!r}.")
        return JsonResponse(model_body(name, names[name]))

    async def health(self, request: Request) -> Response:
        facts = await asyncio.to_thread(self._parts.report)
        if self._auth and "authorization" not in request.headers:
            facts = {"status": facts["status"]}  # a load balancer needs no more, and a stranger gets no more
        else:
            await self._who(request, None)
        return JsonResponse({**facts, "version": __version__})

    async def metrics(self, request: Request) -> Response:
        await self._who(request, "analytics")
        page = await asyncio.to_thread(self._parts.metrics.page)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _who(self, request: Request, scope: Scope | None) -> Principal:
        """Return whose key came with the request.

        Raises:
            Unauthenticated: None came, or none that is valid.
            Forbidden: It lacks the scope.
        """
        if not self._auth:
            return ANONYMOUS
        principal = await self._parts.keyring.authenticate(bearer(request.headers.get("authorization")))
        note(key_id=principal.key_id)
        if scope is not None and "admin" not in principal.scopes:
            principal.require(scope)
        return principal

    def _enter(self) -> None:
        most = self._parts.settings.max_in_flight
        if self._in_flight >= most:
            raise LimitExceeded(
                f"The server answers {most} requests at once, and all places are taken.",
                retry_after_s=1.0,
                kind="capacity",
            )
        self._in_flight += 1

    def _leave(self) -> None:
        self._in_flight -= 1


def _require(principal: Principal, model: str) -> None:
    if not principal.may_use(model):
        raise Forbidden(f"This API key does not allow the model {model!r}.")


def _caller(principal: Principal, user: str | None, request: Request) -> Caller:
    request_id, parent = current_request_id(), parent_of(request.headers)
    if principal is ANONYMOUS:
        return Caller(user_id=user, request_id=request_id, parent=parent)
    return Caller(principal.key_id, principal.project, user, request_id, parent)


async def _body(request: Request) -> bytes:
    """Read the body as far as the limit.

    Raises:
        HTTPException: 413, the body is longer.
        BadRequest: It broke off.
    """
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

"""The HTTP app: OpenAI's wire over composite models, what operators read, and the admin and analytics APIs beside it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from modelyard.control.keys import ANONYMOUS, Principal, Scope, bearer
from modelyard.control.pools import COMPOSING, FEEDBACK, Pool, Shared
from modelyard.errors import Forbidden, ModelyardError, UnknownModel
from modelyard.serving.admin.app import create_admin, create_analytics
from modelyard.serving.admission import count
from modelyard.serving.attendance import Attendance
from modelyard.serving.body import read_body
from modelyard.serving.books import Caller
from modelyard.serving.chat import ChatJob, Desk
from modelyard.serving.embeddings import Embedders
from modelyard.serving.feedback import parse_feedback
from modelyard.serving.health import Checkup
from modelyard.serving.input_job import InputJob
from modelyard.serving.input_wire import EmbeddingsRequest, InputsRequest, ModerationsRequest, parse_inputs
from modelyard.serving.lane import FastLane
from modelyard.serving.logs import RequestLog, current_request_id, note
from modelyard.serving.moderations import Moderators
from modelyard.serving.own_machine import OwnMachine
from modelyard.serving.parts import ServerParts
from modelyard.serving.places import Places
from modelyard.serving.problems import JsonResponse, on_bug, on_http_error, on_modelyard_error
from modelyard.serving.reports import parent_of
from modelyard.serving.streamed import StreamedResponse
from modelyard.serving.watched import pool_metrics
from modelyard.serving.wire import model_body, models_body, parse_chat_request
from modelyard.storage import record_feedback

LEFT: Final = 499  # what nginx logs for a caller who left before the answer began; nobody reads it
FLUSH_S: Final = 2.0  # how long feedback waits for its answer to reach the database
log = logging.getLogger("modelyard.serving")


def create_app(parts: ServerParts) -> ASGIApp:
    """Return the app; it starts its parts when it starts, and closes them when it ends."""
    server = _Server(parts)
    routes: list[BaseRoute] = [
        Route("/v1/chat/completions", server.chat, methods=["POST"]),
        Route("/v1/embeddings", server.embeddings, methods=["POST"]),
        Route("/v1/moderations", server.moderations, methods=["POST"]),
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
    open_to_all = parts.settings.auth == "off"
    return RequestLog(OwnMachine(lane) if open_to_all else lane, log_prompts=parts.settings.log_prompts)


class _Server:
    """The endpoints over what they share."""

    def __init__(self, parts: ServerParts) -> None:
        self._parts = parts
        self._places = Places(parts.settings.max_in_flight)
        self._desk = Desk(
            parts.spool,
            parts.limits,
            parts.caches,
            parts.metrics,
            self._places,
            parts.reports,
            parts.settings.store_texts,
        )
        self._auth = parts.settings.auth == "keys"
        self._feedback, self._composing = Pool("feedback", FEEDBACK), Pool("composing", COMPOSING)
        parts.metrics.watch(lambda: pool_metrics((self._feedback, self._composing)))
        self._checkup, self._page = Checkup(parts.report), Shared("metrics", parts.metrics.page)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncGenerator[None]:
        try:
            async with self._parts.running():
                yield
        finally:
            for threads in (self._feedback, self._composing, self._checkup, self._page):
                threads.close()

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Answer a request that failed in a way that was foreseen, and count those that were turned away."""
        self._parts.metrics.refused(error)
        return await on_modelyard_error(request, error)

    async def chat(self, request: Request) -> Response:
        self._places.take()
        streaming = False
        try:
            principal = await self._who(request, "chat")
            asked = parse_chat_request(await self._body(request))
            served = self._parts.served
            try:  # composing a model for the first time takes long; afterwards it is there
                model = served.ready(asked.model) or await self._composing.run(served.get, asked.model)
            except UnknownModel as error:
                raise _told(principal, error, asked.model, served.names) from None
            _require(principal, asked.model)
            caller = _caller(principal, asked.user, request)
            job = ChatJob(self._desk, model, asked, principal, caller, served.revision)
            async with Attendance(request.receive):
                response = await job.respond()
                if isinstance(response, StreamedResponse):
                    streaming, response.after = True, self._places.give_back
                return response
            return Response(status_code=LEFT)
        finally:
            if not streaming:
                self._places.give_back()

    async def embeddings(self, request: Request) -> Response:
        return await self._inputs(request, "embeddings", EmbeddingsRequest, self._parts.embedders)

    async def moderations(self, request: Request) -> Response:
        return await self._inputs(request, "moderations", ModerationsRequest, self._parts.moderators)

    async def _inputs(
        self, request: Request, scope: Scope, form: type[InputsRequest], calls: Embedders | Moderators
    ) -> Response:
        self._places.take()
        try:
            principal = await self._who(request, scope)
            data = await self._body(request)
            asked, body = parse_inputs(form, data)
            if asked.model is not None:
                _require(principal, asked.model)
            catalog = self._parts.manager.catalog
            try:
                model = calls.model(catalog, asked.model)
            except UnknownModel as error:
                raise _told(principal, error, asked.model or "", calls.names(catalog)) from None
            _require(principal, model.name)
            work = calls.work(catalog, model, body, principal.key_id)
            caller = _caller(principal, asked.user, request)
            job = InputJob(self._desk, calls.kind, model, work, (asked.tokens, len(data)), principal, caller)
            async with Attendance(request.receive):
                return await job.respond()
            return Response(status_code=LEFT)
        finally:
            self._places.give_back()

    async def feedback(self, request: Request) -> Response:
        principal = await self._who(request, "feedback")
        await count(self._parts.limits, principal)
        said = parse_feedback(await self._body(request))
        number = await self._feedback.run(self._store_feedback, principal, said)
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
        stranger = self._auth and "authorization" not in request.headers  # such as a load balancer
        return JsonResponse(await self._checkup.facts(None if stranger else await self._who(request, None)))

    async def metrics(self, request: Request) -> Response:
        principal = await self._who(request, "analytics")
        if principal.project is not None and "admin" not in principal.scopes:
            raise Forbidden("This shows every project's figures and needs an API key with the scope 'admin'.")
        return Response(await self._page.get(), media_type="text/plain; version=0.0.4; charset=utf-8")

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

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, self._parts.settings.body_s)


def _require(principal: Principal, model: str) -> None:
    if not principal.may_use(model):
        raise Forbidden(f"This API key does not allow the model {model!r}.")


def _told(principal: Principal, error: UnknownModel, model: str, names: Iterable[str]) -> UnknownModel:
    """Return the error with the names that the caller may use, and no others."""
    if principal.model_types is None:
        return error
    usable = ", ".join(name for name in names if principal.may_use(name)) or "none"
    return UnknownModel(f"No model for this is called {model!r}; those that this API key may use are {usable}.")


def _caller(principal: Principal, user: str | None, request: Request) -> Caller:
    request_id, parent = current_request_id(), parent_of(request.headers)
    if principal is ANONYMOUS:
        return Caller(user_id=user, request_id=request_id, parent=parent)
    return Caller(principal.key_id, principal.project, user, request_id, parent)

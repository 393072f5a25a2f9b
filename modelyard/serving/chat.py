"""One chat request on its way: admitted, planned, entered in the books, answered, settled and closed; whole or streamed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.responses import Response

from modelyard.composite import CompositeModel, Plan
from modelyard.control.cache_keys import answer_key
from modelyard.control.caches import Caches
from modelyard.control.keys import Principal
from modelyard.control.limits import Limits, Permit
from modelyard.errors import ModelyardError
from modelyard.generation import Trail
from modelyard.serving.admission import admit
from modelyard.serving.books import Caller, Entry, Sink
from modelyard.serving.logs import note
from modelyard.serving.metrics import Metrics
from modelyard.serving.places import Places
from modelyard.serving.problems import BUG, JsonResponse, described, problem
from modelyard.serving.replies import ChunkWriter, completion_body
from modelyard.serving.reports import Reports
from modelyard.serving.reserving import NOTHING, reservation
from modelyard.serving.streamed import EVENTS, UNHELD, StreamedResponse
from modelyard.serving.wire import Asked, header_safe
from modelyard.types import Answer, Delta

log = logging.getLogger("modelyard.serving")


@dataclass(frozen=True, slots=True)
class Desk:
    """What every request needs.

    Attributes:
        sink: Takes the books' entries.
        limits: Rates and budgets.
        caches: Of whole answers, among others.
        metrics: What Prometheus reads.
        places: Of the requests that are answered at once.
        reports: Spans and traces, made of requests that have ended.
        store_texts: Whether prompts and answers are kept.
    """

    sink: Sink
    limits: Limits
    caches: Caches
    metrics: Metrics
    places: Places
    reports: tuple[Reports, ...] = ()
    store_texts: bool = True


class ChatJob:
    """Answers one request.

    Args:
        desk: What it needs.
        model: What was asked for.
        asked: The request.
        principal: Who asked, and `caller` as the books call them.
        revision: Of the catalogue, for the cache.
    """

    def __init__(
        self,
        desk: Desk,
        model: CompositeModel,
        asked: Asked,
        principal: Principal,
        caller: Caller,
        revision: int,
    ) -> None:
        self._desk, self._model, self._asked, self._principal, self._caller = desk, model, asked, principal, caller
        self._message, self._revision = asked.message, revision
        self._trail = Trail()
        self._plan: Plan | None = None
        self._permit: Permit | None = None
        self._entry = Entry(desk.sink, caller, asked.model, asked.message, store_texts=desk.store_texts)
        self._said: list[str] = []
        self._ended = False

    async def respond(self) -> Response:
        """Answer as the request asks; where there is no answer, and nothing of it was sent, say why and how far it came.

        Raises:
            ModelyardError: The request was not let through, or not understood.
        """
        kept = self._kept()
        reserved = NOTHING if kept else reservation(self._model, self._message)
        limits, most, least = self._desk.limits, reserved.most, reserved.least_tokens
        try:
            self._permit = await admit(limits, self._principal, self._asked.model, most, least_tokens=least)
            if kept:
                return await self._again(kept)
            await self._desk.places.gather()
            self._plan = self._model.plan(self._message, owner=self._caller.owner)
            await self._desk.places.gather()
            self._entry.begin(self._plan, most)
            await self._desk.places.gather()
            return await (self._stream(self._plan) if self._asked.stream else self._whole(self._plan))
        except ModelyardError as error:
            await self._fail(error)
            if self._plan is None:
                raise
            return problem(error, self._headers(self._plan, self._trail.calling or self._plan.route.model))
        except BaseException as error:
            await self._fail(error)
            raise

    async def _whole(self, plan: Plan) -> Response:
        answer = await self._model.answer(self._message, plan, self._trail)
        await self._desk.places.gather()
        explained = await self._close(plan, answer)
        body = completion_body(answer, self._asked.model, explained)
        return JsonResponse(body, headers=self._headers(plan, answer.model, answer))

    async def _stream(self, plan: Plan) -> Response:
        pieces = self._model.stream(self._message, plan, self._trail)
        first = await anext(pieces)  # a failure before the first piece is still a status, not a broken stream
        self._entry.first_token_ms = self._entry.ms
        headers = self._headers(plan, self._trail.calling or plan.route.model)
        return StreamedResponse(self._events(plan, first, pieces), partial(self._leave, pieces), headers)

    async def _events(
        self, plan: Plan, first: Delta | Answer, rest: AsyncGenerator[Delta | Answer]
    ) -> AsyncIterator[bytes]:
        writer = self._writer(first)
        piece, written = first, writer.start()
        try:
            while isinstance(piece, Delta):
                self._said.append(piece.text)
                written += writer.piece(piece)
                if not piece.followed:  # what came together is sent together
                    yield written
                    written = b""
                piece = await anext(rest)
            yield written + writer.end(piece, await self._close(plan, piece))
        except ModelyardError as error:
            log.warning("The answer %s broke off: %s", self._message.id, error)
            await self._fail(error)
            yield written + writer.broken(described(error)[1])
        except Exception as error:
            log.exception("The answer %s broke off", self._message.id)
            await self._fail(error)
            yield written + writer.broken(BUG)

    def _writer(self, first: Delta | Answer) -> ChunkWriter:
        fingerprint = (first.extras or {}).get("system_fingerprint")
        asked = self._asked
        return ChunkWriter(self._message.id, asked.model, include_usage=asked.include_usage, fingerprint=fingerprint)

    async def _leave(self, rest: AsyncGenerator[Delta | Answer]) -> None:
        """End a stream that is not whole: its caller left, perhaps before the first byte. One that has ended stays as it is."""
        await rest.aclose()  # the upstream is not kept busy, and what it will charge is known
        await self._fail(asyncio.CancelledError())

    def _kept(self) -> Answer | None:
        """Return the answer that the very same request got before, where the composite keeps answers: ours now, and for nothing."""
        if self._model.parts.spec.response_cache_s <= 0.0:
            return None
        answer = self._desk.caches.answers.get(self._key())
        if answer is None:
            return None
        return replace(answer, id=self._message.id, usage=replace(answer.usage, cost_usd=0.0))

    async def _again(self, answer: Answer) -> Response:
        """Answer with one that was given before."""
        self._ended = True
        plan = Plan(answer.task, answer.route, answer.passages, answer.steps)
        try:
            self._entry.answered(plan, answer, cache_hit=True)
            self._tell(answer, cache_hit=True)
        finally:
            await self._settle(0, 0.0)
        headers = {**self._headers(plan, answer.model, answer), "x-modelyard-cache": "hit"}
        explained = self._explained(answer, cache_hit=True)
        if not self._asked.stream:
            return JsonResponse(completion_body(answer, self._asked.model, explained), headers=headers)
        writer, piece = self._writer(answer), Delta(answer.text, answer.fields, extras=answer.extras)
        whole = writer.start() + writer.piece(piece) + writer.end(answer, explained)
        return Response(whole, media_type=EVENTS, headers={**UNHELD, **headers})

    def _key(self) -> bytes:
        """Return the key of the answer: the caller's own one, or its project's where the composite shares answers."""
        parts, caller = self._model.parts, self._caller
        shared = parts.spec.response_cache_shared and caller.project_id is not None
        owner = f"project {caller.project_id}" if shared else caller.owner
        return answer_key(self._message, parts.versions, revision=self._revision, owner=owner)

    async def _close(self, plan: Plan, answer: Answer) -> Mapping[str, Any] | None:
        """Record, remember and settle an answer; return the `modelyard` object where it was asked for.

        The books come first: whoever leaves while the limits are told has been answered all the same, and pays for it.
        """
        self._ended = True
        spent = [attempt.usage for attempt in answer.attempts[:-1] if attempt.usage is not None]
        spent.append(answer.usage)
        try:
            self._entry.answered(plan, answer)
            self._model.remember(self._message, answer, owner=self._caller.owner)
            self._tell(answer)
            lasting = self._model.parts.spec.response_cache_s
            if lasting > 0.0 and answer.finish_reason in {"stop", "tool_calls"}:
                self._desk.caches.answers.put(self._key(), answer, ttl_s=lasting)
        finally:
            await self._settle(sum(usage.total_tokens for usage in spent), sum(usage.cost_usd for usage in spent))
        return self._explained(answer)

    async def _fail(self, error: BaseException) -> None:
        if self._ended:
            return
        self._ended = True
        usage = self._entry.failed(self._plan, error, tuple(self._trail.attempts), "".join(self._said))
        try:
            self._tell_failure(error)
        finally:
            await self._settle(usage.total_tokens, usage.cost_usd)

    def _tell_failure(self, error: BaseException) -> None:
        """Tell metrics, log, spans and traces that there is no answer."""
        self._desk.metrics.failed(self._asked.model, error)
        caller, asked = self._caller, self._asked
        note(key_id=caller.key_id, composite=asked.model, error=type(error).__name__, prompt=self._message.prompt)
        for report in self._desk.reports:
            report.failed(
                self._message,
                self._plan,
                error,
                self._trail.attempts,
                composite=asked.model,
                ms=self._entry.ms,
                request_id=caller.request_id,
                parent=caller.parent,
            )

    def _tell(self, answer: Answer, *, cache_hit: bool = False) -> None:
        """Tell metrics, log, spans and traces of an answer."""
        ms, composite, caller = self._entry.ms, self._asked.model, self._caller
        self._desk.metrics.answered(composite, answer, ms, cache_hit=cache_hit)
        note(
            key_id=caller.key_id,
            composite=composite,
            model=answer.model,
            cost_usd=0.0 if cache_hit else answer.usage.cost_usd,
            prompt=self._message.prompt,
            answer=answer.text,
        )
        for report in self._desk.reports:
            report.answered(
                self._message,
                answer,
                composite=composite,
                ms=ms,
                request_id=caller.request_id,
                parent=caller.parent,
                cache_hit=cache_hit,
                first_token_ms=self._entry.first_token_ms,
            )

    async def _settle(self, tokens: int, cost_usd: float) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            await self._desk.limits.settle(permit, tokens, cost_usd)

    def _explained(self, answer: Answer, *, cache_hit: bool = False) -> Mapping[str, Any] | None:
        if not self._asked.explain:
            return None
        models = {model.name: model for model in self._model.parts.models}
        local = answer.model in models and models[answer.model].kind == "local"
        return {**answer.metadata, "cache_hit": cache_hit, "ignored_parameters": list(self._asked.ignored(local))}

    def _headers(self, plan: Plan, model: str, answer: Answer | None = None) -> dict[str, str]:
        headers = {
            "x-modelyard-id": self._message.id,
            "x-modelyard-model": header_safe(model),
            "x-modelyard-task": header_safe(f"{plan.task.domain}/{plan.task.complexity}"),
            "x-modelyard-route-reason": header_safe("; ".join(plan.route.reasons)),
        }
        if answer is not None:
            headers["x-modelyard-cost-usd"] = f"{answer.usage.cost_usd:.8f}"
        if len(self._trail.attempts) > (answer is not None):
            headers["x-modelyard-attempts"] = str(len(self._trail.attempts))
        return headers

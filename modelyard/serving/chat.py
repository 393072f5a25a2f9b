"""One chat request on its way: admitted, planned, entered in the books, answered, settled and closed; whole or streamed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from modelyard.composite import CompositeModel, Plan
from modelyard.control.cache_keys import answer_key
from modelyard.control.caches import Caches
from modelyard.control.keys import Principal
from modelyard.control.limits import Limits, Permit
from modelyard.errors import ModelyardError
from modelyard.generation import Trail
from modelyard.serving.admission import admit
from modelyard.serving.attendance import Attendance
from modelyard.serving.books import Caller, Entry, Sink
from modelyard.serving.logs import note
from modelyard.serving.metrics import Metrics
from modelyard.serving.problems import BUG, JsonResponse, described
from modelyard.serving.reports import Reports
from modelyard.serving.wire import Asked, ChunkWriter, completion_body, header_safe, json_bytes
from modelyard.types import Answer, Delta, Usage, estimate_tokens

log = logging.getLogger("modelyard.serving")


@dataclass(frozen=True, slots=True)
class Desk:
    """What every request needs.

    Attributes:
        sink: Takes the books' entries.
        limits: Rates and budgets.
        caches: Of whole answers, among others.
        metrics: What Prometheus reads.
        reports: Spans and traces, made of requests that have ended.
        store_texts: Whether prompts and answers are kept.
    """

    sink: Sink
    limits: Limits
    caches: Caches
    metrics: Metrics
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
        """Answer as the request asks.

        Raises:
            ModelyardError: There is no answer; for a stream, as long as nothing of it was sent.
        """
        if cached := self._cached():
            return cached
        reserved = bound(self._model, self._asked)
        self._permit = await admit(self._desk.limits, self._principal, self._asked.model, reserved)
        try:
            self._plan = self._model.plan(self._message, owner=self._caller.owner)
            self._entry.begin(self._plan, reserved)
            return await (self._stream(self._plan) if self._asked.stream else self._whole(self._plan))
        except BaseException as error:
            await self._fail(error)
            raise

    async def _whole(self, plan: Plan) -> Response:
        answer = await self._model.answer(self._message, plan, self._trail)
        explained = await self._close(plan, answer)
        body = completion_body(answer, self._asked.model, explained)
        return JsonResponse(body, headers=self._headers(plan, answer.model, answer))

    async def _stream(self, plan: Plan) -> Response:
        pieces = self._model.stream(self._message, plan, self._trail)
        first = await anext(pieces)  # a failure before the first piece is still a status, not a broken stream
        self._entry.first_token_ms = self._entry.ms
        headers = self._headers(plan, self._trail.calling or plan.route.model)
        return StreamedResponse(self, pieces, self._events(plan, first, pieces), headers)

    async def _events(
        self, plan: Plan, first: Delta | Answer, rest: AsyncGenerator[Delta | Answer]
    ) -> AsyncIterator[bytes]:
        writer = ChunkWriter(self._message.id, self._asked.model, include_usage=self._asked.include_usage)
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

    async def leave(self, rest: AsyncGenerator[Delta | Answer]) -> None:
        """End a stream that is not whole: its caller left, perhaps before the first byte. One that has ended stays as it is."""
        await rest.aclose()  # the upstream is not kept busy, and what it will charge is known
        await self._fail(asyncio.CancelledError())

    def _cached(self) -> Response | None:
        """Return the answer that the very same request got before, where the composite keeps answers."""
        if self._model.parts.spec.response_cache_s <= 0.0:
            return None
        answer = self._desk.caches.answers.get(self._key())
        if answer is None:
            return None
        plan = Plan(answer.task, answer.route, answer.passages, answer.steps)
        self._entry.answered(plan, answer, cache_hit=True)
        self._tell(answer, cache_hit=True)
        headers = {**self._headers(plan, answer.model, answer), "x-modelyard-cache": "hit"}
        explained = self._explained(answer, cache_hit=True)
        if not self._asked.stream:
            return JsonResponse(completion_body(answer, self._asked.model, explained), headers=headers)
        writer = ChunkWriter(answer.id, self._asked.model, include_usage=self._asked.include_usage)
        whole = writer.start() + writer.piece(Delta(answer.text, answer.fields)) + writer.end(answer, explained)
        return Response(whole, media_type="text/event-stream", headers=headers)

    def _key(self) -> bytes:
        versions = self._model.parts.versions
        return answer_key(self._message, versions, revision=self._revision, owner=self._caller.owner)

    async def _close(self, plan: Plan, answer: Answer) -> Mapping[str, Any] | None:
        """Settle, record and remember an answer; return the `modelyard` object where it was asked for."""
        self._ended = True
        spent = [attempt.usage for attempt in answer.attempts[:-1] if attempt.usage is not None]
        spent.append(answer.usage)
        await self._settle(sum(usage.total_tokens for usage in spent), sum(usage.cost_usd for usage in spent))
        self._entry.answered(plan, answer)
        self._model.remember(self._message, answer, owner=self._caller.owner)
        self._tell(answer)
        lasting = self._model.parts.spec.response_cache_s
        if lasting > 0.0 and answer.finish_reason in {"stop", "tool_calls"}:
            self._desk.caches.answers.put(self._key(), answer, ttl_s=lasting)
        return self._explained(answer)

    async def _fail(self, error: BaseException) -> None:
        if self._ended:
            return
        self._ended = True
        usage = self._entry.failed(self._plan, error, tuple(self._trail.attempts), "".join(self._said))
        await self._settle(usage.total_tokens, usage.cost_usd)
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


class StreamedResponse(StreamingResponse):
    """A stream that tells its job when it is over, whole or not, and calls `after` then."""

    def __init__(
        self,
        job: ChatJob,
        pieces: AsyncGenerator[Delta | Answer],
        events: AsyncIterator[bytes],
        headers: dict[str, str],
    ) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._job, self._pieces = job, pieces
        self.after: Callable[[], None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, as long as its caller stays."""
        try:
            async with Attendance(receive):
                await self.stream_response(send)
        finally:
            try:
                await self._job.leave(self._pieces)
            finally:
                if self.after is not None:
                    self.after()


def bound(model: CompositeModel, asked: Asked) -> Usage:
    """Return the most that a request can be expected to use: the dearest model that may be called, and a full-length answer.

    Where the request sets no `max_tokens`, an answer of the model's longest, or of four times its typical length, is assumed.
    """
    message = asked.message
    chars = sum(len(turn.text) for turn in message.turns)
    if told := [message.parameters[name] for name in PROMPTED if name in message.parameters]:
        chars += len(json_bytes(told))
    prompt = round(estimate_tokens(chars)) + 4 * len(message.turns)
    limit = message.parameters.get("max_completion_tokens") or message.parameters.get("max_tokens")
    parts = model.parts
    prompt += PASSAGE_TOKENS * parts.spec.passages if parts.index is not None else 0
    dearest, tokens = 0.0, 0
    for candidate in parts.callable_models:
        written = limit or candidate.max_output_tokens or LONGEST_ANSWER * candidate.output_tokens
        dearest, tokens = max(dearest, candidate.price.cost(prompt, written)), max(tokens, written)
    return Usage(prompt, tokens, dearest)


PROMPTED = ("tools", "functions", "response_format")  # parameters that a model reads as part of its prompt
PASSAGE_TOKENS = 250  # of a passage that retrieval puts before the model, about
LONGEST_ANSWER = 4  # times the typical length

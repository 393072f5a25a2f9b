"""Gets a draft for a routed message: calls deployments until one answers, and keeps account of every call."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from math import ceil
from typing import Any, Final

from modelyard.catalog import BaseModel, Composite, estimate_tokens
from modelyard.errors import UpstreamError
from modelyard.generation.course import Course, Trail
from modelyard.generation.local import LocalExtractive
from modelyard.generation.prompting import body_of, cited, most_tokens, prompt_tokens, with_sources, written_chars
from modelyard.routing.router import Demand, ModelRouter, Target
from modelyard.types import Attempt, AttemptOutcome, Delta, Draft, Message, Passage, Route, Usage
from modelyard.upstream import Completion, Upstream

TOTAL_TIMES: Final = 2.0  # an answer may take this many times a single call's timeout to begin


class Dispatcher:
    """Drafts answers with the models that a route and its composite name.

    A call that fails before its first token is followed by another one as `Course` says. After the first token a stream is committed:
    if it breaks off then, that is an error, never an end.

    Args:
        router: Which models, in which order, and which deployment of them.
        upstream: The client of models behind an endpoint; its `retries` are kept to.
        local: The local models, by name.
        draw: A random number in 0..1, for the length of waits.
    """

    def __init__(
        self,
        router: ModelRouter,
        upstream: Upstream,
        local: Mapping[str, LocalExtractive],
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._router, self._upstream, self._local, self._draw = router, upstream, local, draw
        total_s = upstream.retries.total_s
        self._total_s = TOTAL_TIMES * upstream.timeouts.total_s if total_s is None else total_s

    async def generate(
        self,
        message: Message,
        route: Route,
        passages: Sequence[Passage],
        spec: Composite,
        *,
        trail: Trail | None = None,
    ) -> Draft:
        """Draft an answer.

        Args:
            message: The conversation.
            route: The policy's choice.
            passages: What the answer should lean on.
            spec: The composite that was asked for: fallbacks, margin, weight of cost.
            trail: Filled in as calls end, so that they are known even where there is no draft.

        Raises:
            InvalidInput: No model can answer this; ContextTooLong among them.
            UpstreamError: Every call failed, or none could be made; carries the attempts.
        """
        job = self._job(message, route, passages, spec, trail)
        while True:
            call = await job.next()
            try:
                if call.target.endpoint is None:
                    draft = await self._local[call.target.model.name].generate(message, passages)
                else:
                    draft = job.draft(
                        call, await self._upstream.complete(call.target.endpoint, job.body, within_s=job.left_s())
                    )
            except UpstreamError as error:
                job.failed(call, error)
            except BaseException as error:
                call.give_up(error, typical=True)
                raise
            else:
                return call.succeed(draft)

    async def stream(
        self,
        message: Message,
        route: Route,
        passages: Sequence[Passage],
        spec: Composite,
        *,
        trail: Trail | None = None,
    ) -> AsyncGenerator[Delta | Draft]:
        """Yield pieces as they come and the whole `Draft` last; see `generate`.

        Closing the generator closes the upstream's connection at once.

        Raises:
            InvalidInput: No model can answer this; ContextTooLong among them.
            UpstreamError: Every call failed or none could be made, or the stream broke off after its first piece.
        """
        job = self._job(message, route, passages, spec, trail)
        while True:
            call = await job.next()
            pieces = self._pieces(job, call, message, passages)
            try:
                async for piece in pieces:
                    if isinstance(piece, Delta):
                        call.streamed(piece)
                        yield piece
                    else:
                        yield call.succeed(piece if isinstance(piece, Draft) else job.draft(call, piece))
                        return
            except UpstreamError as error:
                job.failed(call, error)
                if call.committed:
                    raise
            except BaseException as error:
                call.give_up(error)
                raise
            finally:
                await pieces.aclose()

    def _pieces(
        self, job: _Job, call: _Call, message: Message, passages: Sequence[Passage]
    ) -> AsyncGenerator[Delta | Completion] | AsyncGenerator[Delta | Draft]:
        if call.target.endpoint is None:
            return self._local[call.target.model.name].stream(message, passages)
        return self._upstream.stream(call.target.endpoint, job.body, within_s=job.left_s())

    def _job(
        self, message: Message, route: Route, passages: Sequence[Passage], spec: Composite, trail: Trail | None
    ) -> _Job:
        turns = with_sources(message.turns, passages)
        tokens = prompt_tokens(turns, message.parameters)
        order = self._router.order(route, spec, Demand(tokens, most_tokens(message), message.needs))
        trail = trail or Trail()
        trail.reasons.extend(order.reasons)
        deadline = asyncio.get_running_loop().time() + self._total_s
        course = Course(self._router, order, self._upstream.retries, deadline, trail, self._draw)
        return _Job(course, trail, deadline, body_of(turns, message.parameters), tokens, most_tokens(message), passages)


class _Job:
    """One answer on its way."""

    __slots__ = ("_course", "_deadline", "_most", "_passages", "_tokens", "_trail", "body")

    def __init__(
        self,
        course: Course,
        trail: Trail,
        deadline: float,
        body: dict[str, Any],
        tokens: int,
        most: int,
        passages: Sequence[Passage],
    ) -> None:
        self._course, self._trail, self._deadline = course, trail, deadline
        self._tokens, self._most, self._passages = tokens, most, passages
        self.body = body

    def left_s(self) -> float:
        return self._deadline - asyncio.get_running_loop().time()

    async def next(self) -> _Call:
        target = await self._course.next()
        self._trail.calling = target.model.name
        return _Call(target, self._course.why, self._trail, self._tokens, self._most)

    def failed(self, call: _Call, error: UpstreamError) -> None:
        call.fail(error)
        self._course.failed(call.target, error)
        error.attempts = tuple(self._trail.attempts)

    def draft(self, call: _Call, completion: Completion) -> Draft:
        prompt, written = completion.prompt_tokens, completion.completion_tokens
        if prompt is None or written is None:
            chars = written_chars(completion.text, completion.fields)
            usage = _usage(call.target.model, self._tokens, chars)
        else:
            cost = call.target.model.price.cost(prompt, written, completion.cached_tokens)
            usage = Usage(prompt, written, cost, estimated=False, cached_tokens=completion.cached_tokens)
        return Draft(
            completion.text,
            call.target.model.name,
            usage,
            completion.finish_reason,
            cited(completion.text, self._passages),
            completion.fields,
            extras=completion.extras,
        )


class _Call:
    """One call under way; ends once, as an `Attempt` on the trail and in the deployment's state."""

    __slots__ = ("_chars", "_ended", "_most", "_started", "_token", "_tokens", "_trail", "_why", "committed", "target")

    def __init__(self, target: Target, why: str, trail: Trail, tokens: int, most: int) -> None:
        self.target, self._why, self._trail, self._tokens = target, why, trail, tokens
        self._most = min((length for length in (most, target.model.max_output_tokens) if length), default=0)
        self.committed = False
        self._chars = 0
        self._ended = False
        self._token = target.state.enter()
        self._started = time.perf_counter()

    def streamed(self, delta: Delta) -> None:
        """Count a piece that is passed on."""
        if not self.committed:
            self.committed = True
            self.target.state.begin(self._token)
        self._chars += written_chars(delta.text, delta.fields)

    def succeed(self, draft: Draft) -> Draft:
        """End with a draft, and return it with the attempts."""
        ms = self._end("ok", self._why, usage=draft.usage, status=None if self.target.endpoint is None else 200)
        self.target.state.succeed(self._token, ms)
        return Draft(
            draft.text,
            draft.model,
            draft.usage,
            draft.finish_reason,
            draft.cited,
            draft.fields,
            tuple(self._trail.attempts),
            draft.extras,
        )

    def fail(self, error: UpstreamError) -> None:
        """End with a fault; what was streamed before it is charged."""
        usage = _usage(self.target.model, self._tokens, self._chars) if self.committed else None
        self._end("failed", f"{error.kind}: {error}", usage=usage, status=error.status)
        self.target.state.fail(self._token, error)

    def give_up(self, error: BaseException, *, typical: bool = False) -> None:
        """End because the caller left, or because of a bug; where an upstream was at work, it will charge for it.

        Args:
            error: What ended the call.
            typical: Charge for an answer of typical length: one that is not streamed is written whether or not somebody waits.
        """
        if self._ended:
            return
        left = isinstance(error, asyncio.CancelledError | GeneratorExit)
        usage = None
        if left and self.target.endpoint is not None:
            model = self.target.model
            length = min(model.output_tokens, self._most or model.output_tokens)
            usage = _usage(model, self._tokens, 0, length) if typical else _usage(model, self._tokens, self._chars)
        reason = "the caller left" if left else type(error).__name__  # whose words may quote the prompt
        self._end("cancelled" if left else "failed", reason, usage=usage, status=None)
        self.target.state.cancel(self._token)

    def _end(self, outcome: AttemptOutcome, reason: str, *, usage: Usage | None, status: int | None) -> float:
        self._ended = True
        ms = (time.perf_counter() - self._started) * 1000
        target = self.target
        self._trail.attempts.append(
            Attempt(target.model.name, target.deployment.name, outcome, reason, ms, status, usage)
        )
        return ms


def _usage(model: BaseModel, prompt: int, chars: int, tokens: int = 0) -> Usage:
    """Estimate what a call used that nobody counted."""
    written = tokens or ceil(estimate_tokens(chars))
    return Usage(prompt, written, model.price.cost(prompt, written))

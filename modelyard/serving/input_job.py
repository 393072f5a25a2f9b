"""One embeddings or moderations request on its way: admitted, entered in the books, answered, settled and closed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from starlette.responses import Response

from modelyard.catalog import BaseModel
from modelyard.control.keys import Principal
from modelyard.control.limits import Permit
from modelyard.generation import Trail
from modelyard.serving.admission import admit
from modelyard.serving.books import Caller, Ending, Sink, kind_of
from modelyard.serving.chat import Desk
from modelyard.serving.logs import note
from modelyard.serving.problems import JsonResponse
from modelyard.serving.reports import EndedInputs
from modelyard.serving.wire import header_safe
from modelyard.types import Attempt, Usage, fell_back, new_id

Kind = Literal["embedding", "moderation"]
PREFIXES: Mapping[Kind, str] = {"embedding": "emb", "moderation": "modr"}
NOTHING = Usage(0, 0, 0.0, estimated=False)


class InputWork(Protocol):
    """What answers one request."""

    def remembered(self) -> dict[str, Any] | None:
        """Return the response where it can be had without a call."""
        ...

    async def answer(self, trail: Trail) -> dict[str, Any]:
        """Return the response, and note each call on the trail.

        Raises:
            ModelyardError: There is none.
        """
        ...


class InputJob:
    """Answers one request.

    Args:
        desk: What it needs.
        kind: In the books.
        model: The base model that was asked for.
        work: What answers.
        tokens: How many the inputs take, about and at most: tokenizers cut bytes into pieces, so that a body has no more tokens than bytes.
        principal: Who asked, and `caller` as the books call them.
    """

    def __init__(
        self,
        desk: Desk,
        kind: Kind,
        model: BaseModel,
        work: InputWork,
        tokens: tuple[int, int],
        principal: Principal,
        caller: Caller,
    ) -> None:
        self._desk, self._model, self._work = desk, model, work
        self._kind: Kind = kind
        self._principal, self._caller = principal, caller
        typical, most = tokens
        self._most = Usage(typical, 0, model.price.cost(most, 0))
        self._trail = Trail()
        self._permit: Permit | None = None
        self._entry = InputEntry(desk.sink, kind, model.name, caller)

    async def respond(self) -> Response:
        """Answer.

        Raises:
            ModelyardError: There is no answer.
        """
        remembered = self._work.remembered()
        most = NOTHING if remembered is not None else self._most
        self._permit = await admit(self._desk.limits, self._principal, self._model.name, most)
        try:
            if remembered is None:
                self._entry.begin(most)
            answer = remembered if remembered is not None else await self._work.answer(self._trail)
        except BaseException as error:
            await self._fail(error)
            raise
        usage = await self._close(cache_hit=remembered is not None or not self._trail.attempts)
        return JsonResponse(answer, headers=self._headers(usage))

    async def _close(self, *, cache_hit: bool) -> Usage:
        usage = charged(self._trail.attempts)
        # The books first: a caller who leaves while this is settled has an answer that was charged.
        self._entry.answered(usage, self._trail.attempts, cache_hit=cache_hit)
        await self._settle(usage)
        name, ms = self._model.name, self._entry.ms
        attempts = self._trail.attempts
        self._desk.metrics.counted(name, name, usage, ms, cache_hit=cache_hit, fallback=fell_back(attempts))
        note(key_id=self._caller.key_id, model=name, cost_usd=usage.cost_usd)
        self._report(usage, None, cache_hit=cache_hit)
        return usage

    async def _fail(self, error: BaseException) -> None:
        usage = charged(self._trail.attempts)
        self._entry.failed(error, usage, self._trail.attempts)
        await self._settle(usage)
        self._desk.metrics.failed(self._model.name, error)
        note(key_id=self._caller.key_id, model=self._model.name, error=type(error).__name__)
        self._report(usage, error)

    async def _settle(self, usage: Usage) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            await self._desk.limits.settle(permit, usage.total_tokens, usage.cost_usd)

    def _report(self, usage: Usage, error: BaseException | None, *, cache_hit: bool = False) -> None:
        for report in self._desk.reports:
            report.inputs(
                lambda: EndedInputs.ended(
                    self._kind,
                    self._entry.id,
                    self._model.name,
                    usage,
                    error,
                    tuple(self._trail.attempts),
                    self._entry.ms,
                    request_id=self._caller.request_id,
                    parent=self._caller.parent,
                    cache_hit=cache_hit,
                )
            )

    def _headers(self, usage: Usage) -> dict[str, str]:
        headers = {
            "x-modelyard-id": self._entry.id,
            "x-modelyard-model": header_safe(self._model.name),
            "x-modelyard-cost-usd": f"{usage.cost_usd:.8f}",
        }
        calls = len(self._trail.attempts)
        if not calls:
            headers["x-modelyard-cache"] = "hit"
        elif calls > 1:
            headers["x-modelyard-attempts"] = str(calls)
        return headers


class InputEntry:
    """One such request in the books: a row of usage, and no message.

    Args:
        sink: Where it goes.
        kind: Of the row.
        model: The base model that was asked for.
        caller: Who asked.
    """

    def __init__(self, sink: Sink, kind: Kind, model: str, caller: Caller) -> None:
        self._sink, self._kind, self._model, self._caller = sink, kind, model, caller
        self.id = new_id(PREFIXES[kind])
        self._created, self._started = datetime.now(UTC), time.perf_counter()

    @property
    def ms(self) -> float:
        """Milliseconds since the request came."""
        return (time.perf_counter() - self._started) * 1000

    def begin(self, reserved: Usage) -> None:
        """Note the call that is about to be made, at the cost that is reserved for it."""
        self._sink.begin(self.id, {**self._row(reserved, ()), "kind": "orphan", "status": "orphaned"})

    def answered(self, usage: Usage, attempts: Sequence[Attempt], *, cache_hit: bool) -> None:
        """Close with an answer."""
        self._sink.finish(
            self.id, {"message": None, "usages": [{**self._row(usage, attempts), "cache_hit": cache_hit}]}
        )

    def failed(self, error: BaseException, usage: Usage, attempts: Sequence[Attempt]) -> None:
        """Close without one."""
        ending: Ending = "failed" if isinstance(error, Exception) else "cancelled"
        row = {**self._row(usage, attempts), "status": ending, "error_kind": kind_of(error)}
        self._sink.finish(self.id, {"message": None, "usages": [row]})

    def _row(self, usage: Usage, attempts: Sequence[Attempt]) -> dict[str, Any]:
        return {
            "id": self.id,
            "created_at": self._created,
            "message_id": None,
            "project_id": self._caller.project_id,
            "api_key_id": self._caller.key_id,
            "kind": self._kind,
            "status": "complete",
            "error_kind": None,
            "model": self._model,
            "deployment": attempts[-1].deployment if attempts else None,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": 0,
            "completion_tokens": 0,
            "cost_usd": usage.cost_usd,
            "estimated": usage.estimated,
            "latency_ms": self.ms,
            "attempts": max(1, len(attempts)),
            "fallback": fell_back(tuple(attempts)),
            "cache_hit": False,
        }


def charged(attempts: Sequence[Attempt]) -> Usage:
    """Return what all calls together will be charged for."""
    usages = [attempt.usage for attempt in attempts if attempt.usage is not None]
    return Usage(
        sum(usage.prompt_tokens for usage in usages),
        0,
        sum((usage.cost_usd for usage in usages), 0.0),
        estimated=any(usage.estimated for usage in usages),
    )

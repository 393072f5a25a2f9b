"""The books of serving: what each request was, and what it cost, on its way to the database.

A request is entered when its first call is about to be made, and closed before the last byte of its answer. What is entered and never
closed was killed in flight: its reserved cost is charged as an orphan when the spool is next read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from modelyard.composite import Plan
from modelyard.errors import ModelyardError, UpstreamError
from modelyard.storage.answers import status_of
from modelyard.types import Answer, Attempt, Message, Usage, fell_back

Ending = Literal["complete", "degraded", "failed", "cancelled"]
KEPT_ERROR = 40  # characters of an error's name in a usage row


class Sink(Protocol):
    """Where entries go; never raises, and says in `/health` what it could not keep."""

    def begin(self, id: str, facts: Mapping[str, Any]) -> None:
        """Note that a call that costs something is about to be made."""
        ...

    def finish(self, id: str, rows: Mapping[str, Any]) -> None:
        """Hand over the rows of a request that has ended, however it did."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked.

    Attributes:
        key_id, project_id: None where authentication is switched off.
        user_id: The application's own name for its user.
        request_id: Names the request in logs.
        parent: The caller's span, as its headers say it.
    """

    key_id: str | None = None
    project_id: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    parent: Mapping[str, str] | None = None

    @property
    def owner(self) -> str:
        """Whose conversations and cached answers these are."""
        return self.key_id or ""


class Entry:
    """One request in the books.

    Args:
        sink: Where it goes.
        caller: Who asked.
        composite: What was asked for.
        message: The conversation.
        store_texts: Whether prompt and answer are kept.
    """

    __slots__ = (
        "_caller",
        "_closed",
        "_composite",
        "_created",
        "_message",
        "_sink",
        "_started",
        "_texts",
        "first_token_ms",
    )

    def __init__(self, sink: Sink, caller: Caller, composite: str, message: Message, *, store_texts: bool) -> None:
        self._sink, self._caller, self._composite, self._message = sink, caller, composite, message
        self._texts = store_texts
        self._created = datetime.now(UTC)
        self._started = time.perf_counter()
        self._closed = False
        self.first_token_ms: float | None = None

    @property
    def ms(self) -> float:
        """Milliseconds since the request came."""
        return (time.perf_counter() - self._started) * 1000

    def begin(self, plan: Plan, reserved: Usage) -> None:
        """Note the call that is about to be made, at the cost that is reserved for it."""
        self._sink.begin(
            self._message.id, self._usage_row("orphan", plan, plan.route.model, reserved, status="orphaned")
        )

    def answered(self, plan: Plan, answer: Answer, *, cache_hit: bool = False) -> None:
        """Close with an answer; one from the cache cost nothing now."""
        usage = Usage(0, 0, 0.0, estimated=False) if cache_hit else answer.usage
        status = status_of(answer)
        last = answer.attempts[-1].deployment if answer.attempts else None
        row = self._usage_row(
            "chat",
            plan,
            answer.model,
            usage,
            status=status,
            deployment=last,
            attempts=max(1, len(answer.attempts)),
            fallback=answer.fell_back,
            cache_hit=cache_hit,
        )
        others = () if cache_hit else self._lost(plan, answer.attempts[:-1])
        self._close(self._message_row(plan, answer.model, status, answer.text, answer.metadata), [row, *others])

    def failed(self, plan: Plan | None, error: BaseException, attempts: tuple[Attempt, ...], said: str = "") -> Usage:
        """Close without an answer, and return what it cost all the same.

        Args:
            plan: None where the request did not get that far.
            error: What ended it.
            attempts: The calls that were made.
            said: What was streamed before.
        """
        ending: Ending = "failed" if isinstance(error, Exception) else "cancelled"
        charged = [attempt.usage for attempt in attempts if attempt.usage is not None]
        usage = Usage(
            sum(usage.prompt_tokens for usage in charged),
            sum(usage.completion_tokens for usage in charged),
            sum(usage.cost_usd for usage in charged),
        )
        if plan is None or self._closed:
            return usage
        model = attempts[-1].model if attempts else plan.route.model
        row = self._usage_row(
            "chat",
            plan,
            model,
            usage,
            status=ending,
            deployment=attempts[-1].deployment if attempts else None,
            attempts=max(1, len(attempts)),
            fallback=fell_back(attempts),
            error_kind=kind_of(error),
        )
        metadata = {
            "model_metadata": {
                "task": {"domain": plan.task.domain, "complexity": plan.task.complexity},
                "route": {"model": plan.route.model, "policy": plan.route.policy, "reasons": list(plan.route.reasons)},
                "model": model,
                "attempts": [f"{a.deployment}: {a.outcome}, {a.reason}" for a in attempts],
                "error": self._kept(error),
            },
            "rag_sources": [],
            "processing_metadata": [],
        }
        self._close(self._message_row(plan, model, ending, said, metadata), [row])
        return usage

    def _kept(self, error: BaseException) -> str:
        """Return what is kept of an error: an upstream's own words, which may quote the prompt, only where texts are."""
        if not isinstance(error, ModelyardError):
            return type(error).__name__
        return error.in_full if self._texts else str(error)

    def _lost(self, plan: Plan, attempts: Iterable[Attempt]) -> list[dict[str, Any]]:
        """Return a row for each call that was charged and then given up."""
        return [
            self._usage_row(
                "attempt",
                plan,
                attempt.model,
                attempt.usage,
                status="failed",
                deployment=attempt.deployment,
                number=number,
            )
            for number, attempt in enumerate(attempts, start=1)
            if attempt.usage is not None
        ]

    def _close(self, message: dict[str, Any], usages: list[dict[str, Any]]) -> None:
        if not self._closed:
            self._closed = True
            self._sink.finish(self._message.id, {"message": message, "usages": usages})

    def _message_row(
        self, plan: Plan, model: str, status: Ending, answer: str, metadata: Mapping[str, Any]
    ) -> dict[str, Any]:
        caller, message = self._caller, self._message
        return {
            "id": message.id,
            "created_at": self._created,
            "project_id": caller.project_id,
            "api_key_id": caller.key_id,
            "user_id": caller.user_id,
            "conversation": message.conversation,
            "request_id": caller.request_id,
            "composite": self._composite,
            "prompt": message.prompt if self._texts else None,
            "answer": answer if self._texts else None,
            "model": model,
            "domain": plan.task.domain,
            "complexity": plan.task.complexity,
            "status": status,
            **metadata,
        }

    def _usage_row(
        self,
        kind: str,
        plan: Plan,
        model: str,
        usage: Usage,
        *,
        status: str,
        deployment: str | None = None,
        number: int = 0,
        **others: Any,
    ) -> dict[str, Any]:
        caller, id = self._caller, self._message.id
        return {
            "id": f"{id}:{number}",
            "created_at": self._created,
            "message_id": id,
            "project_id": caller.project_id,
            "api_key_id": caller.key_id,
            "kind": kind,
            "status": status,
            "error_kind": None,
            "composite": self._composite,
            "model": model,
            "deployment": deployment,
            "domain": plan.task.domain,
            "complexity": plan.task.complexity,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
            "cost_usd": usage.cost_usd,
            "estimated": usage.estimated,
            "latency_ms": self.ms,
            "first_token_ms": self.first_token_ms,
            "attempts": 1,
            "fallback": False,
            "cache_hit": False,
            **others,
        }


def kind_of(error: BaseException) -> str:
    """Return what a usage row says of an error."""
    return (error.kind if isinstance(error, UpstreamError) else type(error).__name__)[:KEPT_ERROR]

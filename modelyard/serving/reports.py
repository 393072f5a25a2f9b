"""What is told of a request after its end, to whom it concerns: spans and traces take the same record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from modelyard.composite import Plan
from modelyard.errors import ModelyardError
from modelyard.serving.background import Background
from modelyard.serving.problems import described
from modelyard.types import Answer, Attempt, Message, Usage

CLOSE_S: Final = 5.0
CANCELLED: Final = "cancelled"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer.

    Attributes:
        plan: None where the request did not get that far.
        kind: The kind of fault or the error's class; `cancelled` where the caller left.
        attempts: The calls that were made.
        ours: Whether it is the server's fault, or an upstream's, and not the caller's.
    """

    plan: Plan | None
    kind: str
    attempts: tuple[Attempt, ...]
    ours: bool


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has ended.

    Attributes:
        message: The conversation.
        end: Its answer, or why there is none.
        composite: What was asked for.
        ms: How long it took.
        ended_ns: When it ended, in nanoseconds since 1970.
        request_id: The caller's own name for it.
        parent: The caller's span, as W3C's headers `traceparent` and `tracestate` say it.
        cache_hit: Whether the answer is an earlier request's.
        first_token_ms: When the first piece of a stream was there.
    """

    message: Message
    end: Answer | Failure
    composite: str
    ms: float
    ended_ns: int
    request_id: str | None = None
    parent: Mapping[str, str] | None = None
    cache_hit: bool = False
    first_token_ms: float | None = None


@dataclass(frozen=True, slots=True)
class EndedInputs:
    """An embeddings or moderations request that has ended; what is not described here is as in `Request`.

    Attributes:
        kind: What was asked for.
        id: The request's, in the books.
        model: The base model.
        usage: What all calls were charged for.
        failure: Why there is no answer, or None.
        attempts: The calls that were made.
    """

    kind: Literal["embedding", "moderation"]
    id: str
    model: str
    usage: Usage
    failure: Failure | None
    attempts: tuple[Attempt, ...]
    ms: float
    ended_ns: int
    request_id: str | None = None
    parent: Mapping[str, str] | None = None
    cache_hit: bool = False

    @classmethod
    def ended(
        cls,
        kind: Literal["embedding", "moderation"],
        id: str,
        model: str,
        usage: Usage,
        error: BaseException | None,
        attempts: tuple[Attempt, ...],
        ms: float,
        **others: Any,
    ) -> Self:
        """Return the record of a request that ends now."""
        end = None if error is None else failure(None, error, attempts)
        return cls(kind, id, model, usage, end, attempts, ms, time.time_ns(), **others)


class Reports:
    """Takes records of requests off the request path; what takes none pays nothing.

    Args:
        name: Of the thread that handles them.
        handle: Handles one; None where nobody wants any. Only where `takes_inputs` is set, it is given an `EndedInputs`, too.
        capacity: Most records that wait; further ones are dropped and counted.
        wanted: Says of each request whether its record is wanted, before it is made.

    Attributes:
        name: Of the thread.
    """

    takes_inputs = False

    def __init__(
        self,
        name: str,
        handle: Callable[[Any], None] | None,
        capacity: int,
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        self.name = name
        self._queue = None if handle is None else Background(name, handle, capacity)
        self._wanted = wanted

    @property
    def enabled(self) -> bool:
        """Whether records go anywhere."""
        return self._queue is not None

    @property
    def dropped(self) -> int:
        """How many records were dropped because too many waited."""
        return 0 if self._queue is None else self._queue.dropped

    @property
    def problem(self) -> str | None:
        """Why the last record could not be handled, or None."""
        return None if self._queue is None else self._queue.problem

    def answered(
        self,
        message: Message,
        answer: Answer,
        *,
        composite: str,
        ms: float,
        request_id: str | None = None,
        parent: Mapping[str, str] | None = None,
        cache_hit: bool = False,
        first_token_ms: float | None = None,
    ) -> None:
        """Take a request that was answered; see `Request`."""
        if self._queue is not None and (self._wanted is None or self._wanted()):
            now = time.time_ns()
            self._queue.put(Request(message, answer, composite, ms, now, request_id, parent, cache_hit, first_token_ms))

    def failed(
        self,
        message: Message,
        plan: Plan | None,
        error: BaseException,
        attempts: Sequence[Attempt],
        *,
        composite: str,
        ms: float,
        request_id: str | None = None,
        parent: Mapping[str, str] | None = None,
    ) -> None:
        """Take a request that ended without an answer; see `Request`."""
        if self._queue is not None and (self._wanted is None or self._wanted()):
            now, end = time.time_ns(), failure(plan, error, attempts)
            self._queue.put(Request(message, end, composite, ms, now, request_id, parent))

    def inputs(self, record: Callable[[], EndedInputs]) -> None:
        """Take an embeddings or moderations request that has ended, where such ones are wanted."""
        if self.takes_inputs and self._queue is not None:
            self._queue.put(record())

    def close(self) -> None:
        """Handle what waits, for at most some seconds; blocks."""
        if self._queue is not None:
            self._queue.close(CLOSE_S)


def failure(plan: Plan | None, error: BaseException, attempts: Sequence[Attempt]) -> Failure:
    """Return what is told of an error; the error itself, and what it holds on to, is not kept."""
    if not isinstance(error, Exception):
        return Failure(plan, CANCELLED, tuple(attempts), ours=False)
    ours = not isinstance(error, ModelyardError) or described(error)[0] >= 500
    return Failure(plan, str(getattr(error, "kind", type(error).__name__)), tuple(attempts), ours)


def parent_of(headers: Mapping[str, str]) -> dict[str, str] | None:
    """Return the caller's span, as far as a request's headers name one."""
    found = headers.get("traceparent")
    return None if found is None else {"traceparent": found, "tracestate": headers.get("tracestate", "")}

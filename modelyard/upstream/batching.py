"""Gathers small calls into few: embeddings and moderations that arrive within milliseconds of each other share one call."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar

import orjson

from modelyard.errors import LimitExceeded, UpstreamError
from modelyard.upstream.sharing import Body, in_parts, inputs_of, split

MOST_INPUTS: Final = 64  # of one gathered call
WAIT_S: Final = 0.005  # longest time that an input waits for company
MOST_WAITING: Final = 4096  # inputs for one target, sent or not; beyond it callers are told to come back
MOST_CALLS: Final = 8  # at a time, for one target and one set of parameters
RETRY_AFTER_S: Final = 1.0

# The call itself was refused, so that one input may have spoilt it for the others; every other failure is the endpoint's.
DIVISIBLE: Final = frozenset({"rejected", "context_length", "content_policy"})

Target = TypeVar("Target", bound=Hashable)


@dataclass(frozen=True, slots=True)
class BatcherStats:
    """What a batcher did since the start: `inputs / calls` is how well it gathers."""

    requests: int
    inputs: int
    calls: int
    refused: int
    waiting: int


@dataclass(slots=True, eq=False)
class _Request:
    body: Body
    inputs: list[Any]
    size: int  # places of a call that it takes
    answer: asyncio.Future[dict[str, Any]]
    sent: bool = False


@dataclass(slots=True, eq=False)
class _Group(Generic[Target]):
    """Requests that may share a call: one target, equal parameters, inputs of one kind."""

    target: Target
    key: tuple[Target, bytes]
    pending: deque[_Request] = field(default_factory=deque[_Request])
    queued: int = 0  # places that pending requests take
    timer: asyncio.TimerHandle | None = None
    calls: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])


class MicroBatcher(Generic[Target]):
    """Gathers requests with equal parameters for one target, for at most `wait_s` or `most_inputs` inputs.

    Each caller gets the response that it would have got alone; tokens of a shared call are split by the length of the inputs, and add up
    to what the upstream counted. Where the upstream refuses a shared call, it is halved until what is at fault fails alone. A caller who
    leaves takes only its own request along. It serves one event loop.

    Args:
        call: Makes one call with a body whose `input` is a list.
        entries: Name of the response's list: `data` of embeddings, `results` of moderations.
        most_inputs: Most inputs of a gathered call; a request with more goes on its own.
        wait_s: Longest time that a request waits for others.
        most_waiting: Most inputs for a target that wait or are being answered; a request with more is let in where nothing else waits.
        most_calls: Most calls at a time, for one target and one set of parameters.
    """

    def __init__(
        self,
        call: Callable[[Target, Body], Awaitable[Body]],
        *,
        entries: Literal["data", "results"] = "data",
        most_inputs: int = MOST_INPUTS,
        wait_s: float = WAIT_S,
        most_waiting: int = MOST_WAITING,
        most_calls: int = MOST_CALLS,
    ) -> None:
        self._call, self._entries = call, entries
        self._most_inputs, self._wait_s = most_inputs, wait_s
        self._most_waiting, self._most_calls = most_waiting, most_calls
        self._groups: dict[tuple[Target, bytes], _Group[Target]] = {}
        self._waiting: Counter[Target] = Counter()
        self._requests = self._inputs = self._calls = self._refused = 0

    async def submit(self, target: Target, body: Body) -> dict[str, Any]:
        """Answer one request, in company where there is any.

        Raises:
            InvalidInput: The body has no input.
            LimitExceeded: Too many inputs wait for this target already (kind `capacity`).
            UpstreamError: The call failed.
        """
        inputs = inputs_of(body)
        self._admit(target, len(inputs))
        # Parts cannot stand in one list with other inputs: they take a whole call.
        size = self._most_inputs if in_parts(inputs) else len(inputs)
        request = _Request(body, inputs, size, asyncio.get_running_loop().create_future())
        group = self._group(target, body, inputs)
        group.pending.append(request)
        group.queued += size
        self._send_full(group)
        try:
            return await request.answer
        finally:
            self._leave(group, request)

    def stats(self) -> BatcherStats:
        """Return the counts since the start, and how many inputs wait or are being answered now."""
        return BatcherStats(self._requests, self._inputs, self._calls, self._refused, self._waiting.total())

    async def close(self) -> None:
        """End every call; whoever still waits gets an error."""
        gone = UpstreamError("The server is shutting down.", kind="unavailable", retryable=True)
        for group in list(self._groups.values()):
            if group.timer is not None:
                group.timer.cancel()
            for request in group.pending:
                _fail(request, gone)
            group.pending.clear()
            group.queued = 0
            for task in group.calls:
                task.cancel()
            await asyncio.gather(*group.calls, return_exceptions=True)

    def _admit(self, target: Target, inputs: int) -> None:
        waiting = self._waiting[target]
        if waiting and waiting + inputs > self._most_waiting:
            self._refused += 1
            raise LimitExceeded(
                f"{waiting} inputs wait for {getattr(target, 'name', target)!r} already, and {self._most_waiting} may.",
                retry_after_s=RETRY_AFTER_S,
                kind="capacity",
            )
        self._requests += 1
        self._inputs += inputs
        self._waiting[target] += inputs

    def _leave(self, group: _Group[Target], request: _Request) -> None:
        self._waiting[group.target] -= len(request.inputs)
        if not request.sent and request in group.pending:
            group.pending.remove(request)
            group.queued -= request.size
        self._forget_idle(group)

    def _forget_idle(self, group: _Group[Target]) -> None:
        if group.pending or group.calls:
            return
        if group.timer is not None:
            group.timer.cancel()
            group.timer = None
        if self._groups.get(group.key) is group:
            del self._groups[group.key]

    def _group(self, target: Target, body: Body, inputs: Sequence[Any]) -> _Group[Target]:
        key = (target, _parameters(body, inputs))
        if key not in self._groups:
            self._groups[key] = _Group(target, key)
        return self._groups[key]

    def _send_full(self, group: _Group[Target]) -> None:
        """Send what fills a call; the rest waits for company."""
        while group.queued >= self._most_inputs and self._send(group):
            pass
        if group.pending and group.timer is None and len(group.calls) < self._most_calls:
            loop = asyncio.get_running_loop()
            group.timer = loop.call_later(self._wait_s, self._time_is_up, group)

    def _time_is_up(self, group: _Group[Target]) -> None:
        group.timer = None
        while group.pending and self._send(group):
            pass

    def _send(self, group: _Group[Target]) -> bool:
        """Start one call with the oldest requests; false where as many calls as allowed are running."""
        if len(group.calls) >= self._most_calls:
            return False
        taken, size = list[_Request](), 0
        while group.pending and (not taken or size + group.pending[0].size <= self._most_inputs):
            request = group.pending.popleft()
            request.sent = True
            group.queued -= request.size
            taken.append(request)
            size += request.size
        task = asyncio.get_running_loop().create_task(self._answer(group.target, taken))
        group.calls.add(task)

        def finished(done: asyncio.Task[None]) -> None:
            group.calls.discard(done)
            for request in taken:
                _fail(request, UpstreamError("The call was given up.", kind="unavailable", retryable=True))
            if group.timer is None:
                self._time_is_up(group)  # what could not be sent has waited long enough
            self._forget_idle(group)

        task.add_done_callback(finished)
        for request in taken:
            request.answer.add_done_callback(lambda _: _end_unwanted(task, taken))
        return True

    async def _answer(self, target: Target, requests: Sequence[_Request]) -> None:
        """Make one call for all requests, or, where it is refused, one for each half."""
        inputs = [one for request in requests for one in request.inputs]
        self._calls += 1
        try:
            # A request alone goes as it came: a single string stays a string.
            body = requests[0].body if len(requests) == 1 else {**requests[0].body, "input": inputs}
            parts = split(await self._call(target, body), self._entries, [request.inputs for request in requests])
        except UpstreamError as error:
            if error.kind in DIVISIBLE and len(requests) > 1:
                half = len(requests) // 2
                await asyncio.gather(self._answer(target, requests[:half]), self._answer(target, requests[half:]))
                return
            told = error if len(requests) == 1 else error.without_words()  # which may quote one request to another
            for request in requests:
                _fail(request, told)
        except Exception as error:  # a bug in the call must not leave its callers waiting
            for request in requests:
                _fail(request, error)
        else:
            for request, part in zip(requests, parts, strict=True):
                if not request.answer.done():
                    request.answer.set_result(part)


def _fail(request: _Request, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)


def _end_unwanted(task: asyncio.Task[None], requests: Sequence[_Request]) -> None:
    if all(request.answer.cancelled() for request in requests):
        task.cancel()


def _parameters(body: Body, inputs: Sequence[Any]) -> bytes:
    """Return what requests must agree in to share a call; texts and token numbers cannot stand in one list."""
    kinds = sorted({type(one).__name__ for one in inputs})
    shared = {name: value for name, value in body.items() if name != "input"}
    try:
        return orjson.dumps([kinds, shared], option=orjson.OPT_SORT_KEYS)
    except TypeError:  # lone surrogates and integers beyond 64 bits, which JSON from outside may hold
        return json.dumps([kinds, shared], sort_keys=True).encode()

"""Injects every upstream fault and prints what became of the request: `python -m benchmarks.serving.faults`.

Each fault is met alone and with a healthy model to fall back to, by a caller who waits for the whole answer and by one who streams.
Every outcome is a whole, correct answer or one `UpstreamError`; anything else ends the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import uvloop

from modelyard.catalog import BaseModel, Composite, Price
from modelyard.catalog.records import Deployment
from modelyard.errors import FaultKind, UpstreamError
from modelyard.generation import Dispatcher, Trail
from modelyard.routing.router import ModelRouter
from modelyard.types import Candidate, Delta, Draft, Message, Route
from modelyard.upstream import DeploymentStates, Retries, Timeouts, Upstream
from tests.faults.server import TEXT, WORDS, FaultServer, fault_server

Mode = Literal["whole", "stream"]
Ending = Literal["itself", "fallback", "error"]

TIMES: Final = Timeouts(connect_s=1.0, first_token_s=0.4, between_s=0.4, total_s=0.4, stream_s=3.0)
RETRIES: Final = Retries(attempts=3, wait_initial_s=0.02, wait_max_s=0.5, total_s=5.0)
HANG_S: Final = 20.0  # nothing may take this long
PROMPT: Final = Message.of("Answer in five pieces.")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and how it must end.

    Attributes:
        name: As the fault server knows it.
        title: For the table.
        kind: Of the error where nothing else can answer; None where trying again helps.
        whole: Who answers a request that is not streamed, where there is a model to fall back to.
        stream: Who answers a streamed one.
        pieces: How many pieces a stream that ends in an error has passed on before.
    """

    name: str
    title: str
    kind: FaultKind | None
    whole: Ending = "fallback"
    stream: Ending = "fallback"
    pieces: int = 0


FAULTS: Final = (
    Fault("refused", "connection refused", "connect"),
    Fault("reset", "connection reset", "cut"),
    Fault("dns", "name without address", "connect"),
    Fault("tls", "untrusted certificate", "connect"),
    Fault("401", "401", "auth"),
    Fault("404", "404", "not_found"),
    Fault("408", "408", "timeout"),
    Fault("429-retry-after", "429 with Retry-After", None, "itself", "itself"),
    Fault("429", "429 without Retry-After", "rate_limit"),
    Fault("500", "500", "server"),
    Fault("502", "502", "server"),
    Fault("503-flapping", "503, flapping", None, "itself", "itself"),
    Fault("slow-headers", "slow headers", "timeout"),
    Fault("slow-body", "slow body", "timeout"),
    Fault("garbage-json", "garbage JSON", "garbage"),
    Fault("malformed-sse", "malformed SSE", "garbage"),
    Fault("cut-0", "stream cut before its first token", "cut"),
    Fault("cut-3", "stream cut after 3 tokens", "cut", "fallback", "error", 3),
    Fault("cut-3-politely", "stream ended after 3 tokens as if whole", "cut", "fallback", "error", 3),
    Fault("end-mark-alone", "stream ended after 3 tokens with the end mark alone", "cut", "fallback", "error", 3),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request.

    Attributes:
        ending: Who answered, or that it was an error.
        kind: The error's kind.
        pieces: How many pieces of text the caller got.
        attempts: How many calls were made.
        ms: How long it took.
        sentence: The error's message.
    """

    ending: Ending
    kind: FaultKind | None
    pieces: int
    attempts: int
    ms: float
    sentence: str = ""


async def meet(server: FaultServer, fault: Fault, mode: Mode, *, fallback: bool) -> Outcome:
    """Meet a fault once, with everything fresh.

    Raises:
        AssertionError: An answer is not whole and correct, or calls were left in flight.
        TimeoutError: It hung.
    """
    names = ("faulty", "healthy") if fallback else ("faulty",)
    urls = {"faulty": server.base_url(fault.name), "healthy": server.base_url("good")}
    models = {
        name: BaseModel(name, "openai", Price(1.0, 1.0), deployments=(Deployment(name, name, urls[name]),))
        for name in names
    }
    spec = Composite("auto", "What is tested.", ("faulty",), "faulty", fallbacks=names[1:])
    route = Route("faulty", (Candidate("faulty", None, 0.0),), "static", ("it is to fail",))
    states, trail = DeploymentStates(), Trail()
    started = time.perf_counter()
    async with Upstream(retries=RETRIES, timeouts=TIMES) as upstream, asyncio.timeout(HANG_S):
        dispatcher = Dispatcher(ModelRouter(models, states), upstream, {})
        pieces = list[str]()
        try:
            if mode == "whole":
                draft = await dispatcher.generate(PROMPT, route, (), spec, trail=trail)
            else:
                draft = await _streamed(dispatcher, route, spec, trail, pieces)
        except UpstreamError as error:
            ms = (time.perf_counter() - started) * 1000
            _check_calls(states, trail, error.attempts)
            return Outcome("error", error.kind, len(pieces), len(trail.attempts), ms, str(error))
    ms = (time.perf_counter() - started) * 1000
    _check_calls(states, trail, draft.attempts)
    if draft.text != TEXT or (mode == "stream" and "".join(pieces) != TEXT):
        raise AssertionError(f"{fault.name}, {mode}: the answer is {draft.text!r}, streamed as {pieces}")
    return Outcome("itself" if draft.model == "faulty" else "fallback", None, len(pieces), len(trail.attempts), ms)


async def _streamed(dispatcher: Dispatcher, route: Route, spec: Composite, trail: Trail, pieces: list[str]) -> Draft:
    draft: Draft | None = None
    async for piece in dispatcher.stream(PROMPT, route, (), spec, trail=trail):
        if isinstance(piece, Delta):
            pieces.append(piece.text)
        else:
            draft = piece
    if draft is None:
        raise AssertionError(f"the stream ended without a draft after {pieces}")
    return draft


def _check_calls(states: DeploymentStates, trail: Trail, attempts: Sequence[object]) -> None:
    if tuple(trail.attempts) != tuple(attempts):
        raise AssertionError(f"{len(attempts)} attempts were told of {len(trail.attempts)}")
    ended = sum(sum(state.outcomes.values()) for state in states)
    if ended != len(trail.attempts) or any(state.in_flight for state in states):
        raise AssertionError(f"{ended} calls ended of {len(trail.attempts)}")


def _cell(outcome: Outcome) -> str:
    if outcome.ending == "error":
        after = f" after {outcome.pieces} pieces" if outcome.pieces else ""
        return f"one error: {outcome.kind}{after}"
    return "answered, tried again" if outcome.ending == "itself" else "answered by the fallback"


async def table(server: FaultServer) -> list[str]:
    """Meet every fault in every way and return the rows of a Markdown table."""
    rows = [
        "| fault | with a fallback | streamed | alone | streamed alone | calls | ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in FAULTS:
        ways: tuple[tuple[Mode, bool], ...] = (("whole", True), ("stream", True), ("whole", False), ("stream", False))
        outcomes = [await meet(server, fault, mode, fallback=fallback) for mode, fallback in ways]
        calls = "/".join(str(outcome.attempts) for outcome in outcomes)
        times = "/".join(f"{outcome.ms:.0f}" for outcome in outcomes)
        rows.append(f"| {fault.title} | {' | '.join(map(_cell, outcomes))} | {calls} | {times} |")
    return rows


async def main() -> None:
    """Print the table."""
    with TemporaryDirectory() as folder:
        async with fault_server(Path(folder)) as server:
            print("\n".join(await table(server)))
    print(f"\n{len(FAULTS)} faults, 4 ways each: every answer is whole ({len(WORDS)} pieces), every failure one error.")


if __name__ == "__main__":
    uvloop.run(main())  # as it is served

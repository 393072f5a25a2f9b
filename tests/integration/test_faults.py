"""Every upstream fault ends in a whole answer or in one well-formed error, alone and with a model to fall back to."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.serving.faults import FAULTS, PROMPT, RETRIES, Fault, Mode, meet
from modelyard.catalog import BaseModel, Composite, Price
from modelyard.catalog.records import Deployment
from modelyard.errors import UpstreamError
from modelyard.generation import Dispatcher, Trail
from modelyard.routing.router import ModelRouter
from modelyard.types import Candidate, Draft, Route
from modelyard.upstream import DeploymentStates, Upstream
from modelyard.upstream.breaker import BreakerRules
from tests.faults.server import TEXT, WORDS, fault_server

EACH = pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
MODES = pytest.mark.parametrize("mode", ["whole", "stream"])


@EACH
@MODES
async def test_fault_with_a_fallback(fault: Fault, mode: Mode, tmp_path: Path) -> None:
    async with fault_server(tmp_path) as server:
        outcome = await meet(server, fault, mode, fallback=True)
    expected = fault.whole if mode == "whole" else fault.stream
    assert outcome.ending == expected, outcome
    if expected == "error":
        assert (outcome.kind, outcome.pieces) == (fault.kind, fault.pieces)
    elif mode == "stream":
        assert outcome.pieces == len(WORDS)


@EACH
@MODES
async def test_fault_alone(fault: Fault, mode: Mode, tmp_path: Path) -> None:
    async with fault_server(tmp_path) as server:
        outcome = await meet(server, fault, mode, fallback=False)
        if fault.kind is None:
            assert outcome.ending == "itself", outcome
        else:
            assert outcome.ending == "error", outcome
            # A whole answer that ends politely in its middle cannot be told from one that is not JSON.
            polite = mode == "whole" and fault.name in {"cut-3-politely", "end-mark-alone"}
            kinds = {"garbage"} if polite else {fault.kind}
            assert outcome.kind in kinds
            assert outcome.sentence.startswith("The model 'faulty' at ")
            assert outcome.sentence.endswith(".")
            assert "\n" not in outcome.sentence
            assert "Traceback" not in outcome.sentence
            assert "aiohttp" not in outcome.sentence
        for _ in range(100):
            if not server.open:
                break
            await asyncio.sleep(0.01)
        assert server.open == 0, "a connection was left open"


async def test_many_callers_some_of_whom_leave_meet_every_fault_at_once(tmp_path: Path) -> None:
    """Whatever happens, calls end, connections close, and answers are whole."""
    draw = random.Random(11)
    names = [fault.name for fault in FAULTS if not fault.name.startswith("slow")] + ["good"]
    patient = replace(RETRIES, total_s=30.0)  # none of these faults is slow, but the machine may be
    async with fault_server(tmp_path) as server, Upstream(timeout_s=30.0, retries=patient) as upstream:
        deployments = tuple(Deployment(f"m/{name}", "m", server.base_url(name)) for name in names)
        model = BaseModel("m", "openai", Price(1.0, 1.0), deployments=deployments)
        states = DeploymentStates(BreakerRules(cool_down_s=0.05, cool_down_max_s=0.1))
        dispatcher = Dispatcher(ModelRouter({"m": model}, states), upstream, {})
        spec = Composite("auto", "What is tested.", ("m",), "m")
        route = Route("m", (Candidate("m", None, 0.0),), "static", ("it is the only one",))
        trails: list[Trail] = []

        async def ask(n: int) -> str:
            trail = Trail()
            trails.append(trail)
            if n % 2:
                return (await dispatcher.generate(PROMPT, route, (), spec, trail=trail)).text
            pieces: list[str] = []
            async for piece in dispatcher.stream(PROMPT, route, (), spec, trail=trail):
                if isinstance(piece, Draft):
                    assert piece.text == "".join(pieces)
                    return piece.text
                pieces.append(piece.text)
            raise AssertionError("a stream ended without a draft")

        async def come_and_perhaps_go(n: int) -> str | BaseException:
            await asyncio.sleep(draw.random() * 0.5)
            call = asyncio.create_task(ask(n))
            if n % 5 == 0:
                await asyncio.sleep(draw.random() * 0.05)
                call.cancel()
            (outcome,) = await asyncio.gather(call, return_exceptions=True)
            return outcome

        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(*(come_and_perhaps_go(n) for n in range(400)))
        assert all(
            outcome == TEXT or isinstance(outcome, UpstreamError | asyncio.CancelledError) for outcome in outcomes
        )
        assert outcomes.count(TEXT) > 100
        assert not any(state.in_flight for state in states)
        calls = sum(len(trail.attempts) for trail in trails)
        assert calls == sum(sum(state.outcomes.values()) for state in states)
    for _ in range(200):
        if not server.open:
            break
        await asyncio.sleep(0.01)
    assert server.open == 0, "a connection was left open"

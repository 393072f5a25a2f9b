from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from modelyard.catalog import BaseModel, Composite, Price
from modelyard.catalog.records import Deployment
from modelyard.errors import ContextTooLong, InvalidInput, UpstreamError
from modelyard.generation import Dispatcher, LocalExtractive, Trail
from modelyard.generation.local import NO_INDEX
from modelyard.routing.router import ModelRouter
from modelyard.types import Candidate, Delta, Draft, Message, Passage, Route, Turn, Usage
from modelyard.upstream import DeploymentStates, Retries, Upstream
from modelyard.upstream.breaker import BreakerRules
from tests.unit.upstream.openai_server import (
    DONE,
    Behaviour,
    OpenAIServer,
    answers,
    chunk,
    hangs,
    openai_server,
    refuses,
    says,
    streams,
    usage_chunk,
)

ASK = Message.of("How do I centre a div?")
PRICE = Price(input=2.0, output=10.0, request=0.5)
QUICK = Retries(attempts=3, wait_initial_s=0.001, wait_max_s=0.01)
GOOD = answers("Hello")
GOOD_STREAM = streams(chunk("Hel"), chunk("lo", finish_reason="stop"), usage_chunk(11, 7), DONE)


@dataclass
class Yard:
    """A dispatcher over stub servers, one for each deployment, by name."""

    dispatcher: Dispatcher
    servers: dict[str, OpenAIServer]
    states: DeploymentStates
    route: Route
    spec: Composite
    trail: Trail = field(default_factory=Trail)

    async def generate(self, message: Message = ASK, passages: tuple[Passage, ...] = ()) -> Draft:
        return await self.dispatcher.generate(message, self.route, passages, self.spec, trail=self.trail)

    async def stream(self, message: Message = ASK) -> list[Delta | Draft]:
        pieces = self.dispatcher.stream(message, self.route, (), self.spec, trail=self.trail)
        return [piece async for piece in pieces]

    async def ask(self, streaming: bool) -> Draft:
        if not streaming:
            return await self.generate()
        draft = (await self.stream())[-1]
        assert isinstance(draft, Draft)
        return draft

    @property
    def calls(self) -> dict[str, int]:
        return {name: len(server.bodies) for name, server in self.servers.items()}

    @property
    def called(self) -> list[tuple[str, str]]:
        return [(attempt.deployment, attempt.outcome) for attempt in self.trail.attempts]


@asynccontextmanager
async def yard(
    models: dict[str, dict[str, list[Behaviour]]],
    *,
    retries: Retries = QUICK,
    timeout_s: float = 5.0,
    rules: BreakerRules | None = None,
    windows: dict[str, int] | None = None,
    fallbacks: tuple[str, ...] = (),
    dead: tuple[str, ...] = (),
    **deployment: Any,
) -> AsyncIterator[Yard]:
    """Start a server for each deployment of each model; the first model is the chosen one, local models are called `local…`."""
    servers: dict[str, OpenAIServer] = {}
    records: dict[str, BaseModel] = {}
    async with AsyncExitStack() as stack:
        for model, deployments in models.items():
            made: list[Deployment] = []
            for key, behaviours in deployments.items():
                server = await stack.enter_async_context(openai_server(*behaviours))
                servers[key] = server
                url = "http://127.0.0.1:1/v1" if key in dead else server.base_url
                made.append(Deployment(key, model, url, **deployment))
            window = (windows or {}).get(model, 8192)
            capabilities = frozenset({"tools", "json"})
            records[model] = (
                BaseModel(model, "local", PRICE, method="sentence")
                if model.startswith("local")
                else BaseModel(model, "openai", PRICE, window, deployments=tuple(made), capabilities=capabilities)
            )
        states = DeploymentStates(rules)
        upstream = await stack.enter_async_context(Upstream(timeout_s, retries))
        local = {name: LocalExtractive(model, None) for name, model in records.items() if model.kind == "local"}
        dispatcher = Dispatcher(ModelRouter(records, states), upstream, local)
        names = tuple(name for name in models if name not in fallbacks)
        # Candidates come in the order of the dictionary.
        candidates = tuple(Candidate(name, 0.9 - 0.1 * n, 0.001) for n, name in enumerate(names))
        route = Route(names[0], candidates, "learned", ("because",))
        yield Yard(dispatcher, servers, states, route, Composite("auto", "", names, names[0], fallbacks=fallbacks))


async def test_draft_of_the_first_call() -> None:
    async with yard({"a": {"a/1": [answers("Hello", usage=(1000, 100))]}}) as found:
        draft = await found.generate()
    assert (draft.text, draft.model, draft.finish_reason) == ("Hello", "a", "stop")
    assert draft.usage == Usage(1000, 100, 0.5 + 0.002 + 0.001, estimated=False)
    (attempt,) = draft.attempts
    assert (attempt.model, attempt.deployment, attempt.outcome, attempt.status) == ("a", "a/1", "ok", 200)
    assert (attempt.reason, attempt.usage) == ("first choice", draft.usage)
    assert found.states["a/1"].snapshot()["calls"]["ok"] == 1
    assert found.states["a/1"].in_flight == 0


async def test_parameters_and_wire_turns_go_as_they_came() -> None:
    wire = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}], "name": "ann"}
    parameters = {"temperature": 0.1, "tools": [{"type": "function"}], "model": "x", "stream": True, "messages": []}
    message = Message((Turn("system", "Be brief."), Turn("user", "", wire)), parameters=parameters)
    async with yard({"a": {"a/1": [GOOD]}}) as found:
        await found.generate(message)
    assert found.servers["a/1"].bodies == [
        {
            "model": "a",
            "temperature": 0.1,
            "tools": [{"type": "function"}],
            "messages": [{"role": "system", "content": "Be brief."}, wire],
        }
    ]


async def test_cached_tokens_cost_what_the_catalogue_says() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 600}}
    body = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": usage}
    async with yard({"a": {"a/1": [says(json.dumps(body))]}}) as found:
        model = BaseModel(
            "a",
            "openai",
            Price(input=2.0, cached_input=0.5),
            deployments=(Deployment("a/1", "a", found.servers["a/1"].base_url),),
        )
        async with Upstream() as upstream:
            dispatcher = Dispatcher(ModelRouter({"a": model}, found.states), upstream, {})
            draft = await dispatcher.generate(ASK, found.route, (), found.spec)
    assert draft.usage.cached_tokens == 600
    assert draft.usage.cost_usd == pytest.approx((400 * 2.0 + 600 * 0.5) / 1e6)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
async def test_passing_failures_are_tried_again_on_the_same_deployment(streaming: bool, status: int) -> None:
    good = GOOD_STREAM if streaming else GOOD
    async with yard({"a": {"a/1": [refuses(status), refuses(status), good]}, "b": {"b/1": [good]}}) as found:
        draft = await found.ask(streaming)
    assert (draft.text, draft.model) == ("Hello", "a")
    assert found.called == [("a/1", "failed"), ("a/1", "failed"), ("a/1", "ok")]
    assert [attempt.status for attempt in draft.attempts] == [status, status, 200]
    assert draft.attempts[0].reason.split(":")[0] in {"rate_limit", "server", "timeout"}
    assert found.calls["b/1"] == 0


@pytest.mark.parametrize("streaming", [False, True])
async def test_another_deployment_comes_before_a_wait(streaming: bool) -> None:
    good = GOOD_STREAM if streaming else GOOD
    slow = Retries(attempts=3, wait_initial_s=60.0, wait_max_s=60.0)
    async with yard({"a": {"a/1": [refuses(500)], "a/2": [good]}}, retries=slow) as found:
        found.states["a/2"].enter()  # so that the other one is picked first
        assert (await found.ask(streaming)).text == "Hello"
    assert found.called == [("a/1", "failed"), ("a/2", "ok")]


@pytest.mark.parametrize("streaming", [False, True])
async def test_next_model_answers_where_retries_end(streaming: bool) -> None:
    good = GOOD_STREAM if streaming else GOOD
    async with yard({"a": {"a/1": [refuses(500)]}, "b": {"b/1": [good]}}) as found:
        draft = await found.ask(streaming)
    assert draft.model == "b"
    assert found.called == [("a/1", "failed")] * 3 + [("b/1", "ok")]
    assert draft.attempts[-1].reason == "after server at a/1"


async def test_fallbacks_come_after_the_candidates() -> None:
    models = {"a": {"a/1": [refuses(401)]}, "z": {"z/1": [GOOD]}, "b": {"b/1": [refuses(404)]}}
    async with yard(models, fallbacks=("z",)) as found:
        assert (await found.generate()).model == "z"
    assert found.called == [("a/1", "failed"), ("b/1", "failed"), ("z/1", "ok")]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_deployment_that_will_not_do_is_called_once_and_counts_as_failing(status: int) -> None:
    async with yard({"a": {"a/1": [refuses(status)]}, "b": {"b/1": [GOOD]}}) as found:
        await found.generate()
        assert found.calls == {"a/1": 1, "b/1": 1}
        for _ in range(4):
            await found.generate()
    assert found.states["a/1"].breaker.state == "open"


@pytest.mark.parametrize("streaming", [False, True])
async def test_rejected_call_is_the_callers(streaming: bool) -> None:
    async with yard({"a": {"a/1": [refuses(422, "no such field")]}, "b": {"b/1": [GOOD]}}) as found:
        with pytest.raises(UpstreamError, match="status 422") as caught:
            await found.ask(streaming)
    assert (caught.value.kind, caught.value.status, found.calls["b/1"]) == ("rejected", 422, 0)
    assert caught.value.said == "no such field"
    assert found.states["a/1"].breaker.state == "closed"


async def test_content_policy_leads_to_the_next_model_at_once() -> None:
    models = {"a": {"a/1": [refuses(400, "content_policy_violation")], "a/2": [GOOD]}, "b": {"b/1": [GOOD]}}
    async with yard(models) as found:
        found.states["a/2"].enter()  # so that the other one is picked
        await found.generate()
    assert found.called == [("a/1", "failed"), ("b/1", "ok")]
    assert found.states["a/1"].breaker.state == "closed"


async def test_context_length_leads_to_a_larger_window_only() -> None:
    small, large = [refuses(400, "context_length_exceeded")], [GOOD]
    models = {"a": {"a/1": small}, "b": {"b/1": [GOOD]}, "c": {"c/1": large}}
    async with yard(models, windows={"a": 8192, "b": 8192, "c": 32768}) as found:
        assert (await found.generate()).model == "c"
    assert found.calls == {"a/1": 1, "b/1": 0, "c/1": 1}


async def test_context_length_without_a_larger_window_is_told() -> None:
    async with yard({"a": {"a/1": [refuses(400, "context_length_exceeded")]}, "b": {"b/1": [GOOD]}}) as found:
        with pytest.raises(UpstreamError) as caught:
            await found.generate()
    assert (caught.value.kind, found.calls) == ("context_length", {"a/1": 1, "b/1": 0})


async def test_too_long_a_request_is_refused_before_any_call() -> None:
    async with yard({"a": {"a/1": [GOOD]}}, windows={"a": 100}) as found:
        with pytest.raises(ContextTooLong):
            await found.generate(Message.of("x" * 1000))
        with pytest.raises(ContextTooLong):
            await found.generate(Message((Turn("user", "Hi"),), parameters={"max_tokens": 10**9}))
    assert found.calls == {"a/1": 0}


async def test_need_that_no_model_meets_is_refused_before_any_call() -> None:
    async with yard({"a": {"a/1": [GOOD]}}) as found:
        with pytest.raises(InvalidInput, match="images"):
            await found.generate(Message((Turn("user", "Hi"),), needs=frozenset({"images"})))
    assert found.calls == {"a/1": 0}


async def test_model_that_was_left_out_is_named_on_the_trail() -> None:
    message = Message((Turn("user", "x" * 1000),))
    async with yard({"a": {"a/1": [GOOD]}, "b": {"b/1": [GOOD]}}, windows={"a": 100}) as found:
        assert (await found.generate(message)).model == "b"
    assert found.trail.reasons == ["a has a context window of 100 tokens"]


@pytest.mark.parametrize("streaming", [False, True])
async def test_unreachable_deployment_is_passed_over_and_opens_its_breaker(streaming: bool) -> None:
    good = GOOD_STREAM if streaming else GOOD
    models = {"a": {"a/1": [good]}, "b": {"b/1": [good]}}
    async with yard(models, dead=("a/1",), rules=BreakerRules(consecutive=3)) as found:
        assert (await found.ask(streaming)).model == "b"
        assert found.states["a/1"].breaker.state == "open"
        found.trail.attempts.clear()
        assert (await found.ask(streaming)).model == "b"
    assert found.called == [("b/1", "ok")]
    assert found.trail.reasons == ["a cannot be called now"]


async def test_hanging_deployment_is_called_once() -> None:
    async with yard({"a": {"a/1": [hangs()]}, "b": {"b/1": [GOOD]}}, timeout_s=0.2) as found:
        assert (await found.generate()).model == "b"
    assert found.calls == {"a/1": 1, "b/1": 1}


async def test_time_for_an_answer_to_begin_is_bounded() -> None:
    retries = Retries(attempts=3, wait_initial_s=0.001, total_s=0.2)
    models = {name: {f"{name}/1": [hangs()]} for name in ("a", "b", "c", "d")}
    async with yard(models, timeout_s=0.15, retries=retries) as found:
        with pytest.raises(UpstreamError) as caught:
            await found.generate()
    assert caught.value.kind == "timeout"
    assert len(found.trail.attempts) == 2


async def test_calls_for_an_answer_are_bounded() -> None:
    retries = Retries(attempts=100, wait_initial_s=0.0, most=7)
    async with yard({"a": {"a/1": [refuses(500)]}}, retries=retries, rules=BreakerRules(consecutive=1000)) as found:
        with pytest.raises(UpstreamError) as caught:
            await found.generate()
    assert len(caught.value.attempts) == found.calls["a/1"] == 7
    assert (caught.value.kind, caught.value.status) == ("server", 500)


async def test_short_retry_after_is_waited_for() -> None:
    retries = Retries(attempts=2, wait_initial_s=0.0)
    async with yard({"a": {"a/1": [refuses(429, Retry_After="0.3"), GOOD]}}, retries=retries) as found:
        started = asyncio.get_running_loop().time()
        await found.generate()
        assert asyncio.get_running_loop().time() - started >= 0.3
    assert found.states["a/1"].breaker.state == "closed"


@pytest.mark.parametrize("streaming", [False, True])
async def test_long_retry_after_is_told_and_others_are_not_sent_there(streaming: bool) -> None:
    async with yard({"a": {"a/1": [refuses(429, Retry_After="3600"), GOOD]}}) as found:
        with pytest.raises(UpstreamError) as caught:
            await found.ask(streaming)
        assert (caught.value.kind, caught.value.retry_after_s) == ("rate_limit", 3600.0)
        with pytest.raises(UpstreamError) as later:
            await found.ask(streaming)
    assert (later.value.kind, later.value.retryable, later.value.attempts[1:]) == ("unavailable", True, ())
    assert 500 < (later.value.retry_after_s or 0.0) <= 600
    assert found.calls == {"a/1": 1}


async def test_long_retry_after_leads_to_the_next_model_at_once() -> None:
    async with yard({"a": {"a/1": [refuses(429, Retry_After="3"), GOOD]}, "b": {"b/1": [GOOD]}}) as found:
        assert (await found.generate()).model == "b"


async def test_rest_of_every_deployment_is_waited_for_where_it_is_short() -> None:
    async with yard({"a": {"a/1": [GOOD]}}) as found:
        slow = UpstreamError("Slow down.", kind="rate_limit", retryable=True, retry_after_s=0.1)
        found.states["a/1"].fail(found.states["a/1"].enter(), slow)
        assert (await found.generate()).text == "Hello"


async def test_full_deployments_send_the_caller_away() -> None:
    async with yard({"a": {"a/1": [GOOD]}}, max_concurrent=1) as found:
        token = found.states["a/1"].enter()
        with pytest.raises(UpstreamError, match="No deployment can be called now") as caught:
            await found.generate()
        assert (caught.value.kind, caught.value.retry_after_s) == ("unavailable", 1.0)
        found.states["a/1"].cancel(token)
        assert (await found.generate()).text == "Hello"


async def test_breaker_that_cooled_down_is_tried_with_one_call() -> None:
    rules = BreakerRules(consecutive=1, cool_down_s=0.05, jitter=0.0)
    async with yard({"a": {"a/1": [refuses(401), GOOD]}}, rules=rules) as found:
        with pytest.raises(UpstreamError, match="401"):
            await found.generate()
        assert found.states["a/1"].breaker.state == "open"
        await asyncio.sleep(0.06)
        assert (await found.generate()).text == "Hello"
    assert found.states["a/1"].breaker.state == "closed"


@pytest.mark.parametrize(
    "bad",
    [
        streams(),
        streams(chunk("")),
        streams(chunk("  ")),
        streams(b": ping\n\n", cut=True),
        streams(b"data: {oops\n\n"),
        streams(b"<html>"),
        streams(chunk(finish_reason="stop"), DONE),
        refuses(500),
        says("<html>"),
    ],
)
async def test_stream_that_fails_before_its_first_token_is_silently_replaced(bad: Behaviour) -> None:
    async with yard({"a": {"a/1": [bad]}, "b": {"b/1": [GOOD_STREAM]}}) as found:
        *pieces, draft = await found.stream()
    assert pieces == [Delta("Hel"), Delta("lo")]
    assert isinstance(draft, Draft)
    assert (draft.model, draft.text, len(draft.attempts)) == ("b", "Hello", 4)
    assert all(attempt.usage is None for attempt in draft.attempts[:-1])


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ([], "cut"),
        ([b'data: {"choices": [{"delta": {"con'], "cut"),
        ([b"data: {oops\n\n"], "garbage"),
        ([b'data: {"error": {"message": "overloaded"}}\n\n'], "server"),
    ],
)
async def test_stream_that_breaks_after_its_first_token_is_one_error(end: list[bytes], kind: str) -> None:
    received: list[object] = []
    async with yard({"a": {"a/1": [streams(chunk("Hello wor"), *end)]}, "b": {"b/1": [GOOD_STREAM]}}) as found:
        with pytest.raises(UpstreamError) as caught:
            async for piece in found.dispatcher.stream(ASK, found.route, (), found.spec, trail=found.trail):
                received.append(piece)
    assert (received, caught.value.kind) == ([Delta("Hello wor")], kind)
    assert found.called == [("a/1", "failed")]
    assert found.calls["b/1"] == 0
    (attempt,) = caught.value.attempts
    assert attempt.usage == Usage(10, 3, pytest.approx(0.5 + 10 * 2e-6 + 3 * 10e-6))
    assert found.states["a/1"].faults[caught.value.kind] == 1
    assert found.states["a/1"].in_flight == 0


async def test_tool_call_is_a_first_token() -> None:
    call = [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    behaviour = streams(chunk(tool_calls=call), chunk(finish_reason="tool_calls"), DONE)
    async with yard({"a": {"a/1": [behaviour]}}) as found:
        delta, draft = await found.stream()
    assert delta == Delta("", {"tool_calls": call})
    assert isinstance(draft, Draft)
    assert draft.finish_reason == "tool_calls"
    assert draft.fields["tool_calls"][0]["function"]["name"] == "f"


async def test_reader_who_leaves_a_stream_pays_for_what_was_written() -> None:
    async with yard({"a": {"a/1": [hangs(chunk("Hello wor"))]}}) as found:
        async with aclosing(found.dispatcher.stream(ASK, found.route, (), found.spec, trail=found.trail)) as pieces:
            assert await anext(pieces) == Delta("Hello wor")
        (attempt,) = found.trail.attempts
        assert (attempt.outcome, attempt.reason) == ("cancelled", "the caller left")
        assert attempt.usage == Usage(10, 3, pytest.approx(0.5 + 10 * 2e-6 + 3 * 10e-6))
        assert (found.states["a/1"].in_flight, found.states["a/1"].breaker.state) == (0, "closed")


@pytest.mark.parametrize("streaming", [False, True])
async def test_caller_who_is_cancelled_before_the_first_token(streaming: bool) -> None:
    async with yard({"a": {"a/1": [hangs()]}, "b": {"b/1": [GOOD]}}) as found:
        call = asyncio.create_task(found.ask(streaming))
        while not found.servers["a/1"].bodies:
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        (attempt,) = found.trail.attempts
        assert attempt.outcome == "cancelled"
        assert attempt.usage is not None
        assert (attempt.usage.prompt_tokens, attempt.usage.completion_tokens) == (10, 0 if streaming else 250)
        assert found.states["a/1"].in_flight == 0
        assert found.calls["b/1"] == 0


async def test_reader_who_leaves_after_the_draft_changes_nothing() -> None:
    async with yard({"a": {"a/1": [GOOD_STREAM]}}) as found:
        async with aclosing(found.dispatcher.stream(ASK, found.route, (), found.spec, trail=found.trail)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Draft):
                    break
        assert found.called == [("a/1", "ok")]
        assert found.states["a/1"].outcomes == {"ok": 1}


@pytest.mark.parametrize("streaming", [False, True])
async def test_local_models_take_part(streaming: bool) -> None:
    async with yard({"a": {"a/1": [refuses(500)]}, "local": {}}) as found:
        draft = await found.ask(streaming)
    assert (draft.model, draft.text) == ("local", NO_INDEX)
    assert found.called[-1] == ("local", "ok")
    assert draft.attempts[-1].status is None


async def test_calls_spread_over_deployments() -> None:
    async with yard({"a": {"a/1": [GOOD], "a/2": [GOOD]}}) as found:
        await asyncio.gather(*(found.generate() for _ in range(40)))
    assert found.calls == {"a/1": 20, "a/2": 20}


async def test_request_that_cannot_be_encoded_leaves_the_deployment_alone() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    message = Message((Turn("user", "Hi"),), parameters={"x": deep})
    async with yard({"a": {"a/1": [GOOD]}}) as found:
        with pytest.raises(InvalidInput, match="cannot be passed on"):
            await found.generate(message)
        assert found.states["a/1"].in_flight == 0
        assert found.trail.attempts[0].usage is None

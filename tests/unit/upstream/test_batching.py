from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from modelyard.errors import InvalidInput, LimitExceeded, UpstreamError
from modelyard.upstream import Endpoint, Upstream
from modelyard.upstream.batching import MicroBatcher
from modelyard.upstream.sharing import split

TARGET = "embed-small"


@dataclass
class Embedder:
    """An endpoint that embeds a text as its length; refuses whole calls that hold the text `bad`, and waits while it is held."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    most_at_once: int = 0
    url: str = ""
    _now: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.calls.append(body)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await self.open.wait()
        finally:
            self._now -= 1
        alone = isinstance(body["input"], str) or isinstance(body["input"][0], int)
        inputs = [body["input"]] if alone else body["input"]
        if "bad" in inputs:
            return web.json_response({"error": {"message": "bad input"}}, status=400)
        if "broken" in inputs:
            return web.json_response({"error": {"message": "oh"}}, status=500)
        entries = [{"object": "embedding", "index": n, "embedding": [len(one)]} for n, one in enumerate(inputs)]
        tokens = sum(map(len, inputs))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return web.json_response({"object": "list", "data": entries[::-1], "model": body["model"], "usage": usage})


@asynccontextmanager
async def batching(**options: Any) -> AsyncIterator[tuple[MicroBatcher[str], Embedder]]:
    embedder = Embedder()
    embedder.open.set()
    async with TestServer(_embeddings_app(embedder)) as server, aiohttp.ClientSession() as session:

        async def call(_: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
            async with session.post(server.make_url("/v1/embeddings"), json=dict(body)) as response:
                if response.status == 200:
                    return await response.json()
                kind = "rejected" if response.status == 400 else "server"
                raise UpstreamError("The endpoint said no.", kind=kind, status=response.status)

        batcher = MicroBatcher(call, **options)
        yield batcher, embedder
        embedder.open.set()
        await batcher.close()


def body(given: Any, **parameters: Any) -> dict[str, Any]:
    return {"model": "m", "input": given, **parameters}


def vectors(response: Mapping[str, Any]) -> list[list[int]]:
    assert [entry["index"] for entry in response["data"]] == list(range(len(response["data"])))
    return [entry["embedding"] for entry in response["data"]]


async def test_requests_of_one_moment_share_a_call_and_get_their_own():
    async with batching() as (batcher, embedder):
        answers = await asyncio.gather(*(batcher.submit(TARGET, body("x" * n)) for n in range(1, 11)))
        assert [vectors(answer) for answer in answers] == [[[n]] for n in range(1, 11)]
        assert [answer["usage"]["total_tokens"] for answer in answers] == list(range(1, 11))
        assert len(embedder.calls) == 1
        stats = batcher.stats()
        assert (stats.requests, stats.inputs, stats.calls, stats.waiting) == (10, 10, 1, 0)


async def test_a_request_alone_goes_as_it_came():
    async with batching() as (batcher, embedder):
        assert vectors(await batcher.submit(TARGET, body("alone"))) == [[5]]
        assert embedder.calls == [body("alone")]


async def test_lists_keep_their_order_and_their_borders():
    async with batching() as (batcher, embedder):
        one, two = await asyncio.gather(
            batcher.submit(TARGET, body(["a", "bb", "ccc"])), batcher.submit(TARGET, body(["dddd", "e"]))
        )
        assert (vectors(one), vectors(two)) == ([[1], [2], [3]], [[4], [1]])
        assert len(embedder.calls) == 1


async def test_other_parameters_targets_and_kinds_of_input_go_apart():
    async with batching() as (batcher, embedder):
        await asyncio.gather(
            batcher.submit(TARGET, body("a")),
            batcher.submit(TARGET, body("a", dimensions=3)),
            batcher.submit(TARGET, body("a", user="u")),
            batcher.submit(TARGET, body([1, 2, 3])),
            batcher.submit("embed-large", body("a")),
        )
        assert len(embedder.calls) == 5


async def test_a_full_call_goes_at_once_and_no_call_is_larger():
    async with batching(wait_s=3600, most_inputs=4) as (batcher, embedder):
        await asyncio.gather(*(batcher.submit(TARGET, body(["a", "b"])) for _ in range(6)))
        assert [len(call["input"]) for call in embedder.calls] == [4, 4, 4]


async def test_a_request_with_more_inputs_than_a_call_holds_is_not_cut():
    async with batching(most_inputs=4) as (batcher, embedder):
        one, two = await asyncio.gather(batcher.submit(TARGET, body("a")), batcher.submit(TARGET, body(["b"] * 9)))
        assert (len(one["data"]), len(two["data"])) == (1, 9)
        assert sorted(len(call["input"]) for call in embedder.calls) == [1, 9]


async def test_what_is_at_fault_fails_alone():
    async with batching() as (batcher, _):
        asked = ["a", "b", "bad", "d", ["e", "bad"], "f", "g"]
        answers = await asyncio.gather(*(batcher.submit(TARGET, body(one)) for one in asked), return_exceptions=True)
        failed = [one for one, answer in zip(asked, answers, strict=True) if isinstance(answer, UpstreamError)]
        assert failed == ["bad", ["e", "bad"]]
        assert all(vectors(answer) == [[1]] for answer in answers if not isinstance(answer, BaseException))


async def test_a_failed_endpoint_fails_them_all_without_more_calls():
    async with batching() as (batcher, embedder):
        answers = await asyncio.gather(
            *(batcher.submit(TARGET, body(one)) for one in ("a", "broken", "c")), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [UpstreamError] * 3
        assert len(embedder.calls) == 1


@pytest.mark.parametrize(("shared_by", "said"), [(1, "bad input: x"), (2, "")])
async def test_words_about_a_shared_call_reach_nobody_who_shared_it(shared_by: int, said: str):
    async def call(_: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        raise UpstreamError("The endpoint said no.", kind="server", said="bad input: x")

    batcher = MicroBatcher[str](call)
    found = await asyncio.gather(*(batcher.submit(TARGET, body("x")) for _ in range(shared_by)), return_exceptions=True)
    assert [(str(error), getattr(error, "said", None)) for error in found] == [
        ("The endpoint said no.", said)
    ] * shared_by
    await batcher.close()


async def test_too_many_waiting_inputs_are_refused_with_a_time_to_come_back():
    async with batching(most_waiting=3) as (batcher, embedder):
        embedder.open.clear()
        waiting = [asyncio.create_task(batcher.submit(TARGET, body(["a", "b", "c"])))]
        await asyncio.sleep(0)
        with pytest.raises(LimitExceeded, match="3 inputs wait for 'embed-small' already, and 3 may") as caught:
            await batcher.submit(TARGET, body("d"))
        assert (caught.value.kind, caught.value.retry_after_s) == ("capacity", 1.0)
        assert batcher.stats().refused == 1
        waiting.append(asyncio.create_task(batcher.submit("embed-large", body("d"))))
        embedder.open.set()
        await asyncio.gather(*waiting)
        assert vectors(await batcher.submit(TARGET, body("d"))) == [[1]]


async def test_calls_at_a_time_are_bounded_and_the_rest_follows():
    async with batching(most_inputs=1, most_calls=2) as (batcher, embedder):
        answers = await asyncio.gather(*(batcher.submit(TARGET, body("x" * n)) for n in range(1, 10)))
        assert [vectors(answer) for answer in answers] == [[[n]] for n in range(1, 10)]
        assert embedder.most_at_once <= 2


async def test_parts_go_alone_and_as_they_came():
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "https://x"}}]
    calls = list[Any]()

    async def moderate(_: str, body: Any) -> dict[str, Any]:
        calls.append(body["input"])
        one = body["input"] is parts or isinstance(body["input"], str)
        return {"results": [{"flagged": False}] * (1 if one else len(body["input"]))}

    batcher: MicroBatcher[str] = MicroBatcher(moderate, entries="results")
    found = await asyncio.gather(*(batcher.submit(TARGET, {"input": given}) for given in ("a", parts, "b", parts)))
    assert [len(answer["results"]) for answer in found] == [1, 1, 1, 1]
    assert sorted(map(len, calls)) == [2, 2, 2]
    assert calls.count(parts) == 2
    await batcher.close()


async def test_a_caller_who_leaves_before_the_call_is_not_asked_for():
    async with batching() as (batcher, embedder):
        gone = asyncio.create_task(batcher.submit(TARGET, body("gone")))
        await asyncio.sleep(0)
        stays = asyncio.create_task(batcher.submit(TARGET, body("stays")))
        gone.cancel()
        assert vectors(await stays) == [[5]]
        assert [call["input"] for call in embedder.calls] == ["stays"]
        assert batcher.stats().waiting == 0


async def test_a_caller_who_leaves_during_the_call_takes_nobody_along():
    async with batching() as (batcher, embedder):
        embedder.open.clear()
        gone = asyncio.create_task(batcher.submit(TARGET, body("gone")))
        stays = asyncio.create_task(batcher.submit(TARGET, body("stays")))
        while not embedder.calls:
            await asyncio.sleep(0.001)
        gone.cancel()
        await asyncio.sleep(0)
        embedder.open.set()
        assert vectors(await stays) == [[5]]


async def test_a_call_that_nobody_waits_for_is_ended():
    async with batching() as (batcher, embedder):
        embedder.open.clear()
        gone = [asyncio.create_task(batcher.submit(TARGET, body(text))) for text in ("a", "b")]
        while not embedder.calls:
            await asyncio.sleep(0.001)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        while batcher._groups:
            await asyncio.sleep(0.001)
        assert batcher.stats().waiting == 0


async def test_closing_tells_those_who_wait():
    async with batching(wait_s=3600) as (batcher, embedder):
        embedder.open.clear()
        pending = asyncio.create_task(batcher.submit(TARGET, body("a")))
        called = asyncio.create_task(batcher.submit("embed-large", body(["a"] * 64)))
        while not embedder.calls:
            await asyncio.sleep(0.001)
        await batcher.close()
        for task in (pending, called):
            with pytest.raises(UpstreamError) as caught:
                await task
            assert caught.value.kind == "unavailable"


async def test_a_bug_in_the_call_leaves_nobody_waiting():
    async def call(_: str, __: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ZeroDivisionError

    batcher = MicroBatcher(call)
    with pytest.raises(ZeroDivisionError):
        await batcher.submit(TARGET, body("a"))


async def test_moderations_are_split_by_their_position():
    async def call(_: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"id": "modr-1", "results": [{"flagged": text == "evil"} for text in asked["input"]]}

    batcher = MicroBatcher(call, entries="results")
    answers = await asyncio.gather(*(batcher.submit(TARGET, {"input": text}) for text in ("good", "evil")))
    assert [answer["results"] for answer in answers] == [[{"flagged": False}], [{"flagged": True}]]


@pytest.mark.parametrize("given", [None, "", [], 3])
async def test_a_request_needs_an_input(given: Any):
    async with batching() as (batcher, _):
        with pytest.raises(InvalidInput, match="'input'"):
            await batcher.submit(TARGET, {"input": given})
        assert batcher.stats().waiting == 0


@pytest.mark.parametrize(
    "entries", [[], [{"index": 0}], [{"index": 0}, {"index": 0}], [{"index": 1}, {"index": 2}], None, ["a", "b"]]
)
def test_a_response_must_hold_one_entry_for_each_input(entries: Any):
    with pytest.raises(UpstreamError, match="entries for 2 inputs") as caught:
        split({"data": entries}, "data", [["a"], ["b"]])
    assert caught.value.kind == "garbage"


@given(st.integers(0, 10_000), st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=4), min_size=1, max_size=9))
def test_split_tokens_add_up_to_the_whole(tokens: int, requests: list[list[str]]):
    entries = [{"index": n} for n in range(sum(map(len, requests)))]
    parts = split({"data": entries, "usage": {"prompt_tokens": tokens, "cost": 0.5}}, "data", requests)
    assert sum(part["usage"]["prompt_tokens"] for part in parts) == tokens
    assert sum(part["usage"]["cost"] for part in parts) == pytest.approx(0.5)
    assert all(part["usage"]["prompt_tokens"] >= 0 for part in parts)


def test_tokens_are_split_by_length():
    usage = {"prompt_tokens": 10, "total_tokens": 10, "cached": True}
    one, two = split({"data": [{}, {}], "usage": usage}, "data", [["x" * 10], ["x" * 30]])
    assert one["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "cached": True}
    assert two["usage"]["prompt_tokens"] == 7


async def test_parameters_that_orjson_refuses_group_too():
    async def call(_: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"data": [{} for _ in asked["input"]]}

    batcher = MicroBatcher(call)
    await asyncio.gather(*(batcher.submit(TARGET, body(text, user="\ud800")) for text in "ab"))
    assert batcher.stats().calls == 1


async def test_the_http_client_of_upstreams_is_what_calls():
    async with TestServer(_embeddings_app(embedder := Embedder())) as server, Upstream() as upstream:
        embedder.open.set()
        endpoint = Endpoint("embed", str(server.make_url("/v1")), "m")
        batcher = MicroBatcher(upstream.embed)
        answers = await asyncio.gather(
            *(batcher.submit(endpoint, body(one)) for one in ("a", "bb", "bad")), return_exceptions=True
        )
        assert [vectors(answer) for answer in answers[:2] if isinstance(answer, dict)] == [[[1]], [[2]]]
        assert isinstance(answers[2], UpstreamError)
        assert answers[2].kind == "rejected"


def _embeddings_app(embedder: Embedder) -> web.Application:
    app = web.Application()
    app.router.add_post("/v1/embeddings", embedder.handle)
    return app

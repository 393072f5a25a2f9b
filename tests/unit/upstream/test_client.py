from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from modelyard.errors import UpstreamError
from modelyard.settings import Settings
from modelyard.types import Turn
from modelyard.upstream import Completion, Endpoint, Retries, Upstream
from tests.unit.upstream.openai_server import (
    DONE,
    OpenAIServer,
    answers,
    chunk,
    event,
    openai_server,
    refuses,
    says,
    streams,
    usage_chunk,
)

TURNS = (Turn("system", "Be brief."), Turn("user", "Hi"))
QUICK = Retries(wait_initial_s=0.0, wait_max_s=0.0, wait_jitter_s=0.0)


def endpoint(server: OpenAIServer, key: str | None = None) -> Endpoint:
    return Endpoint("gpt", server.base_url, "gpt-upstream", key)


async def collect(client: Upstream, target: Endpoint) -> list[str | Completion]:
    return [piece async for piece in client.stream(target, TURNS)]


async def test_complete_sends_the_conversation_and_reads_text_and_usage() -> None:
    async with openai_server(answers("Hello", finish_reason="length")) as server, Upstream() as client:
        assert await client.complete(endpoint(server), TURNS) == Completion("Hello", "length", 11, 7)
    assert server.bodies == [
        {
            "model": "gpt-upstream",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        }
    ]
    assert "Authorization" not in server.headers[0]


async def test_usage_that_is_not_reported_is_none() -> None:
    async with openai_server(answers("Hello", usage=None)) as server, Upstream() as client:
        assert await client.complete(endpoint(server), TURNS) == Completion("Hello", "stop")


async def test_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_KEY", "sk-secret\n")
    async with openai_server(answers("Hello")) as server, Upstream() as client:
        await client.complete(endpoint(server, "GPT_KEY"), TURNS)
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize(("key", "rule"), [("", "GPT_KEY is not set"), ("sk-ü", "printable ASCII in .* GPT_KEY")])
async def test_unusable_key_is_named_before_any_call(monkeypatch: pytest.MonkeyPatch, key: str, rule: str) -> None:
    monkeypatch.setenv("GPT_KEY", key)
    async with openai_server(answers("Hello")) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match=rule):
            await client.complete(endpoint(server, "GPT_KEY"), TURNS)
    assert server.bodies == []


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_passing_failures_are_tried_again(status: int) -> None:
    async with openai_server(refuses(status), answers("Hello")) as server, Upstream(retries=QUICK) as client:
        assert (await client.complete(endpoint(server), TURNS)).text == "Hello"
    assert len(server.bodies) == 2


async def test_broken_connection_is_tried_again() -> None:
    async with (
        openai_server(streams(b'{"choi', cut=True), answers("Hello")) as server,
        Upstream(retries=QUICK) as client,
    ):
        assert (await client.complete(endpoint(server), TURNS)).text == "Hello"


@pytest.mark.parametrize("status", [400, 401, 404, 302])
async def test_lasting_refusals_are_not_tried_again(status: int) -> None:
    async with openai_server(refuses(status, "the reason.")) as server, Upstream(retries=QUICK) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.complete(endpoint(server), TURNS)
    assert str(caught.value) == f"The model 'gpt' at 127.0.0.1 answered with status {status}: the reason."
    assert (caught.value.status, caught.value.retryable, len(server.bodies)) == (status, False, 1)


async def test_retries_end() -> None:
    async with openai_server(refuses(503)) as server, Upstream(retries=QUICK) as client:
        with pytest.raises(UpstreamError) as caught:
            await client.complete(endpoint(server), TURNS)
    assert (caught.value.status, caught.value.retryable, len(server.bodies)) == (503, True, 3)


async def test_retry_after_is_waited_for() -> None:
    async with (
        openai_server(refuses(429, Retry_After="1"), answers("Hello")) as server,
        Upstream(retries=QUICK) as client,
    ):
        started = asyncio.get_running_loop().time()
        await client.complete(endpoint(server), TURNS)
        assert asyncio.get_running_loop().time() - started >= 1.0


@pytest.mark.parametrize("after", ["3600", "Thu, 01 Jan 2099 00:00:00 GMT"])
async def test_retry_after_beyond_the_timeout_ends_at_once(after: str) -> None:
    async with openai_server(refuses(429, Retry_After=after)) as server, Upstream(retries=QUICK) as client:
        with pytest.raises(UpstreamError, match="status 429"):
            await client.complete(endpoint(server), TURNS)
    assert len(server.bodies) == 1


async def test_unreadable_retry_after_is_left_aside() -> None:
    behaviours = refuses(429, Retry_After="soon"), answers("Hello")
    async with openai_server(*behaviours) as server, Upstream(retries=QUICK) as client:
        assert (await client.complete(endpoint(server), TURNS)).text == "Hello"


async def test_timeout_is_the_settings_and_bounds_the_retries_too() -> None:
    never = asyncio.Event()

    async def hangs(_: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with openai_server(hangs) as server, Upstream.from_settings(Settings(upstream_timeout_s=0.05)) as client:
        with pytest.raises(UpstreamError, match=r"did not finish within 0\.05 s"):
            await client.complete(endpoint(server), TURNS)
        never.set()
    assert len(server.bodies) == 1


async def test_unreachable_endpoint_is_one_sentence(unused_tcp_port: int) -> None:
    target = Endpoint("gpt", f"http://user:secret@127.0.0.1:{unused_tcp_port}/v1", "m")
    async with Upstream(retries=QUICK) as client:
        with pytest.raises(UpstreamError, match=r"^The model 'gpt' at 127\.0\.0\.1 cannot be reached\.$") as caught:
            await client.complete(target, TURNS)
    assert caught.value.retryable


async def test_key_that_the_endpoint_repeats_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_KEY", "sk-secret")
    async with openai_server(refuses(401, "Incorrect key sk-secret")) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match=r"Incorrect key \*\*\*"):
            await client.complete(endpoint(server, "GPT_KEY"), TURNS)


async def test_page_of_a_proxy_is_not_passed_on() -> None:
    async with openai_server(says("<HTML><body>Bad gateway", status=400)) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match=r"answered with status 400\.$"):
            await client.complete(endpoint(server), TURNS)


@pytest.mark.parametrize(
    ("behaviour", "rule"),
    [
        (says("hello"), "not JSON"),
        (says("[]"), "not an object"),
        (says("{}"), "without text"),
        (answers(None), "without text"),
        (answers("  \n"), "without text"),
        (says('{"error": {"message": "overloaded"}}'), "reported an error: overloaded"),
        (says('{"error": "overloaded"}'), "reported an error: overloaded"),
        (says('{"choices": [null]}'), "without text"),
    ],
)
async def test_answer_that_is_none_is_an_error(behaviour, rule: str) -> None:
    async with openai_server(behaviour) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match=rule):
            await client.complete(endpoint(server), TURNS)


async def test_stream_yields_pieces_then_the_whole() -> None:
    behaviour = streams(chunk("Hel"), chunk("lo"), chunk(finish_reason="stop"), usage_chunk(11, 7), DONE)
    async with openai_server(behaviour) as server, Upstream() as client:
        assert await collect(client, endpoint(server)) == ["Hel", "lo", Completion("Hello", "stop", 11, 7)]
    assert server.bodies[0]["stream"] is True
    assert server.bodies[0]["stream_options"] == {"include_usage": True}


async def test_stream_is_read_whatever_the_borders() -> None:
    whole = b": ping\r\n\r\n" + (chunk("Zürich ") + chunk("☂", finish_reason="stop") + DONE).replace(b"\n", b"\r\n")
    behaviour = streams(*(whole[i : i + 1] for i in range(len(whole))))
    async with openai_server(behaviour) as server, Upstream() as client:
        assert (await collect(client, endpoint(server)))[-1] == Completion("Zürich ☂", "stop")


@pytest.mark.parametrize("end", [DONE, b"data: [DONE]", chunk(finish_reason="stop")])
async def test_stream_ends_with_either_mark(end: bytes) -> None:
    async with openai_server(streams(chunk("Hello"), end)) as server, Upstream() as client:
        assert (await collect(client, endpoint(server)))[-1] == Completion("Hello", "stop")


async def test_connection_that_breaks_after_the_finish_reason_costs_nothing() -> None:
    behaviour = streams(chunk("Hello"), chunk(finish_reason="stop"), cut=True)
    async with openai_server(behaviour) as server, Upstream() as client:
        assert (await collect(client, endpoint(server)))[-1] == Completion("Hello", "stop")


@pytest.mark.parametrize(
    ("behaviour", "rule"),
    [
        (streams(chunk("Hello")), "cut its stream before the end"),
        (streams(chunk("Hello"), b'data: {"choices": [{"del'), "cut its stream before the end"),
        (streams(chunk("Hello"), cut=True), "broke the connection"),
        (streams(chunk("Hello"), event({"error": {"message": "overloaded"}})), "reported an error: overloaded"),
        (streams(chunk("Hello"), b"data: {oops\n\n"), "not JSON"),
        (streams(chunk("Hello"), b"data: \xff\n\n"), "not UTF-8"),
    ],
)
async def test_stream_that_breaks_after_its_first_piece_is_an_error_and_not_tried_again(behaviour, rule: str) -> None:
    received = []
    async with openai_server(behaviour) as server, Upstream(retries=QUICK) as client:
        with pytest.raises(UpstreamError, match=rule):
            async for piece in client.stream(endpoint(server), TURNS):
                received.append(piece)
    assert received == ["Hello"]
    assert len(server.bodies) == 1


async def test_stream_without_text_is_an_error() -> None:
    async with openai_server(streams(chunk(finish_reason="stop"), DONE)) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match="without text"):
            await collect(client, endpoint(server))


async def test_line_without_end_does_not_fill_the_memory() -> None:
    behaviour = streams(b"data: ", *(b"x" * 65536 for _ in range(20)))
    async with openai_server(behaviour) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match="more than 1048576 bytes"):
            await collect(client, endpoint(server))


async def test_stream_is_tried_again_before_it_begins() -> None:
    behaviours = refuses(503), streams(chunk("Hello", finish_reason="stop"), DONE)
    async with openai_server(*behaviours) as server, Upstream(retries=QUICK) as client:
        assert (await collect(client, endpoint(server)))[0] == "Hello"


async def test_connections_are_pooled() -> None:
    async with openai_server(answers("Hello")) as server, Upstream() as client:
        for _ in range(3):
            await client.complete(endpoint(server), TURNS)
    assert len(server.connections) == 1


async def test_stream_that_the_reader_leaves_closes_its_connection() -> None:
    left = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(chunk("more"))
                await asyncio.sleep(0)
        finally:
            left.set()

    async with openai_server(endless) as server, Upstream() as client:
        pieces = client.stream(endpoint(server), TURNS)
        assert await anext(pieces) == "more"
        await pieces.aclose()
        await asyncio.wait_for(left.wait(), 10)


async def test_closed_client_opens_again() -> None:
    async with openai_server(answers("Hello")) as server, Upstream() as client:
        await client.complete(endpoint(server), TURNS)
        await client.close()
        assert (await client.complete(endpoint(server), TURNS)).text == "Hello"


def test_connections_close_with_their_loop() -> None:
    client = Upstream()

    async def ask() -> aiohttp.ClientSession:
        async with openai_server(answers("Hello")) as server:
            await client.complete(endpoint(server), TURNS)
            assert client._session is not None
            return client._session

    first, second = asyncio.run(ask()), asyncio.run(ask())
    assert first is not second
    assert first.closed
    assert second.closed

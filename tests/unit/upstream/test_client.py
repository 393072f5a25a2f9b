from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from modelyard.errors import FaultKind, InvalidInput, UpstreamError
from modelyard.settings import Settings
from modelyard.types import Delta
from modelyard.upstream import Completion, Endpoint, Timeouts, Upstream
from tests.unit.upstream.openai_server import (
    DONE,
    OpenAIServer,
    answers,
    chunk,
    event,
    hangs,
    openai_server,
    refuses,
    says,
    streams,
    usage_chunk,
)

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5}
CALL = {"type": "function", "id": "call-1", "function": {"name": "look", "arguments": '{"a": 1}'}}
TIMES = Timeouts(connect_s=5.0, first_token_s=5.0, between_s=5.0, total_s=5.0, stream_s=5.0)


def endpoint(server: OpenAIServer, key: str | None = None) -> Endpoint:
    return Endpoint("gpt", server.base_url, "gpt-upstream", key)


async def collect(client: Upstream, target: Endpoint) -> list[Delta | Completion]:
    return [piece async for piece in client.stream(target, BODY)]


async def test_complete_sends_the_body_and_reads_text_and_usage() -> None:
    async with openai_server(answers("Hello", finish_reason="length")) as server, Upstream() as client:
        assert await client.complete(endpoint(server), BODY) == Completion("Hello", "length", 11, 7)
    assert server.bodies == [{**BODY, "model": "gpt-upstream"}]
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, (None, None, 0)),
        ({"prompt_tokens": -1, "completion_tokens": 2}, (None, None, 0)),
        ({"prompt_tokens": 10**12, "completion_tokens": 2}, (None, None, 0)),
        ({"prompt_tokens": "9", "completion_tokens": True}, (None, None, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}, (9, 2, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 40}}, (9, 2, 9)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 3}, (9, 2, 3)),
        ([], (None, None, 0)),
    ],
)
async def test_usage_is_read_where_it_makes_sense(usage: object, counts: tuple[int | None, int | None, int]) -> None:
    body = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": usage}
    async with openai_server(says(json.dumps(body))) as server, Upstream() as client:
        found = await client.complete(endpoint(server), BODY)
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == counts


@pytest.mark.parametrize(
    ("message", "reason", "text", "fields"),
    [
        ({"content": None, "tool_calls": [CALL]}, "tool_calls", "", {"tool_calls": [CALL]}),
        ({"content": None, "refusal": "I will not."}, "stop", "", {"refusal": "I will not."}),
        ({"content": "Yes", "refusal": None, "annotations": []}, "stop", "Yes", {}),
        ({"content": "", "reasoning_content": "hm"}, "length", "", {"reasoning_content": "hm"}),
        ({"content": [{"type": "text", "text": "Yes"}, {"type": "x"}]}, "stop", "Yes", {}),
    ],
)
async def test_answers_may_be_more_than_text(message: Any, reason: str, text: str, fields: Any) -> None:
    body = {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": reason}]}
    async with openai_server(says(json.dumps(body))) as server, Upstream() as client:
        found = await client.complete(endpoint(server), BODY)
    assert (found.text, found.finish_reason, found.fields) == (text, reason, fields)


async def test_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_KEY", "sk-secret\n")
    async with openai_server(answers("Hello")) as server, Upstream() as client:
        await client.complete(endpoint(server, "GPT_KEY"), BODY)
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize(("key", "rule"), [("", "GPT_KEY is not set"), ("sk-ü", "printable ASCII in .* GPT_KEY")])
async def test_unusable_key_is_named_before_any_call(monkeypatch: pytest.MonkeyPatch, key: str, rule: str) -> None:
    monkeypatch.setenv("GPT_KEY", key)
    async with openai_server(answers("Hello")) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match=rule) as caught:
            await client.complete(endpoint(server, "GPT_KEY"), BODY)
    assert (server.bodies, caught.value.kind) == ([], "auth")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, "rejected", False),
        (401, "auth", False),
        (404, "not_found", False),
        (302, "not_found", False),
        (429, "rate_limit", True),
        (500, "server", True),
        (503, "server", True),
        (408, "timeout", True),
    ],
)
async def test_refusals_are_typed_and_made_once(streaming: bool, status: int, kind: FaultKind, retryable: bool) -> None:
    async with openai_server(refuses(status, "the reason.")) as server, Upstream() as client:
        with pytest.raises(UpstreamError) as caught:
            _ = await (collect(client, endpoint(server)) if streaming else client.complete(endpoint(server), BODY))
    assert str(caught.value) == f"The model 'gpt' at 127.0.0.1 answered with status {status}."
    assert caught.value.in_full == f"The model 'gpt' at 127.0.0.1 answered with status {status}: the reason."
    assert (caught.value.status, caught.value.kind, caught.value.retryable) == (status, kind, retryable)
    assert len(server.bodies) == 1


async def test_retry_after_is_passed_on() -> None:
    async with openai_server(refuses(503, Retry_After="7")) as server, Upstream() as client:
        with pytest.raises(UpstreamError) as caught:
            await client.complete(endpoint(server), BODY)
    assert (caught.value.kind, caught.value.retry_after_s) == ("rate_limit", 7.0)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ('{"error": "no such thing"}', ": no such thing"),
        ('{"detail": "no such thing"}', ": no such thing"),
        ('{"object": "error", "message": "no such thing", "code": 40303}', ": no such thing"),
        ('{"detail": [{"loc": []}]}', ""),
        ("no such thing", ": no such thing"),
        ("[1]", ""),
        ("<HTML><body>Bad gateway", ""),
    ],
)
async def test_words_of_an_error_are_found_where_servers_put_them(body: str, detail: str) -> None:
    async with openai_server(says(body, status=400)) as server, Upstream() as client:
        with pytest.raises(UpstreamError) as caught:
            await client.complete(endpoint(server), BODY)
    assert str(caught.value) == "The model 'gpt' at 127.0.0.1 answered with status 400."
    assert caught.value.in_full == f"The model 'gpt' at 127.0.0.1 answered with status 400{detail}."


async def test_key_that_the_endpoint_repeats_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_KEY", "sk-secret")
    behaviours = refuses(401, "Incorrect key sk-secret"), says('{"error": {"message": "Incorrect key sk-secret"}}')
    async with openai_server(*behaviours) as server, Upstream() as client:
        for _ in range(2):
            with pytest.raises(UpstreamError) as caught:
                await client.complete(endpoint(server, "GPT_KEY"), BODY)
            assert caught.value.said == "Incorrect key ***"
            assert "Incorrect" not in str(caught.value)


@pytest.mark.parametrize("streaming", [False, True])
async def test_timeout_is_the_settings(streaming: bool) -> None:
    async with openai_server(hangs()) as server, Upstream.from_settings(Settings(upstream_timeout_s=0.05)) as client:
        with pytest.raises(UpstreamError, match=r"did not finish within 0\.05 s") as caught:
            _ = await (collect(client, endpoint(server)) if streaming else client.complete(endpoint(server), BODY))
    assert (caught.value.kind, caught.value.retryable) == ("timeout", True)


async def test_endpoint_may_have_a_timeout_of_its_own_and_a_call_a_narrower_one() -> None:
    async with openai_server(hangs()) as server, Upstream() as client:
        slow = Endpoint("gpt", server.base_url, "m", timeout_s=0.04)
        with pytest.raises(UpstreamError, match=r"within 0\.04 s"):
            await client.complete(slow, BODY)
        with pytest.raises(UpstreamError, match=r"within 0\.03 s"):
            await client.complete(slow, BODY, within_s=0.03)


async def test_body_that_comes_too_slowly_is_a_timeout() -> None:
    async with openai_server(hangs(b'{"choi')) as server, Upstream(0.05) as client:
        with pytest.raises(UpstreamError, match=r"within 0\.05 s"):
            await client.complete(endpoint(server), BODY)


async def test_broken_connection_is_a_cut() -> None:
    async with openai_server(streams(b'{"choi', cut=True)) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match="broke the connection") as caught:
            await client.complete(endpoint(server), BODY)
    assert (caught.value.kind, caught.value.retryable) == ("cut", True)


async def test_unreachable_endpoint_is_one_sentence(unused_tcp_port: int) -> None:
    target = Endpoint("gpt", f"http://user:secret@127.0.0.1:{unused_tcp_port}/v1", "m")
    async with Upstream() as client:
        with pytest.raises(UpstreamError, match=r"^The model 'gpt' at 127\.0\.0\.1 cannot be reached\.$") as caught:
            await client.complete(target, BODY)
    assert (caught.value.kind, caught.value.retryable) == ("connect", True)


@pytest.mark.parametrize("base_url", ["http://[::1/v1", "ftp://x/v1", "http://", "nothing", "http://a b/v1"])
async def test_address_that_is_none_is_one_sentence(base_url: str) -> None:
    async with Upstream(2.0) as client:
        with pytest.raises(UpstreamError, match=r"^The model 'gpt' at "):
            await client.complete(Endpoint("gpt", base_url, "m"), BODY)


@pytest.mark.parametrize(
    ("behaviour", "rule", "kind"),
    [
        (says("hello"), "not JSON", "garbage"),
        (says(""), "not JSON", "garbage"),
        (says("[]"), "not an object", "garbage"),
        (says("{}"), "without text", "garbage"),
        (answers(None), "without text", "garbage"),
        (answers("  \n"), "without text", "garbage"),
        (answers("", finish_reason="content_filter"), "withheld its answer", "content_policy"),
        (answers("Hel", finish_reason="error"), "broke its answer off", "cut"),
        (says('{"error": {"message": "overloaded"}}'), "reported an error", "server"),
        (says('{"error": "overloaded"}'), "reported an error", "server"),
        (says('{"choices": [null]}'), "without text", "garbage"),
        (says('{"choices": [{"message": {"content": 7}}]}'), "not text", "garbage"),
        (says("nope", headers={"Content-Encoding": "gzip"}), "cannot be decompressed", "garbage"),
        (says("{}", headers={"X-Long": "x" * 20_000}), "not HTTP", "garbage"),
    ],
)
async def test_answer_that_is_none_is_an_error(behaviour: Any, rule: str, kind: FaultKind) -> None:
    async with openai_server(behaviour) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match=rule) as caught:
            await client.complete(endpoint(server), BODY)
    assert caught.value.kind == kind


async def test_compressed_body_is_read_and_one_that_swells_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.upstream.transport.LONGEST_ANSWER", 1 << 20)

    def packed(body: bytes) -> Any:
        async def behaviour(_: web.Request) -> web.StreamResponse:
            return web.Response(body=gzip.compress(body), headers={"Content-Encoding": "gzip"})

        return behaviour

    whole = b'{"choices": [{"message": {"content": "Hello"}}]}'
    async with openai_server(packed(whole), packed(b" " * (20 << 20))) as server, Upstream() as client:
        assert (await client.complete(endpoint(server), BODY)).text == "Hello"
        with pytest.raises(UpstreamError, match="more than"):
            await client.complete(endpoint(server), BODY)


@pytest.mark.parametrize("value", ["\ud800", 10**30])
async def test_what_the_fast_encoder_refuses_is_passed_on_all_the_same(value: object) -> None:
    async with openai_server(answers("Hello")) as server, Upstream() as client:
        assert (await client.complete(endpoint(server), {**BODY, "seed": value})).text == "Hello"


async def test_what_no_encoder_takes_is_invalid_input() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    async with Upstream() as client:
        with pytest.raises(InvalidInput, match="cannot be passed on"):
            await client.complete(Endpoint("gpt", "http://127.0.0.1:1", "m"), {"tools": deep})


async def test_stream_yields_pieces_then_the_whole() -> None:
    behaviour = streams(
        chunk("", role="assistant"), chunk("Hel"), chunk("lo"), chunk(finish_reason="stop"), usage_chunk(11, 7), DONE
    )
    async with openai_server(behaviour) as server, Upstream() as client:
        assert await collect(client, endpoint(server)) == [
            Delta("Hel"),
            Delta("lo"),
            Completion("Hello", "stop", 11, 7),
        ]
    assert server.bodies[0]["stream"] is True
    assert server.bodies[0]["stream_options"] == {"include_usage": True}


async def test_streamed_tool_calls_are_passed_on_and_put_together() -> None:
    pieces = [
        [{"index": 0, "id": "call-1", "type": "function", "function": {"name": "look", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"a"'}}],
        [{"index": 1, "id": "call-2", "type": "function", "function": {"name": "see", "arguments": "{}"}}],
        [{"index": 0, "function": {"arguments": ": 1}"}}],
    ]
    behaviour = streams(*(chunk(tool_calls=piece) for piece in pieces), chunk(finish_reason="tool_calls"), DONE)
    async with openai_server(behaviour) as server, Upstream() as client:
        *deltas, whole = await collect(client, endpoint(server))
    assert deltas == [Delta("", {"tool_calls": piece}) for piece in pieces]
    assert isinstance(whole, Completion)
    other = {"type": "function", "id": "call-2", "function": {"name": "see", "arguments": "{}"}}
    assert (whole.text, whole.finish_reason, whole.fields) == ("", "tool_calls", {"tool_calls": [CALL, other]})


async def test_streamed_refusal_and_thoughts_are_put_together() -> None:
    pieces = chunk(reasoning="h"), chunk(reasoning="m"), chunk(refusal="No"), chunk(refusal=".")
    behaviour = streams(*pieces, chunk(finish_reason="stop"), DONE)
    async with openai_server(behaviour) as server, Upstream() as client:
        whole = (await collect(client, endpoint(server)))[-1]
    assert whole == Completion("", "stop", fields={"reasoning": "hm", "refusal": "No."})


async def test_white_space_waits_for_what_follows() -> None:
    end = chunk(finish_reason="stop") + DONE
    behaviours = streams(chunk("\n"), chunk(" "), chunk("Hi"), end), streams(chunk("\n"), chunk(" "), end)
    async with openai_server(*behaviours) as server, Upstream() as client:
        assert await collect(client, endpoint(server)) == [Delta("\n Hi"), Completion("\n Hi", "stop")]
        with pytest.raises(UpstreamError, match="without text"):
            await anext(client.stream(endpoint(server), BODY))


async def test_stream_is_read_whatever_the_borders() -> None:
    whole = b": ping\r\n\r\n" + (chunk("Zürich ") + chunk("☂", finish_reason="stop") + DONE).replace(b"\n", b"\r\n")
    behaviour = streams(*(whole[i : i + 1] for i in range(len(whole))))
    async with openai_server(behaviour) as server, Upstream() as client:
        assert (await collect(client, endpoint(server)))[-1] == Completion("Zürich ☂", "stop")


@pytest.mark.parametrize("end", [DONE, b"data: [DONE]", b""])
async def test_stream_ends_with_its_finish_reason_whatever_follows(end: bytes) -> None:
    behaviour = streams(chunk("Hello"), chunk(finish_reason="stop"), end)
    async with openai_server(behaviour) as server, Upstream() as client:
        assert (await collect(client, endpoint(server)))[-1] == Completion("Hello", "stop")


async def test_connection_that_breaks_after_the_finish_reason_costs_nothing() -> None:
    behaviour = streams(chunk("Hello"), chunk(finish_reason="stop"), cut=True)
    async with openai_server(behaviour) as server, Upstream() as client:
        assert (await collect(client, endpoint(server)))[-1] == Completion("Hello", "stop")


async def test_stream_that_does_not_close_after_its_finish_reason_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modelyard.upstream.client.FAREWELL_S", 0.05)
    async with openai_server(hangs(chunk("Hello", finish_reason="stop"))) as server, Upstream() as client:
        assert (await collect(client, endpoint(server)))[-1] == Completion("Hello", "stop")


@pytest.mark.parametrize(
    ("behaviour", "rule", "kind"),
    [
        (streams(chunk("Hello")), "cut its stream before the end", "cut"),
        (streams(chunk("Hello"), b'data: {"choices": [{"del'), "cut its stream before the end", "cut"),
        (streams(chunk("Hello"), DONE), "without a finish reason", "cut"),
        (streams(chunk("Hello"), cut=True), "broke the connection", "cut"),
        (streams(chunk("Hello"), chunk(finish_reason="error")), "broke its answer off", "cut"),
        (
            streams(chunk("Hello"), event({"error": {"message": "overloaded"}})),
            "reported an error",
            "server",
        ),
        (streams(chunk("Hello"), b"data: {oops\n\n"), "not JSON", "garbage"),
        (streams(chunk("Hello"), b"data: \xff\n\n"), "not JSON", "garbage"),
        (streams(chunk("Hello"), b"dat: {}\n\n", DONE), "no server-sent event", "garbage"),
        (streams(chunk("Hello"), event({"object": "?"}), DONE), "no chunk", "garbage"),
        (streams(chunk("Hello"), event({"choices": "?"}), DONE), "no chunk", "garbage"),
        (streams(chunk("Hello"), event({"choices": [{"delta": "?"}]}), DONE), "no chunk", "garbage"),
        (streams(chunk("Hello"), event({"choices": [{"delta": {"content": 1}}]}), DONE), "not text", "garbage"),
    ],
)
async def test_stream_that_breaks_after_its_first_piece_is_an_error(behaviour: Any, rule: str, kind: str) -> None:
    received = []
    async with openai_server(behaviour) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match=rule) as caught:
            async for piece in client.stream(endpoint(server), BODY):
                received.append(piece)
    assert (received, caught.value.kind) == ([Delta("Hello")], kind)


async def test_stream_without_text_is_an_error() -> None:
    async with openai_server(streams(chunk(finish_reason="stop"), DONE)) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match="without text"):
            await collect(client, endpoint(server))


async def test_endpoint_that_answers_whole_where_it_should_stream_is_understood() -> None:
    async with openai_server(answers("Hello")) as server, Upstream() as client:
        assert await collect(client, endpoint(server)) == [Delta("Hello"), Completion("Hello", "stop", 11, 7)]


async def test_line_without_end_does_not_fill_the_memory() -> None:
    behaviour = streams(b"data: ", *(b"x" * 65536 for _ in range(20)))
    async with openai_server(behaviour) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match="more than 1048576 bytes"):
            await collect(client, endpoint(server))


@pytest.mark.parametrize(
    ("times", "pieces", "rule"),
    [
        ({"between_s": 0.05}, [chunk("Hello")], r"sent nothing for 0\.05 s"),
        ({"first_token_s": 0.05}, [b": ping\n\n"], "did not begin its answer in time"),
        ({"stream_s": 0.05}, [chunk("Hello")], "did not finish its stream in time"),
    ],
)
async def test_streams_that_stall_are_timeouts(times: dict[str, float], pieces: list[bytes], rule: str) -> None:
    limits = {name: getattr(TIMES, name) for name in TIMES.__slots__} | times
    async with openai_server(hangs(*pieces)) as server, Upstream(timeouts=Timeouts(**limits)) as client:
        with pytest.raises(UpstreamError, match=rule) as caught:
            await collect(client, endpoint(server))
    assert (caught.value.kind, caught.value.retryable) == ("timeout", True)


async def test_reader_who_takes_time_is_not_the_streams_fault() -> None:
    read = asyncio.Event()

    async def behaviour(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(chunk("Hel"))
        await read.wait()
        await response.write(chunk("lo", finish_reason="stop") + DONE)
        return response

    times = Timeouts(5.0, 5.0, 0.1, 5.0, 5.0)
    async with openai_server(behaviour) as server, Upstream(timeouts=times) as client:
        found = []
        async for piece in client.stream(endpoint(server), BODY):
            found.append(piece)
            if not read.is_set():
                await asyncio.sleep(0.3)
                read.set()
    assert found[-1] == Completion("Hello", "stop")


@pytest.mark.parametrize("streaming", [False, True])
async def test_connections_are_pooled(streaming: bool) -> None:
    behaviour = streams(chunk("Hello", finish_reason="stop"), DONE) if streaming else answers("Hello")
    async with openai_server(behaviour) as server, Upstream() as client:
        for _ in range(3):
            _ = await (collect(client, endpoint(server)) if streaming else client.complete(endpoint(server), BODY))
            await asyncio.sleep(0.02)  # a stream's connection is free once its body has ended
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
        pieces = client.stream(endpoint(server), BODY)
        assert await anext(pieces) == Delta("more")
        await pieces.aclose()
        await asyncio.wait_for(left.wait(), 10)


@pytest.mark.parametrize("pieces", [(), (b'{"choi',)])
async def test_call_that_is_given_up_closes_its_connection(pieces: tuple[bytes, ...]) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            return await hangs(*pieces)(request)
        finally:
            left.set()

    async with openai_server(slow) as server, Upstream() as client:
        call = asyncio.create_task(client.complete(endpoint(server), BODY))
        await begun.wait()
        await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(left.wait(), 10)


async def test_embeddings_and_moderations_are_passed_through() -> None:
    rows = {"data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    behaviours = says(json.dumps(rows)), says('{"results": []}'), says("{}"), refuses(400)
    async with openai_server(*behaviours) as server, Upstream() as client:
        assert await client.embed(endpoint(server), {"input": ["a"]}) == rows
        assert await client.moderate(endpoint(server), {"input": ["a"]}) == {"results": []}
        with pytest.raises(UpstreamError, match="without data"):
            await client.embed(endpoint(server), {"input": ["a"]})
        with pytest.raises(UpstreamError, match="status 400"):
            await client.embed(endpoint(server), {"input": ["a"]})
    assert server.bodies[0] == {"input": ["a"], "model": "gpt-upstream"}


async def test_probe_takes_a_list_of_models_or_the_want_of_one_for_a_sign_of_life() -> None:
    async with openai_server(says('{"data": []}'), refuses(404), refuses(401)) as server, Upstream() as client:
        assert await client.probe(endpoint(server)) > 0.0
        assert await client.probe(endpoint(server)) > 0.0
        with pytest.raises(UpstreamError, match="status 401"):
            await client.probe(endpoint(server))


async def test_probe_that_hangs_is_a_timeout() -> None:
    async with openai_server(hangs()) as server, Upstream() as client:
        with pytest.raises(UpstreamError, match=r"within 0\.05 s"):
            await client.probe(endpoint(server), 0.05)


async def test_closed_client_opens_again() -> None:
    async with openai_server(answers("Hello")) as server, Upstream() as client:
        await client.complete(endpoint(server), BODY)
        await client.close()
        assert (await client.complete(endpoint(server), BODY)).text == "Hello"


def test_connections_close_with_their_loop() -> None:
    client = Upstream()

    async def ask() -> aiohttp.ClientSession:
        async with openai_server(answers("Hello")) as server:
            await client.complete(endpoint(server), BODY)
            assert client._transport._session is not None
            return client._transport._session

    first, second = asyncio.run(ask()), asyncio.run(ask())
    assert first is not second
    assert first.closed
    assert second.closed

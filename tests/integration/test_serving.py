"""The whole way over TCP: the openai client, uvicorn with uvloop, the app, and an upstream that does as it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from modelyard.settings import Settings
from modelyard.storage import ModelUsage
from tests.integration.running import ASK, EXPLAIN, Running, running
from tests.unit.serving.yard import TEXT, Script, StubUpstream, furnish, stub_upstream


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def server(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Iterator[Running]:
    with running(furnish(settings, upstream, tmp_path)) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with server.openai() as client:
        yield client


def test_openai_client_gets_an_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="team", messages=ASK, extra_body=EXPLAIN)
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    assert answer.usage.total_tokens == 14
    assert answer.model_extra is not None
    assert answer.model_extra["modelyard"]["model_metadata"]["route"]["model"] == "far"


def test_openai_client_reads_the_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="team", messages=ASK)
    assert raw.headers["x-modelyard-model"] == "far"
    assert raw.parse().choices[0].finish_reason == "stop"


def test_openai_client_reads_a_stream_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="team", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.total_tokens == 14


def test_unknown_model_raises_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=ASK)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_bad_request_raises(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="n must be 1"):
        client.chat.completions.create(model="team", messages=ASK, n=2)


def test_upstream_failure_raises(client: openai.OpenAI, upstream: StubUpstream) -> None:
    upstream.scripts["far"] = Script(status=404)
    with pytest.raises(openai.InternalServerError, match="far") as caught:
        client.chat.completions.create(model="team", messages=ASK)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_not_found")


def test_stream_that_breaks_off_raises_after_its_pieces(client: openai.OpenAI, upstream: StubUpstream) -> None:
    upstream.scripts["far"] = Script(cut=True)
    received = list[str]()
    with pytest.raises(openai.APIError, match="broke the connection"):
        for chunk in client.chat.completions.create(model="team", messages=ASK, stream=True):
            received.append(chunk.choices[0].delta.content or "")
    assert "".join(received) == TEXT


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert {"auto", "team", "far"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("team").id == "team"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_caller_who_leaves_stops_the_generation(server: Running, client: openai.OpenAI, upstream: StubUpstream) -> None:
    upstream.scripts["far"] = Script(endless=True)
    stream = client.chat.completions.create(model="team", messages=ASK, stream=True)
    received = [next(stream).choices[0].delta.content for _ in range(5)]
    stream.close()
    assert received[:3] == ["", "Use ", "flexbox "]
    assert upstream.left.wait(10)
    [usage] = settled(server)
    assert (usage.status, usage.error_kind, usage.deployment) == ("cancelled", "CancelledError", "far")
    assert usage.cost_usd > 0
    assert usage.completion_tokens > 0
    assert server.parts.served.states.snapshot()["far"]["in_flight"] == 0


def test_caller_who_leaves_before_the_answer_stops_the_call(
    server: Running, client: openai.OpenAI, upstream: StubUpstream
) -> None:
    upstream.scripts["far"] = Script(pause_s=30)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(model="team", messages=ASK)
    [usage] = settled(server)
    assert usage.status == "cancelled"
    assert upstream.open == 0


@pytest.mark.parametrize(("path", "model"), [("embeddings", "vectors"), ("moderations", "judge")])
def test_caller_who_leaves_before_the_inputs_are_answered_stops_the_call_and_pays_for_it(
    server: Running, upstream: StubUpstream, path: str, model: str
) -> None:
    upstream.scripts[model] = Script(pause_s=30)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/{path}", json={"model": model, "input": "x" * 40}, timeout=0.5)
    [usage] = settled(server)
    assert (usage.status, usage.error_kind, usage.prompt_tokens, usage.estimated) == (
        "cancelled", "CancelledError", 10, True,
    )  # fmt: skip
    assert usage.cost_usd > 0
    assert server.parts.served.states.snapshot()[model]["in_flight"] == 0
    page = httpx.get(f"{server.url}/metrics").text
    assert f'modelyard_requests_total{{composite="{model}",status="cancelled"}} 1.0' in page


def test_stream_keeps_its_place_until_it_ends(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> None:
    upstream.scripts["far"] = Script(endless=True)
    with running(furnish(settings, upstream, tmp_path, max_in_flight=1)) as server, server.openai() as client:
        stream = client.chat.completions.create(model="team", messages=ASK, stream=True)
        next(stream)
        refused = server.chat(model="near")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["code"] == "overloaded"
        stream.close()
        assert settled(server)
        assert server.chat(model="near").status_code == 200


def settled(server: Running) -> list[ModelUsage]:
    """Wait for the usage row that a caller's leaving makes."""
    deadline = time.monotonic() + 10
    while not (found := list(server.rows(ModelUsage))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found

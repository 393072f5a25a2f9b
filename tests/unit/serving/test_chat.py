"""What a chat request leaves behind, and what goes with its answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from modelyard.control.limits import LocalLimits, Permit
from modelyard.control.quotas import Quota
from modelyard.serving.app import create_app
from modelyard.serving.parts import ServerParts, open_parts
from modelyard.settings import Settings
from modelyard.storage import ModelUsage
from tests.integration.live_server import live_server
from tests.unit.serving.yard import HERE, TEXT, WORDS, Script, StubUpstream, furnish, logprobs, stub_upstream

CHAT = "/v1/chat/completions"
ASK: list[Any] = [{"role": "user", "content": "How do I centre a div?"}]
THOUGHTS = {"reasoning_tokens": 3, "audio_tokens": 0, "accepted_prediction_tokens": 1}


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def furnished(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Settings:
    return furnish(settings, upstream, tmp_path)


@pytest.fixture
def parts(furnished: Settings) -> ServerParts:
    return open_parts(furnished)


@pytest.fixture
def client(parts: ServerParts) -> Iterator[TestClient]:
    with TestClient(create_app(parts), base_url=HERE, raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, key: str | None = None, **body: Any) -> Any:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return client.post(CHAT, json={"model": "team", "messages": ASK, **body}, headers=headers)


def chunks_of(body: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


class Slow(LocalLimits):
    """Limits that count at once, and take their time to say so, as a Redis far away does."""

    async def settle(self, permit: Permit, tokens: float, cost_usd: float) -> None:
        await super().settle(permit, tokens, cost_usd)
        await asyncio.sleep(60)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [None, 404])
def test_caller_who_leaves_while_the_limits_are_told_is_in_the_books(
    parts: ServerParts, upstream: StubUpstream, stream: bool, status: int | None
) -> None:
    upstream.scripts["far"] = Script(status=status)
    slow = replace(parts, limits=Slow(parts.quotas, parts.database))
    with live_server(create_app(slow)) as url:
        with pytest.raises(httpx.TimeoutException):
            httpx.post(url + CHAT, json={"model": "team", "messages": ASK, "stream": stream}, timeout=1.0)
        assert parts.writer.flush(10)
        with parts.database.read() as session:
            [row] = session.scalars(select(ModelUsage)).all()
            assert (row.kind, row.status, row.completion_tokens) == (
                ("chat", "complete", 4) if status is None else ("chat", "failed", 0)
            )


def counted(client: TestClient, key: str | None = None) -> set[str]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    lines = client.get("/metrics", headers=headers).text.splitlines()
    return {
        line.removeprefix("modelyard_")
        for line in lines
        if line.startswith(("modelyard_refused_total", "modelyard_req"))
    }


def test_metrics_count_who_was_turned_away_and_why(furnished: Settings) -> None:
    parts = open_parts(furnished.model_copy(update={"auth": "keys"}))
    key, rated, poor, other = (
        parts.keyring.create("shop", name, scopes)[1]
        for name, scopes in (("a", ["admin"]), ("b", ["chat"]), ("c", ["chat"]), ("d", ["feedback"]))
    )
    ids = {facts.name: facts.id for facts in parts.keyring.list()}
    parts.quotas.put(Quota("key", ids["b"], requests_per_minute=0))
    parts.quotas.put(Quota("key", ids["c"], usd_per_day=1e-9))
    with TestClient(create_app(parts), base_url=HERE, raise_server_exceptions=False) as client:
        assert [post(client, one).status_code for one in (rated, poor, other, "none")] == [429, 429, 403, 401]
        assert counted(client, key) >= {
            'refused_total{reason="rate",status="429"} 1.0',
            'refused_total{reason="budget",status="429"} 1.0',
            'refused_total{reason="forbidden",status="403"} 1.0',
            'refused_total{reason="unauthenticated",status="401"} 1.0',
            'requests_total{composite="team",status="limit_rate"} 1.0',
            'requests_total{composite="team",status="limit_budget"} 1.0',
        }


def test_metrics_count_who_found_no_place(furnished: Settings) -> None:
    with TestClient(create_app(open_parts(furnished.model_copy(update={"max_in_flight": 0}))), base_url=HERE) as client:
        assert post(client).status_code == 503
        assert 'refused_total{reason="capacity",status="503"} 1.0' in counted(client)


def test_names_that_callers_made_up_are_no_labels(client: TestClient) -> None:
    assert post(client, model="made-up").status_code == 404
    assert "made-up" not in client.get("/metrics").text


def test_whole_answer_carries_what_the_endpoint_said(client: TestClient, upstream: StubUpstream) -> None:
    details = {
        "completion_tokens_details": THOUGHTS,
        "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
    }
    upstream.scripts["far"] = Script(logprobs=True, extras={"system_fingerprint": "fp-1"}, details=details)
    body = post(client, logprobs=True).json()
    assert body["system_fingerprint"] == "fp-1"
    assert body["choices"][0]["logprobs"] == logprobs(*WORDS)
    assert body["usage"]["completion_tokens_details"] == THOUGHTS
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 2, "audio_tokens": 0}


def test_stream_carries_what_the_endpoint_said(client: TestClient, upstream: StubUpstream) -> None:
    extras = {"system_fingerprint": "fp-1"}
    upstream.scripts["far"] = Script(logprobs=True, extras=extras, details={"completion_tokens_details": THOUGHTS})
    found = chunks_of(post(client, logprobs=True, stream=True, stream_options={"include_usage": True}).text)
    assert {chunk["system_fingerprint"] for chunk in found} == {"fp-1"}
    *_, last = found
    assert last["usage"]["completion_tokens_details"] == THOUGHTS
    said = [chunk["choices"][0] for chunk in found if chunk["choices"]]
    tokens = [one["token"] for choice in said if choice["logprobs"] for one in choice["logprobs"]["content"]]
    assert tokens == list(WORDS)
    assert "".join(choice["delta"].get("content", "") for choice in said) == TEXT


def test_answers_without_extras_say_nothing_of_them(client: TestClient) -> None:
    body = post(client).json()
    assert "system_fingerprint" not in body
    assert body["choices"][0]["logprobs"] is None
    assert "completion_tokens_details" not in body["usage"]


def test_nothing_on_the_way_may_hold_a_stream_back(client: TestClient) -> None:
    headers = post(client, stream=True).headers
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    assert headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("stream", [False, True])
def test_failure_says_how_far_the_request_came(client: TestClient, upstream: StubUpstream, stream: bool) -> None:
    upstream.scripts |= {"far": Script(status=401), "near": Script(status=404)}
    response = post(client, model="pair", stream=stream)
    assert response.status_code == 502
    assert response.headers["x-modelyard-attempts"] == "2"
    assert response.headers["x-modelyard-task"] == "css/simple"
    assert response.headers["x-modelyard-model"] == "near"
    assert response.headers["x-modelyard-id"].startswith("msg-")
    assert response.headers["x-request-id"]
    assert "x-modelyard-cost-usd" not in response.headers


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"max_tokens": -3}, "max_tokens: Input should be greater than or equal to 1, but got -3."),
        ({"temperature": "hot"}, "but got 'hot'."),
        ({"stream": 3.5}, "but got 3.5."),
        ({"n": 2}, "n: n must be 1: one answer a request is given, but got 2."),
        ({"tools": {"type": "function"}}, "but got an object."),
        ({"stop": [["secret"]]}, "but got a list of 1."),
        ({"messages": "secret " * 100}, f"but got '{'secret ' * 7}s…'."),
        ({"messages": [{"role": "robot", "content": "secret"}]}, "but got 'robot'."),
        ({"messages": [{"content": "secret"}]}, "messages.0.role: Field required."),
    ],
)
def test_bad_request_names_the_value(client: TestClient, body: dict[str, Any], said: str) -> None:
    response = post(client, **body)
    assert response.status_code == 400
    message = response.json()["error"]["message"]
    assert message.endswith(said)
    assert message.count("secret") <= 8


@pytest.mark.parametrize("model", ["team", "auto", "local-sm"])
@pytest.mark.parametrize("role", ["system", "developer", "assistant"])
@pytest.mark.parametrize("stream", [False, True])
def test_conversation_without_a_user_is_answered(
    client: TestClient, upstream: StubUpstream, model: str, role: str, stream: bool
) -> None:
    messages = [{"role": role, "content": "Say hello."}]
    response = post(client, model=model, messages=messages, stream=stream)
    assert response.status_code == 200, response.text
    if model == "team":
        assert [body["messages"] for body in upstream.bodies] == [messages]

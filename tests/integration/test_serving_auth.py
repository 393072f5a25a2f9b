"""Keys, limits and money over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import openai
import pytest

from modelyard.control.quotas import Quota
from modelyard.settings import Settings
from modelyard.storage import Feedback, ModelUsage
from tests.integration.running import ASK, Running, running
from tests.unit.serving.yard import Script, StubUpstream, furnish, stub_upstream

EVERY = ("chat", "embeddings", "moderations", "feedback", "analytics", "admin")
# 10 prompt tokens and 4 of the answer, at 1 and 2 USD per million.
ANSWER_USD = 18e-6
# Reserved for the same question with max_tokens 4: 110 bytes and tokens of a template at most, and 4 tokens.
RESERVED_USD = 118e-6


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def server(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Iterator[Running]:
    with running(furnish(settings, upstream, tmp_path, auth="keys")) as server:
        yield server


def key_id(server: Running, plaintext: str) -> str:
    return next(facts.id for facts in server.parts.keyring.list() if facts.prefix in plaintext)


@pytest.mark.parametrize("given", [None, "", "none", "my-abcdefgh-" + "x" * 40, "my-" + "é" * 20, "x" * 5000])
def test_call_without_a_valid_key_is_unauthorized(server: Running, upstream: StubUpstream, given: str | None) -> None:
    headers = {} if given is None else {b"authorization": f"Bearer {given}".strip().encode()}
    for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/moderations", "/v1/feedback"):
        response = httpx.post(f"{server.url}{path}", json={"model": "team", "messages": ASK}, headers=headers)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert response.json()["error"]["code"] == "invalid_api_key"
    for path in ("/v1/models", "/metrics", "/admin/models", "/analytics/usage"):
        assert httpx.get(f"{server.url}{path}", headers=headers).status_code == 401
    assert upstream.raw == []


def test_revoked_and_expired_keys_are_refused(server: Running, upstream: StubUpstream) -> None:
    revoked, brief = server.key(), server.key(expires_at=datetime.now(UTC) + timedelta(seconds=2))
    assert [server.chat(key).status_code for key in (revoked, brief)] == [200, 200]
    server.parts.keyring.revoke(key_id(server, revoked))
    assert server.chat(revoked).status_code == 401
    time.sleep(2.1)
    expired = server.chat(brief)
    assert expired.status_code == 401
    assert "expired" in expired.json()["error"]["message"]
    assert len(upstream.raw) == 2


@pytest.mark.parametrize("scope", EVERY)
def test_scope_opens_its_own_doors_only(server: Running, scope: str) -> None:
    key = server.key(scope)
    doors = {
        "chat": server.chat(key).status_code,
        "embeddings": server.post("/v1/embeddings", {"model": "vectors", "input": "a"}, key).status_code,
        "moderations": server.post("/v1/moderations", {"model": "judge", "input": "a"}, key).status_code,
        "feedback": server.post("/v1/feedback", {"message_id": "msg-1", "rating": 3}, key).status_code,
        "analytics": server_get(server, "/analytics/usage", key),
        "admin": server_get(server, "/admin/models", key),
    }
    forbidden = {name for name, status in doors.items() if status == 403}
    assert forbidden == (set() if scope == "admin" else set(EVERY) - {scope})
    assert server_get(server, "/v1/models", key) == 200


def server_get(server: Running, path: str, key: str) -> int:
    return httpx.get(f"{server.url}{path}", headers={"authorization": f"Bearer {key}"}).status_code


def test_key_sees_and_calls_its_models_only(server: Running, upstream: StubUpstream) -> None:
    key = server.key("chat", "embeddings", model_types=["team"])
    with server.openai(key) as client:
        assert [model.id for model in client.models.list()] == ["team"]
        with pytest.raises(openai.PermissionDeniedError, match="'far'"):
            client.chat.completions.create(model="far", messages=ASK)
        with pytest.raises(openai.PermissionDeniedError):
            client.embeddings.create(model="vectors", input="a")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("far")
        assert upstream.raw == []
        assert client.chat.completions.create(model="team", messages=ASK).choices[0].message.content


def test_unknown_model_is_told_with_the_names_that_the_key_may_use(server: Running) -> None:
    key = server.key("chat", "embeddings", model_types=["team", "vectors", "gone"])
    for model in ("gpt-9", "gone"):
        found = server.chat(key, model=model)
        assert (found.status_code, found.json()["error"]["code"]) == (404, "model_not_found")
        said = found.json()["error"]["message"]
        assert said.endswith("those that this API key may use are team."), said
    found = server.post("/v1/embeddings", {"model": "team", "input": "a"}, key)
    assert found.json()["error"]["message"].endswith("may use are vectors.")
    assert "far" in server.chat(server.key(), model="gpt-9").json()["error"]["message"]


def test_metrics_of_the_whole_server_are_not_for_a_key_of_one_project(server: Running) -> None:
    assert server_get(server, "/metrics", server.key("analytics")) == 403
    assert server_get(server, "/metrics", server.key("admin")) == 200


def test_health_tells_a_stranger_the_status_alone(server: Running) -> None:
    assert server.health() == {"status": "ok"}


@pytest.mark.parametrize("scope", EVERY)
def test_health_tells_operators_alone_of_deployments_and_reasons(server: Running, scope: str) -> None:
    health = server.health(server.key(scope))
    assert ("deployments" in health) == ("problems" in health) == (scope in {"admin", "analytics"})
    assert (health["database"], health["champions"]["router"]["state"]) == ({"state": "ok"}, "none")
    assert health["version"]


def test_feedback_stays_within_its_project(server: Running) -> None:
    answer = server.chat(server.key()).json()
    stranger = server.parts.keyring.create("other", "test", ["feedback"])[1]
    said = {"message_id": answer["id"], "rating": 1}
    assert server.post("/v1/feedback", said, stranger).status_code == 400
    assert server.post("/v1/feedback", said, server.key("feedback")).status_code == 201
    assert len(server.rows(Feedback)) == 1


def test_requests_per_minute_hold_and_say_when_to_come_back(server: Running) -> None:
    key = server.key()
    server.parts.quotas.put(Quota("key", key_id(server, key), requests_per_minute=2))
    assert [server.chat(key).status_code for _ in range(2)] == [200, 200]
    with server.openai(key) as client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="team", messages=ASK)
    assert caught.value.code == "rate_limit_exceeded"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 70
    assert server.chat(server.key()).status_code == 200  # another key has its own


def test_tokens_per_minute_hold_before_the_call(server: Running, upstream: StubUpstream) -> None:
    key = server.key()
    server.parts.quotas.put(Quota("key", key_id(server, key), tokens_per_minute=300))
    assert server.chat(key, max_tokens=200).status_code == 200
    assert server.chat(key, max_tokens=200).status_code == 200  # the first one took 14 only
    refused = server.chat(key, max_tokens=400)
    assert (refused.status_code, len(upstream.raw)) == (429, 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_crowd_cannot_pass_a_nearly_spent_budget(server: Running, upstream: StubUpstream, stream: bool) -> None:
    upstream.scripts["far"] = Script(pause_s=0.05)
    key = server.key()
    budget = RESERVED_USD + 20.5 * ANSWER_USD
    server.parts.quotas.put(Quota("key", key_id(server, key), usd_per_day=budget))
    body = {"model": "team", "messages": ASK, "max_tokens": 4, "stream": stream}
    async with httpx.AsyncClient(
        base_url=server.url, headers={"authorization": f"Bearer {key}"}, limits=httpx.Limits(), timeout=60
    ) as client:
        found = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(200)))
        refused = [response for response in found if response.status_code == 429]
        assert {response.status_code for response in found} == {200, 429}
        assert {response.json()["error"]["code"] for response in refused} == {"insufficient_quota"}
    rows = await asyncio.to_thread(server.rows, ModelUsage)
    assert len(rows) == 200 - len(refused) == len(upstream.raw)
    assert sum(row.cost_usd for row in rows) <= budget
    assert all("retry-after" in response.headers for response in refused)


def test_tools_count_as_part_of_the_prompt(server: Running, upstream: StubUpstream) -> None:
    key = server.key()
    server.parts.quotas.put(Quota("key", key_id(server, key), usd_per_day=2e-3))
    tools = [{"type": "function", "function": {"name": "f", "description": "x " * 4000}}]
    refused = server.chat(key, max_tokens=4, tools=tools)
    assert (refused.status_code, refused.json()["error"]["code"], upstream.raw) == (429, "insufficient_quota", [])
    assert server.chat(key, max_tokens=4).status_code == 200


def test_project_and_model_type_have_budgets_of_their_own(server: Running) -> None:
    ours, theirs = server.key(), server.parts.keyring.create("other", "test", ["chat"])[1]
    server.parts.quotas.put(Quota("project", "shop", usd_per_month=1e-9))
    assert (server.chat(ours).status_code, server.chat(theirs).status_code) == (429, 200)
    server.parts.quotas.put(Quota("model_type", "pair", requests_per_minute=1))
    assert [server.chat(theirs, model="pair").status_code for _ in range(2)] == [200, 429]
    assert server.chat(theirs).status_code == 200


def test_failed_call_gives_its_reservation_back(server: Running, upstream: StubUpstream) -> None:
    key = server.key()
    server.parts.quotas.put(Quota("key", key_id(server, key), usd_per_day=1.5 * RESERVED_USD))
    upstream.scripts["far"] = Script(status=400)
    assert [server.chat(key, max_tokens=4).status_code for _ in range(4)] == [400] * 4
    upstream.scripts.clear()
    assert server.chat(key, max_tokens=4).status_code == 200


def test_budget_counts_what_was_spent_before_a_restart(
    settings: Settings, upstream: StubUpstream, tmp_path: Path
) -> None:
    furnished = furnish(settings, upstream, tmp_path, auth="keys")
    with running(furnished) as server:
        key = server.key()
        server.parts.quotas.put(Quota("key", key_id(server, key), usd_per_day=RESERVED_USD + 1.5 * ANSWER_USD))
        assert [server.chat(key, max_tokens=4).status_code for _ in range(2)] == [200, 200]
    with running(furnished) as server:
        assert server.chat(key, max_tokens=4).status_code == 429


def test_usage_rows_name_key_and_project(server: Running) -> None:
    key = server.key()
    server.chat(key, user="kim")
    [row] = server.rows(ModelUsage)
    [facts] = server.parts.keyring.list()
    assert (row.api_key_id, row.project_id) == (facts.id, facts.project_id)

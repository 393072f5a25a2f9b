"""Answers that are given again: for nothing, under the request's own id, and to whom they may be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from modelyard.control.quotas import Quota
from modelyard.serving.app import create_app
from modelyard.serving.parts import ServerParts, open_parts
from modelyard.settings import Settings
from modelyard.storage import Message, ModelUsage
from tests.unit.serving.yard import HERE, Script, StubUpstream, furnish, logprobs, stub_upstream

ASK = [{"role": "user", "content": "How do I centre a div?"}]
KEPT = """
[composites.kept]
description = "x"
candidates = ["far"]
fallback = "far"
response_cache_s = 60

[composites.shared]
description = "x"
candidates = ["far"]
fallback = "far"
response_cache_s = 60
response_cache_shared = true
"""


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def parts(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> ServerParts:
    return open_parts(furnish(settings, upstream, tmp_path, KEPT, auth="keys"))


@pytest.fixture
def client(parts: ServerParts) -> Iterator[TestClient]:
    with TestClient(create_app(parts), base_url=HERE, raise_server_exceptions=False) as client:
        yield client


def key_of(parts: ServerParts, project: str = "shop") -> str:
    return parts.keyring.create(project, "test", ["chat"])[1]


def post(client: TestClient, key: str, model: str = "kept", **body: Any) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    return client.post("/v1/chat/completions", json={"model": model, "messages": ASK, **body}, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
def test_hit_costs_nothing_and_bears_its_own_id(client: TestClient, parts: ServerParts, stream: bool) -> None:
    key = key_of(parts)
    first, hit = post(client, key), post(client, key, stream=stream, modelyard={"explain": True})
    assert (hit.status_code, hit.headers["x-modelyard-cache"]) == (200, "hit")
    assert float(first.headers["x-modelyard-cost-usd"]) > 0
    assert float(hit.headers["x-modelyard-cost-usd"]) == 0
    body = json.loads(hit.text.split("\n\n")[-3].removeprefix("data: ")) if stream else hit.json()
    assert body["id"] == hit.headers["x-modelyard-id"] != first.json()["id"]
    assert body["modelyard"]["model_metadata"]["usage"]["cost_usd"] == 0
    assert parts.writer.flush(10)
    with parts.database.read() as session:
        assert session.scalars(select(Message.id)).all() == [first.json()["id"], body["id"]]
        assert [row.cost_usd > 0 for row in session.scalars(select(ModelUsage))] == [True, False]


def test_hit_counts_as_a_request(client: TestClient, parts: ServerParts, upstream: StubUpstream) -> None:
    key = key_of(parts)
    [facts] = parts.keyring.list()
    parts.quotas.put(Quota("key", facts.id, requests_per_minute=2, usd_per_day=1e-3, tokens_per_minute=100))
    first, hit, refused = (post(client, key, max_tokens=4) for _ in range(3))
    assert [response.status_code for response in (first, hit, refused)] == [200, 200, 429]
    assert hit.headers["x-modelyard-cache"] == "hit"
    assert len(upstream.raw) == 1


def test_hit_needs_no_money(client: TestClient, parts: ServerParts) -> None:
    key = key_of(parts)
    post(client, key)
    [facts] = parts.keyring.list()
    parts.quotas.put(Quota("key", facts.id, usd_per_day=18e-6))
    assert post(client, key).status_code == 200
    assert post(client, key, temperature=0.1).status_code == 429


def test_answers_are_shared_between_keys_of_a_project_only_where_that_is_switched_on(
    client: TestClient, parts: ServerParts
) -> None:
    one, two, stranger = key_of(parts), key_of(parts), key_of(parts, "blog")

    def hits(model: str) -> list[bool]:
        return ["x-modelyard-cache" in post(client, key, model).headers for key in (one, one, two, stranger, stranger)]

    assert hits("kept") == [False, True, False, False, True]
    assert hits("shared") == [False, True, True, False, True]


def test_hit_carries_what_the_endpoint_said(client: TestClient, parts: ServerParts, upstream: StubUpstream) -> None:
    upstream.scripts["far"] = Script(logprobs=True, extras={"system_fingerprint": "fp-1"})
    key = key_of(parts)
    post(client, key, stream=True)
    hit = post(client, key)
    assert hit.headers["x-modelyard-cache"] == "hit"
    assert hit.json()["system_fingerprint"] == "fp-1"
    assert hit.json()["choices"][0]["logprobs"] == logprobs(*Script().words)

"""Budgets under a crowd: whatever is sent and however long the answers are, what is spent stays below what may be spent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelyard.control.quotas import Quota
from modelyard.settings import Settings
from modelyard.storage import ModelUsage
from tests.integration.running import ASK, Running, running
from tests.unit.serving.yard import Script, StubUpstream, furnish, stub_upstream

CROWD = 200
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "(" * 8000}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def server(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Iterator[Running]:
    with running(furnish(settings, upstream, tmp_path, auth="keys", max_in_flight=CROWD)) as server:
        yield server


def limited(server: Running, *scopes: str, **limits: Any) -> str:
    key = server.key(*scopes)
    id = next(facts.id for facts in server.parts.keyring.list() if facts.prefix in key)
    server.parts.quotas.put(Quota("key", id, **limits))
    return key


async def crowd(server: Running, key: str, body: dict[str, Any]) -> list[httpx.Response]:
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, limits=httpx.Limits(), timeout=120) as client:
        return await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(CROWD)))


@pytest.mark.parametrize(
    ("body", "usage", "budget"),
    [
        pytest.param({"model": "near", "messages": ASK}, (30, 3900), 0.02, id="answers of unknown length"),
        pytest.param({"messages": [user("字" * 8000)], "max_tokens": 4}, (8000, 4), 0.1, id="a token a character"),
        pytest.param({"messages": [user("!?" * 2000)], "max_tokens": 4}, (4000, 4), 0.02, id="a token a sign"),
        pytest.param({"messages": [user([IMAGE] * 20)], "max_tokens": 4}, (16_040, 4), 0.25, id="images"),
        pytest.param(
            {"messages": [*ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]}, *ASK], "max_tokens": 4},
            (8040, 4),
            0.03,
            id="tool calls",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_crowd_cannot_pass_a_budget_whatever_it_sends(
    server: Running, upstream: StubUpstream, body: dict[str, Any], usage: tuple[int, int], budget: float, stream: bool
) -> None:
    asked = {"model": "team", **body, "stream": stream}
    upstream.scripts["near" if asked["model"] == "near" else "far"] = Script(usage=usage, pause_s=0.02)
    key = limited(server, usd_per_day=budget)
    found = await crowd(server, key, asked)
    rows = await asyncio.to_thread(server.rows, ModelUsage)
    assert {response.status_code for response in found} == {200, 429}
    assert 0 < sum(row.cost_usd for row in rows) <= budget
    assert len(rows) == len(upstream.raw)
    assert all(row.completion_tokens == usage[1] for row in rows)


async def test_crowd_that_embeds_cannot_pass_a_budget(server: Running, upstream: StubUpstream) -> None:
    upstream.scripts["vectors"] = Script(reports={"prompt_tokens": 2000, "total_tokens": 2000}, pause_s=0.02)
    budget = 0.002  # ten of them
    key = limited(server, "embeddings", usd_per_day=budget)
    # Requests of different dimensions are not gathered into one call.
    bodies = [{"model": "vectors", "input": "字" * 2000, "dimensions": number + 1} for number in range(CROWD)]
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=120) as client:
        found = await asyncio.gather(*(client.post("/v1/embeddings", json=body) for body in bodies))
    rows = await asyncio.to_thread(server.rows, ModelUsage)
    assert {response.status_code for response in found} == {200, 429}
    assert 0 < sum(row.cost_usd for row in rows) <= budget


async def test_crowd_that_leaves_pays_for_no_more_than_it_reserved(server: Running, upstream: StubUpstream) -> None:
    upstream.scripts["far"] = Script(pause_s=60)
    budget = 0.0005
    key = limited(server, usd_per_day=budget)
    headers, body = {"authorization": f"Bearer {key}"}, {"model": "team", "messages": ASK, "max_tokens": 4}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=2) as client:
        asked = (client.post("/v1/chat/completions", json=body) for _ in range(50))
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert any(isinstance(one, httpx.TimeoutException) for one in found)
    for _ in range(200):
        rows = await asyncio.to_thread(server.rows, ModelUsage)
        if len(rows) == len(upstream.raw):
            break
        await asyncio.sleep(0.05)
    assert {row.status for row in rows} == {"cancelled"}
    assert 0 < sum(row.cost_usd for row in rows) <= budget


def test_call_that_may_cost_more_than_the_budget_is_told_how_to_take_less(
    server: Running, upstream: StubUpstream
) -> None:
    key = limited(server, usd_per_day=0.001)
    refused = server.chat(key, model="near")
    assert refused.status_code == 429
    assert refused.json()["error"]["message"].endswith("; with max_tokens it would take less.")
    assert "retry-after" not in refused.headers
    assert server.chat(key, model="near", max_tokens=100).status_code == 200
    assert all("max_tokens" not in body or body["max_tokens"] == 100 for body in upstream.bodies)


def test_answers_of_unknown_length_pass_a_rate_that_is_smaller_than_the_longest_one(server: Running) -> None:
    key = limited(server, tokens_per_minute=300)
    assert [server.chat(key, model="near").status_code for _ in range(3)] == [200, 200, 200]  # each takes 14
    refused = server.chat(key, model="near", messages=[user("x " * 520)])
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")

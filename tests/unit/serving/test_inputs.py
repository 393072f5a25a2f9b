"""Embeddings and moderations: one space a response, believable usage, and books as those of chat."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select
from starlette.testclient import TestClient

from modelyard.control.quotas import Quota
from modelyard.serving.app import create_app
from modelyard.serving.parts import ServerParts, open_parts
from modelyard.serving.telemetry import Telemetry
from modelyard.settings import Settings
from modelyard.storage import Database, ModelUsage
from modelyard.storage.spool import Spool
from modelyard.storage.writer import Writer
from tests.unit.serving.test_app import rows
from tests.unit.serving.yard import HERE, Script, StubUpstream, furnish, stub_upstream

VEC = """
[models.vec]
kind = "openai"
base_url = "{url}/v1"
upstream_model = "e3"
input = 1
output = 0
embeddings = true

[models.split]
kind = "openai"
input = 1
output = 0
embeddings = true

[models.split.deployments.one]
base_url = "{url}/v1"
upstream_model = "e2"

[models.split.deployments.two]
base_url = "{url}/v1"
upstream_model = "e3"
"""
SCRIPTS = {"e2": Script(vector=(1.0, 2.0)), "e3": Script(vector=(1.0, 2.0, 3.0))}


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        upstream.scripts = dict(SCRIPTS)
        yield upstream


@pytest.fixture
def furnished(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Settings:
    return furnish(settings, upstream, tmp_path, VEC.format(url=upstream.url))


@pytest.fixture
def parts(furnished: Settings) -> ServerParts:
    return open_parts(furnished)


@pytest.fixture
def client(parts: ServerParts) -> Iterator[TestClient]:
    with TestClient(create_app(parts), base_url=HERE, raise_server_exceptions=False) as client:
        yield client


def embed(client: TestClient, given: Any, model: str = "vec", **body: Any) -> Any:
    return client.post("/v1/embeddings", json={"model": model, "input": given, **body})


def lengths(response: Any) -> list[int]:
    assert response.status_code == 200, response.text
    return [len(entry["embedding"]) for entry in response.json()["data"]]


def usages(parts: ServerParts) -> list[ModelUsage]:
    return sorted(rows(parts, ModelUsage)[0], key=lambda row: row.created_at)


def until(holds: Callable[[], Any]) -> None:
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    pytest.fail("it never came to that")


def change(parts: ServerParts, **changes: Any) -> None:
    parts.manager.update("model", "vec", changes)


def switch(parts: ServerParts, **enabled: bool) -> None:
    for key, on in enabled.items():
        parts.manager.update("deployment", f"split/{key}", {"enabled": on})


# --- one embedding space


def test_another_upstream_model_is_another_space(client: TestClient, parts: ServerParts) -> None:
    assert lengths(embed(client, "stale?")) == [3]
    change(parts, upstream_model="e2")
    assert lengths(embed(client, ["fresh", "stale?"])) == [2, 2]
    assert lengths(embed(client, "stale?")) == [2]


def test_another_address_is_another_space(client: TestClient, parts: ServerParts, upstream: StubUpstream) -> None:
    embed(client, "a")
    moved = upstream.url.replace("127.0.0.1", "localhost")
    change(parts, base_url=f"{moved}/v1")
    assert "x-modelyard-cache" not in embed(client, "a").headers
    assert embed(client, "a").headers["x-modelyard-cache"] == "hit"


def test_deployments_of_different_models_never_share_a_response(client: TestClient, parts: ServerParts) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        switch(parts, **{name: True})
        switch(parts, **{other: False})
        lengths(embed(client, name, "split"))
    switch(parts, one=True)
    for number in range(8):
        assert len(set(lengths(embed(client, ["one", "two", f"new {number}"], "split")))) == 1


def test_fallback_to_another_space_embeds_everything_there(
    client: TestClient, parts: ServerParts, upstream: StubUpstream
) -> None:
    switch(parts, two=False)
    assert lengths(embed(client, "known", "split")) == [2]
    switch(parts, two=True)
    upstream.scripts["e2"] = Script(status=500)
    for number in range(6):
        assert set(lengths(embed(client, [f"new {number}", "known"], "split"))) == {3}


def test_change_while_an_input_waits_for_company_changes_nothing_for_it(
    client: TestClient, parts: ServerParts, upstream: StubUpstream
) -> None:
    upstream.scripts["e3"] = Script(vector=(1.0, 2.0, 3.0), gate=threading.Event())
    found = list[Any]()
    early = threading.Thread(target=lambda: found.append(embed(client, ["a", "b"])))
    early.start()
    until(lambda: upstream.raw)
    change(parts, upstream_model="e2")
    assert lengths(embed(client, ["a", "c"])) == [2, 2]
    assert upstream.scripts["e3"].gate is not None
    upstream.scripts["e3"].gate.set()
    early.join(30)
    assert lengths(found[0]) == [3, 3]
    assert lengths(embed(client, ["b", "a"])) == [2, 2]


# --- usage that cannot be


NONSENSE = [
    {"prompt_tokens": "lots"},
    {"prompt_tokens": [1]},
    {"prompt_tokens": -5_000_000, "total_tokens": -5_000_000},
    {"prompt_tokens": 10**18},
    {"prompt_tokens": True},
    {"prompt_tokens": 1.5},
    ["usage"],
    "much",
    7,
]


@pytest.mark.parametrize("reported", NONSENSE, ids=str)
@pytest.mark.parametrize("path", ["embeddings", "moderations"])
def test_usage_that_cannot_be_is_estimated_from_the_inputs(
    client: TestClient, parts: ServerParts, upstream: StubUpstream, reported: Any, path: str
) -> None:
    model = {"embeddings": "vec", "moderations": "judge"}[path]
    upstream.scripts["e3"] = upstream.scripts["judge"] = Script(vector=(1.0,), reports=reported)
    response = client.post(f"/v1/{path}", json={"model": model, "input": ["x" * 40, "y" * 80]})
    assert response.status_code == 200
    [usage] = usages(parts)
    price = {"vec": 1.0, "judge": 0.2}[model]
    assert (usage.prompt_tokens, usage.cost_usd, usage.estimated) == (30, pytest.approx(30e-6 * price), True)
    if path == "embeddings":
        assert response.json()["usage"] == {"prompt_tokens": 30, "total_tokens": 30}


def test_total_tokens_do_where_the_prompts_are_not_reported(
    client: TestClient, parts: ServerParts, upstream: StubUpstream
) -> None:
    upstream.scripts["e3"] = Script(vector=(1.0,), reports={"total_tokens": 5})
    assert embed(client, "a").json()["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    [usage] = usages(parts)
    assert (usage.prompt_tokens, usage.estimated) == (5, False)


# --- books


def test_row_says_what_was_asked_and_charged(client: TestClient, parts: ServerParts) -> None:
    response = embed(client, ["a", "b"])
    [usage] = usages(parts)
    assert (usage.id, usage.kind, usage.status) == (response.headers["x-modelyard-id"], "embedding", "complete")
    assert (usage.model, usage.deployment, usage.prompt_tokens, usage.attempts) == ("vec", "vec", 6, 1)
    assert (response.headers["x-modelyard-model"], response.headers["x-modelyard-cost-usd"]) == ("vec", "0.00000600")


def test_remembered_request_costs_nothing_and_is_a_hit(client: TestClient, parts: ServerParts) -> None:
    embed(client, "a")
    embed(client, "a")
    [_, usage] = usages(parts)
    assert (usage.cache_hit, usage.prompt_tokens, usage.cost_usd, usage.deployment) == (True, 0, 0.0, None)


@pytest.mark.parametrize(
    ("path", "model", "kind"), [("embeddings", "vec", "embedding"), ("moderations", "judge", "moderation")]
)
def test_failed_request_has_a_row_and_a_metric(
    client: TestClient, parts: ServerParts, upstream: StubUpstream, path: str, model: str, kind: str
) -> None:
    upstream.scripts["e3"] = upstream.scripts["judge"] = Script(status=404)
    assert client.post(f"/v1/{path}", json={"model": model, "input": "a"}).status_code == 502
    [usage] = usages(parts)
    assert (usage.kind, usage.status, usage.error_kind) == (kind, "failed", "not_found")
    assert (usage.cost_usd, usage.deployment) == (0.0, model)
    page = client.get("/metrics").text
    assert f'modelyard_requests_total{{composite="{model}",status="upstream_not_found"}} 1.0' in page


@pytest.mark.parametrize(("path", "model"), [("embeddings", "vec"), ("moderations", "judge")])
def test_requests_tokens_and_cost_are_metrics(client: TestClient, path: str, model: str) -> None:
    tokens = {"vec": 6, "judge": 10}[model]
    given = {"vec": ["a", "b"], "judge": ["x" * 20, "y" * 20]}[model]
    assert client.post(f"/v1/{path}", json={"model": model, "input": given}).status_code == 200
    page = client.get("/metrics").text
    assert f'modelyard_requests_total{{composite="{model}",status="ok"}} 1.0' in page
    assert f'modelyard_tokens_total{{direction="prompt",model="{model}"}} {tokens}.0' in page
    assert f'modelyard_cost_usd_total{{model="{model}"}}' in page


def test_call_of_a_killed_process_becomes_an_orphan_at_its_reserved_cost(
    client: TestClient, parts: ServerParts, upstream: StubUpstream, tmp_path: Path
) -> None:
    upstream.scripts["e3"] = Script(vector=(1.0,), gate=threading.Event())
    waiting = threading.Thread(target=embed, args=(client, "x" * 400))
    waiting.start()
    until(lambda: upstream.raw)
    shutil.copytree(parts.settings.spool, tmp_path / "killed")  # nobody holds the copy, as after a kill
    assert upstream.scripts["e3"].gate is not None
    upstream.scripts["e3"].gate.set()
    waiting.join(30)
    database, spool = Database(f"sqlite:///{tmp_path / 'after.db'}"), Spool(tmp_path / "killed")
    writer = Writer(spool, database)
    try:
        assert writer.flush(10)
        with database.read() as session:
            [orphan] = session.scalars(select(ModelUsage)).all()
        assert (orphan.kind, orphan.status, orphan.model) == ("orphan", "orphaned", "vec")
        assert orphan.prompt_tokens == 100
        assert 400e-6 <= orphan.cost_usd <= 450e-6  # every byte of the body
    finally:
        writer.close()
        spool.close()
        database.close()
    assert [usage.kind for usage in usages(parts)] == ["embedding"]


def test_spans_tell_of_embeddings_and_moderations(furnished: Settings) -> None:
    exporter = InMemorySpanExporter()
    parts = replace(open_parts(furnished), reports=(Telemetry([exporter]),))
    with TestClient(create_app(parts), base_url=HERE) as client:
        assert embed(client, "a").status_code == 200
        assert client.post("/v1/moderations", json={"input": "a"}).status_code == 200
    names = [span.name for span in exporter.get_finished_spans()]
    assert sorted(names) == ["embeddings vec", "embeddings vec", "moderations judge", "moderations judge"]


# --- moderations


def test_moderations_answer_each_input_in_order(client: TestClient, parts: ServerParts) -> None:
    response = client.post("/v1/moderations", json={"model": "judge", "input": ["fine", "bad", "good"]})
    body = response.json()
    assert [result["flagged"] for result in body["results"]] == [False, True, False]
    assert (body["model"], body["id"][:5]) == ("judge", "modr-")
    [usage] = usages(parts)
    assert (usage.kind, usage.model, usage.deployment, usage.estimated) == ("moderation", "judge", "judge", True)


def test_moderations_of_one_moment_share_a_call(client: TestClient, upstream: StubUpstream) -> None:
    with ThreadPoolExecutor(8) as callers:
        texts = ["bad", "fine"] * 8
        found = list(callers.map(lambda text: client.post("/v1/moderations", json={"input": text}).json(), texts))
    assert [answer["results"][0]["flagged"] for answer in found] == [True, False] * 8
    assert len(upstream.raw) < 16


def test_parts_are_one_input_and_go_alone(client: TestClient, upstream: StubUpstream) -> None:
    parts = [{"type": "text", "text": "bad"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    response = client.post("/v1/moderations", json={"input": parts})
    assert [result["flagged"] for result in response.json()["results"]] == [True]
    assert upstream.bodies[0]["input"] == parts


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"input": ""}, 400),
        ({"input": []}, 400),
        ({"input": ["a", ""]}, 400),
        ({"input": ["a"] * 2049}, 400),
        ({"input": 7}, 400),
        ({"input": [1, 2]}, 400),
        ({}, 400),
        ({"model": "vec", "input": "a"}, 404),
        ({"model": "far", "input": "a"}, 404),
        ({"model": "omni", "input": "a"}, 404),
    ],
    ids=str,
)
def test_moderations_that_cannot_be_are_refused_before_any_call(
    client: TestClient, upstream: StubUpstream, body: Any, status: int
) -> None:
    response = client.post("/v1/moderations", json=body)
    assert (response.status_code, upstream.raw) == (status, []), response.text
    assert response.json()["error"]["message"]


@pytest.mark.parametrize(("path", "model"), [("embeddings", "vec"), ("moderations", "judge")])
def test_limits_hold(client: TestClient, parts: ServerParts, upstream: StubUpstream, path: str, model: str) -> None:
    parts.quotas.put(Quota("model_type", model, requests_per_minute=2))
    codes = [client.post(f"/v1/{path}", json={"model": model, "input": f"{n}"}).status_code for n in range(4)]
    assert codes == [200, 200, 429, 429]
    assert len(upstream.raw) == 2


def test_moderator_answers_no_chat(client: TestClient) -> None:
    asked = {"model": "judge", "messages": [{"role": "user", "content": "a"}]}
    assert client.post("/v1/chat/completions", json=asked).status_code == 404

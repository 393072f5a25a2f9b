"""What an operator changes is true when the call returns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from modelyard.client import ApiError, Client
from modelyard.errors import UpstreamError
from modelyard.settings import Settings
from modelyard.storage import Message, ModelUsage
from tests.integration.running import ASK, Running, running
from tests.unit.serving.yard import Script, StubUpstream, furnish, stub_upstream

CACHED = """
[composites.kept]
description = "Keeps its answers."
candidates = ["far"]
fallback = "far"
response_cache_s = 600
"""


@pytest.fixture
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture
def server(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> Iterator[Running]:
    with running(furnish(settings, upstream, tmp_path, CACHED)) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def test_a_user_is_deleted_whose_answer_came_this_moment(server: Running, client: Client) -> None:
    for n in range(10):
        assert server.chat(user=f"victim{n}").status_code == 200
        assert client.admin.delete_user(f"victim{n}")["message"] == 1
    assert (server.rows(Message), server.rows(ModelUsage)) == ([], [])
    assert [path for path in (server.parts.settings.spool).glob("*.spool") if path.stat().st_size] == []


def test_an_answer_that_is_under_way_when_its_user_is_deleted_is_not_stored(
    server: Running, client: Client, upstream: StubUpstream
) -> None:
    gate = threading.Event()
    upstream.scripts["far"] = Script(gate=gate)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.chat, user="kim")
        while upstream.open == 0:
            assert not waiting.done()
        client.admin.delete_user("kim")
        gate.set()
        assert waiting.result().status_code == 200
    assert (server.rows(Message), server.rows(ModelUsage)) == ([], [])


def test_cached_answers_go_with_a_user(server: Running, client: Client, upstream: StubUpstream) -> None:
    assert [server.chat(model="kept", user="kim").headers.get("x-modelyard-cache") for _ in range(2)] == [None, "hit"]
    client.admin.delete_user("kim")
    assert server.chat(model="kept", user="kim").headers.get("x-modelyard-cache") is None


def test_without_the_database_a_deletion_is_refused_and_says_when_to_come_back(server: Running) -> None:
    assert server.chat(user="kim").status_code == 200
    assert server.parts.writer.flush(10)
    with server.parts.database.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE message RENAME TO elsewhere")
    assert server.chat(user="kim").status_code == 200
    found = httpx.delete(f"{server.url}/admin/users/kim", timeout=60)
    assert (found.status_code, found.json()["error"]["code"]) == (503, "database_unavailable")
    assert int(found.headers["retry-after"]) > 0
    assert "Nothing was deleted" in found.json()["error"]["message"]
    with server.parts.database.write() as session:
        session.connection().exec_driver_sql("ALTER TABLE elsewhere RENAME TO message")
    assert httpx.delete(f"{server.url}/admin/users/kim", timeout=60).json()["deleted"]["message"] == 2


def test_a_switch_works_for_the_next_request(server: Running, client: Client) -> None:
    assert server.chat(model="near").status_code == 200
    client.admin.disable("model", "near")
    assert server.chat(model="near").status_code == 404
    client.admin.enable("model", "near")
    assert server.chat(model="near").status_code == 200


def test_what_is_registered_is_served_at_once(server: Running, client: Client, upstream: StubUpstream) -> None:
    server.chat()
    client.admin.register_model("new", {"kind": "openai", "base_url": f"{upstream.url}/v1", "input": 1, "output": 1})
    client.admin.register_composite("fresh", {"description": "New.", "candidates": ["new"], "fallback": "new"})
    assert server.chat(model="fresh").headers["x-modelyard-model"] == "new"
    client.admin.remove("composite", "fresh")
    assert server.chat(model="fresh").status_code == 404
    client.admin.change("model", "far", upstream_model="other-name")
    assert (server.chat().status_code, upstream.bodies[-1]["model"]) == (200, "other-name")
    client.admin.reset("model", "far")
    assert (server.chat().status_code, upstream.bodies[-1]["model"]) == (200, "far")


def test_deployments_say_whether_they_are_up(server: Running, client: Client, upstream: StubUpstream) -> None:
    assert client.admin.deployment("far").health == "unknown"
    assert server.post("/v1/chat/completions", {"model": "team", "messages": ASK}).status_code == 200
    assert client.admin.deployment("far").health == "up"
    client.admin.disable("model", "near")
    assert {found.name: found.health for found in client.admin.deployments()} == {
        "far": "up",
        "near": "off",
        "vectors": "unknown",
        "judge": "unknown",
    }


def test_no_variable_of_the_server_reaches_an_address_that_somebody_registered(
    server: Running, client: Client, upstream: StubUpstream
) -> None:
    fields = {"kind": "openai", "base_url": f"{upstream.url}/v1", "input": 1, "output": 1}
    with pytest.raises(ApiError, match="api_key_env"):
        client.admin.register_model("thief", fields | {"api_key_env": "PATH"})
    with pytest.raises(ApiError, match="link-local or metadata"):
        client.admin.register_model("thief", fields | {"base_url": "http://169.254.169.254/latest"})
    assert server.chat(model="thief").status_code == 404
    assert all("Authorization" not in headers for headers in upstream.headers)


def test_an_alert_shows_in_health_and_metrics(server: Running, client: Client) -> None:
    spending = {"metric": "cost_usd", "above": 0.0, "window_s": 3600}
    client.admin.set_alert_rules({"rules": {"spending": spending}})
    assert server.chat().status_code == 200
    assert server.parts.writer.flush(10)
    assert [alert.kind for alert in client.admin.evaluate_alerts()] == ["spending"]
    assert server.health()["alerts"] == {"spending": 1}
    page = httpx.get(f"{server.url}/metrics").text
    assert 'modelyard_alerts{rule="spending"} 1.0' in page
    assert 'modelyard_alerts{rule="saving"} 0.0' in page


def test_health_names_a_model_that_cannot_be_reached(server: Running, client: Client, upstream: StubUpstream) -> None:
    state = server.parts.served.states["far"]
    look = server.parts.report  # what /health shows, which keeps it for a second
    assert look()["status"] == "ok"
    for _ in range(20):
        state.fail(state.enter(), UpstreamError("It is gone.", kind="connect"))
    health = look()
    assert health["status"] == "degraded"
    assert health["problems"] == ["The model 'far' cannot be reached at any of its deployments (far): It is gone."]
    fields = {"base_url": f"{upstream.url}/v1"}
    client.admin.change("model", "near", base_url=None, deployments={"a": fields, "b": fields})
    state = server.parts.served.states["near/a"]
    for _ in range(20):
        state.fail(state.enter(), UpstreamError("It is gone.", kind="connect"))
    assert len(look()["problems"]) == 1  # the other one may be there
    client.admin.disable("deployment", "near/b")
    assert len(look()["problems"]) == 2

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select, text
from starlette.testclient import TestClient

from modelyard.composite import CompositeModel
from modelyard.errors import UpstreamError
from modelyard.registry.champions import champion_folder
from modelyard.serving.app import create_app
from modelyard.serving.body import LONGEST_BODY
from modelyard.serving.parts import ServerParts, open_parts
from modelyard.serving.reports import Reports
from modelyard.serving.watched import report_metrics
from modelyard.settings import Settings
from modelyard.storage import Database, Message, ModelUsage
from modelyard.types import Delta
from modelyard.types import Message as AnyMessage
from tests.unit.serving.champions import crown_router
from tests.unit.serving.yard import HERE, TEXT, Script, StubUpstream, furnish, stub_upstream

CHAT = "/v1/chat/completions"
ASK = [{"role": "user", "content": "How do I centre a div?"}]
EXPLAIN = {"explain": True}
USAGE = {
    "prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 0},
}  # fmt: skip


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


def post(client: TestClient, **body: Any) -> Any:
    return client.post(CHAT, json={"model": "team", "messages": ASK} | body)


def events(body: str) -> list[Any]:
    assert body.endswith("\n\n")
    data = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in data]


def rows(parts: ServerParts, *tables: Any) -> list[Any]:
    assert parts.writer.flush(10)
    with parts.database.read() as session:
        found = [session.scalars(select(table)).all() for table in tables]
        session.expunge_all()
    return found


def database_is_well_again(client: TestClient) -> bool:
    """Whether health says so before long: a report stays good for a moment."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if client.get("/health").json()["database"] == {"state": "ok"}:
            return True
        time.sleep(0.1)
    return False


def test_answer_carries_text_usage_and_headers(client: TestClient) -> None:
    response = post(client)
    body = response.json()
    assert response.status_code == 200
    assert body["choices"][0]["message"] == {"role": "assistant", "content": TEXT, "refusal": None}
    assert (body["object"], body["model"], body["choices"][0]["finish_reason"]) == ("chat.completion", "team", "stop")
    assert body["usage"] == USAGE
    assert "modelyard" not in body
    assert response.headers["x-modelyard-model"] == "far"
    assert response.headers["x-modelyard-task"] == "css/simple"
    assert response.headers["x-modelyard-route-reason"] == "the static policy always takes far"
    assert response.headers["x-modelyard-cost-usd"] == "0.00001800"
    assert response.headers["x-modelyard-id"] == body["id"]


def test_answer_explains_itself_where_that_is_asked(client: TestClient) -> None:
    about = post(client, model="auto", modelyard=EXPLAIN).json()["modelyard"]
    assert about["model_metadata"]["route"]["model"] == "local-md"
    assert "No router is registered: the static policy chose the model." in about["model_metadata"]["notices"]
    assert [step["name"] for step in about["processing_metadata"]] == [
        "classify", "route", "retrieve", "generate", "post-process",
    ]  # fmt: skip
    assert (about["rag_sources"], about["cache_hit"]) == ([], False)


@pytest.mark.parametrize("asked", [None, {"explain": False}, {"explain": False, "conversation": "c-1"}])
@pytest.mark.parametrize("stream", [True, False])
def test_answer_explains_nothing_unasked(client: TestClient, asked: Any, stream: bool) -> None:
    assert '"modelyard"' not in post(client, modelyard=asked, stream=stream).text


def test_answer_is_in_the_spool_before_it_is_whole(client: TestClient, parts: ServerParts) -> None:
    body = post(client, user="kim").json()
    [message], [usage] = rows(parts, Message, ModelUsage)
    assert (message.id, message.composite, message.answer) == (body["id"], "team", TEXT)
    assert (message.status, message.user_id, message.prompt) == ("complete", "kim", ASK[0]["content"])
    assert (usage.message_id, usage.model, usage.deployment) == (body["id"], "far", "far")
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cost_usd) == (10, 4, pytest.approx(0.000018))
    assert usage.latency_ms > 0
    assert not usage.estimated


def test_stream_carries_pieces_metadata_and_end_mark(client: TestClient, parts: ServerParts) -> None:
    response = post(client, stream=True, modelyard=EXPLAIN)
    *chunks, closing, done = events(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-modelyard-task"] == "css/simple"
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["", "Use ", "flexbox ", "☂."]
    assert closing["choices"][0]["finish_reason"] == "stop"
    assert closing["modelyard"]["model_metadata"]["model"] == "far"
    assert done == "[DONE]"
    [message], [usage] = rows(parts, Message, ModelUsage)
    assert {chunk["id"] for chunk in (*chunks, closing)} == {message.id}
    assert message.answer == TEXT
    assert 0 < usage.first_token_ms <= usage.latency_ms


@pytest.mark.parametrize("asked", [True, False])
def test_stream_carries_usage_where_it_is_asked_for(client: TestClient, asked: bool) -> None:
    *chunks, last, _ = events(post(client, stream=True, stream_options={"include_usage": asked}).text)
    if asked:
        assert (last["choices"], last["usage"]) == ([], USAGE)
        assert all(chunk["usage"] is None for chunk in chunks)
    else:
        assert all("usage" not in chunk for chunk in (*chunks, last))


def test_base_model_is_asked_by_name(client: TestClient, upstream: StubUpstream) -> None:
    response = post(client, model="near")
    assert (response.json()["model"], response.headers["x-modelyard-model"]) == ("near", "near")
    assert [body["model"] for body in upstream.bodies] == ["near"]


def test_conversation_arrives_as_it_was_sent(client: TestClient, upstream: StubUpstream) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts, "name": "kim"}]
    assert post(client, messages=messages).status_code == 200
    assert [body["messages"] for body in upstream.bodies] == [messages]


def test_parameters_reach_an_upstream_as_they_are(client: TestClient, upstream: StubUpstream) -> None:
    given = {"temperature": 0.2, "max_tokens": 10, "seed": 7, "stop": ["\n"], "logit_bias": {"5": -1}, "user": "ada"}
    post(client, **given, n=1, modelyard=EXPLAIN, stream=False)
    [body] = upstream.bodies
    assert body == {"model": "far", "messages": ASK, **given}


def test_parameters_that_a_local_model_leaves_aside_are_named(client: TestClient) -> None:
    body = post(client, model="auto", temperature=0.2, max_tokens=10, user="ada", n=1, modelyard=EXPLAIN).json()
    assert body["modelyard"]["ignored_parameters"] == ["max_tokens", "temperature"]
    assert post(client, temperature=0.2, modelyard=EXPLAIN).json()["modelyard"]["ignored_parameters"] == []


@pytest.mark.parametrize(
    ("body", "param", "rule"),
    [
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": "hi"}, "messages", "valid list"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages", "a message with text"),
        ({"messages": [{"role": "user"}]}, "messages", "a message with text"),
        ({"messages": [{"role": "system", "content": ""}]}, "messages", "a message with text"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "'system', 'developer', 'user'"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages.0.content", "'video'"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content", "needs a string"),
        ({"model": 3}, "model", "valid string"),
        ({"n": 2}, "n", "n must be 1"),
        ({"stream": "yes"}, "stream", "valid boolean"),
        ({"tools": "all"}, "tools", "valid list"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"modelyard": {"explan": True}}, "modelyard.explan", "not permitted"),
    ],
)
def test_bad_request_names_the_field_and_the_rule(client: TestClient, body: Any, param: str, rule: str) -> None:
    response = post(client, **body)
    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert rule in error["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "images"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "json"),
    ],
)
def test_what_no_model_can_do_is_a_bad_request(client: TestClient, body: Any, said: str) -> None:
    response = post(client, model="auto", **body)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert said in error["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_body_that_is_no_request_is_a_bad_request(client: TestClient, content: bytes) -> None:
    response = client.post(CHAT, content=content)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def chunked() -> Iterator[bytes]:
    yield from (b" " * 65536 for _ in range(LONGEST_BODY // 65536 + 2))


@pytest.mark.parametrize("content", [lambda: b" " * (LONGEST_BODY + 1), chunked], ids=["declared", "chunked"])
def test_body_beyond_the_limit_is_refused(client: TestClient, content: Callable[[], Any]) -> None:
    response = client.post(CHAT, content=content())
    assert response.status_code == 413
    assert f"{LONGEST_BODY} bytes" in response.json()["error"]["message"]


def test_unknown_model_is_not_found(client: TestClient) -> None:
    response = post(client, model="gpt-9")
    error = response.json()["error"]
    assert response.status_code == 404
    assert error["message"].startswith("No model is called 'gpt-9'; served here are ")
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_found")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v2", 404), ("GET", CHAT, 405)])
def test_wrong_address_is_told_in_the_same_shape(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [True, False])
def test_upstream_failure_is_a_bad_gateway(
    client: TestClient, upstream: StubUpstream, parts: ServerParts, stream: bool
) -> None:
    upstream.scripts["far"] = Script(status=401)
    response = post(client, stream=stream)
    assert response.status_code == 502
    assert (response.json()["error"]["type"], response.json()["error"]["code"]) == ("upstream_error", "upstream_auth")
    [message], [usage] = rows(parts, Message, ModelUsage)
    assert (message.status, usage.status, usage.error_kind, usage.cost_usd) == ("failed", "failed", "auth", 0.0)


def test_stream_that_breaks_off_ends_in_an_error_and_no_end_mark(
    client: TestClient, upstream: StubUpstream, parts: ServerParts
) -> None:
    upstream.scripts["far"] = Script(cut=True)
    *chunks, last = events(post(client, stream=True).text)
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == TEXT
    assert last["error"]["code"] == "upstream_cut"
    [message], [usage] = rows(parts, Message, ModelUsage)
    assert (message.status, message.answer, usage.error_kind) == ("failed", TEXT, "cut")
    assert usage.cost_usd > 0  # what was streamed is charged


@pytest.mark.parametrize("stream", [True, False])
def test_fallback_answers_and_says_so(
    client: TestClient, upstream: StubUpstream, parts: ServerParts, stream: bool
) -> None:
    upstream.scripts["far"] = Script(status=404)
    response = post(client, model="pair", stream=stream)
    assert (response.status_code, response.headers["x-modelyard-model"]) == (200, "near")
    assert response.headers["x-modelyard-attempts"] == "2" or stream
    [message], [usage] = rows(parts, Message, ModelUsage)
    assert (message.status, usage.fallback, usage.attempts) == ("degraded", True, 2)


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_mistake_of_ours_shows_no_traceback(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, stream: bool, begun: bool
) -> None:
    async def answer(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    async def pieces(*_: Any) -> Any:
        if begun:
            yield Delta("Use ")
        raise RuntimeError("secret detail")

    monkeypatch.setattr(CompositeModel, "answer", answer)
    monkeypatch.setattr(CompositeModel, "stream", pieces)
    response = post(client, stream=stream)
    broken = stream and begun
    assert response.status_code == (200 if broken else 500)
    error = events(response.text)[-1]["error"] if broken else response.json()["error"]
    assert "The server made a mistake" in error["message"]
    assert "secret" not in response.text
    assert "Traceback" not in response.text


@pytest.mark.parametrize("stream", [True, False])
def test_damaged_champion_is_a_server_error_as_long_as_nothing_else_serves(furnished: Settings, stream: bool) -> None:
    crown_router(furnished)
    path = champion_folder("router", "5", furnished) / "model.json"
    path.write_bytes(path.read_bytes()[:-1])
    with TestClient(create_app(open_parts(furnished)), base_url=HERE, raise_server_exceptions=False) as client:
        response = post(client, stream=stream)
        assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
        health = client.get("/health").json()
        assert (health["status"], health["champions"]["router"]["state"]) == ("degraded", "broken")


def test_models_are_listed(client: TestClient) -> None:
    listed = {row["id"]: (row["object"], row["kind"]) for row in client.get("/v1/models").json()["data"]}
    assert listed["team"] == listed["auto"] == ("model", "composite")
    assert listed["far"] == listed["local-sm"] == ("model", "base")
    assert client.get("/v1/models/team").json()["id"] == "team"
    assert client.get("/v1/models/gpt-9").status_code == 404


def test_health_says_what_serves(client: TestClient) -> None:
    post(client)
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["champions"]["router"]["state"] == "none"
    assert health["database"] == {"state": "ok"}
    assert health["deployments"]["far"]["breaker"] == "closed"
    assert health["version"]


def test_metrics_count_answers_and_failures(client: TestClient, upstream: StubUpstream) -> None:
    post(client)
    upstream.scripts["far"] = Script(status=401)
    post(client)
    page = client.get("/metrics").text
    assert 'modelyard_requests_total{composite="team",status="ok"} 1.0' in page
    assert 'modelyard_requests_total{composite="team",status="upstream_auth"} 1.0' in page
    assert 'modelyard_tokens_total{direction="completion",model="far"} 4.0' in page


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    """Return what `/metrics` says as Prometheus reads it, by name and values of labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_metrics_tell_how_each_deployment_fares(client: TestClient, parts: ServerParts, upstream: StubUpstream) -> None:
    post(client)
    upstream.scripts["far"] = Script(status=401)
    post(client)
    states = parts.served.states
    states["far"].probed(12.5)
    states["near"].probed(UpstreamError("It is gone.", kind="connect"))
    found = samples(client)
    assert (found["modelyard_calls_total", "far", "ok"], found["modelyard_calls_total", "far", "failed"]) == (1, 1)
    assert found["modelyard_faults_total", "far", "auth"] == 1
    assert found["modelyard_call_seconds_count", "far"] == found["modelyard_call_seconds_bucket", "far", "+Inf"] == 1
    assert found["modelyard_call_seconds_sum", "far"] > 0
    assert (found["modelyard_probe_up", "far"], found["modelyard_probe_up", "near"]) == (1, 0)
    assert 0 <= found["modelyard_probe_age_seconds", "far"] < 600
    assert found["modelyard_probe_seconds", "far"] == 0.0125
    assert ("modelyard_probe_seconds", "near") not in found


def test_metrics_tell_of_everything_that_is_shed_dropped_or_set_aside(client: TestClient, parts: ServerParts) -> None:
    client.post("/v1/embeddings", json={"model": "vectors", "input": ["a", "b"]})
    post(client)
    parts.spool.finish("odd", {"message": None, "usages": [{"id": "odd", "no_such_column": 1}]})
    rows(parts, ModelUsage)
    found = samples(client)
    assert (
        found["modelyard_batch_inputs_total", "embeddings"],
        found["modelyard_batch_calls_total", "embeddings"],
    ) == (2, 1)
    assert (found["modelyard_spool_refused_total",], found["modelyard_spool_damaged_total",]) == (1, 0)
    assert (found["modelyard_keys_shed_total",], found["modelyard_keys_refused_total",]) == (0, 0)
    assert (found["modelyard_pool_refused_total", "feedback"], found["modelyard_spool_lost_total",]) == (0, 0)
    assert found["modelyard_cache_lookups_total", "embeddings", "miss"] >= 1


def test_metrics_count_dropped_reports() -> None:
    report = Reports("traces", lambda _: None, 0)
    report.failed(AnyMessage.of("x"), None, ValueError(), (), composite="team", ms=1.0)
    [family] = report_metrics([report])
    assert [(one.name, one.labels, one.value) for one in family.samples] == [
        ("modelyard_reports_dropped_total", {"report": "traces"}, 1)
    ]
    report.close()


@pytest.mark.parametrize("stream", [True, False])
def test_failing_database_costs_neither_the_answer_nor_the_record(
    client: TestClient, parts: ServerParts, stream: bool
) -> None:
    assert parts.writer.flush(10)
    with parts.database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE model_usage RENAME TO gone"))
    assert post(client, stream=stream).status_code == 200
    assert not parts.writer.flush(1)
    health = client.get("/health").json()
    assert (health["status"], health["database"]["state"]) == ("degraded", "failed")
    assert "model_usage" in health["database"]["reason"]
    assert health["spool"]["waiting_bytes"] > 0
    with parts.database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO model_usage"))
    [[_], [_]] = rows(parts, Message, ModelUsage)
    assert database_is_well_again(client)


def test_database_that_is_no_database_does_not_stop_serving(furnished: Settings) -> None:
    file = Path(furnished.database.removeprefix("sqlite:///"))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not a database, " * 64)
    parts = open_parts(furnished)
    with TestClient(create_app(parts), base_url=HERE) as client:
        assert post(client).status_code == 200
        health = client.get("/health").json()
        assert (health["status"], health["database"]["state"]) == ("degraded", "failed")
        file.unlink()  # the operator puts it right, and it heals without a restart
        assert post(client).status_code == 200
        messages, usages = rows(parts, Message, ModelUsage)
        assert (len(messages), len(usages)) == (2, 2)
        assert database_is_well_again(client)


def test_texts_are_kept_only_where_that_is_switched_on(furnished: Settings) -> None:
    parts = open_parts(furnished.model_copy(update={"store_texts": False}))
    with TestClient(create_app(parts), base_url=HERE) as client:
        assert post(client).status_code == 200
        [message], [usage] = rows(parts, Message, ModelUsage)
    assert (message.prompt, message.answer) == (None, None)
    assert usage.cost_usd > 0


def test_same_request_is_answered_from_the_cache(settings: Settings, upstream: StubUpstream, tmp_path: Path) -> None:
    extra = '[composites.kept]\ndescription = "x"\ncandidates = ["far"]\nfallback = "far"\nresponse_cache_s = 60\n'
    parts = open_parts(furnish(settings, upstream, tmp_path, extra))
    with TestClient(create_app(parts), base_url=HERE) as client:
        first, second = post(client, model="kept"), post(client, model="kept")
        third = post(client, model="kept", stream=True)
        post(client, model="kept", temperature=0.1)
        _, usages = rows(parts, Message, ModelUsage)
    assert "x-modelyard-cache" not in first.headers
    assert (second.headers["x-modelyard-cache"], third.headers["x-modelyard-cache"]) == ("hit", "hit")
    assert second.json()["choices"] == first.json()["choices"]
    assert events(third.text)[1]["choices"][0]["delta"]["content"] == TEXT
    assert len(upstream.raw) == 2
    assert sorted(usage.cost_usd for usage in usages)[:2] == [0.0, 0.0]
    assert len(usages) == 4


def test_places_are_limited(furnished: Settings, upstream: StubUpstream) -> None:
    parts = open_parts(furnished.model_copy(update={"max_in_flight": 1}))
    with TestClient(create_app(parts), base_url=HERE, raise_server_exceptions=False) as client:
        assert [post(client).status_code for _ in range(3)] == [200, 200, 200]
        upstream.scripts["far"] = Script(status=401)
        assert [post(client).status_code for _ in range(2)] == [502, 502]  # a failure gives its place back


def test_nothing_of_a_request_is_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "modelyard")
    post(client, messages=[{"role": "user", "content": "my secret words"}])
    post(client, model="my secret model")
    assert "secret" not in caplog.text


def test_app_closes_its_parts(parts: ServerParts) -> None:
    with TestClient(create_app(parts), base_url=HERE):
        assert parts.spool.current.exists()
    assert list(parts.spool.folder.glob("*.jsonl")) == []
    assert isinstance(parts.database, Database)

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from starlette.testclient import TestClient

from modelyard.errors import RegistryError, UpstreamError
from modelyard.serving.app import create_app
from modelyard.settings import Settings
from modelyard.storage import Database, Message, ModelUsage
from tests.unit.serving.yard import Scripted, Yard

CHAT = "/v1/chat/completions"
ASK = [{"role": "user", "content": "How do I centre a div?"}]


@pytest.fixture
def yard() -> Yard:
    return Yard(Scripted("auto"), Scripted("local-md"))


@pytest.fixture
def client(settings: Settings, yard: Yard) -> Iterator[TestClient]:
    with TestClient(create_app(settings, yard), raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, **body: Any) -> Any:
    return client.post(CHAT, json={"model": "auto", "messages": ASK} | body)


def events(body: str) -> list[Any]:
    assert body.endswith("\n\n")
    data = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in data]


def rows(settings: Settings, *tables: Any) -> list[Any]:
    database = Database(settings.database)
    with database.read() as session:
        found = [session.scalars(select(table)).all() for table in tables]
        session.expunge_all()
    database.close()
    return found


def test_answer_carries_text_usage_metadata_and_headers(client: TestClient) -> None:
    response = post(client)
    body = response.json()
    assert response.status_code == 200
    assert body["choices"][0]["message"]["content"] == "Use flexbox ☂."
    assert (body["object"], body["model"], body["choices"][0]["finish_reason"]) == ("chat.completion", "auto", "stop")
    assert body["usage"] == {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    assert body["modelyard"]["model_metadata"]["route"]["model"] == "local-md"
    assert body["modelyard"]["model_metadata"]["notices"] == ["No router is registered."]
    assert response.headers["x-modelyard-model"] == "local-md"
    assert response.headers["x-modelyard-task"] == "css/simple"
    assert response.headers["x-modelyard-route-reason"] == "0.7 > 0.4; no router ? yet"


def test_answer_is_stored_before_it_is_whole(client: TestClient, settings: Settings) -> None:
    body = post(client).json()
    [message], [usage] = rows(settings, Message, ModelUsage)
    assert (message.id, message.composite, message.answer) == (body["id"], "auto", "Use flexbox ☂.")
    assert usage.latency_ms > 0
    assert body["modelyard"]["stored"] is True


def test_stream_carries_pieces_metadata_and_end_mark(client: TestClient, settings: Settings) -> None:
    response = post(client, stream=True)
    *chunks, closing, done = events(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-modelyard-task"] == "css/simple"
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["", "Use ", "flexbox ", "☂."]
    assert closing["choices"][0]["finish_reason"] == "stop"
    assert closing["modelyard"]["stored"] is True
    assert done == "[DONE]"
    [[message]] = rows(settings, Message)
    assert {chunk["id"] for chunk in (*chunks, closing)} == {message.id}


@pytest.mark.parametrize("asked", [True, False])
def test_stream_carries_usage_where_it_is_asked_for(client: TestClient, asked: bool) -> None:
    *chunks, last, _ = events(post(client, stream=True, stream_options={"include_usage": asked}).text)
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    if asked:
        assert (last["choices"], last["usage"]) == ([], usage)
        assert all(chunk["usage"] is None for chunk in chunks)
    else:
        assert all("usage" not in chunk for chunk in (*chunks, last))


def test_base_model_is_asked_by_name(client: TestClient, yard: Yard) -> None:
    assert post(client, model="local-md").json()["model"] == "local-md"
    assert len(yard.models["local-md"].heard) == 1


def test_conversation_arrives_as_turns(client: TestClient, yard: Yard) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    assert post(client, messages=messages).status_code == 200
    [message] = yard.models["auto"].heard
    assert [(turn.role, turn.text) for turn in message.turns] == [("system", "Be brief."), ("user", "one\ntwo")]


def test_parameters_that_are_left_aside_are_named(client: TestClient) -> None:
    body = post(client, temperature=0.2, max_tokens=10, user="ada", tools=[], n=1).json()
    assert body["modelyard"]["ignored_parameters"] == ["max_tokens", "temperature"]


@pytest.mark.parametrize(
    ("body", "param", "rule"),
    [
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": "hi"}, "messages", "valid array"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages", "user message with text"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages", "user message with text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "'system', 'developer', 'user'"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "required"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content",
            "'image_url' is not supported here",
        ),
        ({"model": 3}, "model", "valid string"),
        ({"n": 2}, "n", "n must be 1"),
        ({"stream": "yes"}, "stream", "valid boolean"),
        ({"tools": [{"type": "function"}]}, "tools", "'tools' is not supported here"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported here"),
    ],
)
def test_bad_request_names_the_field_and_the_rule(client: TestClient, body: Any, param: str, rule: str) -> None:
    response = post(client, **body)
    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert rule in error["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_body_that_is_no_request_is_a_bad_request(client: TestClient, content: bytes) -> None:
    response = client.post(CHAT, content=content)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def chunked(size: int) -> Iterator[bytes]:
    yield from (b" " * 65536 for _ in range(size // 65536))


@pytest.mark.parametrize("content", [b" " * ((1 << 20) + 1), chunked(1 << 21)], ids=["declared", "chunked"])
def test_body_beyond_the_limit_is_refused(client: TestClient, content: Any) -> None:
    response = client.post(CHAT, content=content)
    assert response.status_code == 413
    assert "1048576 bytes" in response.json()["error"]["message"]


def test_unknown_model_is_not_found(client: TestClient) -> None:
    response = post(client, model="gpt-9")
    assert response.status_code == 404
    assert response.json()["error"] == {
        "message": "No model is called 'gpt-9'.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v2", 404), ("GET", CHAT, 405)])
def test_wrong_address_is_told_in_the_same_shape(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert path in response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
def test_upstream_failure_is_a_bad_gateway(client: TestClient, yard: Yard, settings: Settings, stream: bool) -> None:
    yard.models["auto"] = Scripted("auto", pieces=(), failure=UpstreamError("The model 'gpt' broke.", status=500))
    response = post(client, stream=stream)
    assert response.status_code == 502
    assert response.json()["error"]["message"] == "The model 'gpt' broke."
    assert rows(settings, Message) == [[]]


def test_stream_that_breaks_off_ends_in_an_error_and_no_end_mark(client: TestClient, yard: Yard) -> None:
    yard.models["auto"] = Scripted("auto", failure=UpstreamError("The model 'gpt' broke."))
    *_, last = events(post(client, stream=True).text)
    assert last["error"]["message"] == "The model 'gpt' broke."


@pytest.mark.parametrize(
    ("failure", "said"),
    [(RuntimeError("secret detail"), "The server made a mistake"), (RegistryError("The index is broken."), "index")],
)
@pytest.mark.parametrize("pieces", [(), ("Use ",)])
@pytest.mark.parametrize("stream", [True, False])
def test_other_failures_show_no_traceback(
    client: TestClient, yard: Yard, failure: Exception, said: str, pieces: Any, stream: bool
) -> None:
    yard.models["auto"] = Scripted("auto", pieces=pieces, failure=failure)
    response = post(client, stream=stream)
    begun = stream and bool(pieces)
    assert response.status_code == (200 if begun else 500)
    error = events(response.text)[-1]["error"] if begun else response.json()["error"]
    assert said in error["message"]
    assert "secret" not in response.text
    assert "Traceback" not in response.text


def test_models_are_listed(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert [(row["id"], row["object"], row["kind"]) for row in listed["data"]] == [
        ("auto", "model", "composite"),
        ("local-md", "model", "base"),
    ]


def test_health_says_what_serves(client: TestClient) -> None:
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["champions"]["router"]["state"] == "none"
    assert health["database"] == {"state": "ok", "lost_answers": 0}
    assert health["version"]


def test_broken_champion_shows_in_health(client: TestClient, yard: Yard) -> None:
    yard.state = {"router": {"state": "broken", "detail": "a hash differs"}}
    assert client.get("/health").json()["status"] == "degraded"


@pytest.mark.parametrize("stream", [True, False])
def test_failing_database_costs_the_record_and_not_the_answer(
    client: TestClient, settings: Settings, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    database = Database(settings.database)
    with database.engine.begin() as connection:
        connection.execute(text("DROP TABLE model_usage"))
    database.close()
    response = post(client, stream=stream)
    body = events(response.text)[-2] if stream else response.json()
    assert response.status_code == 200
    assert body["modelyard"]["stored"] is False
    assert "given but not stored: The database" in caplog.text
    health = client.get("/health").json()
    assert (health["status"], health["database"]["lost_answers"]) == ("degraded", 1)
    assert "model_usage" in health["database"]["reason"]


def test_database_that_is_no_database_does_not_stop_serving(settings: Settings, yard: Yard) -> None:
    file = Path(settings.database.removeprefix("sqlite:///"))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not a database, " * 64)
    with TestClient(create_app(settings, yard)) as client:
        assert post(client).json()["modelyard"]["stored"] is False
        health = client.get("/health").json()
        assert (health["status"], health["database"]["state"]) == ("degraded", "failed")
        file.unlink()  # the operator puts it right, and it heals without a restart
        assert post(client).json()["modelyard"]["stored"] is True
        assert client.get("/health").json()["database"]["state"] == "ok"


def test_app_closes_its_models(settings: Settings, yard: Yard) -> None:
    with TestClient(create_app(settings, yard)):
        assert not yard.closed
    assert yard.closed

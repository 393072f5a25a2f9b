"""What applications use: the openai client and LiteLLM, against the whole server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest

from modelyard.settings import Settings
from modelyard.storage import Feedback, Message, ModelUsage
from tests.integration.running import ASK, EXPLAIN, Running, running
from tests.unit.serving.yard import TEXT, Script, StubUpstream, furnish, stub_upstream

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Weather in a place.",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
            "strict": True,
        },
    }
]
CALL: Any = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Zürich ☂"}'}}
PIXEL = base64.b64encode(bytes(range(256)) * 20).decode()


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


def test_tool_calls_go_round(client: openai.OpenAI, upstream: StubUpstream) -> None:
    upstream.scripts["far"] = Script(words=(), fields={"tool_calls": [CALL]}, finish_reason="tool_calls")
    asked: Any = [*ASK, {"role": "user", "content": "What is the weather in Zürich?"}]
    choice = client.chat.completions.create(model="team", messages=asked, tools=TOOLS, tool_choice="auto").choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert call.to_dict() == CALL

    upstream.scripts["far"] = Script(words=("It ", "rains."))
    told: Any = [
        *asked,
        choice.message,
        {"role": "tool", "tool_call_id": call.id, "content": '{"rain": true}'},
    ]
    answer = client.chat.completions.create(model="team", messages=told, tools=TOOLS)
    assert answer.choices[0].message.content == "It rains."

    first, second = upstream.bodies
    assert (first["tools"], first["tool_choice"], first["messages"]) == (TOOLS, "auto", asked)
    assert second["messages"][-1] == told[-1]
    assert second["messages"][-2]["tool_calls"] == [CALL]


def test_tool_calls_stream(client: openai.OpenAI, upstream: StubUpstream) -> None:
    def piece(**call: Any) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, **call}]}

    upstream.scripts["far"] = Script(
        words=(),
        deltas=(
            piece(id="call_1", type="function", function={"name": "weather", "arguments": ""}),
            piece(function={"arguments": '{"place": '}),
            piece(function={"arguments": '"Zürich ☂"}'}),
        ),
        finish_reason="tool_calls",
    )
    with client.chat.completions.stream(
        model="team", messages=ASK, tools=TOOLS, stream_options={"include_usage": True}
    ) as stream:
        whole = stream.get_final_completion()
    choice = whole.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls] == [
        ("call_1", "weather", '{"place": "Zürich ☂"}')
    ]
    assert whole.usage is not None
    assert whole.usage.total_tokens == 14


def test_json_mode_is_passed_on(client: openai.OpenAI, upstream: StubUpstream) -> None:
    upstream.scripts["far"] = Script(words=('{"a": ', "1}"))
    answer = client.chat.completions.create(model="team", messages=ASK, response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content or "") == {"a": 1}
    schema: Any = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": {"type": "object"}}}
    client.chat.completions.create(model="team", messages=ASK, response_format=schema)
    assert [body["response_format"] for body in upstream.bodies] == [{"type": "json_object"}, schema]


def test_images_reach_the_upstream_byte_for_byte(server: Running, upstream: StubUpstream) -> None:
    content = [
        {"type": "text", "text": "What ☂ is\u2028this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png?b=%20&c=\u00e9"}, "unknown": [1, 2.5]},
    ]
    messages = [{"role": "user", "content": content, "name": "kim"}]
    assert server.chat(messages=messages).status_code == 200
    [raw] = upstream.raw
    assert orjson.dumps(messages) in raw


def test_image_for_models_that_see_none_is_a_bad_request(client: openai.OpenAI, upstream: StubUpstream) -> None:
    content: Any = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    with pytest.raises(openai.BadRequestError, match="images"):
        client.chat.completions.create(model="near", messages=[{"role": "user", "content": content}])
    assert upstream.raw == []


def test_embeddings_come_in_order_and_are_accounted_for(
    server: Running, client: openai.OpenAI, upstream: StubUpstream
) -> None:
    texts = ["a", "bb", "ccc"]
    found = client.embeddings.create(model="vectors", input=texts, encoding_format="float")
    assert [entry.embedding[0] for entry in found.data] == [1.0, 2.0, 3.0]
    assert [entry.index for entry in found.data] == [0, 1, 2]
    assert (found.model, found.usage.prompt_tokens) == ("vectors", 9)
    [usage] = server.rows(ModelUsage)
    assert (usage.kind, usage.model, usage.prompt_tokens) == ("embedding", "vectors", 9)
    assert usage.cost_usd == pytest.approx(9 * 0.1e-6)


def test_moderations_are_answered_and_accounted_for(server: Running, client: openai.OpenAI) -> None:
    found = client.moderations.create(model="judge", input=["bad words", "fine words"])
    assert [result.flagged for result in found.results] == [True, False]
    assert found.results[0].categories.harassment
    assert found.model == "judge"
    assert client.moderations.create(input="fine").results[0].category_scores.harassment == pytest.approx(0.1)
    first, second = sorted(server.rows(ModelUsage), key=lambda row: row.created_at)
    assert {(row.kind, row.model, row.status) for row in (first, second)} == {("moderation", "judge", "complete")}
    assert first.cost_usd == pytest.approx(first.prompt_tokens * 0.2e-6)


@pytest.mark.parametrize(
    ("script", "body", "kind", "status", "code"),
    [
        (Script(), {"model": "gpt-9"}, openai.NotFoundError, 404, "model_not_found"),
        (Script(), {"temperature": 9}, openai.BadRequestError, 400, None),
        (
            Script(),
            {"messages": [{"role": "user", "content": "word " * 200_000}]},
            openai.BadRequestError,
            400,
            "context_length_exceeded",
        ),
        (Script(status=400), {}, openai.BadRequestError, 400, "upstream_rejected"),
        (
            Script(status=400, error={"message": "no", "code": "content_policy_violation"}),
            {},
            openai.BadRequestError,
            400,
            "content_policy_violation",
        ),
        (Script(status=401), {}, openai.InternalServerError, 502, "upstream_auth"),
        (Script(status=500), {}, openai.InternalServerError, 502, "upstream_server"),
        (Script(status=429), {}, openai.InternalServerError, 503, "upstream_rate_limit"),
        (Script(cut=True), {}, openai.InternalServerError, 502, "upstream_cut"),
    ],
)
def test_errors_are_the_right_exceptions(
    client: openai.OpenAI,
    upstream: StubUpstream,
    script: Script,
    body: dict[str, Any],
    kind: type[openai.APIStatusError],
    status: int,
    code: str | None,
) -> None:
    upstream.scripts["far"] = script
    request: dict[str, Any] = {"model": "team", "messages": ASK, **body}
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**request)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert isinstance(caught.value.body, dict)
    assert {"message", "type", "param", "code"} <= caught.value.body.keys()


async def test_async_client_streams(server: Running) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        stream = await client.chat.completions.create(model="team", messages=ASK, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == TEXT


def test_feedback_is_kept_for_an_answer(server: Running, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="team", messages=ASK)
    said = {"message_id": answer.id, "rating": 2, "correction": "Use grid.", "wrong_model": True, "user": "kim"}
    response = server.post("/v1/feedback", said)
    assert (response.status_code, response.json()["message_id"]) == (201, answer.id)
    [row] = server.rows(Feedback)
    assert (row.message_id, row.rating, row.correction, row.user_id) == (answer.id, 2, "Use grid.", "kim")


@pytest.mark.parametrize(
    "body",
    [
        {"message_id": "msg-nothing", "rating": 3},
        {"message_id": "msg-nothing", "rating": 6},
        {"rating": 3},
        {"message_id": "x"},
    ],
)
def test_feedback_that_cannot_be_kept_is_a_bad_request(server: Running, body: dict[str, Any]) -> None:
    response = server.post("/v1/feedback", body)
    assert 400 <= response.status_code < 500
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert server.rows(Feedback) == []


@pytest.fixture
def litellm() -> Iterator[Any]:
    import litellm

    litellm.telemetry = False
    loop = asyncio.new_event_loop()  # else it makes one of its own, and leaves it open
    asyncio.set_event_loop(loop)
    yield litellm
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.filterwarnings("ignore")  # LiteLLM's own
def test_litellm_answers_streams_and_calls_tools(server: Running, upstream: StubUpstream, litellm: Any) -> None:
    where = {"model": "openai/team", "api_base": f"{server.url}/v1", "api_key": "none", "num_retries": 0}
    answer = litellm.completion(messages=ASK, **where)
    assert (answer.choices[0].message.content, answer.usage.total_tokens) == (TEXT, 14)

    *chunks, last = litellm.completion(messages=ASK, stream=True, stream_options={"include_usage": True}, **where)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert last.usage.total_tokens == 14

    upstream.scripts["far"] = Script(words=(), fields={"tool_calls": [CALL]}, finish_reason="tool_calls")
    called = litellm.completion(messages=ASK, tools=TOOLS, **where).choices[0]
    assert called.message.tool_calls[0].function.arguments == CALL["function"]["arguments"]


@pytest.mark.filterwarnings("ignore")
def test_litellm_embeds_and_maps_errors(server: Running, litellm: Any) -> None:
    where = {"api_base": f"{server.url}/v1", "api_key": "none", "num_retries": 0}
    found = litellm.embedding(model="openai/vectors", input=["a", "bb"], **where)
    assert [entry["embedding"][0] for entry in found.data] == [1.0, 2.0]
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/gpt-9", messages=ASK, **where)
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(model="openai/team", messages=ASK, temperature=9, **where)


def test_request_id_is_kept_and_rows_find_it(server: Running) -> None:
    for given in ("req-1", "bad id", "x" * 500):
        httpx.post(
            f"{server.url}/v1/chat/completions",
            json={"model": "team", "messages": ASK, **EXPLAIN},
            headers={"x-request-id": given},
        ).raise_for_status()
    kept = {row.request_id for row in server.rows(Message)}
    assert "req-1" in kept
    assert not {"bad id", "x" * 500} & kept

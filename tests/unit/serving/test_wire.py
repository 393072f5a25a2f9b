from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from sqlalchemy import select, text
from starlette.testclient import TestClient

from modelyard.errors import ContextTooLong
from modelyard.serving.app import create_app
from modelyard.serving.parts import ServerParts, open_parts
from modelyard.serving.replies import ChunkWriter
from modelyard.serving.wire import DEEPEST, BadRequest, header_safe, parse_chat_request, parse_json
from modelyard.settings import Settings
from modelyard.storage import Message, ModelUsage
from modelyard.types import Delta
from tests.unit.serving.yard import HERE, Script, StubUpstream, furnish, stub_upstream

CHAT, EMBED, FEEDBACK = "/v1/chat/completions", "/v1/embeddings", "/v1/feedback"
ASK = [{"role": "user", "content": "hi"}]
SECRET = "s3cr3t-marker"
SQL = [
    "'; DROP TABLE message; --",
    '" OR 1=1 --',
    "1); DELETE FROM model_usage WHERE (1=1",
    "%' UNION SELECT hash FROM api_key --",
]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "team", "messages": ASK},
    EMBED: {"model": "vectors", "input": "hi"},
    FEEDBACK: {"message_id": "msg-1", "rating": 3},
}


MODEL = """
[models.{name}]
kind = "openai"
base_url = "{url}/v1"
input = 1
output = 1
context_window = 4000
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[StubUpstream]:
    with stub_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def parts(upstream: StubUpstream, tmp_path_factory: pytest.TempPathFactory) -> ServerParts:
    folder = tmp_path_factory.mktemp("wire")
    more = "".join(MODEL.format(name=name, url=upstream.url) for name in ("vast", "torn", "failing"))
    return open_parts(furnish(Settings(home=folder / "yard"), upstream, folder, more))


@pytest.fixture(scope="module")
def client(parts: ServerParts) -> Iterator[TestClient]:
    with TestClient(create_app(parts), base_url=HERE, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test sends: nothing that is marked as secret stands in a log."""
    caplog.set_level(logging.DEBUG, "modelyard")
    yield
    assert SECRET not in caplog.text


def is_refused(response: Any, *statuses: int) -> dict[str, Any]:
    assert response.status_code in (statuses or (400,)), response.text
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert "Traceback" not in response.text
    return error


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"true", b"3", b'"text"', b"[]", b"{", b'{"model":', b"\x00", b"\xff\xfe", b"{}", b"\xef\xbb\xbf{}",
        b'{"model": "team", "model": NaN}', b'{"a": Infinity}', b"[" * 200_000, b'{"a":' * 200_000, b"1" * 100_000,
        b'{"model": "\xff\xfe"}', b'{"model": "\xed\xa0\x80"}', b'{"model": "\\ud800"}', b'{"x": 1e999}',
        b'{"x": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_body_that_is_no_request_is_a_bad_request(client: TestClient, path: str, content: bytes) -> None:
    error = is_refused(client.post(path, content=content))
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", BODIES)
def test_ten_megabytes_are_too_long(client: TestClient, path: str) -> None:
    body = {**BODIES[path], "user": SECRET + "x" * 10_000_000}
    is_refused(client.post(path, content=orjson.dumps(body)), 413)


def test_eight_megabytes_of_conversation_are_longer_than_every_window(client: TestClient) -> None:
    body = {**BODIES[CHAT], "messages": [{"role": "user", "content": "x " * 3_900_000}]}
    assert is_refused(client.post(CHAT, json=body))["code"] == "context_length_exceeded"


@pytest.mark.parametrize("depth", [DEEPEST + 1, 5000, 100_000])
@pytest.mark.parametrize("path", BODIES)
def test_deep_nesting_is_refused(client: TestClient, path: str, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    content = orjson.dumps(BODIES[path])[:-1] + b', "metadata": ' + deep + b"}"
    is_refused(client.post(path, content=content))


def test_nesting_that_makes_sense_passes(client: TestClient) -> None:
    schema: Any = {"type": "string"}
    for _ in range(20):
        schema = {"type": "object", "properties": {"a": schema}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    assert client.post(CHAT, json={**BODIES[CHAT], "tools": tools}).status_code == 200


@pytest.mark.parametrize("value", [3, 1.5, True, [], {}, ["x"], {"a": 1}, "", "x" * 201, None])
@pytest.mark.parametrize("path", [CHAT, EMBED])
def test_model_of_the_wrong_kind_is_refused(client: TestClient, path: str, value: Any) -> None:
    assert is_refused(client.post(path, json={**BODIES[path], "model": value}))["param"] == "model"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", None), ("messages", {}), ("messages", 3), ("messages", [None]), ("messages", [[]]), ("messages", ["hi"]),
        ("messages", [{"role": None, "content": "x"}]), ("messages", [{"content": "x"}]), ("messages", [{"role": ["user"], "content": "x"}]),  # noqa: E501
        ("messages", [{"role": "user", "content": 3}]), ("messages", [{"role": "user", "content": {}}]),
        ("messages", [{"role": "user", "content": [3]}]), ("messages", [{"role": "user", "content": [{}]}]),
        ("messages", [{"role": "user", "content": [{"type": []}]}]), ("messages", [{"role": "user", "content": [{"type": "text", "text": 3}]}]),  # noqa: E501
        ("stream", "true"), ("stream", 1), ("stream", []), ("stream_options", 3), ("stream_options", {"include_usage": 3}),
        ("n", 0), ("n", "1"), ("n", 1.5), ("n", 128), ("temperature", "hot"), ("temperature", -1), ("temperature", []),
        ("top_p", 2), ("seed", "x"), ("seed", 1.5), ("stop", 3), ("stop", [3]), ("stop", {}),
        ("max_tokens", 0), ("max_tokens", -5), ("max_tokens", "10"), ("max_tokens", 1.5), ("max_completion_tokens", []),
        ("tools", {}), ("tools", [3]), ("tool_choice", 3), ("functions", "x"), ("response_format", "json"), ("response_format", []),
        ("user", 3), ("user", "x" * 201), ("metadata", []), ("metadata", {"a": 1}), ("modelyard", 3), ("modelyard", {"explain": "yes"}),
        ("modelyard", {"conversation": ""}), ("modelyard", {"conversation": 3}), ("frequency_penalty", 9), ("presence_penalty", "x"),
        ("response_format", {}), ("response_format", {"type": []}), ("max_tokens", 10**30), ("seed", 2**70),
    ],
)  # fmt: skip
def test_chat_fields_of_the_wrong_kind_are_named(client: TestClient, field: str, value: Any) -> None:
    content = json.dumps({**BODIES[CHAT], field: value})
    error = is_refused(client.post(CHAT, content=content))
    assert str(error["param"]).split(".", 1)[0] == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", None), ("input", 3), ("input", {}), ("input", ""), ("input", []), ("input", [""]), ("input", ["a", 3]),
        ("input", [[]]), ("input", [["a"]]), ("input", [[1], "a"]), ("input", ["a"] * 2049), ("input", [1.5]), ("input", [None]),
        ("dimensions", 0), ("dimensions", "3"), ("encoding_format", 3), ("user", []),
    ],
)  # fmt: skip
def test_embeddings_fields_of_the_wrong_kind_are_named(client: TestClient, field: str, value: Any) -> None:
    error = is_refused(client.post(EMBED, json={**BODIES[EMBED], field: value}))
    assert str(error["param"]).split(".", 1)[0] == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("message_id", None), ("message_id", 3), ("message_id", ""), ("message_id", "x" * 81), ("rating", 0), ("rating", 6),
        ("rating", "3"), ("rating", 2.5), ("correction", 3), ("correction", "x" * 100_001), ("comment", []), ("wrong_model", "no"),
        ("user", 3), ("stars", 5),
    ],
)  # fmt: skip
def test_feedback_fields_of_the_wrong_kind_are_named(client: TestClient, field: str, value: Any) -> None:
    error = is_refused(client.post(FEEDBACK, json={**BODIES[FEEDBACK], field: value}))
    assert error["param"] == field


@pytest.mark.parametrize("tokens", [10**6, 2**31, 2**53, 2**62])
def test_absurd_max_tokens_are_refused(client: TestClient, upstream: StubUpstream, tokens: int) -> None:
    sent = len(upstream.raw)
    for name in ("max_tokens", "max_completion_tokens"):
        for model in ("team", "near", "auto"):
            error = is_refused(client.post(CHAT, json={**BODIES[CHAT], "model": model, name: tokens}))
            assert str(tokens) in error["message"]
    assert len(upstream.raw) == sent


@pytest.mark.parametrize(
    "name", ["gpt-9", "a\r\nx-evil: 1", "a\nb", "☂", "\u0000", "../../etc/passwd", "%0d%0ax: 1", *SQL]
)
def test_unknown_model_is_not_found_and_injects_nothing(client: TestClient, name: str) -> None:
    for path in (CHAT, EMBED):
        response = client.post(path, json={**BODIES[path], "model": name})
        assert is_refused(response, 404)["code"] == "model_not_found"
        assert "x-evil" not in response.headers
    assert client.get(f"/v1/models/{'%0d%0ax-evil:%201'}").status_code == 404


@pytest.mark.parametrize("given", [b"a\tb", b"\x80\xff", b"x" * 5000, b"<script>", b"'; DROP TABLE message; --"])
def test_request_id_cannot_do_harm(client: TestClient, parts: ServerParts, given: bytes) -> None:
    response = client.post(CHAT, json=BODIES[CHAT], headers={b"x-request-id": given})
    assert response.status_code == 200
    assert given not in response.headers.raw
    assert len(stored(parts, response.json()["id"]).request_id or "") <= 80


@pytest.mark.parametrize(
    "odd", ["\x00", "a\x00b", "\ufeff", "\u2028", "\u202e", "\x1b[31m", "a" * 10_000, "😀" * 500, *SQL]
)
def test_odd_texts_reach_the_upstream_and_the_database(
    client: TestClient, parts: ServerParts, upstream: StubUpstream, odd: str
) -> None:
    body = {**BODIES[CHAT], "messages": [{"role": "user", "content": f"say {odd}"}], "user": odd[:200], "stop": odd}
    response = client.post(CHAT, json=body)
    assert response.status_code == 200
    assert upstream.bodies[-1]["messages"] == body["messages"]
    row = stored(parts, response.json()["id"])
    assert row.prompt == f"say {odd}".replace("\x00", "\ufffd")
    said = {"message_id": row.id, "comment": odd[:200], "correction": odd, "user": odd[:200], "rating": 3}
    assert client.post(FEEDBACK, json=said).status_code == 201


def stored(parts: ServerParts, id: str) -> Any:
    assert parts.writer.flush(10)
    with parts.database.read() as session:
        row = session.scalars(select(Message).where(Message.id == id)).one()
        session.expunge_all()
    return row


def test_sql_in_every_text_field_changes_no_table(client: TestClient, parts: ServerParts) -> None:
    before = counts(parts)
    for sql in SQL:
        sent = {"role": "user", "content": sql, "name": sql}
        fields = {"user": sql, "metadata": {sql: sql}, "stop": sql, "modelyard": {"conversation": sql}, sql: sql}
        assert client.post(CHAT, json={"model": "team", "messages": [sent], **fields}).status_code == 200
        assert client.post(EMBED, json={"model": "vectors", "input": [sql], "user": sql}).status_code == 200
        is_refused(client.post(FEEDBACK, json={"message_id": sql[:80], "comment": sql, "user": sql}))
    after = counts(parts)
    assert (after["message"] - before["message"], after["model_usage"] - before["model_usage"]) == (4, 8)
    assert {name: n for name, n in after.items() if name not in {"message", "model_usage", "fragment"}} == {
        name: n for name, n in before.items() if name not in {"message", "model_usage", "fragment"}
    }


def counts(parts: ServerParts) -> dict[str, int]:
    assert parts.writer.flush(10)
    with parts.database.engine.connect() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        return {name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one() for name in names}


def test_nothing_that_was_sent_is_logged(client: TestClient, upstream: StubUpstream) -> None:
    marked = {"role": "user", "content": SECRET}
    for script in (Script(), Script(status=400, error={"message": SECRET}), Script(cut=True), Script(words=())):
        upstream.scripts["failing"] = script
        for more in ({}, {"stream": True}, {"temperature": SECRET}, {"user": SECRET, SECRET: SECRET}):
            client.post(CHAT, json={"model": "failing", "messages": [marked], **more})
    upstream.scripts.clear()
    client.post(CHAT, json={"model": SECRET, "messages": [marked]})
    client.post(CHAT, content=b'{"model": "' + SECRET.encode())
    client.post(FEEDBACK, json={"message_id": SECRET, "comment": SECRET})
    client.get(f"/v1/models/{SECRET}")
    client.get(f"/{SECRET}")
    client.post(CHAT, json=BODIES[CHAT], headers={"authorization": f"Bearer {SECRET}", "x-request-id": SECRET})


def test_usage_of_absurd_size_from_an_upstream_does_not_stop_the_books(
    client: TestClient, parts: ServerParts, upstream: StubUpstream
) -> None:
    upstream.scripts["vast"] = Script(usage=(2**62, 2**62))
    first = client.post(CHAT, json={**BODIES[CHAT], "model": "vast"})
    assert first.status_code in {200, 502}
    upstream.scripts.clear()
    response = client.post(CHAT, json=BODIES[CHAT])
    assert stored(parts, response.json()["id"])
    assert parts.writer.problem is None


def test_lone_surrogates_in_an_upstreams_answer_cost_one_answer_at_most(
    client: TestClient, upstream: StubUpstream
) -> None:
    upstream.scripts["torn"] = Script(words=("a\ud800", "b"))
    for stream in (False, True):
        response = client.post(CHAT, json={**BODIES[CHAT], "model": "torn", "stream": stream})
        assert response.status_code in {200, 502}
        response.content.decode("utf-8")
    upstream.scripts.clear()


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"), ("a\r\nb", "a b"), ("☂ é", "? ?"), ("\x00\x1b[3m", "??[3m"), ("x" * 300, "x" * 200), ("", ""),
        ("\u2028x", "x"), ("a\tb", "a b"), ("score − 2 × cost", "score - 2 ? cost"),
    ],
)  # fmt: skip
def test_header_is_one_line_of_printable_ascii(text: str, safe: str) -> None:
    assert header_safe(text) == safe


@pytest.mark.parametrize("text", ["", "a", '"quoted"\\', "\n\r\t\x00", "☂\u2028", "data: [DONE]\n\n"])
def test_piece_is_one_event_whatever_it_says(text: str) -> None:
    event = ChunkWriter("msg-1", "m", include_usage=False).piece(Delta(text))
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    assert orjson.loads(event[6:])["choices"][0]["delta"] == {"content": text}


def test_parsing_names_the_rule() -> None:
    with pytest.raises(BadRequest, match="deeper than 100 levels"):
        parse_json(b"{" + b'"a":{' * 101 + b"}" * 101 + b"}")
    with pytest.raises(BadRequest, match="JSON object"):
        parse_json(b"[]")
    with pytest.raises(BadRequest) as caught:
        parse_chat_request(b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "image"}]}]}')
    assert caught.value.param == "messages.0.content"
    assert not issubclass(BadRequest, ContextTooLong)


def test_rows_bear_what_was_asked(client: TestClient, parts: ServerParts) -> None:
    before = counts(parts)["model_usage"]
    client.post(CHAT, json=BODIES[CHAT])
    assert counts(parts)["model_usage"] == before + 1
    with parts.database.read() as session:
        assert all(row.cost_usd >= 0 for row in session.scalars(select(ModelUsage)))

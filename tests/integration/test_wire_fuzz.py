"""More than 10,000 bodies from a schema of the wire, many of them slightly wrong: every answer is a 2xx or an error in OpenAI's shape."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from modelyard.serving.app import create_app
from modelyard.serving.parts import ServerParts, open_parts
from modelyard.settings import Settings
from tests.unit.serving.yard import HERE, furnish, stub_upstream

pytestmark = [
    pytest.mark.slow,
    # The server's own threads draw waits from `random` while hypothesis draws bodies.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]

TEXTS = st.text(max_size=30) | st.sampled_from(
    ["", " ", "hi", "\x00", "'; DROP TABLE message; --", "a\r\nx: y", "☂" * 9]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**40, 1e308])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["team", "near", "auto", "far", "vectors", "pair", "local-sm", "gpt-9", ""])


@st.composite
def often(draw: st.DrawFn, right: st.SearchStrategy[Any]) -> Any:
    """Return mostly what fits, and anything at all now and then."""
    return draw(JSON if draw(st.integers(0, 11)) == 7 else right)


@st.composite
def objects(
    draw: st.DrawFn, required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]
) -> Any:
    if draw(st.integers(0, 11)) == 7:
        return draw(st.dictionaries(st.sampled_from([*required, *optional]) | TEXTS, JSON, max_size=4))
    chosen = draw(st.sets(st.sampled_from([*optional]), max_size=4)) if optional else ()
    fields = {**required, **{name: kind for name, kind in optional.items() if name in chosen}}
    return {name: draw(often(kind)) for name, kind in fields.items()}


PART = st.one_of(
    objects({"type": st.just("text"), "text": TEXTS}, {}),
    objects({"type": st.just("image_url"), "image_url": objects({"url": TEXTS}, {"detail": TEXTS})}, {}),
    objects({"type": st.sampled_from(["input_audio", "file", "refusal", "video"])}, {"file": JSON}),
)
TOOL_CALL = objects(
    {"id": TEXTS, "type": st.just("function"), "function": objects({"name": TEXTS, "arguments": TEXTS}, {})}, {}
)
MESSAGE = objects(
    {
        "role": st.sampled_from(["system", "developer", "user", "user", "user", "assistant", "tool", "function"]),
        "content": TEXTS | st.none() | st.lists(PART, max_size=3),
    },
    {"name": TEXTS, "tool_calls": st.lists(TOOL_CALL, max_size=2), "tool_call_id": TEXTS},
)
TOOL = objects(
    {"type": st.just("function"), "function": objects({"name": TEXTS}, {"parameters": JSON, "strict": st.booleans()})},
    {},
)
TOKENS = st.integers(min_value=-1, max_value=10**6) | st.none()
CHAT = objects(
    {"model": NAMES, "messages": st.lists(MESSAGE, min_size=1, max_size=4)},
    {
        "stream": st.booleans() | st.none(),
        "stream_options": objects({}, {"include_usage": st.booleans()}),
        "n": st.sampled_from([1, None, 2]),
        "modelyard": objects({}, {"explain": st.booleans(), "conversation": TEXTS}),
        "max_tokens": TOKENS,
        "max_completion_tokens": TOKENS,
        "temperature": NUMBERS,
        "top_p": NUMBERS,
        "frequency_penalty": NUMBERS,
        "presence_penalty": NUMBERS,
        "seed": st.integers(),
        "stop": TEXTS | st.lists(TEXTS, max_size=3),
        "tools": st.lists(TOOL, max_size=2),
        "tool_choice": st.sampled_from(["auto", "none", "required"]) | JSON,
        "response_format": objects(
            {"type": st.sampled_from(["text", "json_object", "json_schema"])}, {"json_schema": JSON}
        ),
        "logit_bias": st.dictionaries(TEXTS, NUMBERS, max_size=2),
        "user": TEXTS,
        "metadata": st.dictionaries(TEXTS, TEXTS, max_size=2),
    },
)
MODERATIONS = objects(
    {"input": TEXTS | st.lists(TEXTS, max_size=4) | st.lists(PART, max_size=3)},
    {"model": st.sampled_from(["judge", "vectors", ""]), "user": TEXTS},
)
EMBEDDINGS = objects(
    {
        "model": st.just("vectors") | NAMES,
        "input": TEXTS | st.lists(TEXTS, max_size=4) | st.lists(st.integers(), max_size=4),
    },
    {"dimensions": st.integers(), "encoding_format": st.sampled_from(["float", "base64"]), "user": TEXTS},
)
FEEDBACK = objects(
    {"message_id": TEXTS},
    {"rating": st.integers(0, 6), "correction": TEXTS, "comment": TEXTS, "wrong_model": st.booleans(), "user": TEXTS},
)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, ServerParts]]:
    folder = tmp_path_factory.mktemp("fuzz")
    with stub_upstream() as upstream:
        parts = open_parts(furnish(Settings(home=folder / "yard"), upstream, Path(folder)))
        with TestClient(create_app(parts), base_url=HERE, raise_server_exceptions=False) as client:
            yield client, parts


def case(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


def fuzz(asked: tuple[TestClient, ServerParts], path: str, strategy: Any, examples: int) -> Counter[int]:
    """Send that many bodies and return how often each status came back."""
    client, parts = asked
    seen = Counter[int]()

    @case(examples // 2)
    @given(body=strategy, at=st.integers(0, 10_000), byte=st.sampled_from(b'\x00\xff\xed"{}[],:-09e \\'))
    def send(body: Any, at: int, byte: int) -> None:
        content = as_json(body)
        at %= len(content)
        # As it is, and with a byte that goes wrong on its way.
        for sent in (content, content[:at] + bytes([byte]) + content[at + 1 :]):
            response = client.post(path, content=sent)
            seen[response.status_code] += 1
            assert response.status_code < 500, (response.status_code, response.text, sent)
            if response.status_code >= 400:
                assert response.json()["error"].keys() == {"message", "type", "param", "code"}
            elif response.headers["content-type"].startswith("text/event-stream"):
                assert response.text.endswith("data: [DONE]\n\n")

    send()
    assert parts.writer.flush(30)
    assert (parts.writer.problem, parts.writer.refused) == (None, 0)
    return seen


def as_json(body: Any) -> bytes:
    """Write a body as Python's own writer does: NaN, lone surrogates and endless integers included."""
    return json.dumps(body, ensure_ascii=True).encode()


@pytest.mark.parametrize("share", range(3))
def test_chat(asked: tuple[TestClient, ServerParts], share: int) -> None:
    seen = fuzz(asked, "/v1/chat/completions", CHAT, 2000)
    assert sum(seen.values()) >= 2000
    assert seen[200] > 50, share
    assert seen[400] > 300


def test_embeddings(asked: tuple[TestClient, ServerParts]) -> None:
    seen = fuzz(asked, "/v1/embeddings", EMBEDDINGS, 2500)
    assert sum(seen.values()) >= 2500
    assert seen[200] > 100


def test_moderations(asked: tuple[TestClient, ServerParts]) -> None:
    seen = fuzz(asked, "/v1/moderations", MODERATIONS, 500)
    assert sum(seen.values()) >= 500
    assert seen[200] > 20


def test_feedback(asked: tuple[TestClient, ServerParts]) -> None:
    seen = fuzz(asked, "/v1/feedback", FEEDBACK, 1500)
    assert sum(seen.values()) >= 1500


def test_health_is_sound_afterwards(asked: tuple[TestClient, ServerParts]) -> None:
    client, _ = asked
    assert orjson.loads(client.get("/health").content)["status"] == "ok"

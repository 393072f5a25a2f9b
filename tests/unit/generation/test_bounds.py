from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelyard.catalog import BaseModel, Price
from modelyard.generation.bounds import CALL_TOKENS, FILE_TOKENS, TOOLS_TOKENS, TURN_TOKENS, prompt_bound
from modelyard.generation.prompting import SOURCES, prompt_tokens
from modelyard.types import Message, Turn

MODEL = BaseModel("m", "openai", Price(1, 1))
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
NOTHING = CALL_TOKENS + TURN_TOKENS


def message(content: Any, text: str = "", **others: Any) -> Message:
    wire = {"role": "user", "content": content, **others}
    return Message((Turn("user", text or (content if isinstance(content, str) else ""), wire),))


@pytest.mark.parametrize("text", ["", "plain text", "字" * 100, "é", "🦜", "\ud800", "!?" * 50])
@pytest.mark.parametrize("wired", [False, True])
def test_text_is_counted_in_bytes(text: str, wired: bool) -> None:
    given = message(text) if wired else Message((Turn("user", text),))
    assert prompt_bound(given).of(MODEL) == NOTHING + len(text.encode("utf-8", "surrogatepass"))


def test_parts_are_counted_at_their_most() -> None:
    assert prompt_bound(message([IMAGE, IMAGE])).of(MODEL) == NOTHING + 2 * MODEL.image_tokens
    assert prompt_bound(message([IMAGE])).of(replace(MODEL, image_tokens=50_000)) == NOTHING + 50_000
    assert prompt_bound(message([{"type": "text", "text": "字"}], "字")).of(MODEL) == NOTHING + 3
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 16_000, "format": "mp3"}}
    assert 1000 < prompt_bound(message([sound])).of(MODEL) < 2000
    assert prompt_bound(message([{"type": "file", "file": {"file_id": "f"}}])).of(MODEL) == NOTHING + FILE_TOKENS
    held = {"type": "file", "file": {"file_data": "A" * 5000}}
    assert 5000 < prompt_bound(message([held])).of(MODEL) < 5200


def test_what_stands_beside_the_text_counts() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "x" * 4000}}
    assert prompt_bound(message(None, tool_calls=[call])).tokens > 4000
    assert prompt_bound(message("hi", reasoning_content="x" * 4000)).tokens > 4000
    tools = Message((Turn("user", "hi"),), parameters={"tools": [{"description": "x" * 4000}]})
    assert prompt_bound(tools).tokens > 4000 + TOOLS_TOKENS
    schema = Message((Turn("user", "hi"),), parameters={"response_format": {"json_schema": "x" * 4000}})
    assert prompt_bound(schema).tokens > 4000
    books = Message((Turn("user", "hi"),), parameters={"metadata": {"a": "x" * 4000}, "user": "kim"})
    assert prompt_bound(books).tokens == NOTHING + 2


def test_sources_count_where_they_may_be_put_before_the_message() -> None:
    without, with_ = prompt_bound(Message.of("hi")), prompt_bound(Message.of("hi"), passages=4, longest=900)
    assert with_.tokens - without.tokens >= 4 * 900 + len(SOURCES)


@pytest.mark.parametrize(
    "given",
    [
        Message.of("How do I centre a div?"),
        Message.of("字" * 1000),
        message([IMAGE] * 3),
        Message((Turn("user", "hi"),), parameters={"tools": [{"description": "字" * 100}]}),
    ],
)
def test_most_is_never_less_than_what_is_expected(given: Message) -> None:
    assert prompt_bound(given).of(MODEL) >= prompt_tokens(given.turns, given.parameters)

from __future__ import annotations

from typing import Any

import pytest

from modelyard.generation.prompting import most_tokens, prompt_tokens, with_sources, written_chars
from modelyard.tasks.length import IMAGE_TOKENS
from modelyard.types import Message, Passage, Turn

FLEX = Passage("css/flex.md", "Flexbox", "Use flexbox.", 0, 12, 2.0)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "x" * 4000}}]


@pytest.mark.parametrize("content", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
def test_sources_join_a_system_turn_in_its_own_wire(content: Any) -> None:
    wire = {"role": "developer", "content": content, "name": "ann"}
    (turn,) = with_sources((Turn("system", "Be brief.", wire),), (FLEX,))
    assert turn.wire is not None
    assert (turn.wire["role"], turn.wire["name"]) == ("developer", "ann")
    if isinstance(content, str):
        assert turn.wire["content"] == turn.text
        assert turn.text.startswith("Be brief.\n\nUse the numbered")
    else:
        assert turn.wire["content"][0] == content[0]
        assert turn.wire["content"][1]["text"].endswith("[1] Flexbox\nUse flexbox.")


def test_images_count_by_the_piece_and_tool_calls_and_tools_by_their_length() -> None:
    text = Turn("user", "x" * 400)
    assert prompt_tokens((text,), {}) == 104
    assert prompt_tokens((Turn("user", "x" * 400, {"content": [{"type": "text"}, IMAGE]}),), {}) == 104 + IMAGE_TOKENS
    assert prompt_tokens((Turn("assistant", "", {"tool_calls": CALLS}),), {}) > 1000
    assert prompt_tokens((text,), {"tools": [{"description": "x" * 4000}]}) > 1100


@pytest.mark.parametrize(
    ("parameters", "most"),
    [({}, 0), ({"max_tokens": 5}, 5), ({"max_tokens": 9, "max_completion_tokens": 7}, 9), ({"max_tokens": None}, 0)],
)
def test_most_tokens(parameters: dict[str, Any], most: int) -> None:
    assert most_tokens(Message((), parameters=parameters)) == most


def test_characters_beyond_ascii_are_tokens_of_their_own() -> None:
    assert prompt_tokens((Turn("user", "字" * 100 + "x" * 100),), {}) == 100 + 25 + 4
    assert written_chars("字x", {"reasoning": "é"}) == 4 + 1 + 4


def test_arguments_of_tool_calls_are_written_too() -> None:
    assert written_chars("ab", {}) == 2
    assert written_chars("ab", {"tool_calls": CALLS, "reasoning": "hmm"}) == 4005
    assert written_chars("", {"tool_calls": [None, {"function": None}, {"function": {"arguments": None}}]}) == 0

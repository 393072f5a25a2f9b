"""How long a prompt is: everything that a base model will read of a message, in tokens, estimated."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, Final, cast

import orjson

from modelyard.types import Message, estimate_tokens

IMAGE_TOKENS: Final = 800  # what an image takes, about
PROMPTED: Final = ("tools", "functions", "response_format")  # parameters that a model reads as part of its prompt


def message_tokens(message: Message) -> int:
    """Estimate the tokens of a message: all of its turns, images and tool calls in them, and descriptions of tools; at least 1."""
    tokens = round(estimate_tokens(sum(weight(turn.text) for turn in message.turns)))
    tokens += sum(beyond_text(turn.wire) for turn in message.turns if turn.wire is not None)
    parameters = message.parameters
    if parameters:
        told = [parameters[name] for name in PROMPTED if parameters.get(name)]
        tokens += sum(ceil(estimate_tokens(json_length(value))) for value in told)
    return max(1, tokens)


def weight(text: str) -> int:
    """Return a text's length in characters, each beyond ASCII counting four: it is about a token of its own."""
    return len(text) if text.isascii() else 4 * len(text) - 3 * len(text.encode("ascii", "ignore"))


def beyond_text(wire: Mapping[str, Any]) -> int:
    """Estimate the tokens of images and tool calls of a wire message."""
    content, calls = wire.get("content"), wire.get("tool_calls")
    parts = cast("list[Any]", content) if isinstance(content, list) else ()
    others = sum(1 for part in parts if isinstance(part, Mapping) and part.get("type") != "text")
    return IMAGE_TOKENS * others + (ceil(estimate_tokens(json_length(calls))) if calls else 0)


def json_length(value: Any) -> int:
    """Return the length of a value's JSON in bytes."""
    try:
        return len(orjson.dumps(value))
    except TypeError:  # what the fast encoder refuses is long in no sense that matters here
        return len(str(value))

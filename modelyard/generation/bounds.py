"""How many tokens a prompt can be at most, for what is reserved before a call; `prompting` says how many it will be, about.

Text is counted in bytes: tokenizers cut bytes into pieces, so that no text has more tokens than bytes. Other parts are counted at the
most that is known of any model, or at what the catalogue says of this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from modelyard.catalog import BaseModel
from modelyard.generation.prompting import SOURCES
from modelyard.tasks.length import json_length
from modelyard.types import Message, Turn

CALL_TOKENS: Final = 64  # what a chat template writes by itself: a date, a name, the head of the answer
TURN_TOKENS: Final = 8  # a turn's role and separators
TOOLS_TOKENS: Final = 600  # a provider's own words on how tools are called
AUDIO_BYTES: Final = 16  # of base64 to a token: 32 tokens a second at the lowest bit rates that carry speech
AUDIO_TOKENS: Final = 100
FILE_TOKENS: Final = 200_000  # of a file that the endpoint has already, and nobody here has seen
SOURCE_TOKENS: Final = 16  # a source's number and line ends

# About the caller's own books, or a choice between tokens: models read nothing of it.
_UNREAD: Final = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key", "logit_bias"})


@dataclass(frozen=True, slots=True)
class PromptBound:
    """The most tokens of a prompt: those of its text, tools and sounds, and how many images there are beside them."""

    tokens: int
    images: int = 0

    def of(self, model: BaseModel) -> int:
        """Return the most tokens that the prompt is to a model."""
        return self.tokens + self.images * model.image_tokens


def prompt_bound(message: Message, *, passages: int = 0, longest: int = 0) -> PromptBound:
    """Return the most that a message can be as a prompt.

    Args:
        message: The conversation with its parameters.
        passages: How many sources may be put before it.
        longest: Bytes of the longest one with its title.
    """
    read = {name: value for name, value in message.parameters.items() if name not in _UNREAD}
    tokens = CALL_TOKENS + (json_length(read) if read else 0)
    tokens += TOOLS_TOKENS if read.get("tools") or read.get("functions") else 0
    tokens += len(SOURCES) + passages * (longest + SOURCE_TOKENS) if passages else 0
    images = 0
    for turn in message.turns:
        said, shown = _turn_bound(turn)
        tokens, images = tokens + TURN_TOKENS + said, images + shown
    return PromptBound(tokens, images)


def _turn_bound(turn: Turn) -> tuple[int, int]:
    """Return the most tokens of a turn beside its images, and the number of these."""
    wire = turn.wire
    if wire is None:
        return _bytes(turn.text), 0
    others = {name: value for name, value in wire.items() if name not in {"role", "content"}}
    tokens, images = json_length(others) if others else 0, 0
    content = wire.get("content")
    if not isinstance(content, list):
        return tokens + _bytes(turn.text), 0
    for part in cast("Sequence[Mapping[str, Any]]", content):
        if part.get("type") == "image_url":
            images += 1
        else:
            tokens += _part_bound(part)
    return tokens, images


def _part_bound(part: Mapping[str, Any]) -> int:
    match part.get("type"):
        case "text":
            return _bytes(str(part.get("text")))
        case "input_audio":
            return AUDIO_TOKENS + json_length(part) // AUDIO_BYTES
        case "file":
            file = part.get("file")
            held = isinstance(file, Mapping) and bool(cast("Mapping[str, Any]", file).get("file_data"))
            return json_length(part) if held else FILE_TOKENS
        case _:
            return json_length(part)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

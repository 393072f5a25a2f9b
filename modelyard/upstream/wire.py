"""Reads what an OpenAI-compatible endpoint sends: whole completions, and server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from modelyard.errors import UpstreamError
from modelyard.types import FinishReason, Turn
from modelyard.upstream.endpoint import Endpoint

DONE: Final = "[DONE]"
LONGEST_EVENT: Final = 1 << 20  # bytes; a stream whose line never ends must not fill the memory
FINISH_REASONS: Final = frozenset({"stop", "length", "content_filter", "tool_calls"})


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer; token counts are None where the endpoint did not report them."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def payload(endpoint: Endpoint, turns: Sequence[Turn], *, stream: bool) -> dict[str, Any]:
    """Return the request body."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [{"role": turn.role, "content": turn.text} for turn in turns],
    }
    return body | {"stream": True, "stream_options": {"include_usage": True}} if stream else body


def completion(endpoint: Endpoint, body: str) -> Completion:
    """Read the body of an answer that was not streamed.

    Raises:
        UpstreamError: It is not a completion, or holds no text.
    """
    answer = _object(endpoint, body)
    _raise_if_error(endpoint, answer)
    choice = _first_choice(answer)
    text = _mapping(choice.get("message")).get("content")
    if not isinstance(text, str) or not text.strip():
        raise endpoint.error("gave an answer without text")
    prompt_tokens, completion_tokens = _usage(answer)
    return Completion(text, _finish_reason(choice) or "stop", prompt_tokens, completion_tokens)


@dataclass(slots=True)
class StreamedAnswer:
    """Puts the chunks of one streamed answer together."""

    endpoint: Endpoint
    parts: list[str] = field(default_factory=list[str])
    finish_reason: FinishReason | None = None
    usage: tuple[int | None, int | None] = (None, None)

    def take(self, data: str) -> str:
        """Read one event's data and return its piece of text, which may be empty.

        Raises:
            UpstreamError: It is not a chunk, or it is an error.
        """
        chunk = _object(self.endpoint, data)
        _raise_if_error(self.endpoint, chunk)
        choice = _first_choice(chunk)
        self.finish_reason = _finish_reason(choice) or self.finish_reason
        if chunk.get("usage"):
            self.usage = _usage(chunk)
        text = _mapping(choice.get("delta")).get("content")
        if not isinstance(text, str):
            return ""
        self.parts.append(text)
        return text

    def finish(self, *, done: bool) -> Completion:
        """Return the whole answer; `done` says whether the stream's own end mark was seen.

        Raises:
            UpstreamError: The stream ended with neither a finish reason nor its end mark, or held no text.
        """
        if self.finish_reason is None and not done:
            raise self.endpoint.error("cut its stream before the end", retryable=True)
        text = "".join(self.parts)
        if not text.strip():
            raise self.endpoint.error("gave an answer without text")
        return Completion(text, self.finish_reason or "stop", *self.usage)


async def events(endpoint: Endpoint, chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield the data of each server-sent event, whatever the chunks' borders; comments and other fields are left out.

    Raises:
        UpstreamError: An event is longer than a mebibyte or not UTF-8.
    """
    pending, data = b"", list[str]()
    async for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        if len(pending) + sum(map(len, data)) > LONGEST_EVENT:
            raise endpoint.error(f"sent an event of more than {LONGEST_EVENT} bytes")
        for raw in lines:
            line = _decode(endpoint, raw.removesuffix(b"\r"))
            if line.startswith("data:"):
                data.append(line.removeprefix("data:").removeprefix(" "))
            elif not line and data:
                yield "\n".join(data)
                data = []
    last = [*data, _decode(endpoint, pending).removeprefix("data:").strip()]
    if DONE in last:  # an end mark counts without its blank line; any other event that was cut off does not
        yield DONE


def _decode(endpoint: Endpoint, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise endpoint.error("sent an event that is not UTF-8") from None


def _object(endpoint: Endpoint, text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise endpoint.error("sent something that is not JSON") from None
    if not isinstance(found, dict):
        raise endpoint.error("sent JSON that is not an object")
    return cast("dict[str, Any]", found)


def _raise_if_error(endpoint: Endpoint, answer: Mapping[str, Any]) -> None:
    if answer.get("error"):
        raise _reported(endpoint, error_message(answer) or "no message")


def _reported(endpoint: Endpoint, message: str) -> UpstreamError:
    return endpoint.error(f"reported an error: {message[:200]}")


def error_message(answer: object) -> str:
    """Return the sentence inside an OpenAI-shaped error body, or the empty string."""
    error = _mapping(answer).get("error")
    message = error if isinstance(error, str) else _mapping(error).get("message")
    return message if isinstance(message, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = answer.get("choices")
    return _mapping(choices[0]) if isinstance(choices, list) and choices else {}


def _finish_reason(choice: Mapping[str, Any]) -> FinishReason | None:
    reason = choice.get("finish_reason")
    if reason is None:
        return None
    return cast("FinishReason", reason) if reason in FINISH_REASONS else "stop"


def _usage(answer: Mapping[str, Any]) -> tuple[int | None, int | None]:
    usage = _mapping(answer.get("usage"))
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    if all(isinstance(count, int) and count >= 0 for count in counts):
        return counts  # pyright: ignore[reportReturnType]  (checked in the line above)
    return None, None

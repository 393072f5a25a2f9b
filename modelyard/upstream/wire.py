"""Writes and reads the OpenAI wire: requests, and whole completions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

import orjson

from modelyard.errors import InvalidInput
from modelyard.types import FinishReason
from modelyard.upstream.endpoint import Endpoint, error_parts

FINISH_REASONS: Final = frozenset({"stop", "length", "content_filter", "tool_calls"})
MOST_TOKENS: Final = 1_000_000_000  # an upstream that reports more reports nonsense

_DETAILS: Final = ("completion_tokens_details", "prompt_tokens_details")

# What makes an answer one without text.
_SUBSTANCE: Final = ("tool_calls", "refusal", "audio", "function_call")


class Counts(NamedTuple):
    """Tokens as the endpoint counted them; None where it did not. `cached` of the prompt's were read from its cache."""

    prompt: int | None = None
    completion: int | None = None
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer.

    Attributes:
        text: Empty where the answer is a tool call or a refusal, or its tokens ran out before the first visible one.
        finish_reason: Why it ended.
        prompt_tokens: None where the endpoint did not report it; likewise `completion_tokens`.
        completion_tokens: Includes what a reasoning model thought.
        cached_tokens: Of the prompt's tokens, those read from the endpoint's cache.
        fields: Other entries of the assistant message, such as `tool_calls`.
        extras: What the endpoint said of the answer beside it: `logprobs`, `system_fingerprint`, and the details of its usage.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    extras: Mapping[str, Any] = field(default_factory=dict[str, Any])


def encode(body: Mapping[str, Any]) -> bytes:
    """Return a request's body as JSON.

    Raises:
        InvalidInput: JSON cannot carry a value in it.
    """
    try:
        return orjson.dumps(body)
    except TypeError:  # lone surrogates, integers beyond 64 bits, deep nesting: the slow encoder takes more
        try:
            return json.dumps(body).encode()
        except (TypeError, ValueError, RecursionError):
            raise InvalidInput("The request holds a value, or nesting, that cannot be passed on as JSON.") from None


def decode(endpoint: Endpoint, data: bytes) -> dict[str, Any]:
    """Read a JSON object that is not an error.

    Raises:
        UpstreamError: It is something else.
    """
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise endpoint.error("sent something that is not JSON") from None
    if not isinstance(found, dict):
        raise endpoint.error("sent JSON that is not an object")
    answer = cast("dict[str, Any]", found)
    if error := answer.get("error"):
        raise endpoint.reported(error)
    return answer


def completion(endpoint: Endpoint, data: bytes) -> Completion:
    """Read the body of an answer that was not streamed.

    Raises:
        UpstreamError: It is not a completion, or holds nothing.
    """
    answer = decode(endpoint, data)
    choices = answer.get("choices")
    choice = mapping(cast("list[Any]", choices)[0]) if isinstance(choices, list) and choices else {}
    message = mapping(choice.get("message"))
    reason = finish_reason_of(endpoint, choice.get("finish_reason"))
    text = text_of(endpoint, message.get("content"))
    usage = answer.get("usage")
    extras = said_of(answer, choice) | details(usage)
    return whole(endpoint, text, reason or "stop", counts(usage), others(message), extras)


def counts(usage: Any) -> Counts:
    """Read an OpenAI-shaped usage; what is no sensible number counts as not reported."""
    row = mapping(usage)
    prompt, written = _count(row.get("prompt_tokens")), _count(row.get("completion_tokens"))
    if prompt is None or written is None:
        return Counts()
    cached = mapping(row.get("prompt_tokens_details")).get("cached_tokens", row.get("prompt_cache_hit_tokens"))
    return Counts(prompt, written, min(_count(cached) or 0, prompt))


def details(usage: Any) -> dict[str, Any]:
    """Return the details of an OpenAI-shaped usage, such as the tokens of thoughts, as they are."""
    row = mapping(usage)
    return {name: found for name in _DETAILS if isinstance(found := row.get(name), dict)}


def said_of(answer: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an answer, or a chunk of one, holds beside its choice's message: `logprobs` and `system_fingerprint`."""
    extras: dict[str, Any] = {}
    if isinstance(logprobs := choice.get("logprobs"), dict):
        extras["logprobs"] = logprobs
    if isinstance(fingerprint := answer.get("system_fingerprint"), str):
        extras["system_fingerprint"] = fingerprint
    return extras


def prompt_count(usage: Any) -> int | None:
    """Read the tokens of a usage that has no completion, as that of embeddings; None where no sensible number was reported."""
    row = mapping(usage)
    return _count(row.get("prompt_tokens", row.get("total_tokens")))


def error_message(answer: object) -> str:
    """Return the sentence inside an OpenAI-shaped error body, or the empty string."""
    return error_parts(mapping(answer).get("error"))[1]


def whole(
    endpoint: Endpoint,
    text: str,
    reason: FinishReason,
    tokens: Counts,
    fields: Mapping[str, Any],
    extras: Mapping[str, Any],
) -> Completion:
    """Return a completion.

    Raises:
        UpstreamError: There is nothing in it.
    """
    if not text.strip() and reason != "length" and not any(fields.get(name) for name in _SUBSTANCE):
        if reason == "content_filter":
            raise endpoint.error("withheld its answer for its content policy", kind="content_policy")
        raise endpoint.error("gave an answer without text")
    return Completion(text, reason, tokens.prompt, tokens.completion, tokens.cached, fields, extras)


def mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one where it is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None


def finish_reason_of(endpoint: Endpoint, reason: object) -> FinishReason | None:
    """Return why an answer ended; None where it has not. A reason that the wire does not know counts as `stop`.

    Raises:
        UpstreamError: The reason is an error.
    """
    if reason is None:
        return None
    if reason == "error":  # OpenRouter's way to say that its own upstream broke off
        raise endpoint.error("broke its answer off with an error", kind="cut")
    return cast("FinishReason", reason) if isinstance(reason, str) and reason in FINISH_REASONS else "stop"


def text_of(endpoint: Endpoint, content: Any) -> str:
    """Return a content's text; some endpoints send parts instead.

    Raises:
        UpstreamError: It is neither.
    """
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        raise endpoint.error("sent content that is not text")
    parts = [mapping(part).get("text") for part in cast("list[Any]", content)]
    return "".join(part for part in parts if isinstance(part, str))


def others(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a message or delta holds beside role and content, where it says anything."""
    return {
        name: value
        for name, value in message.items()
        if name not in {"role", "content"} and value is not None and value not in ("", [], {})
    }

"""The OpenAI wire at our edge: whole answers, and answers as server-sent events, each with what its endpoint said of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from modelyard.serving.wire import json_bytes
from modelyard.types import Answer, Delta, Usage


def usage_body(usage: Usage, extras: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the token counts in OpenAI's shape, with the details that the endpoint gave."""
    extras = extras or {}
    body = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {**extras.get("prompt_tokens_details", {}), "cached_tokens": usage.cached_tokens},
    }
    thoughts = extras.get("completion_tokens_details")
    return body if thoughts is None else {**body, "completion_tokens_details": thoughts}


def completion_body(answer: Answer, model: str, explained: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a whole answer, with the `modelyard` object where it was asked for."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None, **answer.fields}
    body: dict[str, Any] = {
        "id": answer.id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": answer.finish_reason,
                "logprobs": answer.extras.get("logprobs"),
            }
        ],
        "usage": usage_body(answer.usage, answer.extras),
    }
    if "system_fingerprint" in answer.extras:
        body["system_fingerprint"] = answer.extras["system_fingerprint"]
    return body if explained is None else {**body, "modelyard": explained}


class ChunkWriter:
    """Writes one streamed answer as server-sent events.

    Args:
        id: The answer's id.
        model: The model's name as it was asked for.
        include_usage: Whether a last chunk carries the token counts.
        fingerprint: The endpoint's `system_fingerprint`, where it gave one.
    """

    def __init__(self, id: str, model: str, *, include_usage: bool, fingerprint: str | None = None) -> None:
        self._head: dict[str, Any] = {
            "id": id, "object": "chat.completion.chunk", "created": int(time.time()), "model": model,
        }  # fmt: skip
        if fingerprint is not None:
            self._head["system_fingerprint"] = fingerprint
        self._include_usage = include_usage
        # A piece of text is by far the most frequent chunk: only the text itself is written anew.
        whole = self._chunk({"content": "\x00"})
        self._before, self._after = whole.split(orjson.dumps("\x00"))

    def start(self) -> bytes:
        """Return the chunk that opens the answer."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def piece(self, delta: Delta) -> bytes:
        """Return a chunk with a piece of the answer."""
        logprobs = None if delta.extras is None else delta.extras.get("logprobs")
        if not delta.fields and logprobs is None:
            return self._before + json_bytes(delta.text) + self._after
        return self._chunk({**({"content": delta.text} if delta.text else {}), **delta.fields}, logprobs=logprobs)

    def end(self, answer: Answer, explained: Mapping[str, Any] | None) -> bytes:
        """Return the chunk that closes the answer, the usage where it was asked for, and the end mark."""
        extra = {} if explained is None else {"modelyard": explained}
        closing = self._chunk({}, answer.finish_reason, extra=extra)
        usage = b""
        if self._include_usage:
            usage = _event({**self._head, "choices": [], "usage": usage_body(answer.usage, answer.extras)})
        return closing + usage + b"data: [DONE]\n\n"

    def broken(self, error: Mapping[str, Any]) -> bytes:
        """Return an error event; no end mark follows it."""
        return _event(error)

    def _chunk(
        self,
        delta: Mapping[str, Any],
        finish_reason: str | None = None,
        *,
        logprobs: Any = None,
        extra: Mapping[str, Any] | None = None,
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}
        usage = {"usage": None} if self._include_usage else {}
        return _event({**self._head, "choices": [choice], **usage, **(extra or {})})


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json_bytes(data) + b"\n\n"

"""The OpenAI wire at our edge: what a chat request may say, and the shapes that go back."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

import pydantic

from modelyard.errors import InvalidInput
from modelyard.types import Answer, Message, Role, Turn

# Parameters that would change what an answer is: refused, for an answer that leaves them out would be a wrong one.
UNSUPPORTED: Final[Mapping[str, tuple[Any, ...]]] = {
    "tools": (None, []),
    "functions": (None, []),
    "tool_choice": (None, "none", "auto"),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "web_search_options": (None,),
}
# Parameters about the caller's own books, which ask nothing of the answer.
BOOKKEEPING: Final = frozenset({"user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier"})


class _Wire(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="allow")


class ContentPart(_Wire):
    """One part of a message's content; only text is answered."""

    type: str
    text: str = ""


class ChatMessage(_Wire):
    """One message of a chat request."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart]

    @pydantic.field_validator("content")
    @classmethod
    def _only_text(cls, content: str | list[ContentPart]) -> str | list[ContentPart]:
        for part in content if isinstance(content, list) else ():
            if part.type != "text":
                raise ValueError(f"content parts must be of type 'text'; {part.type!r} is not supported here")
        return content

    @property
    def turn(self) -> Turn:
        """The message as a turn; text parts are joined by line breaks."""
        text = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        role: Role = "system" if self.role == "developer" else self.role
        return Turn(role, text)


class StreamOptions(_Wire):
    """What a streamed answer should carry besides text."""

    include_usage: bool = False


class ChatRequest(_Wire):
    """The body of `POST /v1/chat/completions`."""

    model: str = pydantic.Field(min_length=1, max_length=200)
    messages: list[ChatMessage] = pydantic.Field(min_length=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1

    @pydantic.field_validator("n")
    @classmethod
    def _one_answer(cls, n: int | None) -> int | None:
        if n not in {None, 1}:
            raise ValueError("n must be 1: one answer a request is given")
        return n

    @pydantic.field_validator("messages")
    @classmethod
    def _something_is_asked(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if not any(message.role == "user" and message.turn.text.strip() for message in messages):
            raise ValueError("messages must hold a user message with text")
        return messages

    @property
    def message(self) -> Message:
        """The conversation as a fresh `Message`."""
        return Message(tuple(message.turn for message in self.messages))

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of the parameters that this server leaves aside, such as `temperature`; the answer names them."""
        given = self.model_extra or {}
        return tuple(sorted(name for name in given if name not in BOOKKEEPING and name not in UNSUPPORTED))


class BadRequest(InvalidInput):
    """A request breaks a rule of the wire; `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def parse_chat_request(body: bytes) -> ChatRequest:
    """Read and check a request's body.

    Raises:
        BadRequest: It is not JSON, breaks a rule, or asks for something that is not supported.
    """
    try:
        request = ChatRequest.model_validate_json(body)
    except pydantic.ValidationError as error:
        raise _bad_request(error) from None
    for name, harmless in UNSUPPORTED.items():
        if (request.model_extra or {}).get(name) not in harmless:
            raise BadRequest(f"The parameter {name!r} is not supported here.", name)
    return request


def _bad_request(error: pydantic.ValidationError) -> BadRequest:
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return BadRequest(f"The request's body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}.")
    # pydantic names the branch of a union in the path; a caller knows only fields and positions.
    path = [str(part) for part in first["loc"] if part not in {"str"} and not str(part).startswith("list[")]
    param = ".".join(path) or None
    return BadRequest(f"{param or 'The body'}: {first['msg'].removeprefix('Value error, ')}.", param)


def error_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def usage_body(answer: Answer) -> dict[str, int]:
    """Return the token counts in OpenAI's shape."""
    return {
        "prompt_tokens": answer.usage.prompt_tokens,
        "completion_tokens": answer.usage.completion_tokens,
        "total_tokens": answer.usage.total_tokens,
    }


def completion_body(answer: Answer, model: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole answer; `extra` joins the metadata in the `modelyard` object."""
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    return {
        "id": answer.id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}],
        "usage": usage_body(answer),
        "modelyard": {**answer.metadata, **extra},
    }


class ChunkWriter:
    """Writes one streamed answer as server-sent events.

    Args:
        id: The answer's id.
        model: The model's name as it was asked for.
        include_usage: Whether a last chunk carries the token counts.
    """

    def __init__(self, id: str, model: str, *, include_usage: bool) -> None:
        self._head = {"id": id, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._include_usage = include_usage

    def start(self) -> bytes:
        """Return the chunk that opens the answer."""
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, piece: str) -> bytes:
        """Return a chunk with a piece of text."""
        return self._chunk({"content": piece})

    def end(self, answer: Answer, extra: Mapping[str, Any]) -> bytes:
        """Return the chunk that closes the answer, the usage where it was asked for, and the end mark."""
        closing = self._chunk({}, answer.finish_reason, {"modelyard": {**answer.metadata, **extra}})
        usage = b""
        if self._include_usage:
            usage = _event({**self._head, "choices": [], "usage": usage_body(answer)})
        return closing + usage + b"data: [DONE]\n\n"

    def broken(self, error: Mapping[str, Any]) -> bytes:
        """Return an error event; no end mark follows it."""
        return _event(error)

    def _chunk(
        self, delta: Mapping[str, str], finish_reason: str | None = None, extra: Mapping[str, Any] | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        usage = {"usage": None} if self._include_usage else {}
        return _event({**self._head, "choices": [choice], **usage, **(extra or {})})


def _event(data: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def models_body(names: Mapping[str, str]) -> dict[str, Any]:
    """Return the list of models; `names` maps each to `composite` or `base`."""
    rows = [
        {"id": name, "object": "model", "created": 0, "owned_by": "modelyard", "kind": kind}
        for name, kind in names.items()
    ]
    return {"object": "list", "data": rows}


def header_safe(text: str, longest: int = 200) -> str:
    """Return text as a header can carry it: one line of printable ASCII, other characters replaced by `?`."""
    line = " ".join(text.split()).encode("ascii", "replace").decode("ascii")
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:longest]

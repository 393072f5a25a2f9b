"""The OpenAI wire at our edge: what a chat request may say, and the shapes that go back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, cast

import orjson
import pydantic

from modelyard.errors import InvalidInput
from modelyard.types import Capability, Message, Role, Turn, new_id

OURS: Final = frozenset({"model", "messages", "stream", "stream_options", "n", "modelyard"})  # not passed on
# About the caller's own books: a model that does not know them has lost nothing.
BOOKKEEPING: Final = frozenset({"user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier"})
DEEPEST: Final = 100  # levels of nesting in a body
LONGEST_SHOWN: Final = 50  # characters of a wrong value
_PART_NEEDS: Final[Mapping[str, Capability]] = {"image_url": "images", "input_audio": "audio"}
_PARTS: Final = frozenset({"text", "refusal", *_PART_NEEDS, "file"})
_Number = Annotated[float, pydantic.Field(strict=False, allow_inf_nan=False)]


class _Wire(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="allow")


class ChatMessage(_Wire):
    """One message of a chat request."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None

    @pydantic.field_validator("content")
    @classmethod
    def _known_parts(cls, content: Any) -> Any:
        for part in content if isinstance(content, list) else ():
            kind = part.get("type")
            if not isinstance(kind, str) or kind not in _PARTS:
                raise ValueError(f"a content part's type must be one of {', '.join(sorted(_PARTS))}, but got {kind!r}")
            if kind == "text" and not isinstance(part.get("text"), str):
                raise ValueError("a content part of type 'text' needs a string 'text'")
        return content

    @property
    def says(self) -> bool:
        """Whether there is something to answer: text, something shown, or a tool's result."""
        if self.role in {"tool", "function"}:
            return True
        shown = isinstance(self.content, list) and any(part["type"] != "text" for part in self.content)
        return shown or bool(_text_of(self.content).strip())

    def turn(self, raw: Mapping[str, Any]) -> Turn:
        """Return the message as a turn; `raw` is what came, kept where it holds more than a role and text."""
        content = self.content
        text = _text_of(content)
        role: Role = _ROLES[self.role]
        plain = isinstance(content, str) and len(raw) == 2 and self.role == role
        return Turn(role, text, None if plain else raw)


def _text_of(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if part["type"] == "text")
    return content or ""


_ROLES: Final[Mapping[str, Role]] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool", "function": "tool",
}  # fmt: skip


class StreamOptions(_Wire):
    """What a streamed answer should carry besides text."""

    include_usage: bool = False


class Explain(_Wire):
    """What else the answer should carry: everything that explains it, and under which name the conversation goes."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="forbid")

    explain: bool = True
    conversation: str | None = pydantic.Field(default=None, min_length=1, max_length=200)


class ChatRequest(_Wire):
    """The body of `POST /v1/chat/completions`; parameters that are not named here go to the base model as they are."""

    model: str = pydantic.Field(min_length=1, max_length=200)
    messages: list[ChatMessage] = pydantic.Field(min_length=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    modelyard: Explain | None = None
    max_tokens: int | None = pydantic.Field(default=None, ge=1)
    max_completion_tokens: int | None = pydantic.Field(default=None, ge=1)
    temperature: _Number | None = pydantic.Field(default=None, ge=0, le=2)
    top_p: _Number | None = pydantic.Field(default=None, ge=0, le=1)
    frequency_penalty: _Number | None = pydantic.Field(default=None, ge=-2, le=2)
    presence_penalty: _Number | None = pydantic.Field(default=None, ge=-2, le=2)
    seed: int | None = None
    stop: str | list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    user: str | None = pydantic.Field(default=None, max_length=200)
    metadata: dict[str, str] | None = None

    @pydantic.field_validator("response_format")
    @classmethod
    def _named_format(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        if given is not None and not isinstance(given.get("type"), str):
            raise ValueError(f"response_format needs a string 'type', but got {given.get('type')!r:.50}")
        return given

    @pydantic.field_validator("n")
    @classmethod
    def _one_answer(cls, n: int | None) -> int | None:
        if n not in {None, 1}:
            raise ValueError("n must be 1: one answer a request is given")
        return n


class Asked:
    """A checked chat request.

    Attributes:
        model: The model's name as it was asked for.
        message: The conversation with its parameters.
        stream, include_usage: How the answer goes back.
        explain: Whether the answer carries the `modelyard` object.
        user: The application's own name for its user.
    """

    __slots__ = ("explain", "include_usage", "message", "model", "stream", "user")

    def __init__(self, request: ChatRequest, body: Mapping[str, Any]) -> None:
        self.model = request.model
        self.stream = bool(request.stream)
        self.include_usage = bool(request.stream_options and request.stream_options.include_usage)
        self.explain = request.modelyard is not None and request.modelyard.explain
        self.user = request.user
        turns = tuple(m.turn(raw) for m, raw in zip(request.messages, body["messages"], strict=True))
        if not any(message.says for message in request.messages):
            raise BadRequest("messages: must hold a message with text, but every one is blank.", "messages")
        self.message = Message(
            turns,
            new_id("msg"),
            {name: value for name, value in body.items() if name not in OURS and value is not None},
            _needs(request),
            request.modelyard.conversation if request.modelyard else None,
        )

    def ignored(self, local: bool) -> tuple[str, ...]:
        """Return the names of the parameters that the base model that answered could not heed; local models heed none."""
        return tuple(sorted(self.message.parameters.keys() - BOOKKEEPING)) if local else ()


def _needs(request: ChatRequest) -> frozenset[Capability]:
    needs = set[Capability]()
    if request.tools or request.functions:
        needs.add("tools")
    if request.response_format and request.response_format["type"] != "text":
        needs.add("json")
    for message in request.messages:
        for part in message.content if isinstance(message.content, list) else ():
            if need := _PART_NEEDS.get(part["type"]):
                needs.add(need)
    return frozenset(needs)


class BadRequest(InvalidInput):
    """A request breaks a rule of the wire; `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def parse_json(body: bytes) -> dict[str, Any]:
    """Read a body that must be a JSON object.

    Raises:
        BadRequest: It is not one, or is nested deeper than anything that makes sense.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The request's body is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise BadRequest("The request's body must be a JSON object.")
    if body.count(b"[") + body.count(b"{") > DEEPEST and _depth(found) > DEEPEST:
        raise BadRequest(f"The request's body must not be nested deeper than {DEEPEST} levels.")
    return found


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level and deepest <= DEEPEST:
        deepest += 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return deepest


def parse_chat_request(body: bytes) -> Asked:
    """Read and check a request's body.

    Raises:
        BadRequest: It is not JSON, or breaks a rule.
    """
    found = parse_json(body)
    try:
        return Asked(ChatRequest.model_validate(found), found)
    except pydantic.ValidationError as error:
        raise bad_request(error) from None


def bad_request(error: pydantic.ValidationError) -> BadRequest:
    """Return the first broken rule as one sentence that names the field."""
    first = error.errors(include_url=False, include_context=False)[0]
    # pydantic names the branch of a union in the path; a caller knows only fields and positions.
    path = [
        str(part) for part in first["loc"] if part not in _BRANCHES and not str(part).startswith(("list[", "dict["))
    ]
    param = ".".join(path) or None
    said = first["msg"].removeprefix("Value error, ")
    got = "" if first["type"] in _VALUELESS or "but got" in said else f", but got {_shown(first['input'])}"
    return BadRequest(f"{param or 'The body'}: {said}{got}.", param)


def _shown(value: Any) -> str:
    """Return a wrong value as a caller may read it: never much of a text, and nothing of what is in an object."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(cast('list[Any]', value))}"
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST_SHOWN else f"{value[:LONGEST_SHOWN]}…")
    return orjson.dumps(value).decode()[:LONGEST_SHOWN]


_VALUELESS: Final = frozenset({"missing", "extra_forbidden"})  # what is wrong is that a field is there, or is not
_BRANCHES: Final = frozenset({"str", "float", "int"})


def error_body(message: str, kind: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def json_bytes(value: Any) -> bytes:
    """Return a body as JSON."""
    return orjson.dumps(value, default=_other, option=orjson.OPT_NON_STR_KEYS)


def _other(value: Any) -> Any:
    """Write mappings and sequences that are neither dict nor list."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value)


def models_body(names: Mapping[str, str]) -> dict[str, Any]:
    """Return the list of models; `names` maps each to `composite` or `base`."""
    return {"object": "list", "data": [model_body(name, kind) for name, kind in names.items()]}


def model_body(name: str, kind: str) -> dict[str, Any]:
    """Return one entry of the list of models."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "modelyard", "kind": kind}


_UNPRINTABLE: Final = bytes.maketrans(bytes([*range(32), 127]), b"?" * 33)


def header_safe(text: str, longest: int = 200) -> str:
    """Return text as a header can carry it: one line of printable ASCII, other characters replaced by `?`, a minus sign by a hyphen."""
    if not (text.isascii() and text.isprintable()):
        line = " ".join(text.split()).replace("−", "-")
        text = line.encode("ascii", "replace").translate(_UNPRINTABLE).decode("ascii")
    return text[:longest].strip()

"""The two files of an offline batch: requests that go in, results that come out; one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import orjson

from modelyard.errors import InvalidInput
from modelyard.upstream.endpoint import Endpoint
from modelyard.upstream.wire import counts, error_message

MOST_REQUESTS: Final = 50_000  # of one batch, OpenAI's own limit
LONGEST_FILE: Final = 200_000_000  # bytes, likewise

BatchPath = Literal["/v1/chat/completions", "/v1/embeddings", "/v1/moderations"]


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One request of a batch: its name within the batch, and the body without the model."""

    custom_id: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of one request: a response's body, or a sentence about why there is none.

    Token counts are None where the endpoint reported none.
    """

    custom_id: str
    body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    problem: str = ""
    status: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0


def batch_file(requests: Iterable[BatchRequest], model: str, path: BatchPath) -> bytes:
    """Write the requests as the lines of a batch's file.

    Raises:
        InvalidInput: There are none, too many or too long ones, two have the same `custom_id`, or one is to be streamed.
    """
    lines, names, size = list[bytes](), set[str](), 0
    for request in requests:
        if request.custom_id in names or not request.custom_id:
            raise InvalidInput(f"Every request of a batch needs a custom_id of its own, but got {request.custom_id!r}.")
        if request.body.get("stream"):
            raise InvalidInput(f"A batch cannot stream its answers, but the request {request.custom_id!r} asks for it.")
        names.add(request.custom_id)
        body = {**request.body, "model": model}
        lines.append(orjson.dumps({"custom_id": request.custom_id, "method": "POST", "url": path, "body": body}))
        size += len(lines[-1]) + 1
        if len(lines) > MOST_REQUESTS or size > LONGEST_FILE:
            raise InvalidInput(f"A batch holds at most {MOST_REQUESTS} requests and {LONGEST_FILE} bytes.")
    if not lines:
        raise InvalidInput("A batch needs at least one request.")
    return b"\n".join(lines) + b"\n"


def read_result(endpoint: Endpoint, line: bytes) -> BatchResult:
    """Read one line of a file of results or errors.

    Raises:
        UpstreamError: It is not a result.
    """
    found = json_object(endpoint, line)
    custom_id, response = found.get("custom_id"), mapping(found.get("response"))
    if not isinstance(custom_id, str):
        raise endpoint.error("sent a batch result without a custom_id")
    body, status = mapping(response.get("body")), count(response.get("status_code"))
    if found.get("error") or status != 200:
        problem = error_message(found) or error_message(body) or "the endpoint gave no reason"
        return BatchResult(custom_id, problem=problem, status=status)
    usage = mapping(body.get("usage"))
    # Embeddings have no completion tokens, and say so by leaving them out.
    tokens = counts(usage if "completion_tokens" in usage else {**usage, "completion_tokens": 0})
    return BatchResult(custom_id, body, "", status, tokens.prompt, tokens.completion, tokens.cached)


def json_object(endpoint: Endpoint, text: bytes) -> Mapping[str, Any]:
    """Read a JSON object that the endpoint sent.

    Raises:
        UpstreamError: It is none.
    """
    try:
        found = orjson.loads(text)
    except ValueError:
        raise endpoint.error("sent something that is not JSON") from None
    if not isinstance(found, dict):
        raise endpoint.error("sent JSON that is not an object")
    return cast("dict[str, Any]", found)


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object of the wire, or an empty one where there is none."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def count(value: object) -> int | None:
    """Return a count of the wire, or None where there is none."""
    return value if isinstance(value, int) and value >= 0 else None

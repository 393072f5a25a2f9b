"""Every error as OpenAI's clients expect it: a status, a body, and when to come back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import ceil
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from modelyard.errors import (
    ContextTooLong,
    Forbidden,
    GenerationError,
    InvalidInput,
    LimitExceeded,
    ModelyardError,
    Unauthenticated,
    UnknownModel,
    UpstreamError,
)
from modelyard.serving.wire import BadRequest, error_body, json_bytes
from modelyard.storage import StorageError

log = logging.getLogger("modelyard.serving")

GONE: Final = error_body("The server cannot use its database now.", "server_error", code="database_unavailable")
GONE_S: Final = 5.0  # when to come back
BUG: Final = error_body("The server made a mistake; its log says more.", "server_error")


class JsonResponse(Response):
    """A body as JSON, written by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body's bytes."""
        return json_bytes(content)


# What a caller can act on is a 4xx; everything about upstreams is 502, 503 or 504. The first class that fits counts.
_ANSWERS: Final[tuple[tuple[type[ModelyardError], int, str, str | None], ...]] = (
    (UnknownModel, 404, "invalid_request_error", "model_not_found"),
    (ContextTooLong, 400, "invalid_request_error", "context_length_exceeded"),
    (InvalidInput, 400, "invalid_request_error", None),
    (Unauthenticated, 401, "invalid_request_error", "invalid_api_key"),
    (Forbidden, 403, "invalid_request_error", "insufficient_permissions"),
    (GenerationError, 502, "upstream_error", "upstream_error"),
    (ModelyardError, 500, "server_error", None),
)
_LIMITS: Final = {
    "rate": (429, "rate_limit_error", "rate_limit_exceeded"),
    "budget": (429, "insufficient_quota", "insufficient_quota"),
    "capacity": (503, "server_error", "overloaded"),
}
_FAULTS: Final = {
    "rejected": (400, "invalid_request_error", "upstream_rejected"),
    "context_length": (400, "invalid_request_error", "context_length_exceeded"),
    "content_policy": (400, "invalid_request_error", "content_policy_violation"),
    "rate_limit": (503, "upstream_error", "upstream_rate_limit"),
    "unavailable": (503, "upstream_error", "upstream_unavailable"),
    "timeout": (504, "upstream_error", "upstream_timeout"),
}


def described(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return the status and the body that tell a caller of an error that was raised on purpose."""
    if isinstance(error, LimitExceeded):
        status, kind, code = _LIMITS[error.kind]
    elif isinstance(error, UpstreamError):
        status, kind, code = _FAULTS.get(error.kind, (502, "upstream_error", f"upstream_{error.kind}"))
    elif isinstance(error, StorageError):  # what it says names places, which are no caller's business
        return 503, GONE
    else:
        _, status, kind, code = next(answer for answer in _ANSWERS if isinstance(error, answer[0]))
    param = error.param if isinstance(error, BadRequest) else "model" if isinstance(error, UnknownModel) else None
    return status, error_body(_told(error), kind, param=param, code=code)


def _told(error: Exception) -> str:
    """Return what the caller, and nobody else, is told."""
    return error.in_full if isinstance(error, ModelyardError) else str(error)


def headers_of(error: Exception) -> dict[str, str]:
    """Return when to come back, where that makes sense, that a key is missing, and how often upstreams were called in vain."""
    if isinstance(error, Unauthenticated):
        return {"www-authenticate": "Bearer"}
    after_s = GONE_S if isinstance(error, StorageError) else None
    after_s = error.retry_after_s if isinstance(error, LimitExceeded | UpstreamError) else after_s
    headers = {} if after_s is None else {"retry-after": str(max(1, ceil(after_s)))}
    if isinstance(error, UpstreamError):
        headers["x-modelyard-attempts"] = str(len(error.attempts))
    return headers


def problem(error: Exception, facts: Mapping[str, str] | None = None) -> Response:
    """Answer a request that failed in a way that was foreseen.

    Args:
        error: What ended it.
        facts: Headers that say how far it came.
    """
    status, body = described(error)
    if status >= 500:
        log.warning("A request failed: %s", error)
    return JsonResponse(body, status, {**(facts or {}), **headers_of(error)})


async def on_modelyard_error(_: Request, error: Exception) -> Response:
    """Answer a request that failed in a way that was foreseen."""
    return problem(error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer a request that went to the wrong address, or was too long."""
    if not isinstance(error, HTTPException):
        raise error
    message = {
        404: "There is nothing at this address.",
        405: f"This address does not take {request.method}.",
    }.get(error.status_code, error.detail)
    kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
    return JsonResponse(error_body(message, kind), error.status_code, error.headers)


async def on_bug(_: Request, _error: Exception) -> Response:
    """Answer a request that met a mistake of ours."""
    return JsonResponse(BUG, 500)
